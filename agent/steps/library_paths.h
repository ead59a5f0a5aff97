#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"

namespace gpustrap {

/// Those of `directories` that the dynamic loader does not search by itself: no library of theirs is in its cache (or, on a host
/// without ldconfig, no file of /etc/ld.so.conf.d names them). Links are resolved: /usr/local/cuda/lib64 usually is one.
[[nodiscard]] Result<std::vector<std::string>> directories_unknown_to_loader(const std::vector<std::string>& directories, const Host& host);

}  // namespace gpustrap
