#pragma once

#include <string>

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

}  // namespace gpustrap
