#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/json_fwd.h"
#include "agent/protocol/recipe.h"
#include "controller/fleet_hosts.h"

namespace gpustrap {

/// The value of `${{ hosts.NAME.FIELD }}` in the recipe of the host at `self`: `name` is what stands behind "hosts.". NAME is a host, a
/// group, `all`, or `self`, and may have dots. Error recipe, with the nearest name, where there is none such.
[[nodiscard]] Result<Json> host_value(const std::string& name, const FleetHosts& hosts, std::size_t self);
/// Whether that value can differ from host to host.
[[nodiscard]] bool differs_by_host(const std::string& name);

/// Whether the host at `self` is any of `groups`: names of groups or hosts. Error recipe for a name that is neither.
[[nodiscard]] Result<bool> is_among(const std::vector<std::string>& groups, const FleetHosts& hosts, std::size_t self);
/// Takes the steps out for which `out` is true. What needed one of them needs what that one needed.
void leave_out(Recipe& recipe, const std::vector<bool>& out);

}  // namespace gpustrap
