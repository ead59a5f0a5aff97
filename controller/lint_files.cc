#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "controller/lint_review.h"

// What files are to hold, beyond what they say of logins (lint_logins.cc) and units (lint_units.cc); environments, which are folders.

namespace gpustrap {
namespace {

/// "#!/bin/bash echo a echo b": the line of the interpreter, which takes one option, and everything else behind it.
bool is_folded_script(const std::string& text) {
  if (!text.starts_with("#!") || std::string_view(trim(text)).find('\n') != std::string_view::npos) return false;
  const std::vector<std::string> parts = words(text);
  const bool by_env = !parts.empty() && parts[0].ends_with("/env");
  for (std::size_t i = by_env ? 2 : 1; i < parts.size(); ++i)
    if (!parts[i].starts_with('-') && !(by_env && parts[1] == "-S")) return true;
  return false;
}

void look_at_folded(LintReview& review, const LintStep& step) {
  for (const char* field : {"content", "run"}) {
    if (step.field(field) == nullptr || !step.field(field)->is_string() || !is_folded_script(step.text(field))) continue;
    review.add("script-folded", step.place_of(field), "", fmt::format("all of `{}` is one line, which is a comment", field));
  }
}

/// Which other step leaves the same file in another state, at each run anew.
void look_for_twins(LintReview& review) {
  std::map<std::string, const LintStep*> first;
  for (const LintStep& step : review.steps) {
    const std::string path = step.text("path");
    if (step.kind != StepKind::file || path.empty() || path.find("${{") != std::string::npos || step.step->contains("when")) continue;
    const auto [before, is_first] = first.emplace(path, &step);
    const auto is_same = [&](const char* field) {
      const Json *one = before->second->field(field), *other = step.field(field);
      return (one == nullptr) == (other == nullptr) && (one == nullptr || *one == *other);
    };
    if (!is_first && !(is_same("content") && is_same("absent")))
      review.add("file-twice", step.place_of("path"), path, fmt::format("an earlier step wants something else of {}", path));
  }
}

/// Where the environments that steps use are made; one that no step makes may be on the host.
void look_for_makers(LintReview& review) {
  const auto makes = [](const LintStep& step, bool is_venv, const std::string& name) {
    return is_venv ? step.kind == StepKind::venv && step.text("path") == name
                   : step.kind == StepKind::conda_env && step.text("name") == name;
  };
  for (std::size_t i = 0; i < review.steps.size(); ++i) {
    const LintStep& user = review.steps[i];
    if (user.kind != StepKind::pip && user.kind != StepKind::jupyter) continue;
    for (const char* field : {"venv", "env"}) {
      const std::string name = user.text(field);
      if (name.empty()) continue;
      const auto maker = std::find_if(review.steps.begin(), review.steps.end(),
                                      [&](const LintStep& step) { return makes(step, std::string_view(field) == "venv", name); });
      if (maker == review.steps.end() || maker < review.steps.begin() + static_cast<std::ptrdiff_t>(i)) continue;
      review.add("made-later", user.place_of(field), name,
                 fmt::format("{} is made by a later step, `{}`", name, step_kind_name(maker->kind)));
    }
  }
}

}  // namespace

void lint_files(LintReview& review) {
  for (const LintStep& step : review.steps)
    if (step.kind == StepKind::file || step.kind == StepKind::command) look_at_folded(review, step);
  look_for_twins(review);
  look_for_makers(review);
}

}  // namespace gpustrap
