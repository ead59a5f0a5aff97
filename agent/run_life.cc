#include "agent/run_life.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

namespace gpustrap {
namespace {

/// Else the first of two rows would win in silence.
constexpr bool has_one_answer() {
  for (const RunMove& row : kRunMoves) {
    int same = 0;
    for (const RunMove& other : kRunMoves) same += other.from == row.from && other.sign == row.sign ? 1 : 0;
    if (same != 1) return false;
  }
  return true;
}
static_assert(has_one_answer(), "one row per phase and sign");

Error forbidden(std::string_view what) {
  return {ErrorCode::internal, fmt::format("a defect in gpustrap: {}", what), "please report it with the run's log"};
}

}  // namespace

std::string_view run_phase_name(RunPhase phase) {
  switch (phase) {
    case RunPhase::opening: return "opening";
    case RunPhase::going: return "going";
    case RunPhase::stopping: return "stopping";
    case RunPhase::holding: return "holding";
    case RunPhase::restarting: return "restarting";
    case RunPhase::leaving: return "leaving";
    case RunPhase::left: return "left";
    case RunPhase::ended: return "ended";
  }
  return "unknown";
}

std::string_view run_sign_name(RunSign sign) {
  switch (sign) {
    case RunSign::opened: return "opened";
    case RunSign::given_up: return "given_up";
    case RunSign::step_failed: return "step_failed";
    case RunSign::cancelled: return "cancelled";
    case RunSign::restart_wished: return "restart_wished";
    case RunSign::restart_begun: return "restart_begun";
    case RunSign::no_room: return "no_room";
    case RunSign::host_goes_down: return "host_goes_down";
    case RunSign::nothing_runs: return "nothing_runs";
    case RunSign::nothing_is_left: return "nothing_is_left";
  }
  return "unknown";
}

std::string_view step_phase_name(StepPhase phase) {
  switch (phase) {
    case StepPhase::waiting: return "waiting";
    case StepPhase::running: return "running";
    case StepPhase::pausing: return "pausing";
    case StepPhase::asking: return "asking";
    case StepPhase::interrupted: return "interrupted";
    case StepPhase::ended: return "ended";
  }
  return "unknown";
}

Result<void> RunLife::meet(RunSign sign) {
  const auto* const row = std::find_if(std::begin(kRunMoves), std::end(kRunMoves),
                                       [&](const RunMove& move) { return move.from == phase_ && move.sign == sign; });
  if (row == std::end(kRunMoves))
    return fail(forbidden(fmt::format("a run that is {} has met {}", run_phase_name(phase_), run_sign_name(sign))));
  phase_ = row->to;
  return {};
}

Result<void> StepLife::enter(StepPhase next) {
  const bool may = std::any_of(std::begin(kStepMoves), std::end(kStepMoves),
                               [&](const StepMove& move) { return move.from == phase_ && move.to == next; });
  if (!may) return fail(forbidden(fmt::format("a step that is {} cannot be {}", step_phase_name(phase_), step_phase_name(next))));
  phase_ = next;
  return {};
}

}  // namespace gpustrap
