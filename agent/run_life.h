#pragma once

#include <cstdint>
#include <string_view>

#include "agent/base/result.h"

namespace gpustrap {

/// The life of a run, as one runner of it sees it. A run whose host restarts, or whose runner dies, has several runners; each begins
/// with `opening`, and what it knows of those before it is in the journal (run_history.h).
enum class RunPhase : std::uint8_t {
  opening,     ///< the run and this runner are written into the journal; nothing is started
  going,       ///< steps start as their needs are met: the only phase in which one starts for the first time
  stopping,    ///< a step failed or someone cancelled: what runs comes to its end
  holding,     ///< a step wants the host restarted: what runs comes to its end, and nothing starts until that is settled
  restarting,  ///< in the journal, and asked of the host: normally this runner's end
  leaving,     ///< the host goes down: what runs is being interrupted, but for what changes packages
  left,        ///< this runner is over, the run is not: the next runner takes it up
  ended,       ///< every step has its outcome; the run's end goes into the journal
};

/// What a run meets.
enum class RunSign : std::uint8_t {
  opened,           ///< the journal holds the beginning, and there is a plan
  given_up,         ///< this run never gets further, or there is no plan for this host
  step_failed,      ///< and is not tried again; also: a restart was refused, or did not come
  cancelled,        ///< by whoever may
  restart_wished,   ///< a step has done its part and wants the host restarted
  restart_begun,    ///< the host was asked
  no_room,          ///< the disk is full: the journal has room left for the run's end alone
  host_goes_down,   ///< a step ended badly while the host shuts down, or this process was told to end
  nothing_runs,     ///< the last process of a run that is leaving has ended
  nothing_is_left,  ///< no step runs, waits to be tried again, or may still start
};

struct RunMove {
  RunPhase from;
  RunSign sign;
  RunPhase to;
};

/// What may follow what. A sign that is not here for a phase is a defect, and refused.
inline constexpr RunMove kRunMoves[] = {
    {RunPhase::opening, RunSign::opened, RunPhase::going},
    {RunPhase::opening, RunSign::given_up, RunPhase::ended},

    {RunPhase::going, RunSign::step_failed, RunPhase::stopping},
    {RunPhase::going, RunSign::cancelled, RunPhase::stopping},
    {RunPhase::going, RunSign::no_room, RunPhase::stopping},
    {RunPhase::going, RunSign::restart_wished, RunPhase::holding},
    {RunPhase::going, RunSign::host_goes_down, RunPhase::leaving},
    {RunPhase::going, RunSign::nothing_is_left, RunPhase::ended},

    {RunPhase::stopping, RunSign::step_failed, RunPhase::stopping},
    {RunPhase::stopping, RunSign::cancelled, RunPhase::stopping},
    {RunPhase::stopping, RunSign::no_room, RunPhase::stopping},
    {RunPhase::stopping, RunSign::restart_wished, RunPhase::stopping},  // too late: there will be no restart
    {RunPhase::stopping, RunSign::host_goes_down, RunPhase::leaving},
    {RunPhase::stopping, RunSign::nothing_is_left, RunPhase::ended},

    {RunPhase::holding, RunSign::step_failed, RunPhase::stopping},
    {RunPhase::holding, RunSign::cancelled, RunPhase::stopping},
    {RunPhase::holding, RunSign::no_room, RunPhase::stopping},
    {RunPhase::holding, RunSign::restart_wished, RunPhase::holding},  // one restart at a time; the other step asks again after it
    {RunPhase::holding, RunSign::restart_begun, RunPhase::restarting},
    {RunPhase::holding, RunSign::host_goes_down, RunPhase::leaving},

    {RunPhase::restarting, RunSign::step_failed, RunPhase::stopping},
    {RunPhase::restarting, RunSign::cancelled, RunPhase::restarting},  // under way; the next runner finds the cancel in the journal
    {RunPhase::restarting, RunSign::no_room, RunPhase::restarting},
    {RunPhase::restarting, RunSign::host_goes_down, RunPhase::leaving},

    {RunPhase::leaving, RunSign::step_failed, RunPhase::leaving},
    {RunPhase::leaving, RunSign::cancelled, RunPhase::leaving},
    {RunPhase::leaving, RunSign::no_room, RunPhase::leaving},
    {RunPhase::leaving, RunSign::restart_wished, RunPhase::leaving},
    {RunPhase::leaving, RunSign::host_goes_down, RunPhase::leaving},
    {RunPhase::leaving, RunSign::nothing_runs, RunPhase::left},
};

/// The life of a step within one runner.
enum class StepPhase : std::uint8_t {
  waiting,      ///< for its needs, or for what another step uses
  running,      ///< it has a process
  pausing,      ///< it failed and is tried again
  asking,       ///< it has done its part and wants the host restarted
  interrupted,  ///< by the host's shutdown: open in the journal, looked at afresh by the next runner
  ended,        ///< it has its outcome
};

struct StepMove {
  StepPhase from;
  StepPhase to;
};

inline constexpr StepMove kStepMoves[] = {
    {StepPhase::waiting, StepPhase::running},                                                // first attempt
    {StepPhase::waiting, StepPhase::ended},                                                  // skipped, or no process could be made for it
    {StepPhase::running, StepPhase::pausing},                                                // failed, with attempts left
    {StepPhase::running, StepPhase::asking},                                                 //
    {StepPhase::running, StepPhase::ended},                                                  //
    {StepPhase::running, StepPhase::interrupted}, {StepPhase::pausing, StepPhase::running},  // next attempt
    {StepPhase::pausing, StepPhase::ended},                                                  // no process could be made for it
    {StepPhase::asking, StepPhase::ended},                                                   // refused, too late, or the host stayed up
};

[[nodiscard]] std::string_view run_phase_name(RunPhase phase);
[[nodiscard]] std::string_view run_sign_name(RunSign sign);
[[nodiscard]] std::string_view step_phase_name(StepPhase phase);

/// Where a run is. Moves only along its table; a forbidden move changes nothing and is an error (internal).
class RunLife {
 public:
  [[nodiscard]] RunPhase phase() const { return phase_; }
  [[nodiscard]] Result<void> meet(RunSign sign);

 private:
  RunPhase phase_ = RunPhase::opening;
};

/// Where a step is; the same.
class StepLife {
 public:
  [[nodiscard]] StepPhase phase() const { return phase_; }
  [[nodiscard]] Result<void> enter(StepPhase next);

 private:
  StepPhase phase_ = StepPhase::waiting;
};

}  // namespace gpustrap
