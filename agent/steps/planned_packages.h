#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/steps/apt_simulation.h"

namespace gpustrap {

// What pip, uv and conda say that they would install, for a plan. They are asked with their own `--dry-run`, as the step's user.

/// How long such a question may take, and how large a file it may write: a plan is looked at by people, and brings no wheels.
struct PlanLimits {
  std::chrono::seconds time{30};
  std::uint64_t file_size = std::uint64_t{256} << 20U;
};
/// Runs it with a folder in the agent's cache (in /var/tmp where there is no such cache yet) as its temporary one and as all its caches,
/// which is gone afterwards, also where the time runs out. Error timeout.
[[nodiscard]] Result<CommandResult> look_aside(const Host& host, Command command, const PlanLimits& limits);

/// Of pip's line "Would install idna-3.10 torch-2.9.0+cu126" or uv's lines " + idna==3.10". `installed` tells what they replace.
[[nodiscard]] std::vector<SimulatedPackage> packages_of_pip(std::string_view said, const std::map<std::string, std::string>& installed);
/// Of the JSON of conda's `--dry-run`: what is linked, in place of what is unlinked.
[[nodiscard]] std::vector<SimulatedPackage> packages_of_conda(std::string_view said);

/// "which versions is known when it runs: WHY"
[[nodiscard]] std::string unknown_versions(std::string_view why);

}  // namespace gpustrap
