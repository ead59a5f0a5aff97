#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/protocol/fields.h"

// What `idle_stop` decides: facts in, decision out. Nothing here looks at a machine or asks a clock. All times are those of the steady
// clock since the boot, so that a wall clock that jumps neither stops a host nor keeps it on; a suspended machine counts nothing.

namespace gpustrap {

using std::chrono::seconds;

struct IdleBudget {
  Money limit;
  HourlyPrice price;
  std::string price_from;  ///< "the recipe", "on demand, 2026-07-20"

  /// How long the host may be on in all.
  [[nodiscard]] seconds time() const;
  /// What being on for so long has cost.
  [[nodiscard]] Money cost(seconds powered) const;
};

struct IdleRules {
  std::optional<seconds> after;
  seconds warn{0};
  std::optional<IdleBudget> budget;
};
/// The warning where the recipe says nothing: five minutes are enough to come back from the next room, and cost next to nothing.
[[nodiscard]] seconds usual_warning(std::optional<seconds> after);
/// How often the guard looks: each minute, and more often where a warning or `after` is short.
[[nodiscard]] seconds look_interval(const IdleRules& rules);

/// Somebody or something uses the host.
struct UseSign {
  enum class Of { run, packages, inhibitor, gpu, notebook, typing, cpu, network } of = Of::cpu;
  std::string text;  ///< "somebody types at pts/0 (ubuntu)"
};

enum class StopCause { idle, budget };

struct Postponement {
  std::string boot;
  seconds until{0};           ///< on that boot
  std::int64_t until_ms = 0;  ///< by the wall clock, for another boot
};
/// How much of it is left; 0 where it is over.
[[nodiscard]] seconds kept_for(const std::optional<Postponement>& keep, const std::string& boot, seconds at, std::int64_t wall_ms);

/// What the guard knows from one look to the next, restarts of the host included.
struct IdleMemory {
  std::string boot;
  seconds at{0};          ///< the last look, on that boot
  seconds active{0};      ///< when there was a sign of use last
  std::string last_sign;  ///< which
  struct Warning {
    StopCause cause = StopCause::idle;
    seconds at{0};
  };
  std::optional<Warning> warned;
  seconds powered{0};            ///< how long the host has been on since it has a budget
  bool most_spent_told = false;  ///< that 80 % of it are spent
};

/// What one look has found.
struct IdleMoment {
  std::string boot;
  seconds at{0};
  std::vector<UseSign> signs;
  seconds kept{0};              ///< `keep` holds for so long
  std::optional<seconds> up{};  ///< since the host was started, where that is not `at`: a container's boots are younger than its kernel's
};

struct IdleVerdict {
  /// quiet: nothing is done, the warning is yet to come; off: there is no `after`, and the budget lasts.
  enum class Is { busy, quiet, kept, warned, stop, off } is = Is::off;
  StopCause cause = StopCause::idle;
  bool warn_now = false;            ///< terminals and notebook folders are to be told
  bool take_back = false;           ///< what they were told is no longer so
  bool tell_most_spent = false;     ///< 80 % of the budget
  std::optional<seconds> idle;      ///< for how long nothing was done
  std::optional<seconds> stops_in;  ///< as things are
  std::string why;                  ///< what keeps it on, where something does
};

struct IdleDecision {
  IdleMemory memory;
  IdleVerdict verdict;
};
[[nodiscard]] IdleDecision decide(const IdleRules& rules, IdleMemory memory, const IdleMoment& moment);

}  // namespace gpustrap
