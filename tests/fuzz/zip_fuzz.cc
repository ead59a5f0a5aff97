// A zip is inflated while it arrives, before anybody knows whether it is the one that was meant: whatever the bytes are, and however they
// are cut, reading ends, lays no more aside than it may, and finds nothing that the directory does not hold.

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "agent/base/file.h"
#include "agent/zip_stream.h"

namespace gpustrap {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMost = 1U << 20U;

[[noreturn]] void violated(const char* what) {
  std::fprintf(stderr, "zip_fuzz: %s\n", what);
  std::abort();
}

/// In memory where that can be: the disk would be most of the work.
struct Sandbox {
  std::string path = (fs::is_directory("/dev/shm") ? fs::path("/dev/shm") : fs::temp_directory_path()) / "gpustrap-zip-XXXXXX";
  Sandbox() {
    if (::mkdtemp(path.data()) == nullptr) violated("no temporary directory could be made");
  }
  ~Sandbox() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

}  // namespace
}  // namespace gpustrap

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace gpustrap;
  static const Sandbox sandbox;
  const std::string_view whole(reinterpret_cast<const char*>(bytes), size);
  const std::string folder = sandbox.path + "/aside", zip = sandbox.path + "/zip";
  for (const std::size_t piece : {std::size_t{13}, std::max<std::size_t>(size, 1)}) {
    fs::remove_all(folder);
    fs::create_directory(folder);
    ZipStream stream(UniqueFd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)), kMost);
    std::string_view rest = whole;
    const auto source = [&]() -> Result<std::string_view> {
      const std::string_view next = rest.substr(0, piece);
      rest.remove_prefix(next.size());
      return next;
    };
    if (!stream.read(source)) violated("an error that is not the source's");
    if (!rest.empty()) violated("it did not read to the end");
    std::uint64_t laid_aside = 0;
    for (const auto& item : fs::directory_iterator(folder)) laid_aside += item.file_size();
    if (laid_aside > kMost) violated("more was laid aside than may be");
    if (!write_file_atomically(zip, whole)) violated("the input could not be written");
    const UniqueFd file(::open(zip.c_str(), O_RDONLY | O_CLOEXEC));
    if (!stream.read_directory(file.get()) && stream.find("a", 0)) violated("something was found without a directory");
    for (const std::string name : {"a", "a.txt", "folder/b", "../a"}) {
      for (const std::uint64_t length : {std::uint64_t{0}, std::uint64_t{5}}) {
        const auto member = stream.find(name, length);
        if (member && (member->size != length || fs::file_size(folder + "/" + member->name) != length))
          violated("what was found has another size");
      }
    }
  }
  return 0;
}
