#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/json_fwd.h"
#include "controller/yaml_document.h"

namespace gpustrap {

/// A value for a recipe's var that a hosts file gives, and where it stands.
struct HostVar {
  std::string name;
  std::shared_ptr<const Json> value;
  SourcePlace place;
};

/// What can be said of one host, or of all hosts of a group. The nearest to the host counts.
struct HostSettings {
  std::string address, private_address, user;
  std::optional<std::uint16_t> port;
  std::vector<std::string> identities;
  std::vector<HostVar> vars;
};

/// One host of a hosts file, with everything that its groups say for it.
struct FleetHost {
  std::string name;
  SourcePlace place;
  HostSettings settings;            ///< the address is the name where none is given, the private address the address
  std::vector<std::string> groups;  ///< all that it is in, also by way of other groups; in the order of the file
};

/// Hosts that are reached together, in the order of their file. A name is that of a host or of a group, never of both.
struct FleetHosts {
  std::vector<FleetHost> hosts;
  std::vector<std::string> groups;   ///< in the order of the file
  std::vector<std::string> notices;  ///< sentences on what is not followed, each with its place
};

/// Reads a hosts file (docs/hosts.md), or an Ansible inventory, YAML or INI, whichever it is. The error (recipe) holds everything that
/// is wrong, by place: "hosts.yaml:3:5: …".
[[nodiscard]] Result<FleetHosts> read_fleet_hosts(const std::string& text, const std::string& label);
/// The same of a file. Errors: not_found, io; usage for a program that would print an inventory.
[[nodiscard]] Result<FleetHosts> load_fleet_hosts(const std::string& path);

/// Indexes of the hosts that `limit` names, in the order of the file: names of hosts and groups, with commas between. Error usage for
/// a name that is neither.
[[nodiscard]] Result<std::vector<std::size_t>> select_hosts(const FleetHosts& hosts, const std::string& limit);

}  // namespace gpustrap
