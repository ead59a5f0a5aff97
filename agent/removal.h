#pragma once

#include "agent/base/result.h"
#include "agent/paths.h"
#include "agent/protocol/json_fwd.h"

namespace gpustrap {

/// {"paths": […], "units": […]}: what is gpustrap's own on this host. Never what recipes installed.
[[nodiscard]] Json removal_list(const AgentPaths& paths);
/// Removes it and returns what was removed. The agent goes on running: its file is unlinked last.
[[nodiscard]] Result<Json> remove_all(const AgentPaths& paths);

}  // namespace gpustrap
