#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/recipe.h"

// A document that reads as a recipe without a problem reads the same again from what is written of it.

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gpustrap;
  const std::string bytes(data, data + size);
  const auto document = parse_line(bytes);
  if (!document) return 0;
  std::vector<FieldProblem> problems;
  const Recipe recipe = read_recipe(*document, Placeholders::allowed, problems);
  if (!problems.empty()) return 0;
  const Recipe again = read_recipe(write_recipe(recipe), Placeholders::allowed, problems);
  if (!problems.empty() || digest_of(again) != digest_of(recipe)) std::abort();
  return 0;
}
