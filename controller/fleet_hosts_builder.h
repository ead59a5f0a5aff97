#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "controller/fleet_hosts.h"

namespace gpustrap {

/// Puts a hosts file together from what its readers find, whatever its format: hosts, groups, which are in which, what is said for each.
class FleetHostsBuilder {
 public:
  explicit FleetHostsBuilder(std::vector<SourceProblem>& problems) : problems_(problems) {}

  /// Hosts and groups are made when they are first named. `name` may hold ranges: web[01:10]; then all of them are meant.
  [[nodiscard]] std::vector<std::string> add_hosts(const std::string& name, const SourcePlace& place);
  void add_group(const std::string& name, const SourcePlace& place);
  void put_host(const std::string& group, const std::string& host);
  void put_group(const std::string& group, const std::string& child, const SourcePlace& place);
  [[nodiscard]] bool has_host(const std::string& name) const { return hosts_.contains(name); }
  [[nodiscard]] bool has_group(const std::string& name) const { return groups_.contains(name); }
  [[nodiscard]] const std::vector<std::string>& host_names() const { return host_order_; }

  /// What is said for all hosts, for a group, for a host. The group or host is there already.
  HostSettings& of_all() { return all_; }
  HostSettings& of_group(const std::string& name) { return groups_[name].settings; }
  HostSettings& of_host(const std::string& name) { return hosts_[name].settings; }
  void notice(const SourcePlace& place, const std::string& sentence);

  /// Everything that follows from all of it. Complete only where no problem was added.
  [[nodiscard]] FleetHosts finish(const SourcePlace& whole);

 private:
  struct Host {
    SourcePlace place;
    HostSettings settings;
  };
  struct Child {
    std::string name;
    SourcePlace place;
  };
  struct Group {
    SourcePlace place;
    HostSettings settings;
    std::vector<std::string> hosts;
    std::vector<Child> children;
    std::size_t depth = 0;  ///< the longest way from the top; 0: not known yet
  };

  void sink(const std::string& name, std::size_t depth, std::vector<std::string>& way);

  std::vector<SourceProblem>& problems_;
  HostSettings all_;
  std::map<std::string, Host> hosts_;
  std::map<std::string, Group> groups_;
  std::vector<std::string> host_order_, group_order_;
  std::vector<std::string> notices_;
};

/// The names that a pattern stands for: "web[01:03]" is web01, web02, web03; "[a:c]" and a step, "[0:8:2]", as in Ansible. Empty where
/// it is none that can be unfolded, or stands for more than 10,000.
[[nodiscard]] std::vector<std::string> unfold_ranges(const std::string& pattern);

/// Reads an Ansible inventory in INI form into `builder`.
void read_ansible_ini(const std::string& text, const std::string& label, FleetHostsBuilder& builder, std::vector<SourceProblem>& problems);
/// Takes one of Ansible's variables: those that say how a host is reached become settings, the rest vars.
void take_ansible_var(HostSettings& settings, const std::string& name, const Json& value, const SourcePlace& place,
                      FleetHostsBuilder& builder, std::vector<SourceProblem>& problems);

}  // namespace gpustrap
