#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "controller/copy_listing.h"

// Any bytes as a host's list of files: refused, or paths that stay below a folder and numbers that can be.

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gpustrap;
  const std::string text(data, data + size);
  for (const char* kind : {"gnu", "plain", ""}) {
    const std::string said = *kind == '\0' ? text : std::string("\ngpustrap-list\n") + kind + "\n" + text;
    const Result<HostListing> listing = read_listing(said, "lab", "n0nce");
    if (!listing) continue;
    for (const auto& [path, entry] : listing->tree) {
      if (!is_path_below(path) || is_part(path) || entry.mode > 0777 || entry.size > (std::uint64_t{1} << 60U)) std::abort();
    }
    for (const auto& [path, bytes] : listing->parts) {
      if (!is_path_below(path) || !is_part(path)) std::abort();
    }
    for (const std::string& name : listing->refused) {
      if (shown_path(name) != name) std::abort();
    }
  }
  for (const auto& [path, digest] : read_digests(text)) {
    if (digest.size() != 64) std::abort();
  }
  return 0;
}
