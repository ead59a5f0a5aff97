#pragma once

#include <functional>
#include <string>

#include "agent/base/result.h"
#include "controller/cloud/ec2_types.h"
#include "controller/cloud/launch_record.h"
#include "controller/hosts_file.h"
#include "controller/ssh_config.h"

namespace gpustrap {

// What this machine knows of instances, so that `up NAME`, `ssh NAME` and the rest find them: where they are, how to log in, their host
// keys.

[[nodiscard]] Result<SshTarget> target_of(const std::string& address, const std::string& user, const std::string& identity);

/// Makes this machine know the instance: its name as a host, its host keys, how to log in. `record` is what is known of it now but for
/// `host`, which is filled in: its name, or its address where the name is another host's. That is told by `say`.
[[nodiscard]] Result<void> make_known(const std::string& state, const Ec2Instance& instance, InstanceRecord& record,
                                      const std::function<void(const std::string&)>& say);
/// The instance is over: what is remembered of it as a host, and its host keys, go.
void forget(const std::string& state, const Ec2Instance& instance);

}  // namespace gpustrap
