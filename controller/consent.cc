#include "controller/consent.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <string_view>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/display_width.h"

namespace gpustrap {
namespace {

constexpr std::string_view kDriver = "nvidia_driver", kReboot = "reboot";
/// As wide as a terminal that nobody made wider.
constexpr std::size_t kColumns = 79;

bool disrupts(const StepEntry& step) {
  const std::string_view kind = step_kind_name(step.kind);
  return kind == kDriver || kind == kReboot;
}

bool changes(Outcome outcome) { return outcome == Outcome::would_change || outcome == Outcome::unknown; }

}  // namespace

bool may_disrupt(const Recipe& recipe) { return std::any_of(recipe.steps.begin(), recipe.steps.end(), disrupts); }

void allow_disruption(Recipe& recipe) {
  for (StepEntry& step : recipe.steps) {
    if (!disrupts(step)) continue;
    Json spec = *step.spec;
    if (spec.is_null())
      spec = Json::object();
    else if (!spec.is_object())
      spec = Json{{std::string(describe_step_kind(step.kind).shorthand), std::move(spec)}};
    spec["allow_disruption"] = true;
    step.spec = std::make_shared<const Json>(std::move(spec));
  }
}

Disruption disruption_in(const std::vector<Event>& plan) {
  std::map<std::string, std::string> kind_of;
  bool driver = false, restart = false, may_restart = false, changed_before = false;
  Disruption disruption;
  for (const Event& event : plan) {
    if (const auto* started = std::get_if<RunStarted>(&event.body)) {
      for (const StepTitle& step : started->steps) kind_of[step.id] = step.kind;
    }
    const auto* finished = std::get_if<StepFinished>(&event.body);
    if (finished == nullptr) continue;
    const std::string& kind = kind_of[finished->step];
    if (kind == kReboot && finished->outcome == Outcome::unchanged && changed_before) may_restart = true;  // packages may ask for one
    if (!changes(finished->outcome)) continue;
    changed_before = true;
    if (kind == kDriver) driver = true;
    if (kind == kReboot) (finished->outcome == Outcome::unknown ? may_restart : restart) = true;
    const std::string line = fmt::format("  {:<16}  {}", strip_control(finished->step), first_line(strip_control(finished->reason)));
    disruption.steps += cut_to_width(line, kColumns) + "\n";
  }
  std::vector<std::string> parts;
  if (driver) parts.emplace_back("would install a driver");
  if (restart)
    parts.emplace_back(parts.empty() ? "would restart the host" : "restart the host");
  else if (may_restart || driver)
    parts.emplace_back("may restart the host");
  disruption.what = join(parts, " and ");
  return disruption;
}

}  // namespace gpustrap
