#pragma once

#include "agent/base/result.h"

namespace gpustrap {

/// What a command's end means to a shell. Documented in the help; never renumbered.
enum class ExitCode {
  ok = 0,
  step_failed = 1,   ///< a step failed, or anything that has no code of its own
  usage = 2,         ///< the command line or the recipe
  plan_changes = 3,  ///< `plan --exit-code`: a run would change something
  unreachable = 4,
  host_key = 5,
  authentication = 6,  ///< the login or sudo
  cloud = 7,           ///< EC2 refused, has none, or was not reached
  not_proven = 8,      ///< all steps done, but the notebook did not answer through the tunnel
  detached = 9,        ///< the run goes on without this program
  busy = 10,           ///< another run is in progress on the host
  cancelled = 130,
};

/// Of many hosts the worst counts: a cancel, then a failed step, then what kept a host from being begun, then what is merely not finished.
[[nodiscard]] constexpr ExitCode worse_of(ExitCode a, ExitCode b) {
  constexpr ExitCode kFromBad[] = {ExitCode::cancelled,      ExitCode::step_failed, ExitCode::usage,       ExitCode::host_key,
                                   ExitCode::authentication, ExitCode::cloud,       ExitCode::unreachable, ExitCode::busy,
                                   ExitCode::not_proven,     ExitCode::detached,    ExitCode::plan_changes};
  for (const ExitCode code : kFromBad) {
    if (a == code || b == code) return code;
  }
  return ExitCode::ok;
}

/// The exit code of a command that ends with this error.
[[nodiscard]] constexpr ExitCode exit_code_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::usage:
    case ErrorCode::recipe: return ExitCode::usage;
    case ErrorCode::unreachable:
    case ErrorCode::unknown_name:
    case ErrorCode::timeout: return ExitCode::unreachable;
    case ErrorCode::host_key: return ExitCode::host_key;
    case ErrorCode::authentication: return ExitCode::authentication;
    case ErrorCode::busy: return ExitCode::busy;
    case ErrorCode::cancelled: return ExitCode::cancelled;
    default: return ExitCode::step_failed;
  }
}

}  // namespace gpustrap
