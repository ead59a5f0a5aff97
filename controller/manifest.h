#pragma once

namespace gpustrap {

/// What this program was made of: compiler, flags, and each library that is linked in with its version and the digests of its sources.
extern const char* const kManifest;

}  // namespace gpustrap
