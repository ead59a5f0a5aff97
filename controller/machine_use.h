#pragma once

#include <map>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "controller/cloud/ec2_types.h"
#include "controller/idle_status.h"

namespace gpustrap {

/// What the guard of `idle_stop` tells on each instance that runs and that this machine knows how to log in to; by the instance. They are
/// asked all at once, and none is waited for longer than ten seconds. Errors: not_found where no guard is there, else why the host was
/// not reached. `state`: the folder of what is kept here.
[[nodiscard]] std::map<std::string, Result<IdleStatus>> use_of_machines(const std::string& state, const std::vector<Ec2Instance>& all);

/// "busy: GPU 0 is 97 % busy", "idle 25m00s", "stops in 4m00s", "no idle_stop", "not reached".
[[nodiscard]] std::string use_text(const Result<IdleStatus>& use);

}  // namespace gpustrap
