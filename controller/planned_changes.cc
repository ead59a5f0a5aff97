#include "controller/planned_changes.h"

#include <algorithm>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/display_width.h"

namespace gpustrap {

void PlannedChanges::take(const std::string& host, const StepFinished& step) {
  if (step.outcome != Outcome::would_change && step.outcome != Outcome::unknown) return;
  const std::string reason = first_line(strip_control(step.reason));
  const auto known = std::find_if(changes_.begin(), changes_.end(),
                                  [&](const Change& change) { return change.step == step.step && change.reason == reason; });
  if (known == changes_.end())
    changes_.push_back({step.step, reason, {host}});
  else
    known->hosts.push_back(host);
}

std::vector<std::string> PlannedChanges::lines(std::size_t hosts, std::size_t columns, std::string_view ellipsis) const {
  std::size_t widest = 0;
  for (const Change& change : changes_) widest = std::max(widest, display_width(strip_control(change.step)));
  widest = std::min<std::size_t>(widest, 24);
  const auto fit = [&](const std::string& line) { return columns == 0 ? line : cut_to_width(line, columns, ellipsis); };
  std::vector<std::string> lines;
  for (const Change& change : changes_) {
    lines.push_back(fit(fmt::format("  {}  {}", fit_to_width(strip_control(change.step), widest, ellipsis), change.reason)));
    if (change.hosts.size() == hosts) continue;
    lines.push_back(fit(fmt::format("  {}  on {}", std::string(widest, ' '), join(change.hosts, ", "))));
  }
  return lines;
}

}  // namespace gpustrap
