#pragma once

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/paths.h"
#include "agent/protocol/json_fwd.h"

namespace gpustrap {

/// {"paths": […], "units": […]}: what is gpustrap's own on this host, for the system and in the login user's home. Never what recipes
/// installed: the token of a notebook stays with the notebook.
[[nodiscard]] Json removal_list(const AgentPaths& paths, const Identity& login);
/// Removes it and returns what was removed. What lies in a home is removed with that user's rights. The agent goes on running: its file
/// is unlinked last.
[[nodiscard]] Result<Json> remove_all(const AgentPaths& paths, const Identity& login);

}  // namespace gpustrap
