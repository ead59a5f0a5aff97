#include "controller/fleet_hosts_builder.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

constexpr std::size_t kMostHosts = 10'000;
/// Groups in groups in groups: more is a slip.
constexpr std::size_t kMaxDepth = 40;

/// "[01:10:2]" without its brackets; nothing where it is no range.
std::vector<std::string> unfold_one(const std::string& range) {
  const std::vector<std::string> parts = split(range, ':');
  if (parts.size() < 2 || parts.size() > 3 || parts[1].empty()) return {};
  std::size_t step = 1;
  if (parts.size() == 3) {
    const auto parsed = std::from_chars(parts[2].data(), parts[2].data() + parts[2].size(), step);
    if (parsed.ec != std::errc() || parsed.ptr != parts[2].data() + parts[2].size() || step == 0) return {};
  }
  std::vector<std::string> names;
  const auto is_letter = [](const std::string& text) {
    return text.size() == 1 && ((text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z'));
  };
  if (is_letter(parts[0]) && is_letter(parts[1])) {
    for (std::size_t c = static_cast<unsigned char>(parts[0][0]); c <= static_cast<unsigned char>(parts[1][0]); c += step)
      names.emplace_back(1, static_cast<char>(c));
    return names;
  }
  const std::string first = parts[0].empty() ? "0" : parts[0];
  const auto is_number = [](const std::string& text) {
    return text.size() < 10 && text.find_first_not_of("0123456789") == std::string::npos;
  };
  if (!is_number(first) || !is_number(parts[1])) return {};
  const bool padded = first.size() > 1 && first[0] == '0';
  const std::size_t last = std::strtoul(parts[1].c_str(), nullptr, 10);
  for (std::size_t i = std::strtoul(first.c_str(), nullptr, 10); i <= last; i += step) {
    if (names.size() > kMostHosts) return {};
    names.push_back(padded ? fmt::format("{:0{}}", i, first.size()) : fmt::format("{}", i));
  }
  return names;
}

/// Letters, digits and what names of hosts and addresses have beside them.
bool is_host_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name[0] != '-' && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' || c == '_' || c == ':';
  });
}

void lay_over(HostSettings& under, const HostSettings& over) {
  if (!over.address.empty()) under.address = over.address;
  if (!over.private_address.empty()) under.private_address = over.private_address;
  if (!over.user.empty()) under.user = over.user;
  if (over.port) under.port = over.port;
  if (!over.identities.empty()) under.identities = over.identities;
  for (const HostVar& var : over.vars) {
    const auto known = std::find_if(under.vars.begin(), under.vars.end(), [&](const HostVar& one) { return one.name == var.name; });
    if (known == under.vars.end())
      under.vars.push_back(var);
    else
      *known = var;
  }
}

}  // namespace

std::vector<std::string> unfold_ranges(const std::string& pattern) {
  const std::size_t open = pattern.find('[');
  if (open == std::string::npos) return {pattern};
  const std::size_t close = pattern.find(']', open);
  if (close == std::string::npos) return {};
  const std::vector<std::string> middles = unfold_one(pattern.substr(open + 1, close - open - 1));
  if (middles.empty()) return {};
  const std::vector<std::string> tails = unfold_ranges(pattern.substr(close + 1));
  if (middles.size() * tails.size() > kMostHosts) return {};
  std::vector<std::string> names;
  for (const std::string& middle : middles) {
    for (const std::string& tail : tails) names.push_back(pattern.substr(0, open) + middle + tail);
  }
  return names;
}

std::vector<std::string> FleetHostsBuilder::add_hosts(const std::string& name, const SourcePlace& place) {
  std::vector<std::string> names = unfold_ranges(name);
  const bool as_it_is = names.empty() && is_host_name(name);
  if (as_it_is) names = {name};
  if (names.empty()) {
    problems_.push_back({place, fmt::format("{} is not a range of hosts: expected one such as web[01:10] or db-[a:f]", quote_value(name))});
    return {};
  }
  if (!std::all_of(names.begin(), names.end(), is_host_name)) {
    problems_.push_back({place, fmt::format("{} is not the name of a host: expected letters, digits, `.`, `-`, `_`", quote_value(name))});
    return {};
  }
  for (const std::string& one : names) {
    if (!hosts_.try_emplace(one, Host{place, {}}).second) continue;
    host_order_.push_back(one);
    if (host_order_.size() == kMostHosts + 1) problems_.push_back({place, fmt::format("more than {} hosts: expected fewer", kMostHosts)});
  }
  return names;
}

