#pragma once

#include <string>
#include <vector>

#include "agent/host.h"
#include "agent/protocol/step_spec.h"

// Wheels that are fetched before the step's turn. Which ones is settled by digests: those of a locked requirements file, or those that uv's
// resolution of the wanted packages names. Addresses come from the index that pip would ask. Where any of that is not to be had, or pip's
// own settings lead to more places than one index, nothing is fetched ahead, and pip or uv does everything, as ever.

namespace gpustrap {

/// What a step would fetch, as far as that can be known; empty where it cannot.
[[nodiscard]] std::vector<FetchRequest> wheels_to_fetch(const Host& host, const PipSpec& spec);

/// Before pip or uv runs: fetches what of it has not come yet, several at once, and installs what is there, by `installer` (the first words
/// of that command), without dependencies and without an index: beside one, both would rather fetch what lies here once more. The tool
/// compares the digests once more, and finds the packages there when it then does what the step asks for. What goes wrong is said, and left
/// to that.
void install_wheels(Host& host, StepLog& log, const PipSpec& spec, const Command& installer);

}  // namespace gpustrap
