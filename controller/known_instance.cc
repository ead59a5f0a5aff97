#include "controller/known_instance.h"

#include <optional>
#include <utility>

#include "controller/cloud/host_keys.h"
#include "controller/hosts_file.h"

namespace gpustrap {

Result<SshTarget> target_of(const std::string& address, const std::string& user, const std::string& identity) {
  return resolve_target(SshRequest{address, user, std::nullopt, {identity}});
}

Result<void> make_known(const std::string& state, const std::string& id, const InstanceRecord& record, const std::string& old_address) {
  const Result<SshTarget> target = target_of(record.address, record.user, record.identity);
  if (!target) return fail(target.error());
  if (!record.host_keys.empty()) {
    if (Result<void> pinned = pin_host_keys(target->known_hosts, record.address, record.host_keys); !pinned) return pinned;
  }
  const Result<HostsFile> hosts = HostsFile::open();
  if (!hosts) return fail(hosts.error());
  const bool moved = !old_address.empty() && old_address != record.address;
  Result<std::optional<RememberedHost>> known = hosts->find(moved ? old_address : record.address);
  if (!known) return fail(std::move(known).error());
  RememberedHost entry = known->value_or(RememberedHost{});
  entry.host = record.address;
  entry.user = record.user;
  entry.identities = {record.identity};
  if (Result<void> remembered = hosts->remember(entry); !remembered) return remembered;
  if (moved) {
    if (const Result<bool> forgotten = hosts->forget(old_address); !forgotten) return fail(forgotten.error());
    if (Result<void> forgotten = forget_host_keys(target->known_hosts, old_address); !forgotten) return forgotten;
  }
  return save_instance(state, id, record);
}

void forget(const std::string& state, const Ec2Instance& instance) {
  const std::optional<InstanceRecord> record = load_instance(state, instance.id);
  if (!record) return;
  if (const Result<HostsFile> hosts = HostsFile::open(); hosts && !record->address.empty()) {
    static_cast<void>(hosts->forget(record->address));
    if (const Result<SshTarget> target = target_of(record->address, record->user, record->identity))
      static_cast<void>(forget_host_keys(target->known_hosts, record->address));
  }
  remove_instance(state, instance.id);
}

}  // namespace gpustrap
