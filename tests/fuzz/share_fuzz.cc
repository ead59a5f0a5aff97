#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "controller/passed_files.h"

// Any bytes as what a host says that has a file which others want: it is let go of, or what it gives is passed on, and never a block that
// was not asked for.

namespace gpustrap {
namespace {

/// One thing, and then another.
class Says : public ShareChannel {
 public:
  Says(std::string first, std::string then) : text_(std::move(first)), then_(std::move(then)) {}
  Result<std::size_t> read(std::string& into) override {
    into += text_;
    return std::exchange(text_, std::exchange(then_, "")).size();
  }
  Result<std::size_t> write(std::string_view bytes) override { return bytes.size(); }
  void send_end() override {}
  [[nodiscard]] bool at_end() const override { return false; }

 private:
  std::string text_, then_;
};

class Hears : public ShareChannel {
 public:
  explicit Hears(std::string& heard) : heard_(heard) {}
  Result<std::size_t> read(std::string& into) override {
    if (std::exchange(answered_, true)) return std::size_t{0};
    into += "{\"reply\":1,\"value\":{}}\n";
    return into.size();
  }
  Result<std::size_t> write(std::string_view bytes) override {
    heard_ += bytes;
    return bytes.size();
  }
  void send_end() override {}
  [[nodiscard]] bool at_end() const override { return false; }

 private:
  std::string& heard_;
  bool answered_ = false;
};

}  // namespace
}  // namespace gpustrap

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gpustrap;
  const std::string text(data, data + size);
  for (const char* first : {"", "{\"reply\":1,\"value\":{}}\n"}) {
    const auto files = std::make_shared<PassedFiles>();
    std::string heard;
    HostSharing source(
        files, [&](const ShareRequest&) { return Result<std::unique_ptr<ShareChannel>>(std::make_unique<Says>(first, text)); }, [] {});
    HostSharing target(
        files, [&](const ShareRequest&) { return Result<std::unique_ptr<ShareChannel>>(std::make_unique<Hears>(heard)); }, [] {});
    const std::string digest(64, 'a');
    source.wanted(digest, 0);
    (void)source.pump();
    target.wanted(digest, 0);
    (void)target.pump();
    for (int turn = 0; turn < 4; ++turn) {
      (void)source.pump();
      (void)target.pump();
    }
    if (heard.size() > size) std::abort();
  }
  return 0;
}