void FleetHostsBuilder::add_group(const std::string& name, const SourcePlace& place) {
  if (!groups_.try_emplace(name, Group{place, {}, {}, {}, 0}).second) return;
  group_order_.push_back(name);
  if (!is_plain_id(name)) {
    problems_.push_back({place, fmt::format("{} is not the name of a group: expected letters, digits, `.`, `_`, `-`", quote_value(name))});
  }
}

void FleetHostsBuilder::put_host(const std::string& group, const std::string& host) {
  std::vector<std::string>& hosts = groups_[group].hosts;
  if (std::find(hosts.begin(), hosts.end(), host) == hosts.end()) hosts.push_back(host);
}

void FleetHostsBuilder::put_group(const std::string& group, const std::string& child, const SourcePlace& place) {
  groups_[group].children.push_back({child, place});
}

void FleetHostsBuilder::notice(const SourcePlace& place, const std::string& sentence) {
  notices_.push_back(fmt::format("{}:{}:{}: {}", place.file, place.line, place.column, sentence));
}

/// Gives the group the depth, and those in it at least one more.
void FleetHostsBuilder::sink(const std::string& name, std::size_t depth, std::vector<std::string>& way) {
  Group& group = groups_[name];
  if (depth <= group.depth) return;
  group.depth = depth;
  way.push_back(name);
  std::erase_if(group.children, [&](const Child& child) {
    if (!groups_.contains(child.name)) {
      const std::string nearest = nearest_name(child.name, group_order_);
      problems_.push_back({child.place, fmt::format("there is no group {}{}", quote_value(child.name),
                                                    nearest.empty() ? "" : fmt::format("; did you mean `{}`?", nearest))});
      return true;
    }
    const bool circle = std::find(way.begin(), way.end(), child.name) != way.end();
    if (circle || way.size() > kMaxDepth) {
      problems_.push_back({child.place, fmt::format("the group `{}` is in itself: expected groups without a circle", child.name)});
      return true;
    }
    return false;
  });
  for (const Child& child : std::vector<Child>(group.children)) sink(child.name, depth + 1, way);
  way.pop_back();
}

FleetHosts FleetHostsBuilder::finish(const SourcePlace& whole) {
  FleetHosts fleet;
  fleet.notices = std::move(notices_);
  for (const std::string& name : group_order_) {
    std::vector<std::string> way;
    sink(name, 1, way);
  }
  std::vector<std::string> by_depth = group_order_;
  std::stable_sort(by_depth.begin(), by_depth.end(), [&](const auto& a, const auto& b) { return groups_[a].depth < groups_[b].depth; });
  for (const std::string& name : group_order_) {
    if (hosts_.contains(name)) {
      problems_.push_back({groups_[name].place, fmt::format("`{}` is the name of a host too: expected another name for the group", name)});
    }
  }
  if (host_order_.empty() && problems_.empty()) problems_.push_back({whole, "there is no host in it: expected at least one"});
  if (!problems_.empty()) return fleet;
  // Members of each group once, not once for each host: inventories may be long.
  std::map<std::string, std::set<std::string>> members;
  for (auto name = by_depth.rbegin(); name != by_depth.rend(); ++name) {  // the deepest first: they are in the others
    const Group& group = groups_[*name];
    std::set<std::string>& all = members[*name];
    all.insert(group.hosts.begin(), group.hosts.end());
    for (const Child& child : group.children) all.insert(members[child.name].begin(), members[child.name].end());
  }
  for (const std::string& name : host_order_) {
    const Host& known = hosts_[name];
    FleetHost host{name, known.place, all_, {}};
    for (const std::string& group : by_depth) {
      if (members[group].contains(name)) lay_over(host.settings, groups_[group].settings);
    }
    lay_over(host.settings, known.settings);
    for (const std::string& group : group_order_) {
      if (members[group].contains(name)) host.groups.push_back(group);
    }
    if (host.settings.address.empty()) host.settings.address = name;
    if (host.settings.private_address.empty()) host.settings.private_address = host.settings.address;
    fleet.hosts.push_back(std::move(host));
  }
  fleet.groups = group_order_;
  return fleet;
}

}  // namespace gpustrap
