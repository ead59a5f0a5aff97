#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>

#include "agent/base/unique_fd.h"

namespace gpustrap {

/// A TCP server on a free port of 127.0.0.1, in a process of its own. Each connection is handed to `serve` in a process of its own, too,
/// which ends with it; all of them end with the server.
class LoopbackServer {
 public:
  explicit LoopbackServer(const std::function<void(int connection)>& serve);
  ~LoopbackServer();
  LoopbackServer(const LoopbackServer&) = delete;
  LoopbackServer& operator=(const LoopbackServer&) = delete;

  [[nodiscard]] std::uint16_t port() const { return port_; }

 private:
  std::uint16_t port_ = 0;
  pid_t pid_ = -1;
};

/// A socket that listens on 127.0.0.1:`port`; 0: a free one, which is put there.
[[nodiscard]] UniqueFd listen_on_loopback(std::uint16_t& port);
/// Connected to 127.0.0.1:port, blocking.
[[nodiscard]] UniqueFd connect_to_loopback(std::uint16_t port);

}  // namespace gpustrap
