#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/fetched_ahead.h"
#include "agent/host.h"
#include "agent/protocol/event.h"
#include "agent/protocol/facts.h"
#include "agent/protocol/json_fwd.h"
#include "agent/protocol/recipe.h"
#include "agent/protocol/request.h"
#include "agent/steps/step.h"
#include "agent/steps/table.h"

namespace gpustrap {

/// A step of the recipe on this host: facts put in, condition decided, order fixed.
struct PlannedStep {
  StepEntry entry;
  StepSpec spec;
  const StepType* type = nullptr;
  Identity identity;                 ///< whom it runs as
  std::vector<std::size_t> after;    ///< indices of the steps that must end before it starts
  std::string skip_reason;           ///< not empty: its `when` or the choice of steps leaves it out
  std::vector<std::string> secrets;  ///< that it needs
  bool forced = false;               ///< acts also where its look is satisfied
  bool looks_with_secrets = false;   ///< they decide what a look sees; else they are for acting alone
  /// Not null: the value of its kind where secrets are still to be filled in, in the step's process; `spec` then has their places.
  std::shared_ptr<const Json> with_secrets;
  AheadPlace ahead;            ///< of what was fetched before its turn
  int shares = -1;             ///< of `fetch: shared`: SharedFiles::controller
  std::string python_to_come;  ///< of `pip`: the `python` of the earlier step that makes its environment
  std::string asked_on_boot;   ///< not empty: the boot on which it asked for a restart, earlier in the run
};

/// For each step of the recipe the indices, ascending, of the steps that must end before it starts: its needs and the barriers.
[[nodiscard]] std::vector<std::vector<std::size_t>> order_of(const Recipe& recipe);
/// The steps as run_started tells them.
[[nodiscard]] std::vector<StepTitle> titles_of(const Recipe& recipe);

/// Decides everything that can be decided before a step starts. All mistakes at once, as one error (recipe): nothing has been changed yet;
/// `first_wrong` is then the id of the first step with one.
[[nodiscard]] Result<std::vector<PlannedStep>> make_plan(const Recipe& recipe, const Facts& facts, const Identity& login,
                                                         const Identity& self, const StepChoice& choice,
                                                         std::string* first_wrong = nullptr);

}  // namespace gpustrap
