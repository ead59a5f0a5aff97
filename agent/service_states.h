#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/paths.h"
#include "agent/protocol/json_fwd.h"

namespace gpustrap {

/// A service that a step of some run looks after.
struct KeptService {
  std::string name;           ///< without .service
  std::string kind;           ///< of the step: service, jupyter
  std::uint16_t port = 0;     ///< 0: none is named
  bool wants_running = true;  ///< false where the step wants it stopped
  bool was_there = false;     ///< the newest run that names it is the newest of all, and its step went well
};
/// Each once, as the newest run with it says; the newest first, and no more than 64. Names that are not known before the step runs
/// (`${{ facts.… }}`) are left out.
[[nodiscard]] std::vector<KeptService> kept_services(const AgentPaths& paths);

/// What systemd, or gpustrap's own supervision where there is no systemd, says of them now: PROTOCOL.md, status, `services`. One that is
/// not there is told of only where the newest run has left it there.
[[nodiscard]] Json service_states(const AgentPaths& paths, const std::vector<KeptService>& services, bool has_systemd);

/// The same of what `systemctl show` has printed: a block of NAME=value lines for each unit, with an empty line between two.
[[nodiscard]] Json service_states_in(std::string_view shown, const std::vector<KeptService>& services);

}  // namespace gpustrap
