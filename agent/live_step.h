#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/output_relay.h"
#include "agent/plan.h"
#include "agent/protocol/event.h"
#include "agent/run_life.h"
#include "agent/step_process.h"

namespace gpustrap {

/// A step as its runner holds it.
struct LiveStep {
  PlannedStep plan;
  StepLife life;
  OutputRelay relay;
  Outcome outcome = Outcome::skipped;
  std::int64_t attempt = 1;
  std::chrono::steady_clock::time_point started{};  ///< first attempt
  std::chrono::steady_clock::time_point attempt_started{};
  std::chrono::steady_clock::time_point last_sign{};  ///< output, record or progress: for `stall`
  std::chrono::steady_clock::time_point resume_at{};  ///< while pausing between attempts
  std::chrono::steady_clock::time_point kill_at{};    ///< SIGKILL after SIGTERM; zero: not being killed
  std::optional<Error> killed_for;
  bool must_finish = false;                            ///< it changes dpkg's database: never killed
  bool fetches = false;                                ///< it stands still until a file has come
  std::chrono::steady_clock::time_point held_since{};  ///< it is stopped, because another's file comes first; zero: it is not
  StepProcess process;
  std::optional<StepFinished> finished;  ///< said by the process, not yet an event
  std::optional<RebootWish> wish;        ///< the same
  bool said_waiting = false;             ///< for secrets

  [[nodiscard]] bool is(StepPhase phase) const { return life.phase() == phase; }
};

using LiveSteps = std::vector<std::unique_ptr<LiveStep>>;  ///< in the recipe's order: PlannedStep::after are indices

}  // namespace gpustrap
