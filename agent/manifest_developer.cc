#include "agent/manifest.h"

namespace gpustrap {

const char* const kAgentManifest = "developer build: libraries of this machine\n";

}  // namespace gpustrap
