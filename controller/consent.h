#pragma once

#include <string>
#include <vector>

#include "agent/protocol/event.h"
#include "agent/protocol/recipe.h"

namespace gpustrap {

// Before a run that people at the host would notice is started, whoever asks for it says yes: a driver under work that is being done,
// a restart.

/// Whether a step of the recipe could install a driver or restart the host: only then is it worth a look beforehand.
[[nodiscard]] bool may_disrupt(const Recipe& recipe);

/// As if every step that could disrupt said `allow_disruption: true`.
void allow_disruption(Recipe& recipe);

/// What a plan says that needs a yes.
struct Disruption {
  std::string what;   ///< "would restart the host"; empty where the run disrupts nothing
  std::string steps;  ///< every step that would change, a line each, free of control characters
};

/// From the events of a plan.
[[nodiscard]] Disruption disruption_in(const std::vector<Event>& plan);

}  // namespace gpustrap
