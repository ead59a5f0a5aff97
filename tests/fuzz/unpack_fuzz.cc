// Whatever the bytes are, unpacking them ends, and makes nothing outside of its folder.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "agent/base/file.h"
#include "agent/unpack.h"

namespace gpustrap {
namespace {

namespace fs = std::filesystem;

class SilentLog : public StepLog {
 public:
  void say(std::string_view /*line*/) override {}
  void progress(std::string_view /*text*/, std::uint64_t /*done*/, std::uint64_t /*total*/) override {}
  void share(std::string_view /*text*/, double /*part*/) override {}
};

[[noreturn]] void violated(const char* what) {
  std::fprintf(stderr, "unpack_fuzz: %s\n", what);
  std::abort();
}

/// One folder for all inputs of the process, in memory where that can be: unpacking syncs the disk, which would be most of the work.
struct Sandbox {
  std::string path = (fs::is_directory("/dev/shm") ? fs::path("/dev/shm") : fs::temp_directory_path()) / "gpustrap-fuzz-XXXXXX";
  Sandbox() {
    if (::mkdtemp(path.data()) == nullptr) violated("no temporary directory could be made");
  }
  ~Sandbox() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

/// Every link that was made has to stay inside when the disk resolves it.
void check_links(const fs::path& root) {
  for (const auto& item : fs::recursive_directory_iterator(root)) {
    if (!item.is_symlink()) {
      if (!item.is_regular_file() && !item.is_directory()) violated("something stranger than a file was made");
      continue;
    }
    std::error_code failed;
    const fs::path real = fs::weakly_canonical(item.path(), failed);
    if (failed) continue;  // a circle of links leads nowhere
    const std::string text = real.string() + "/";
    if (!text.starts_with(fs::canonical(root).string() + "/")) violated("a link leads out of the folder");
  }
}

}  // namespace
}  // namespace gpustrap

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace gpustrap;
  static const Sandbox sandbox;
  const fs::path root = fs::path(sandbox.path) / "root";
  fs::remove_all(root);
  fs::create_directory(root);
  const std::string archive = sandbox.path + "/archive";
  if (!write_file_atomically(archive, std::string_view(reinterpret_cast<const char*>(bytes), size)))
    violated("the input could not be written");
  SilentLog log;
  UnpackRequest request;
  request.archive = archive;
  request.to = root.string();
  request.max_size = 1U << 20U;
  const auto entries = unpack_archive(request, log);
  if (!entries && entries.error().hint().empty()) violated("an error without advice");
  std::size_t beside = 0;
  for (const auto& item : fs::directory_iterator(sandbox.path)) {
    ++beside;
    if (item.path().filename() != "root" && item.path().filename() != "archive") violated("something was made outside of the folder");
  }
  if (beside != 2) violated("the folder or the archive is gone");
  check_links(root);
  return 0;
}
