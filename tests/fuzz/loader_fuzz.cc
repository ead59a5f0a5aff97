#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "agent/protocol/json.h"
#include "controller/recipe_loader.h"

// Any bytes as a recipe file: refused with a place in it, or loaded into a recipe that the agent accepts.

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gpustrap;
  static const std::string path =
      (std::filesystem::temp_directory_path() / ("loader_fuzz_" + std::to_string(::getpid()) + ".yaml")).string();
  std::ofstream(path, std::ios::binary) << std::string(data, data + size);
  const auto loaded = load_recipe(path, {});
  (void)std::filesystem::remove(path);
  if (!loaded) {
    if (loaded.error().why().empty()) std::abort();
    return 0;
  }
  std::vector<FieldProblem> problems;
  (void)read_recipe(write_recipe(loaded->recipe), Placeholders::allowed, problems);
  if (!problems.empty()) std::abort();
  return 0;
}
