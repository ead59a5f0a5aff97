#pragma once

#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/paths.h"
#include "agent/protocol/json_fwd.h"

namespace gpustrap {

/// Where the jupyter step of a service keeps its token, in the login user's home.
[[nodiscard]] std::string token_path(const std::string& home, std::string_view service);

/// {"token", "port", "service"} of a jupyter step of the newest run (the first one where `service` is empty).
/// The file is read with the login user's rights, so a planted link cannot make root read another's.
[[nodiscard]] Result<Json> jupyter_token(const AgentPaths& paths, const Identity& login, const std::string& service);

}  // namespace gpustrap
