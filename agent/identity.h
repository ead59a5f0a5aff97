#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/protocol/json_fwd.h"

namespace gpustrap {

/// The user with this uid or name, from /etc/passwd and /etc/group: a static program cannot ask the name services.
[[nodiscard]] Result<Identity> identity_of_uid(uid_t uid);
[[nodiscard]] Result<Identity> identity_of_name(std::string_view name);
/// Who this process is; proxy variables from its environment.
[[nodiscard]] Identity identity_of_self();
/// Proxy variables from an environment block as /proc/PID/environ gives it. Lower-case names, as most programs read them.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> proxies_in(std::string_view environ_block);
/// The login user of a standalone run: `name`, or the one user with a uid of 1000 or more and a login shell. An error names the candidates.
[[nodiscard]] Result<Identity> login_for_standalone(const std::optional<std::string>& name);

/// For the run's folder. Proxy values may hold passwords: the file is root's alone, and they are never part of an event.
[[nodiscard]] Json to_json(const Identity& identity);
[[nodiscard]] Result<Identity> identity_from_json(const Json& document);

/// Becomes that user for good: groups, gid, uid. Call in a forked child only.
[[nodiscard]] Result<void> become(const Identity& identity);

}  // namespace gpustrap
