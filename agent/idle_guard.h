#pragma once

#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/paths.h"
#include "agent/spot_notice.h"

namespace gpustrap {

/// Its units; the step `idle_stop` writes them.
inline constexpr const char* kIdleTimer = "gpustrap-idle.timer";
inline constexpr const char* kIdleService = "gpustrap-idle.service";

/// One look, started by the timer: what is done on this host, what follows from it, and that is done: warnings, their taking back, the
/// stop. On a spot instance it stays for the time until the next look and asks every five seconds whether AWS wants the machine back.
/// `metadata`: where, if not kMetadataUrl. An error where there are no rules.
[[nodiscard]] Result<void> guard_once(const AgentPaths& paths, const std::string& metadata);

/// Whether the timer or its service is installed.
[[nodiscard]] bool idle_guard_is_there();
/// Stops the timer and a look that goes on, and takes away units and the files in notebook folders; what is left is state.
[[nodiscard]] Result<void> remove_idle_guard(const AgentPaths& paths);

}  // namespace gpustrap
