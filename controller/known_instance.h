#pragma once

#include <string>

#include "agent/base/result.h"
#include "controller/cloud/ec2_types.h"
#include "controller/cloud/launch_record.h"
#include "controller/ssh_config.h"

namespace gpustrap {

// What this machine knows of instances, so that `up`, `ssh` and the rest find them: how to log in, and their host keys.

[[nodiscard]] Result<SshTarget> target_of(const std::string& address, const std::string& user, const std::string& identity);

/// Makes this machine know the instance: its host keys, how to log in.
[[nodiscard]] Result<void> make_known(const std::string& state, const std::string& id, const InstanceRecord& record,
                                      const std::string& old_address);
void forget(const std::string& state, const Ec2Instance& instance);

}  // namespace gpustrap
