#include "controller/known_instance.h"

#include <optional>
#include <utility>

#include <fmt/format.h>

#include "controller/cloud/holdings.h"
#include "controller/cloud/host_keys.h"

namespace gpustrap {
namespace {

/// Why the name cannot be this instance's as a host, in words that follow "is"; empty: it can.
Result<std::string> other_owner_of(const std::string& name, const std::string& id, const std::string& state, const InstanceRecord& record,
                                   const std::vector<RememberedHost>& hosts) {
  const RememberedHost* there = find_host(hosts, name);
  if (there != nullptr && there->host == name && there->instance != id) {
    if (there->instance.empty()) return std::string("another host that gpustrap remembers");
    // In one region a name is one instance's, so that one is over. What is not known any more is over, too.
    const std::optional<InstanceRecord> other = load_instance(state, there->instance);
    if (other && other->region != record.region) return fmt::format("{} in {}", there->instance, other->region);
  }
  const Result<SshTarget> target = target_of(name, record.user, record.identity);
  if (!target) return fail(target.error());
  return std::string(target->host == name ? "" : "another host in your SSH configuration");
}

}  // namespace

Result<SshTarget> target_of(const std::string& address, const std::string& user, const std::string& identity) {
  return resolve_target(
      SshRequest{address, user, std::nullopt, identity.empty() ? std::vector<std::string>{} : std::vector<std::string>{identity}});
}

Result<void> make_known(const std::string& state, const Ec2Instance& instance, InstanceRecord& record,
                        const std::function<void(const std::string&)>& say) {
  const Result<SshTarget> target = target_of(record.address, record.user, record.identity);
  if (!target) return fail(target.error());
  if (!record.host_keys.empty()) {
    if (Result<void> pinned = pin_host_keys(target->known_hosts, record.address, record.host_keys); !pinned) return pinned;
  }
  const Result<HostsFile> file = HostsFile::open();
  if (!file) return fail(file.error());
  const Result<std::vector<RememberedHost>> hosts = file->load();
  if (!hosts) return fail(hosts.error());
  const std::optional<InstanceRecord> before = load_instance(state, instance.id);
  const std::string name = name_of(instance);
  record.name = name;
  const Result<std::string> other = other_owner_of(name, instance.id, state, record, *hosts);
  if (!other) return fail(other.error());
  record.host = other->empty() ? name : record.address;
  if (!other->empty() && (!before || before->host != before->address))
    say(fmt::format("`{}` is {}; as a host this one is called {}.", name, *other, record.address));

  RememberedHost entry;  // recipe and tunnel of what this one was called until now stay with it
  for (const RememberedHost& one : *hosts) {
    const bool own = one.instance == instance.id || (before && one.instance.empty() && one.host == before->address);
    if (own) entry = one;
  }
  entry.host = record.host;
  entry.address = record.address;
  entry.instance = instance.id;
  entry.user = record.user;
  entry.identities.clear();
  if (!record.identity.empty()) entry.identities = {record.identity};
  // The address may have been another machine's, whose user and key are not this one's.
  std::vector<std::string> stale;
  for (const RememberedHost& one : *hosts) {
    const bool own = one.instance == instance.id || (before && one.host == before->address);
    if (one.host != record.host && (own || one.host == record.address || one.address == record.address)) stale.push_back(one.host);
  }
  if (Result<void> remembered = file->remember(entry); !remembered) return remembered;
  for (const std::string& host : stale) {
    if (const Result<bool> forgotten = file->forget(host); !forgotten) return fail(forgotten.error());
  }
  if (before && !before->address.empty() && before->address != record.address) {
    if (Result<void> forgotten = forget_host_keys(target->known_hosts, before->address); !forgotten) return forgotten;
  }
  return save_instance(state, instance.id, record);
}

void forget(const std::string& state, const Ec2Instance& instance) {
  const std::optional<InstanceRecord> record = load_instance(state, instance.id);
  if (!record) return;
  if (const Result<HostsFile> file = HostsFile::open(); file && !record->address.empty()) {
    for (const RememberedHost& one : file->load().value_or(std::vector<RememberedHost>())) {
      if (one.instance == instance.id || (one.instance.empty() && one.host == record->address)) static_cast<void>(file->forget(one.host));
    }
    if (const Result<SshTarget> target = target_of(record->address, record->user, record->identity))
      static_cast<void>(forget_host_keys(target->known_hosts, record->address));
  }
  remove_instance(state, instance.id);
}

}  // namespace gpustrap
