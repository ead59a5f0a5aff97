#pragma once

#include <string>
#include <variant>
#include <vector>

#include "agent/plan.h"
#include "agent/protocol/event.h"
#include "agent/secret_store.h"

namespace gpustrap {

enum class SecretUse {
  looking,     ///< a plan, which has no values and needs none
  acting,      ///< a run
  done_before  ///< a run whose earlier runner has done the step already
};

struct StepMayStart {};
/// It cannot be looked at without its secrets, and need not be.
struct StepIsSettled {
  StepFinished finished;
};
struct StepMustWait {
  std::vector<std::string> secrets;  ///< that nobody has handed over yet
};

/// Whether a step may start with the secrets that are there.
[[nodiscard]] std::variant<StepMayStart, StepIsSettled, StepMustWait> ask_for_secrets(const PlannedStep& step, const SecretStore& given,
                                                                                      SecretUse use);

}  // namespace gpustrap
