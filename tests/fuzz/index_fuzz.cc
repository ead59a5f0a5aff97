#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "agent/steps/wheel_lock.h"

// Any bytes as a requirements file and as a page of a package index: what is read of them is what it should be, and nothing leads out of
// a folder or away from http.

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gpustrap;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto lock = read_wheel_lock(text)) {
    for (const LockedPackage& package : lock->packages) {
      if (package.name.empty() || package.name.find('/') != std::string::npos || package.version.empty()) std::abort();
      for (const std::string& sha256 : package.sha256) {
        if (sha256.size() != 64) std::abort();
      }
    }
  }
  for (const IndexedFile& file : read_index_page(text, "https://index.example.org/simple/x/")) {
    if (!is_wheel_name(file.name) || file.name.find('/') != std::string::npos || file.sha256.size() != 64) std::abort();
    if (!file.url.starts_with("https://")) std::abort();
    (void)wheel_fitness(file.name, {11, "x86_64", 36});
  }
  (void)wheel_fitness(text, {11, "x86_64", 36});
  return 0;
}
