#pragma once

namespace gpustrap {

/// What the agent was built from: a line for each library (name, version, sha256 of its source), compiler and flags.
/// The static build generates it; a developer's build says that it is one.
extern const char* const kAgentManifest;

}  // namespace gpustrap
