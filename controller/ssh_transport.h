#pragma once

#include <memory>
#include <string>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "controller/leaving.h"
#include "controller/ssh_config.h"

namespace gpustrap {

/// "203.0.113.7", or "203.0.113.7 port 2222".
[[nodiscard]] std::string endpoint_of(const SshTarget& target);

struct Transport {
  UniqueFd fd;
  std::unique_ptr<WayToHost> way;  ///< what speaks at its other end, for as long as nobody has logged in
};

/// The byte stream that SSH speaks over: a TCP connection to any of the host's addresses, or the user's ProxyCommand. It blocks, and is
/// closed on exec. Errors: unknown_name (the name does not resolve), timeout and unreachable, each with what to look at.
[[nodiscard]] Result<Transport> connect_transport(const SshTarget& target);

}  // namespace gpustrap
