#include "controller/doctor/fix.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {

Result<std::vector<Finding>> findings_to_fix(const Diagnosis& diagnosis, const std::vector<std::string>& ids) {
  std::vector<Finding> chosen;
  for (const Finding& one : diagnosis.findings) {
    if (ids.empty() && !one.steps.empty()) chosen.push_back(one);
  }
  for (const std::string& id : ids) {
    const auto found =
        std::find_if(diagnosis.findings.begin(), diagnosis.findings.end(), [&](const Finding& one) { return one.of->id == id; });
    if (found == diagnosis.findings.end()) {
      for (const Finding& one : diagnosis.findings) {
        const bool hides = std::any_of(one.hides.begin(), one.hides.end(), [&](const DoctorClass* hidden) { return hidden->id == id; });
        if (hides)
          return fail(ErrorCode::usage, fmt::format("{} follows from {} here", id, one.of->id),
                      fmt::format("repair that: --fix {}", one.of->id));
      }
      return fail(ErrorCode::usage, fmt::format("{} was not found on this host", id),
                  "leave the name out, and all that can be repaired is");
    }
    if (found->steps.empty())
      return fail(ErrorCode::usage, fmt::format("{} is for a person to repair: {}", id, found->cause),
                  "what to do is listed with it: " + std::string(found->of->advice));
    chosen.push_back(*found);
  }
  return chosen;
}

Result<Recipe> fix_recipe(const std::vector<Finding>& findings) {
  std::vector<Json> steps, restarts;
  for (const Finding& one : findings) {
    for (Json step : one.steps) {
      const std::string part = step.value("id", "");
      step.erase("id");
      std::vector<Json>& where = step.contains("reboot") ? restarts : steps;
      const auto same = [&](Json other) {
        other.erase("id");
        return other == step;
      };
      if (std::any_of(where.begin(), where.end(), same)) continue;
      step["id"] = one.steps.size() == 1 ? std::string(one.of->id) : fmt::format("{}-{}", one.of->id, part);
      where.push_back(std::move(step));
    }
  }
  if (!restarts.empty()) steps.push_back(restarts.front());
  const Json document = {{"name", "doctor"}, {"description", "repairs what gpustrap doctor has found"}, {"steps", steps}};
  std::vector<FieldProblem> problems;
  Recipe recipe = read_recipe(document, Placeholders::refused, problems);
  if (!problems.empty()) return fail(ErrorCode::internal, fmt::format("the repair is no recipe: {}", problems.front().message));
  return recipe;
}

}  // namespace gpustrap
