#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/json_fwd.h"

namespace gpustrap {

/// What is remembered of a host after a successful login, so that it need not be said again.
struct RememberedHost {
  std::string host;  ///< as the user names it
  /// Of one that `launch` has rented, whose name nobody else knows: where it is now, and its id. Else empty.
  std::string address, instance;
  std::string user;
  std::optional<std::uint16_t> port;
  std::vector<std::string> identities;  ///< absolute paths
  std::string recipe;                   ///< of the last `up`: its name, or the absolute path of its file
  std::uint16_t local_port = 0;         ///< of the last tunnel; 0: none yet
};

[[nodiscard]] Json to_json(const RememberedHost& host);

/// Whether that is the host's name, or its address.
[[nodiscard]] const RememberedHost* find_host(const std::vector<RememberedHost>& hosts, const std::string& host);

/// hosts.json in the state folder. A file that cannot be read or understood is an error that names it; a missing one holds no hosts.
class HostsFile {
 public:
  explicit HostsFile(std::string path) : path_(std::move(path)) {}
  /// The user's own.
  [[nodiscard]] static Result<HostsFile> open();

  [[nodiscard]] Result<std::vector<RememberedHost>> load() const;
  /// By the name it is remembered under; else an instance's by its address.
  [[nodiscard]] Result<std::optional<RememberedHost>> find(const std::string& host) const;
  /// Changes the entry of this host, or one that is made for it: what another program has remembered meanwhile stays.
  [[nodiscard]] Result<void> update(const std::string& host, const std::function<void(RememberedHost& entry)>& change) const;
  /// Adds or replaces the entries of these hosts; as for one.
  [[nodiscard]] Result<void> remember(const std::vector<RememberedHost>& hosts) const;
  /// Adds or replaces the entry of that host; two programs at once do not lose each other's.
  [[nodiscard]] Result<void> remember(const RememberedHost& host) const;
  /// False where it was not remembered.
  [[nodiscard]] Result<bool> forget(const std::string& host) const;

 private:
  Result<void> change(const std::function<void(std::vector<RememberedHost>& hosts)>& change) const;

  std::string path_;
};

}  // namespace gpustrap
