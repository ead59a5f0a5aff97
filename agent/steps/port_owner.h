#pragma once

#include <cstdint>
#include <string>

#include "agent/host.h"

namespace gpustrap {

/// Who listens on a TCP port of this host: "process 812 (python3) of ubuntu", or as much of that as can be seen.
[[nodiscard]] std::string owner_of_port(const Host& host, std::uint16_t port);

}  // namespace gpustrap
