#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "controller/cloud/ec2.h"

namespace gpustrap {

// Who may reach the SSH of instances: security groups, each of which lets in one address or network and is named after it.

/// A source of SSH connections as EC2 takes it: "198.51.100.7" is 198.51.100.7/32. Errors (usage): no address, or everybody.
[[nodiscard]] Result<std::string> read_source(const std::string& text);
/// This machine's address as the internet sees it, as a source.
[[nodiscard]] Result<std::string> caller_source(Ec2& ec2);
/// The id of the group that lets SSH in from there and nothing else; made where there is none. unsafe where somebody has opened it further.
[[nodiscard]] Result<std::string> ssh_group(Ec2& ec2, const std::string& vpc, const std::string& source);

/// Whom an instance's groups let in.
struct SshAccess {
  bool open = false;                     ///< to the source that was asked about
  std::vector<std::string> sources;      ///< those of gpustrap's groups
  std::vector<std::string> wider;        ///< what gpustrap's groups let in besides: "tcp 8888 from 0.0.0.0/0 (sg-1)"
  std::vector<std::string> own, others;  ///< ids of groups: gpustrap's, and those that somebody else gave it
};
[[nodiscard]] Result<SshAccess> ssh_access(Ec2& ec2, const Ec2Instance& instance, const std::string& source);
/// Lets `source` in instead of whom gpustrap's groups let in until now; groups of others stay. The groups themselves stay, too: other
/// instances may have them, and `ls --orphans` finds those that none has.
[[nodiscard]] Result<void> move_ssh_access(Ec2& ec2, const Ec2Instance& instance, const SshAccess& before, const std::string& source);

/// Whether a network, as EC2 names it, holds all of another: "198.51.100.0/24" does "198.51.100.7/32".
[[nodiscard]] bool holds(const std::string& network, const std::string& source);

}  // namespace gpustrap
