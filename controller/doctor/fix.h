#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/recipe.h"
#include "controller/doctor/diagnosis.h"

namespace gpustrap {

/// The findings that a run can repair: those of `ids`, or all where that is empty. Errors (usage): one of them was not found on the host,
/// or is for a person to repair.
[[nodiscard]] Result<std::vector<Finding>> findings_to_fix(const Diagnosis& diagnosis, const std::vector<std::string>& ids);

/// The recipe `doctor`, of the steps of these findings. What several ask for is done once; a restart comes last.
[[nodiscard]] Result<Recipe> fix_recipe(const std::vector<Finding>& findings);

}  // namespace gpustrap
