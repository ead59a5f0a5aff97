#include "agent/log.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <spdlog/details/file_helper.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/sink.h>

namespace gpustrap {
namespace {

constexpr std::size_t kMostBytes = 1U << 20U;

/// Lines of one form, in a file and the one before it. spdlog's own sinks all come with its formatter of patterns, which would be 40 KB of
/// every push.
class LogFile : public spdlog::sinks::sink {
 public:
  explicit LogFile(std::string path) : path_(std::move(path)) {
    file_.open(path_);
    size_ = file_.size();
  }

  void log(const spdlog::details::log_msg& message) override {
    const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(message.time.time_since_epoch()).count();
    const auto seconds = static_cast<std::time_t>(milliseconds / 1000);
    std::tm parts{};
    ::localtime_r(&seconds, &parts);
    std::array<char, 32> time{};
    const std::size_t length = std::strftime(time.data(), time.size(), "%Y-%m-%dT%H:%M:%S", &parts);
    const std::string text = fmt::format("{}.{:03} {} {}\n", std::string_view(time.data(), length), milliseconds % 1000, ::getpid(),
                                         std::string_view(message.payload.data(), message.payload.size()));
    spdlog::memory_buf_t line;
    line.append(text.data(), text.data() + text.size());
    if (size_ + line.size() > kMostBytes) begin_another();
    file_.write(line);
    size_ += line.size();
  }
  void flush() override { file_.flush(); }
  void set_pattern(const std::string&) override {}
  void set_formatter(std::unique_ptr<spdlog::formatter>) override {}

 private:
  void begin_another() {
    file_.close();
    const auto [stem, extension] = spdlog::details::file_helper::split_by_extension(path_);
    (void)std::rename(path_.c_str(), (stem + ".1" + extension).c_str());
    file_.open(path_, true);
    size_ = 0;
  }

  std::string path_;
  spdlog::details::file_helper file_;
  std::size_t size_ = 0;
};

std::shared_ptr<spdlog::logger>& log() {
  static std::shared_ptr<spdlog::logger> logger;
  return logger;
}

}  // namespace

void open_log(const std::string& path) {
  try {
    auto logger = std::make_shared<spdlog::logger>("agent", std::make_shared<LogFile>(path));
    logger->flush_on(spdlog::level::info);
    log() = std::move(logger);
  } catch (const std::exception&) {
    log().reset();  // a full disk must not keep a run from saying so
  }
}

void log_note(std::string_view line) {
  if (log()) log()->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace gpustrap
