#include "agent/log.h"

#include <exception>
#include <memory>

#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/spdlog.h>

namespace gpustrap {
namespace {

std::shared_ptr<spdlog::logger>& log() {
  static std::shared_ptr<spdlog::logger> logger;
  return logger;
}

}  // namespace

void open_log(const std::string& path) {
  try {
    auto sink = std::make_shared<spdlog::sinks::rotating_file_sink_st>(path, 1U << 20U, 1);
    auto logger = std::make_shared<spdlog::logger>("agent", std::move(sink));
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %P %v");
    logger->flush_on(spdlog::level::info);
    log() = std::move(logger);
  } catch (const std::exception&) {
    log().reset();  // a full disk must not keep a run from saying so
  }
}

void log_note(std::string_view line) {
  if (log()) log()->info("{}", line);
}

}  // namespace gpustrap
