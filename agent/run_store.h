#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/paths.h"
#include "agent/protocol/event.h"
#include "agent/protocol/json_fwd.h"
#include "agent/protocol/request.h"
#include "agent/runner.h"

namespace gpustrap {

/// Run ids come from the controller and become folder names: [A-Za-z0-9][A-Za-z0-9._-]{0,63}.
[[nodiscard]] bool is_run_id(const std::string& id);

/// Makes the run's folder (0700) with run.json (recipe, login, mode, choice of steps; 0600). An error (busy) where the id exists already.
[[nodiscard]] Result<void> store_run(const AgentPaths& paths, const RunDescription& run);
/// Sees to it that a run which is about to change something is known after a loss of power, too.
void sync_run(const AgentPaths& paths, const std::string& id);
/// Takes back what store_run has made, where the run could not begin.
void drop_run(const AgentPaths& paths, const std::string& id);
/// What run.json says; its journal is not looked at.
[[nodiscard]] Result<RunDescription> read_run(const AgentPaths& paths, const std::string& id);
[[nodiscard]] Result<RunDescription> load_run(const AgentPaths& paths, const std::string& id);
/// Gives `request` the recipe, choice and network of the newest run that asked for what its `same_as` says; false where there is none among
/// the last few.
[[nodiscard]] bool fill_from_earlier_run(const AgentPaths& paths, RunRequest& request);
[[nodiscard]] std::string journal_path(const AgentPaths& paths, const std::string& id);
/// The id of the run that was stored last, whatever the clock said then; nullopt where there is none.
[[nodiscard]] std::optional<std::string> newest_run(const AgentPaths& paths);
[[nodiscard]] std::vector<std::string> runs_newest_first(const AgentPaths& paths);
/// Keeps the newest `keep` runs.
void prune_runs(const AgentPaths& paths, std::size_t keep);

/// What a journal says of its run so far.
struct RunSummary {
  std::string run, recipe, digest, state;  ///< state: "running", "finished", "interrupted"
  std::string end;                         ///< "ok", "failed", "cancelled" once finished
  std::string step;                        ///< a step that is running
  std::string cancelled_by;                ///< who has asked it to stop
  std::int64_t since_ms = 0;
  std::uint64_t incarnations = 0;
  std::uint64_t last = 0;  ///< the number of its last event
  RunMode mode = RunMode::apply;
  std::vector<StepFinished> steps;
  std::map<std::string, std::vector<std::string>> waiting;  ///< steps that wait for secrets
};
[[nodiscard]] Result<RunSummary> summarize_run(const AgentPaths& paths, const std::string& id);
[[nodiscard]] Json to_json(const RunSummary& summary);

/// One run per host: a POSIX record lock (a forked step does not inherit it) on a file that names its holder.
class RunLock {
 public:
  struct Holder {
    pid_t pid = 0;
    std::string run, from;
  };
  /// nullopt where someone else holds it.
  [[nodiscard]] static Result<std::optional<RunLock>> take(const AgentPaths& paths, const std::string& run, const std::string& from);
  /// Who holds it now.
  [[nodiscard]] static std::optional<Holder> holder(const AgentPaths& paths);

 private:
  explicit RunLock(UniqueFd file) : file_(std::move(file)) {}
  UniqueFd file_;
};

}  // namespace gpustrap
