#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"

namespace gpustrap {

/// What runs beside a loaded driver.
struct DriverServices {
  std::string driver;                        ///< version that is loaded
  bool persistence = true;                   ///< nvidia-persistenced, where the host has its unit
  std::vector<std::string> fabric_packages;  ///< the fabric manager and its company; empty where not needed
};

/// What is missing, as fragments of a sentence: "nvidia-persistenced does not run".
[[nodiscard]] Result<std::vector<std::string>> missing_services(const Host& host, const DriverServices& wanted);
/// Installs the fabric manager at exactly the driver's version, and starts what does not run.
[[nodiscard]] Result<void> set_up_services(Host& host, StepLog& log, const DriverServices& wanted);

}  // namespace gpustrap
