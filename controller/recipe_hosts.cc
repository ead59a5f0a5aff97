#include "controller/recipe_hosts.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/recipe_vars.h"

namespace gpustrap {
namespace {

const std::vector<std::string>& fields() {
  static const std::vector<std::string> names = {"address", "addresses", "private_address", "private_addresses", "name", "names",
                                                 "count",   "here",      "groups"};
  return names;
}

bool is_in(const FleetHost& host, const std::string& name) {
  return name == "all" || host.name == name || std::find(host.groups.begin(), host.groups.end(), name) != host.groups.end();
}

}  // namespace

bool differs_by_host(const std::string& name) { return name.starts_with("self.") || name.ends_with(".here"); }

Result<Json> host_value(const std::string& name, const FleetHosts& hosts, std::size_t self) {
  const std::size_t dot = name.rfind('.');
  const std::string who = name.substr(0, dot);
  const std::string field = dot == std::string::npos ? "" : name.substr(dot + 1);
  if (dot == std::string::npos || std::find(fields().begin(), fields().end(), field) == fields().end()) {
    return fail(ErrorCode::recipe, fmt::format("`hosts.{}` does not say what of the host{}", name,
                                               did_you_mean(field, fields(), "expected hosts.NAME. and one of")));
  }
  std::vector<const FleetHost*> meant;
  for (std::size_t i = 0; i < hosts.hosts.size(); ++i) {
    if (who == "self" ? i == self : is_in(hosts.hosts[i], who)) meant.push_back(&hosts.hosts[i]);
  }
  if (meant.empty()) {
    if (std::find(hosts.groups.begin(), hosts.groups.end(), who) != hosts.groups.end())
      return fail(ErrorCode::recipe, fmt::format("`hosts.{}`: there is no host in the group `{}`", name, who));
    std::vector<std::string> names = hosts.groups;
    for (const FleetHost& host : hosts.hosts) names.push_back(host.name);
    const std::string nearest = nearest_name(who, names);
    return fail(ErrorCode::recipe, fmt::format("`hosts.{}` is not defined: there is no host and no group `{}`{}", name, who,
                                               nearest.empty() ? "" : fmt::format("; did you mean `{}`?", nearest)));
  }
  if (field == "count") return Json(meant.size());
  if (field == "here")
    return Json(std::any_of(meant.begin(), meant.end(), [&](const FleetHost* host) { return host == &hosts.hosts[self]; }));
  if (field == "groups") return Json(meant.front()->groups);
  const auto value_of = [&](const FleetHost& host) -> const std::string& {
    if (field.starts_with("name")) return host.name;
    return field.starts_with("private") ? host.settings.private_address : host.settings.address;
  };
  if (!field.ends_with('s') || field.ends_with("address")) return Json(value_of(*meant.front()));
  Json all = Json::array();
  for (const FleetHost* host : meant) all.push_back(value_of(*host));
  return all;
}

}  // namespace gpustrap
