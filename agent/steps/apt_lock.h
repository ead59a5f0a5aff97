#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "agent/base/result.h"
#include "agent/host.h"

namespace gpustrap {

/// Who holds a lock of apt or dpkg: "process 812 (unattended-upgr)"; nullopt where all are free. Reads /proc/locks; needs root only
/// for the lists lock's directory.
[[nodiscard]] Result<std::optional<std::string>> apt_lock_holder(const Host& host);

/// Waits until the locks are free, saying who holds them. Error timeout names the holder and what to do.
[[nodiscard]] Result<void> wait_for_apt_locks(Host& host, StepLog& log, std::chrono::seconds limit);

}  // namespace gpustrap
