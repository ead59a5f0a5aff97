#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "agent/protocol/line.h"
#include "controller/agent_link.h"
#include "controller/packed_input.h"
#include "controller/ssh_session.h"

namespace gpustrap {

/// The conversation with an agent over a channel. Sends a heartbeat when nothing else was said for kHeartbeat.
class SshLink : public AgentLink {
 public:
  /// `begun`: bytes of the agent's lines that were read already; `errors`: what it wrote to stderr so far.
  SshLink(SshSession session, SshChannel channel, std::string begun, std::string errors);

  Result<void> send(const Request& request) override;
  Result<std::optional<AgentLine>> receive(std::chrono::milliseconds wait) override;
  [[nodiscard]] std::string_view said() const override { return said_; }
  [[nodiscard]] int descriptor() const override { return session_.descriptor(); }

 private:
  using Clock = std::chrono::steady_clock;
  Result<void> flush();
  Result<std::optional<AgentLine>> next_line();
  /// More of a packed stream; false where more has to come first, or nothing is packed.
  Result<bool> unpack();

  SshSession session_;
  SshChannel channel_;
  LineReader lines_;
  std::optional<PackedInput> packed_;  ///< what comes, since the agent has said that it packs
  std::string said_;
  std::string unsent_;
  std::string errors_;  ///< the end of what the agent's process wrote to stderr
  Clock::time_point last_heard_ = Clock::now();
  Clock::time_point last_said_ = Clock::now();
};

}  // namespace gpustrap
