#pragma once

#include <string>

#include "agent/base/result.h"

namespace gpustrap {

/// Runs a service where there is no systemd: `gpustrap-agent supervise VERB UNIT`. `unit` is the path of its file, NAME.service. Beside it
/// lie NAME.log (with NAME.log.1, once it is large) and NAME.status, which names the supervisor by process id and start time.
///
/// start    a process of its own session that keeps the program up as the unit says; success where one does already
/// restart  stop and start
/// stop     ends the program and all that it has started: SIGTERM, and SIGKILL after the unit's TimeoutStopSec
/// show     what `systemctl show` would say of it
///
/// What it prints. Errors: usage, not_found (no such file), unsupported (see read_service_unit), permission.
[[nodiscard]] Result<std::string> supervise(const std::string& verb, const std::string& unit);

}  // namespace gpustrap
