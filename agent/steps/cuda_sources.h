#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/protocol/step_spec.h"
#include "agent/steps/nvidia_repository.h"

namespace gpustrap {

/// Installs toolkit packages (cuda-toolkit-12-4) from NVIDIA's repository. Refuses where apt would install a driver along with them.
[[nodiscard]] Result<void> install_toolkit_from_repository(Host& host, StepLog& log, const NvidiaRepository& repository,
                                                           const std::vector<std::string>& packages);
/// Installs them from a local repository that comes as one .deb.
[[nodiscard]] Result<void> install_toolkit_from_deb(Host& host, StepLog& log, const CudaSpec& spec,
                                                    const std::vector<std::string>& packages);
/// Where the toolkit comes as one file: that file, nullopt where it is on the host already.
[[nodiscard]] std::optional<FetchRequest> toolkit_download(const Host& host, const CudaSpec& spec);
/// Runs NVIDIA's installer for the toolkit alone.
[[nodiscard]] Result<void> install_toolkit_from_runfile(Host& host, StepLog& log, const CudaSpec& spec);

}  // namespace gpustrap
