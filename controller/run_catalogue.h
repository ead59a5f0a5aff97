#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/event.h"
#include "agent/protocol/json_fwd.h"

namespace gpustrap {

/// A run that is logged on this machine, as `gpustrap history` shows it.
struct PastRun {
  std::string id, host;       ///< host: as the command line said; empty where nobody noted that
  std::string recipe, login;  ///< login: the user at the host
  RunMode mode = RunMode::apply;
  std::int64_t began_ms = 0;              ///< Unix time of the host
  std::optional<RunFinished> finished{};  ///< none: it was not seen to its end
  std::string failed_step{};              ///< the first that failed, and why
};

/// The runs in `state`, which is state_directory(), newest first; of all hosts, or of those that `hosts` name. A log without a
/// beginning that can be read is passed over: it belongs to a run that never began.
/// Errors: not_found where hosts are named and nothing is logged of them.
[[nodiscard]] Result<std::vector<PastRun>> past_runs(const std::string& state, const std::vector<std::string>& hosts);

/// One line a run, in columns. Times are those of this machine's time zone.
/// A run in two lines where one does not fit into `columns`; 0: as wide as it gets.
[[nodiscard]] std::string history_text(const std::vector<PastRun>& runs, std::size_t columns = 0);
/// {"version":1,"runs":[{"run":…,"host":…,"recipe":…,"login":…,"mode":…,"began_ms":…,"finished":{…} or null,"failed_step":…}]}; `finished`
/// has the members of the event run_finished.
[[nodiscard]] Json history_document(const std::vector<PastRun>& runs);

}  // namespace gpustrap
