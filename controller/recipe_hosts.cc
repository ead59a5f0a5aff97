#include "controller/recipe_hosts.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
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

std::string nobody_called(const std::string& name, const FleetHosts& hosts) {
  std::vector<std::string> names = hosts.groups;
  for (const FleetHost& host : hosts.hosts) names.push_back(host.name);
  const std::string nearest = nearest_name(name, names);
  return fmt::format(
      "there is no host and no group {}{}", quote_value(name),
      nearest.empty() ? fmt::format(" in the hosts file, which has {}", join(names, ", ")) : fmt::format("; did you mean `{}`?", nearest));
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
    const bool is_group = std::find(hosts.groups.begin(), hosts.groups.end(), who) != hosts.groups.end();
    return fail(ErrorCode::recipe, is_group ? fmt::format("`hosts.{}`: there is no host in the group `{}`", name, who)
                                            : fmt::format("`hosts.{}` is not defined: {}", name, nobody_called(who, hosts)));
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

Result<bool> is_among(const std::vector<std::string>& groups, const FleetHosts& hosts, std::size_t self) {
  bool among = false;
  for (const std::string& group : groups) {
    const bool known = std::find(hosts.groups.begin(), hosts.groups.end(), group) != hosts.groups.end() ||
                       std::any_of(hosts.hosts.begin(), hosts.hosts.end(), [&](const FleetHost& host) { return is_in(host, group); });
    if (!known) return fail(ErrorCode::recipe, nobody_called(group, hosts));
    among = among || is_in(hosts.hosts[self], group);
  }
  return among;
}

void leave_out(Recipe& recipe, const std::vector<bool>& out) {
  std::map<std::string, std::vector<std::string>> instead;  // of a step that is out: what those that need it need now
  std::vector<StepEntry> kept;
  std::optional<std::string> before;  // the step before, where that one is out
  for (std::size_t i = 0; i < recipe.steps.size(); ++i) {
    StepEntry step = std::move(recipe.steps[i]);
    const std::string id = step.id;
    if (!step.needs && before) step.needs = instead[*before];
    if (step.needs) {
      std::vector<std::string> needs;
      for (const std::string& need : *step.needs) {
        const auto replaced = instead.find(need);
        for (const std::string& one : replaced == instead.end() ? std::vector<std::string>{need} : replaced->second) {
          if (std::find(needs.begin(), needs.end(), one) == needs.end()) needs.push_back(one);
        }
      }
      step.needs = std::move(needs);
    }
    before.reset();
    if (out[i]) {
      before = id;
      if (step.needs)
        instead[id] = *step.needs;
      else
        instead[id] = kept.empty() ? std::vector<std::string>() : std::vector<std::string>{kept.back().id};
    } else {
      kept.push_back(std::move(step));
    }
  }
  recipe.steps = std::move(kept);
}

}  // namespace gpustrap
