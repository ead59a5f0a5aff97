#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

/// What the user asked for, before the SSH configuration is looked at.
struct SshRequest {
  std::string host;  ///< name, address, or an alias of the SSH configuration
  std::string user;  ///< empty: the configuration's
  std::optional<std::uint16_t> port;
  std::vector<std::string> identities;  ///< -i
};

/// Where and how to connect: the effective settings.
struct SshTarget {
  std::string given;  ///< the host as the user wrote it
  std::string host;
  std::string user;
  std::uint16_t port = 22;
  std::vector<std::string> identities;          ///< tried first: -i
  std::vector<std::string> default_identities;  ///< of the configuration, or ssh's usual names; only those that exist
  bool identities_only = false;
  std::string agent_socket;   ///< empty: no agent
  std::string proxy_command;  ///< empty: a direct connection
  std::string known_hosts;
  std::string global_known_hosts;
  std::string host_key_alias;
  std::chrono::seconds connect_timeout{15};
  std::chrono::seconds greeting_timeout{15};  ///< from there to the login
  std::vector<std::string> notices;           ///< settings that are not followed, one sentence each
};

/// Asks `ssh -G` where ssh exists, so that Match, Include and ProxyJump mean what they mean to ssh; ssh's defaults elsewhere.
/// Errors: usage (an option-like or empty host name), and what ssh itself says of a broken configuration.
[[nodiscard]] Result<SshTarget> resolve_target(const SshRequest& request);

/// The part behind `ssh -G`: its output, and what was asked. `home` stands for ~.
[[nodiscard]] SshTarget target_from_config(const SshRequest& request, std::string_view ssh_config, const std::string& home);

}  // namespace gpustrap
