#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/recipe.h"
#include "agent/protocol/request.h"

namespace gpustrap {

/// What a command line says of a recipe's steps, by their ids: --from, --only, --skip, --force, --tag.
struct StepWishes {
  std::string from;
  std::vector<std::string> only, skip, force, tags;
};
/// The same as options, " --only pip --force motd", for a command that is to be given again.
[[nodiscard]] std::string words_of(const StepWishes& wishes);

struct ChosenSteps {
  StepChoice choice;
  std::vector<std::string> notices;  ///< sentences for people: needs that are not looked at
};
/// The wishes as the agents take them, for the recipes of all hosts that are worked on: a step that only some hosts have counts there.
/// Error usage: a step or tag that no recipe has, wishes that contradict each other, or nothing left to do.
[[nodiscard]] Result<ChosenSteps> choose_steps(const std::vector<const Recipe*>& recipes, const StepWishes& wishes);

/// The recipe with the steps alone that such a run looks at: for what is asked, proven or promised because of a step. Not for an agent.
[[nodiscard]] Recipe chosen_part(const Recipe& recipe, const StepChoice& choice);

}  // namespace gpustrap
