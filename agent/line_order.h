#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "agent/line_share.h"
#include "agent/protocol/step_spec.h"

namespace gpustrap {

/// A step, as far as it matters for what is fetched first.
struct BranchStep {
  StepKind kind = StepKind::command;
  std::vector<std::size_t> after;  ///< as PlannedStep::after: all of them stand before it
  bool is_over = false;            ///< it has ended, or is left out
};

/// For each step what the run has still to do once its files are there: its own work and the longest row of steps behind it. How long a
/// step takes nobody knows before; its kind says what it usually takes. Where one line brings all files and each must be there before the
/// work behind it begins, the run ends soonest if they come in the order of that work, the most first. That a step waits already counts
/// less: one with nothing behind it may as well wait for its file to the end.
[[nodiscard]] std::vector<std::chrono::seconds> work_behind(const std::vector<BranchStep>& steps);

/// What comes for a step, by itself or by a process that fetches ahead.
struct Transfer {
  std::size_t step = 0;
  std::chrono::seconds behind{0};  ///< of work_behind()
  LineShare::Awaited awaited = LineShare::Awaited::no;
  std::uint64_t bytes = 0, missing = 0;  ///< as in LineShare::First
  LineShare::Clock::time_point counted_at{};
};

/// In which order transfers have a narrow line, and how many of them go on.
class LineOrder {
 public:
  /// Sorts `transfers`, what comes first to the front. The return value says how many from there on go on; the others hold still.
  [[nodiscard]] std::size_t look(std::vector<Transfer>& transfers, LineShare::Clock::time_point now);

 private:
  LineShare first_, second_;  ///< the first before all others; where that leaves room for all, the second before those behind it
};

}  // namespace gpustrap
