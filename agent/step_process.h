#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/plan.h"
#include "agent/protocol/event.h"
#include "agent/secret_store.h"

namespace gpustrap {

/// What a step's process tells the runner, one JSON line each, over its own pipe. Never leaves the host.
struct StepSaid {
  std::string line;
};
/// From here on it must not be killed. It goes on when it has read a byte from its go-ahead pipe.
struct StepMustFinish {};
/// A fetcher has begun: a step that comes to its file now waits for it.
struct StepIsFetched {};
/// It stands still until a file has come, by its own transfer or by that of a fetcher; or goes on.
struct StepStandsStill {
  bool is_so = false;
};
struct StepRecord {
  std::variant<StepChecked, Progress, StepSaid, StepMustFinish, StepIsFetched, StepStandsStill, FileWanted, Downloaded, RebootWish,
               StepFinished>
      body;
};
[[nodiscard]] Result<StepRecord> step_record_from_line(std::string_view line, const std::string& step);

/// Whether a process only looks (plan), or looks, acts and looks again. done_before: an earlier runner of this run has done the step, so
/// that it is looked at again, and left alone where nothing could be seen. fetch_ahead: it looks, and where there is something to do
/// fetches what the step will ask for; it is heard by its records, and has no end to tell.
enum class StepWork { look, work, done_before, fetch_ahead };

struct StepProcess {
  pid_t pid = -1;   ///< leader of its own process group
  UniqueFd output;  ///< its standard output, non-blocking
  UniqueFd errors;  ///< its standard error
  UniqueFd records;
  UniqueFd go_ahead;  ///< it waits for a byte here before it changes anything
};

/// Forks the step's process: identity, own group, dies with the runner, standard input from the null device, every other descriptor closed.
/// Of `secrets` it keeps what the step needs; where some are missing, which only a look may do, the variables that would hold them are not
/// set.
[[nodiscard]] Result<StepProcess> start_step_process(const PlannedStep& step, StepWork work, const Facts& facts, const Identity& login,
                                                     const Mirror& mirror, SecretStore& secrets);

/// In a process that the runner has just forked for steps: its own group, dies with the runner, the signals and the memory score of any
/// other process.
void begin_step_process(pid_t runner);
void close_descriptors_from(int first);

/// Whether the processes, children of this one, have ended before `limit` has passed; those that have are taken from the list. Even one
/// that was killed may not end: it waits for a network disk that is gone.
bool await_end(std::vector<pid_t>& pids, std::chrono::milliseconds limit);

/// Waits until the process has ended, throwing away what it says, so that a full pipe does not hold it up.
void await_end_unheard(StepProcess& process);

/// What the process does, apart from the process: check, apply, check. Used by it and by tests with a fake host.
/// `report` receives StepChecked as it happens; the outcome is returned without elapsed time.
enum class IfSatisfied { leave, act };
[[nodiscard]] StepFinished perform_step(Step& step, const std::string& id, StepWork work, IfSatisfied if_satisfied, Host& host,
                                        StepLog& log, const std::function<void(const StepChecked&)>& report);

}  // namespace gpustrap
