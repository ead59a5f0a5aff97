#pragma once

#include <string>
#include <vector>

#include "agent/protocol/facts.h"

namespace gpustrap {

/// A host in a few words each, as people name it: {"Ubuntu 24.04", "Tesla T4 16 GB", "g4dn.xlarge"}. Unknown parts are left out.
[[nodiscard]] std::vector<std::string> describe_host(const Facts& facts);
/// "2 × Tesla T4 16 GB", "an NVIDIA GPU (10de:abcd)", or empty where there is none.
[[nodiscard]] std::string describe_gpus(const Facts& facts);

}  // namespace gpustrap
