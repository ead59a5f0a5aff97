#pragma once

#include <string>

#include "agent/base/result.h"
#include "agent/live_step.h"
#include "agent/run_history.h"

namespace gpustrap {

/// A failed step, with its reason.
[[nodiscard]] StepFinished failure_of(const std::string& step, const Error& why);
/// Why a process that has ended without saying how has failed, by its wait status.
[[nodiscard]] Error crashed(int status);

struct RunView {
  bool looks_only = false;
  const Facts& facts;
  const Identity& login;
  const Mirror& mirror;
  SecretStore& secrets;
};
/// What a step's own outcome means once the rest of the run is taken into account: a plan's failure may only be unknown, and a converged
/// host is not told to make room. May look at other steps, and waits for that.
void weigh(StepFinished& finished, const LiveStep& step, const LiveSteps& all, const RunView& run);

/// The run's end, counted: `failed` where a step failed, else `ok`. Without its time.
[[nodiscard]] RunFinished tally(const LiveSteps& all, const RunHistory& history);

}  // namespace gpustrap
