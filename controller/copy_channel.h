#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "agent/base/result.h"
#include "controller/ssh_session.h"

namespace gpustrap {

/// A command of the host's that much is sent to, or much is read from. Waits for as long as the host shows any sign of life.
class CopyChannel {
 public:
  [[nodiscard]] static Result<CopyChannel> start(SshSession& session, const std::string& command, std::string_view input);

  /// What has come since, at least a byte; empty at the end. Valid until the next call.
  [[nodiscard]] Result<std::string_view> read();
  /// Error command where the host's end takes no more.
  [[nodiscard]] Result<void> write(std::string_view bytes);
  void send_end() { (void)channel_.send_end(); }
  /// Every call fails with `cancelled` from when on this is true; none: never.
  void stop_where(std::function<bool()> stopped) { stopped_ = std::move(stopped); }
  /// Takes the rest of what it says, up to a bound, and its status.
  struct End {
    std::optional<int> status;
    std::string out, err;
  };
  [[nodiscard]] Result<End> end();
  [[nodiscard]] const std::string& errors() const { return errors_; }

 private:
  using Clock = std::chrono::steady_clock;
  CopyChannel(SshSession& session, SshChannel channel) : session_(session), channel_(std::move(channel)) {}
  /// Lets time pass until something happens. Error unreachable where the host has been silent for too long.
  Result<void> wait(std::uint64_t seen);
  Result<void> take_errors();

  SshSession session_;
  SshChannel channel_;
  std::function<bool()> stopped_;
  std::string out_, errors_;
  std::uint64_t arrivals_ = 0;
  Clock::time_point last_heard_ = Clock::now(), last_asked_ = Clock::now();
};

}  // namespace gpustrap
