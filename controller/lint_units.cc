#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "controller/lint_review.h"

// The texts of systemd's units, by their sections alone.

namespace gpustrap {
namespace {

const std::vector<std::string> kSections = {"Unit",      "Install", "Service", "Socket", "Timer", "Mount",
                                            "Automount", "Path",    "Swap",    "Slice",  "Scope", "Device"};

void look_at_unit(LintReview& review, const std::string& text, const std::string& pointer, bool is_service) {
  std::vector<std::string> sections;
  bool is_odd = false;
  for (const std::string& one : split(text, '\n')) {
    const std::string line(trim(one));
    const std::size_t value = line.find('=') + 1;
    if (value > 0 && line.compare(value, 2, "~/") == 0)
      review.add("not-expanded", pointer, line, fmt::format("the `~` in `{}` stays as it stands: systemd knows %h", first_line(line, 60)),
                 std::nullopt, "write the whole path, or %h where the unit is of a user's own systemd");
    if (!line.starts_with('[')) continue;
    const std::string name = line.substr(1, line.find(']') - 1);
    sections.push_back(name);
    const bool known = std::find(kSections.begin(), kSections.end(), name) != kSections.end();
    if ((known && line.ends_with(']')) || name.starts_with("X-")) continue;
    is_odd = true;
    const std::string near = nearest_name(name, kSections);
    review.add("unit-malformed", pointer, line,
               fmt::format("systemd knows no section {}{}", quote_value(line),
                           near.empty() || known ? "" : fmt::format("; did you mean `[{}]`?", near)));
  }
  const bool has_service = std::find(sections.begin(), sections.end(), "Service") != sections.end();
  if (is_service && !is_odd && !has_service && text.find("${{") == std::string::npos)
    review.add("unit-malformed", pointer, "", "the unit of a service has no section `[Service]`", std::nullopt,
               "say what is started: `[Service]` with `ExecStart=`");
}

}  // namespace

void lint_units(LintReview& review) {
  for (const LintStep& step : review.steps) {
    if (step.kind == StepKind::service && step.field("unit") != nullptr && step.text("unit").find("${{") != 0)
      look_at_unit(review, step.text("unit"), step.place_of("unit"), true);
    const std::string path = step.text("path");
    const bool is_unit = path.find("/systemd/") != std::string::npos && step.kind == StepKind::file && step.field("content") != nullptr;
    if (is_unit && (path.ends_with(".service") || path.ends_with(".timer") || path.ends_with(".socket")))
      look_at_unit(review, step.text("content"), step.place_of("content"), path.ends_with(".service"));
  }
}

}  // namespace gpustrap
