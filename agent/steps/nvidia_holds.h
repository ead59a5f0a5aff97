#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"

// A kernel upgrade without the driver's modules, or a driver upgrade under a running module, ends every GPU program at the next boot
// or at once: kernel and driver are held together.

namespace gpustrap {

/// Installed packages of this driver branch and of the running kernel that are not held; empty where the driver came from no package.
[[nodiscard]] Result<std::vector<std::string>> packages_to_hold(const Host& host, const std::string& branch);
/// Holds them, and remembers which.
[[nodiscard]] Result<void> hold_packages(Host& host, StepLog& log, const std::string& branch);
/// Lets go of what hold_packages() held, so that another driver can take its place. What the user holds stays.
[[nodiscard]] Result<void> release_packages(Host& host, StepLog& log);

}  // namespace gpustrap
