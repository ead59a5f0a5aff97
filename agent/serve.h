#pragma once

#include <string>

#include "agent/host.h"
#include "agent/paths.h"

namespace gpustrap {

/// Speaks the protocol on `in_fd` and `out_fd` until the controller is gone: hello, requests, events of the run it was asked for.
/// It only tells: the run is a process of its own and goes on without it. `said` are lines that came with the command, as if they were the
/// first of the input. Returns the exit code.
[[nodiscard]] int serve(const AgentPaths& paths, const Identity& login, int in_fd, int out_fd, const std::string& said);

}  // namespace gpustrap
