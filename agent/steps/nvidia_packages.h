#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/protocol/compat_resolver.h"
#include "agent/steps/nvidia_repository.h"

namespace gpustrap {

/// What is to be installed, and how.
struct DriverInstallation {
  DriverAnswer driver;
  std::optional<NvidiaRepository> repository;
  bool stay_on_kernel = true;  ///< kernel and driver are held: modules for the running kernel alone will do
  bool persistence = true;
};

/// Installs a driver's packages from the first source that has them all. Returns why the host must be restarted before that can go on
/// (the running kernel's headers are no longer served), else an empty text. The error says why no source serves.
[[nodiscard]] Result<std::string> install_driver_packages(Host& host, StepLog& log, const DriverInstallation& wanted);

/// Why apt would not install these together, in its own words; nullopt where it would.
[[nodiscard]] Result<std::optional<Error>> why_not_installable(const Host& host, const std::vector<std::string>& packages);
/// The version that apt would install; empty where it knows none.
[[nodiscard]] Result<std::string> candidate_version(const Host& host, const std::string& package);
/// "580.95.05" of "580.95.05-0ubuntu0.24.04.1", "1:580.95.05-1".
[[nodiscard]] std::string upstream_version(std::string_view version);

/// The compiler's package that the running kernel was built with, by /proc/version: "gcc-12".
/// Empty where that does not tell.
[[nodiscard]] std::string kernel_compiler(const Host& host);

}  // namespace gpustrap
