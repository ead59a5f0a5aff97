#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
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
  std::vector<std::string> identities;             ///< tried first: -i
  std::vector<std::string> configured_identities;  ///< of the configuration; only those that exist
  std::vector<std::string> default_identities;     ///< of ssh's usual names; only those that exist
  bool identities_only = false;
  std::string agent_socket;                   ///< empty: no agent
  std::string proxy_command;                  ///< empty: a direct connection
  std::string known_hosts;                    ///< where a new key goes
  std::vector<std::string> more_known_hosts;  ///< which are read too
  std::string host_key_alias;
  std::chrono::seconds connect_timeout{15};
  std::chrono::seconds greeting_timeout{15};  ///< from there to the login
  std::vector<std::string> notices;           ///< settings that are not followed, one sentence each
};

/// Whether a host or a user may stand in a command line: no dash in front, no blank, nothing that a shell takes for more than text. A
/// ProxyCommand has them unquoted, as it has with ssh, which refuses the same.
[[nodiscard]] bool is_plain_name(std::string_view name);

/// Asks `ssh -G`, so that Match, Include and ProxyJump mean what they mean to ssh; ssh's defaults where there is no ssh, or where its
/// configuration files say nothing that matters for a connection.
/// Errors: usage (a host or user that is no plain name), and what ssh itself says of a broken configuration.
[[nodiscard]] Result<SshTarget> resolve_target(const SshRequest& request);

/// resolve_target() for many hosts: asking ssh costs 10 ms of processor time, and a configuration mostly says the same for all of them. An
/// answer serves other hosts where the configuration's `Host` lines take them alike, there is no `Match`, and nothing in the answer is
/// made of the host's name; else ssh is asked again. For many threads.
class TargetResolver {
 public:
  [[nodiscard]] Result<SshTarget> resolve(const SshRequest& request);

 private:
  struct Answer {
    std::string text;                   ///< of `ssh -G`
    std::vector<std::string> patterns;  ///< the `Host` lines of all files that ssh has read
    std::vector<bool> taken;            ///< which of them take the host that was asked for
  };
  std::optional<std::string> known_answer(const SshRequest& request);

  std::mutex mutex_;
  std::vector<Answer> answers_;
  bool each_its_own_ = false;  ///< a configuration that cannot be judged
};

/// Whether a `Host` line with these patterns takes the name, as ssh_config(5) says: one matches, and none behind a `!` does.
[[nodiscard]] bool host_line_takes(std::string_view patterns, std::string_view name);

/// Whether a configuration file of ssh's is absent, or says nothing that matters for where and how gpustrap connects; with the files that
/// it includes, whose relative names lie in `folder`. `home` stands for ~. What is not understood matters.
[[nodiscard]] bool says_nothing(const std::string& path, const std::string& folder, const std::string& home, int depth = 0);

/// The part behind `ssh -G`: its output, and what was asked. `home` stands for ~.
[[nodiscard]] SshTarget target_from_config(const SshRequest& request, std::string_view ssh_config, const std::string& home);

}  // namespace gpustrap
