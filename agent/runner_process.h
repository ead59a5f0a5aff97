#pragma once

#include <optional>
#include <string>

#include "agent/base/result.h"
#include "agent/paths.h"
#include "agent/protocol/event.h"
#include "agent/protocol/secrets.h"
#include "agent/run_store.h"

namespace gpustrap {

/// The runner as a process of its own: survives the connection and the agent that started it.
/// Starts it in a new session, as a copy of this process, and waits (10 s at most) until it holds the lock and has begun its journal.
/// Errors: busy where another run holds the lock, and whatever kept it from starting. `shares`: SharedFiles::controller, or -1. `stored`:
/// the run as it was just stored, or it is read.
[[nodiscard]] Result<void> start_runner_process(const AgentPaths& paths, const std::string& run, const std::string& from, int shares = -1,
                                                const RunDescription* stored = nullptr);

/// What that process does. Writes "ok" or an error to descriptor `ready_fd` (-1: nobody waits). Returns the exit code.
[[nodiscard]] int runner_main(const AgentPaths& paths, const std::string& run, const std::string& from, int ready_fd, int shares = -1,
                              const RunDescription* stored = nullptr);

/// Runs a stored run in this process and prints its events to `out_fd`: the standalone agent. `secrets` are the values that it needs.
[[nodiscard]] Result<RunFinished> run_here(const AgentPaths& paths, const std::string& run, int out_fd, const SecretValues& secrets);

}  // namespace gpustrap
