#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "controller/ssh_session.h"

namespace gpustrap {

/// What a command of the host's shell came to.
struct RemoteResult {
  std::string out, err;
  std::optional<int> status;  ///< none where the host did not say it
  bool is_whole = true;       ///< false: it said more than was asked for, or took too long; what came until then is here
};
struct RemoteLimits {
  std::chrono::milliseconds time{30'000};
  std::size_t out = std::size_t{1} << 20U;
};

/// Runs `command` to its end, or to a limit. Errors: unreachable where the connection goes.
[[nodiscard]] Result<RemoteResult> run_remote(SshSession& session, const std::string& command, std::string_view input,
                                              const RemoteLimits& limits);

}  // namespace gpustrap
