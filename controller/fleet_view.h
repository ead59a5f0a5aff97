#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/event.h"
#include "controller/exit_code.h"
#include "controller/status.h"

namespace gpustrap {

/// How one host of many ended.
struct HostEnd {
  ExitCode exit = ExitCode::ok;
  bool begun = true;  ///< false: left alone, since Ctrl-C was pressed before its turn
  std::optional<RunFinished> finished;
  std::string why, hint;  ///< of a failure: its cause, and what to do; as the host may have said it
  std::string run, log;
  std::chrono::milliseconds elapsed{0};
};

/// What happened on many hosts, as Status tells it of one. `host` counts from 0. For one thread at a time.
class FleetView {
 public:
  virtual ~FleetView() = default;
  virtual void begin(std::size_t host) = 0;
  virtual void activity(std::size_t host, const Activity& activity) = 0;
  virtual void event(std::size_t host, const Event& event) = 0;
  virtual void progress(std::size_t host, const Progress& progress) = 0;
  virtual void connection_lost(std::size_t host, const Error& why) = 0;
  virtual void connection_back(std::size_t host) = 0;
  virtual void rewound(std::size_t host, std::uint64_t seen, std::uint64_t to) = 0;
  virtual void notice(std::size_t host, std::string_view sentence) = 0;
  virtual void ended(std::size_t host, const HostEnd& end) = 0;
  /// A sentence about all of them.
  virtual void announce(std::string_view sentence) = 0;
  /// A question is about to use the terminal: what is told until resume() is shown then.
  virtual void pause() = 0;
  virtual void resume() = 0;
  virtual void tick() = 0;
  /// The last call: how each host ended, and what to do from here, a line each.
  virtual void summary(const std::vector<HostEnd>& ends, const std::vector<std::string>& next) = 0;
};

}  // namespace gpustrap
