#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/protocol/request.h"

namespace gpustrap {

/// A conversation with an agent that has said hello. Over SSH in the product, over plain pipes in tests.
class AgentLink {
 public:
  virtual ~AgentLink() = default;
  /// Queues and sends; never waits for an answer.
  virtual Result<void> send(const Request& request) = 0;
  /// The next line, waiting at most `wait`; nullopt where none came. Heartbeats are answered and sent inside.
  /// Errors: unreachable where the connection ended or was silent for kSilenceLimit, protocol for what is not the protocol.
  virtual Result<std::optional<AgentLine>> receive(std::chrono::milliseconds wait) = 0;
  /// What receive() has returned last, as the agent wrote it, newline included; empty where that is not known. Until the next receive().
  [[nodiscard]] virtual std::string_view said() const { return {}; }
  /// Descriptor that becomes readable when receive() would return at once.
  [[nodiscard]] virtual int descriptor() const = 0;
};

}  // namespace gpustrap
