#include "controller/fleet_members.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <string>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "controller/newcomer.h"
#include "controller/prompt.h"
#include "controller/recipe_sources.h"

namespace gpustrap {
namespace {

/// More at once than this are no faster over one line, and as many threads.
constexpr std::size_t kParallel = 50;

std::string absolute(const std::string& path) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::absolute(path, error);
  return error || path.starts_with("~") ? path : whole.lexically_normal().string();
}

}  // namespace

Result<FleetHosts> fleet_hosts_of(const Options& options) {
  if (!options.hosts_file.empty()) return load_fleet_hosts(options.hosts_file);
  FleetHosts hosts;
  for (const std::string& word : options.hosts) {
    const Result<Destination> destination = read_destination(word);
    if (!destination) return fail(destination.error());
    FleetHost host;
    host.name = word;
    host.settings.address = host.settings.private_address = destination->host;
    host.settings.user = destination->user;
    hosts.hosts.push_back(std::move(host));
  }
  return hosts;
}

Options options_for(const Options& options, const FleetHost& host, const std::vector<RememberedHost>& memory) {
  Options own = options;
  own.host = host.settings.address;
  own.hosts.clear();
  if (own.user.empty()) own.user = host.settings.user;
  if (!own.port) own.port = host.settings.port;
  if (own.identities.empty()) own.identities = host.settings.identities;
  fill_in(own, own.environment);
  if (const RememberedHost* known = find_host(memory, own.host)) {
    fill_in(own, HostDefaults{known->user, known->port, known->identities});
    own.last_local_port = known->local_port;
    own.address = known->address;
  }
  fill_in(own, own.usual);
  return own;
}

Result<std::vector<FleetMember>> members_without_recipe(const Options& options) {
  if (options.limit == "failed")
    return fail(ErrorCode::usage, "--limit failed is about the last run of a recipe",
                fmt::format("name hosts or groups, or run it again: gpustrap up RECIPE -f {} --limit failed", options.hosts_file));
  const Result<FleetHosts> hosts = fleet_hosts_of(options);
  if (!hosts) return fail(hosts.error());
  std::vector<std::size_t> which(hosts->hosts.size());
  std::iota(which.begin(), which.end(), std::size_t{0});
  if (!options.limit.empty()) {
    Result<std::vector<std::size_t>> chosen = select_hosts(*hosts, options.limit);
    if (!chosen) return fail(std::move(chosen).error());
    which = *std::move(chosen);
  }
  const Result<std::vector<RememberedHost>> memory = HostsFile::open().and_then([](const HostsFile& file) { return file.load(); });
  if (!memory) return fail(memory.error());
  std::vector<FleetMember> members;
  for (const std::size_t i : which) members.push_back({hosts->hosts[i].name, options_for(options, hosts->hosts[i], *memory), nullptr});
  return members;
}

std::size_t parallel_for(const Options& options, std::size_t hosts) {
  return options.parallel > 0 ? options.parallel : std::min(kParallel, hosts);
}

Result<void> remember_hosts(const std::vector<FleetMember>& members, const std::vector<bool>& reached) {
  if (std::find(reached.begin(), reached.end(), true) == reached.end()) return {};
  const Result<HostsFile> file = HostsFile::open();
  if (!file) return fail(file.error());
  const Result<std::vector<RememberedHost>> memory = file->load();
  if (!memory) return fail(memory.error());
  std::vector<RememberedHost> hosts;
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (!reached[i]) continue;
    const Options& options = members[i].options;
    const RememberedHost* known = find_host(*memory, options.host);
    RememberedHost host = known == nullptr ? RememberedHost{options.host} : *known;
    const HostDefaults said = worth_remembering(options);
    host.user = said.user;
    host.port = said.port;
    host.identities.clear();
    for (const std::string& identity : said.identities) host.identities.push_back(absolute(identity));
    if (!options.recipe.empty()) host.recipe = is_recipe_file(options.recipe) ? absolute(options.recipe) : options.recipe;
    hosts.push_back(std::move(host));
  }
  return file->remember(hosts);
}

Result<void> ask_sudo_password_for(const Options& options, FleetWork& work) {
  if (!options.ask_sudo_password) return {};
  work.sudo_password =
      ask_secret(options.is_fleet() && options.hosts.size() != 1 ? "Password of sudo, the same for all hosts: " : "Password of sudo: ");
  if (work.sudo_password) return {};
  return fail(ErrorCode::authentication, "no sudo password was given", "--ask-sudo-password needs a terminal to ask at");
}

}  // namespace gpustrap
