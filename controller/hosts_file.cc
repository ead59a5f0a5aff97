#include "controller/hosts_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/unique_fd.h"
#include "agent/protocol/json.h"
#include "controller/run_log.h"

namespace gpustrap {
namespace {

/// A member of the right type, or its default: an entry that a newer version wrote stays usable.
template <class T> T member(const Json& entry, const char* name, bool (Json::*is)() const noexcept) {
  const auto found = entry.find(name);
  return found != entry.end() && ((*found).*is)() ? found->get<T>() : T{};
}

RememberedHost host_from_json(const Json& entry) {
  RememberedHost host;
  host.host = member<std::string>(entry, "host", &Json::is_string);
  host.address = member<std::string>(entry, "address", &Json::is_string);
  host.instance = member<std::string>(entry, "instance", &Json::is_string);
  host.user = member<std::string>(entry, "user", &Json::is_string);
  host.recipe = member<std::string>(entry, "recipe", &Json::is_string);
  host.local_port = static_cast<std::uint16_t>(member<std::uint64_t>(entry, "local_port", &Json::is_number_unsigned));
  const auto port = member<std::uint64_t>(entry, "port", &Json::is_number_unsigned);
  if (port > 0 && port < 65536) host.port = static_cast<std::uint16_t>(port);
  for (const Json& identity : entry.value("identities", Json::array())) {
    if (identity.is_string()) host.identities.push_back(identity.get<std::string>());
  }
  return host;
}

}  // namespace

Json to_json(const RememberedHost& host) {
  Json entry = {{"host", host.host}, {"user", host.user}};
  if (!host.address.empty()) entry["address"] = host.address;
  if (!host.instance.empty()) entry["instance"] = host.instance;
  if (host.port) entry["port"] = *host.port;
  entry["identities"] = host.identities;
  entry["recipe"] = host.recipe;
  entry["local_port"] = host.local_port;
  return entry;
}

Result<HostsFile> HostsFile::open() {
  Result<std::string> state = state_directory();
  if (!state) return fail(std::move(state).error());
  return HostsFile(*state + "/hosts.json");
}

Result<std::vector<RememberedHost>> HostsFile::load() const {
  std::vector<RememberedHost> hosts;
  const Result<std::string> text = read_file(path_);
  if (!text && text.error().code() == ErrorCode::not_found) return hosts;
  if (!text) return fail(Error(text.error()).in("reading the remembered hosts"));
  const Json document = Json::parse(*text, nullptr, false);
  if (!document.is_object() || !document.contains("hosts") || !document.at("hosts").is_array()) {
    return fail(ErrorCode::io, path_ + " is not a list of hosts", "remove it; hosts are remembered again as they are used");
  }
  for (const Json& entry : document.at("hosts")) {
    if (!entry.is_object()) continue;
    RememberedHost host = host_from_json(entry);
    if (!host.host.empty()) hosts.push_back(std::move(host));
  }
  return hosts;
}

Result<std::optional<RememberedHost>> HostsFile::find(const std::string& host) const {
  const Result<std::vector<RememberedHost>> hosts = load();
  if (!hosts) return fail(hosts.error());
  const RememberedHost* found = find_host(*hosts, host);
  return found == nullptr ? std::optional<RememberedHost>() : *found;
}

const RememberedHost* find_host(const std::vector<RememberedHost>& hosts, const std::string& host) {
  for (const auto name : {&RememberedHost::host, &RememberedHost::address}) {
    const auto found = std::find_if(hosts.begin(), hosts.end(), [&](const RememberedHost& one) { return one.*name == host; });
    if (found != hosts.end() && !host.empty()) return &*found;
  }
  return nullptr;
}

Result<void> HostsFile::change(const std::function<void(std::vector<RememberedHost>& hosts)>& change) const {
  if (Result<void> made = make_own_directories(parent_of(path_)); !made) return made;
  // The lock lies beside the file: the file itself is replaced.
  const UniqueFd lock(::open((path_ + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock.valid()) return fail(errno_error(errno, "locking " + path_));
  while (::flock(lock.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return fail(errno_error(errno, "locking " + path_));
  }
  Result<std::vector<RememberedHost>> hosts = load();
  if (!hosts) return fail(std::move(hosts).error());
  change(*hosts);
  Json list = Json::array();
  for (const RememberedHost& host : *hosts) list.push_back(to_json(host));
  const std::string text = Json{{"hosts", std::move(list)}}.dump(2) + "\n";
  // The same host again, as ever: nothing to wait for the disk for.
  if (const Result<std::string> there = read_file(path_); there && *there == text) return {};
  return write_file_atomically(path_, text, 0600);
}

Result<void> HostsFile::update(const std::string& host, const std::function<void(RememberedHost& entry)>& change) const {
  return this->change([&](std::vector<RememberedHost>& known) {
    const RememberedHost* found = find_host(known, host);
    RememberedHost entry = found == nullptr ? RememberedHost{} : *found;
    if (found == nullptr) entry.host = host;
    std::erase_if(known, [&](const RememberedHost& one) { return one.host == entry.host; });
    change(entry);
    known.insert(known.begin(), std::move(entry));
  });
}

Result<void> HostsFile::remember(const RememberedHost& host) const { return remember(std::vector<RememberedHost>{host}); }

Result<void> HostsFile::remember(const std::vector<RememberedHost>& hosts) const {
  return change([&](std::vector<RememberedHost>& known) {
    std::set<std::string> names;
    for (const RememberedHost& host : hosts) names.insert(host.host);
    std::erase_if(known, [&](const RememberedHost& one) { return names.contains(one.host); });
    known.insert(known.begin(), hosts.begin(), hosts.end());
  });
}

Result<bool> HostsFile::forget(const std::string& host) const {
  bool found = false;
  Result<void> changed = change([&](std::vector<RememberedHost>& hosts) {
    found = std::erase_if(hosts, [&](const RememberedHost& one) { return one.host == host; }) > 0;
  });
  if (!changed) return fail(std::move(changed).error());
  return found;
}

}  // namespace gpustrap
