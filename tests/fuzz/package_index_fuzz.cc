#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "controller/package_index.h"

// Any bytes as a package index's page: refused, or a list of files whose versions can be looked at.

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gpustrap;
  const std::string text(data, data + size);
  for (const char* type : {"text/html", "application/json"}) {
    const auto files = indexed_files(text, type);
    if (!files) continue;
    for (const IndexedFile& file : *files) {
      if (file.name.size() > 300 || (!file.yanked && !file.reason.empty())) std::abort();
      (void)is_version_of(version_of_file(file.name), "1.2.*");
      (void)is_version_of(version_of_file(file.name), "1.2+x");
    }
  }
  (void)read_pinned(text);
  return 0;
}
