#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "controller/run_report.h"

namespace gpustrap {

/// A log of events on this machine.
struct RunFile {
  std::string path;
  std::string host;  ///< whom it is of, as the command line said; empty where nobody noted that
};

/// Ids of the runs that are logged in `state`, which is state_directory(), oldest first.
[[nodiscard]] std::vector<std::string> logged_runs(const std::string& state);
[[nodiscard]] std::string run_log_path(const std::string& state, const std::string& run);
/// Whether a host that the command line called `host` is meant by `word`: the same, or without its user.
[[nodiscard]] bool is_called(const std::string& host, const std::string& word);

/// The logs that a word means: a run's id, the id of a command on many hosts (all of its runs), a host (its newest run), or a path of a
/// file with events. An empty word is the newest command. `state` is state_directory().
/// Errors: not_found, with what there is.
[[nodiscard]] Result<std::vector<RunFile>> find_run_logs(const std::string& state, const std::string& word);

/// One report for each run that the file holds: lines of several hosts are told apart by their member `host`.
/// Errors: io, protocol (a line that is no event, with its number), not_found (no run begins there).
[[nodiscard]] Result<std::vector<RunReport>> read_run_log(const RunFile& file);

}  // namespace gpustrap
