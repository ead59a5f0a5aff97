#pragma once

#include <cstddef>
#include <vector>

#include "agent/base/result.h"
#include "controller/fleet.h"
#include "controller/fleet_hosts.h"
#include "controller/hosts_file.h"
#include "controller/options.h"

namespace gpustrap {

// Which hosts a command line means, and how each of them is reached.

/// The hosts of -f, or of the command line.
[[nodiscard]] Result<FleetHosts> fleet_hosts_of(const Options& options);
/// The command line says most, then the hosts file, the environment, what is remembered of the host, and what config.yaml says.
[[nodiscard]] Options options_for(const Options& options, const FleetHost& host, const std::vector<RememberedHost>& memory);
/// For verbs that begin nothing: the hosts that --limit leaves. Error usage for `--limit failed`, which is about a recipe.
[[nodiscard]] Result<std::vector<FleetMember>> members_without_recipe(const Options& options);
/// How many of `hosts` are worked on at once.
[[nodiscard]] std::size_t parallel_for(const Options& options, std::size_t hosts);
/// Remembers what was said of those that were `reached`, on the command line and in the hosts file.
[[nodiscard]] Result<void> remember_hosts(const std::vector<FleetMember>& members, const std::vector<bool>& reached);
/// Asks for the one password that serves all hosts, where the options want that.
[[nodiscard]] Result<void> ask_sudo_password_for(const Options& options, FleetWork& work);

}  // namespace gpustrap
