#pragma once

#include <string>

#include "agent/host.h"

namespace gpustrap {

/// Where a step keeps what it has to know in the next run: /var/lib/gpustrap/NAME for root, ~/.local/state/gpustrap/NAME else.
[[nodiscard]] std::string state_directory(const Host& host, const std::string& name);
/// Where fetched files lie until they are used: /var/lib/gpustrap/cache for root, ~/.cache/gpustrap else.
[[nodiscard]] std::string cache_directory(const Host& host);

}  // namespace gpustrap
