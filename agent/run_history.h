#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/event.h"

namespace gpustrap {

/// What the earlier runners of a run left in its journal, as the next one needs it: a fold over the events.
struct RunHistory {
  std::uint64_t incarnations = 0;                    ///< runners so far; 0: the run has not begun
  std::int64_t elapsed_ms = 0;                       ///< from the run's first event to its last, as far as the host's clock tells
  std::int64_t last_ms = 0;                          ///< time of the last event
  std::string boot_id;                               ///< of the last runner
  std::vector<std::string> open;                     ///< steps that have begun and not ended, in the order in which they began
  std::set<std::string> done;                        ///< steps that were changed or found unchanged, by any runner
  std::set<std::string> changed;                     ///< of those, the ones that were changed
  std::uint64_t reboots_asked = 0;                   ///< restarts that steps have asked for
  std::map<std::string, std::string> asked_on_boot;  ///< step: boot on which it last asked for one
  bool is_rebooting = false;                         ///< the last thing that happened is that a restart was asked for
  std::string cancelled_by;
  /// Restarts of the host, and starts of a runner, since a step was last done for the first time: what never gets further is a loop.
  std::uint64_t fruitless_boots = 0, fruitless_starts = 0;
  bool finished = false;

  void add(const Event& event);
  /// An error only where the journal is there and cannot be read.
  [[nodiscard]] static Result<RunHistory> read(const std::string& journal_path);
};

/// How many restarts one run may ask for, and how often in a row the host may go down without the run getting further.
constexpr std::uint64_t kMostReboots = 3;
/// How often in a row a runner may die without the run getting further.
constexpr std::uint64_t kMostFruitlessStarts = 5;

}  // namespace gpustrap
