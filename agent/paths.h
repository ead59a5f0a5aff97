#pragma once

#include <string>

namespace gpustrap {

/// Where the agent keeps what it knows. Root's by default; a user without sudo has their own.
struct AgentPaths {
  std::string state;    ///< runs, lock, log
  std::string runtime;  ///< socket and what must not survive a reboot

  [[nodiscard]] std::string runs() const { return state + "/runs"; }
  [[nodiscard]] std::string run(const std::string& id) const { return runs() + "/" + id; }
  [[nodiscard]] std::string lock() const { return state + "/run.lock"; }
  /// Units of recipes, with their logs, where there is no systemd. Not gpustrap's own: removing gpustrap leaves them.
  [[nodiscard]] std::string services() const { return state + "/services"; }
  [[nodiscard]] std::string socket() const { return runtime + "/run.sock"; }
};

inline AgentPaths system_paths() { return {"/var/lib/gpustrap", "/run/gpustrap"}; }
inline AgentPaths user_paths(const std::string& home) { return {home + "/.local/state/gpustrap", home + "/.local/state/gpustrap/run"}; }

}  // namespace gpustrap
