#pragma once

#include <string>

#include "agent/base/result.h"

namespace gpustrap {

/// Whether systemd is on its way to a shutdown or a restart. False where there is no systemd.
[[nodiscard]] bool host_is_shutting_down();

/// Writes out what waits for disks. One that takes nothing (a network's that is gone) is left after twenty seconds.
void sync_disks();

/// Writes everything to the disk and asks systemd for a restart; `message` is what users of the host are told. Returns once it is under
/// way.
[[nodiscard]] Result<void> restart_host(const std::string& message);
/// The same, and it stays off.
[[nodiscard]] Result<void> stop_host(const std::string& message);

}  // namespace gpustrap
