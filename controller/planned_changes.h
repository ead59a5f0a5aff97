#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "agent/protocol/event.h"

namespace gpustrap {

/// What plans of many hosts would change, alike ones together.
class PlannedChanges {
 public:
  /// Counts a step of a plan; steps that would not change are no part of it. The texts are shown as they are.
  void take(const std::string& host, const StepFinished& step);
  [[nodiscard]] bool empty() const { return changes_.empty(); }
  /// "apt   git: not installed", and below it the hosts where they are not all `hosts` of them; at most `columns` wide, 0: as long as
  /// needed.
  [[nodiscard]] std::vector<std::string> lines(std::size_t hosts, std::size_t columns, std::string_view ellipsis) const;

 private:
  struct Change {
    std::string step, reason;
    std::vector<std::string> hosts;
  };
  std::vector<Change> changes_;  ///< in the order in which they were first seen
};

}  // namespace gpustrap
