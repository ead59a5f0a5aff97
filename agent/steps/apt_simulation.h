#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gpustrap {

/// A package of what `apt-get -s` says that it would do. `from` is empty for one that is not installed yet, `to` for one that goes.
struct SimulatedPackage {
  std::string name, from, to;
};

/// The lines `Inst NAME [OLD] (NEW ORIGIN [ARCH])` and `Remv NAME [OLD]` of apt-get's simulation (apt 1.0 to 3.0), in their order.
[[nodiscard]] std::vector<SimulatedPackage> simulated_packages(std::string_view said);

/// What would be done, for people: a line for each package that was asked for, and lines for those that come or go with them.
[[nodiscard]] std::string simulation_text(const std::vector<SimulatedPackage>& packages, const std::vector<std::string>& asked_for);

}  // namespace gpustrap
