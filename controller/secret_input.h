#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/recipe.h"
#include "controller/options.h"
#include "controller/status.h"

namespace gpustrap {

/// The values of the secrets that steps of this recipe need, from the environment, from files, and from the person at the terminal where
/// there is one. An error (usage) names every one that is missing.
[[nodiscard]] Result<SecretValues> secrets_for(const Recipe& recipe);

/// The values of `names` that the recipe remembered for this host declares, where it is `running`, the one that waits for them. What cannot
/// be had is told by `status`. The host's word decides nothing here but which of those are asked for.
[[nodiscard]] SecretValues secrets_waited_for(const std::vector<std::string>& names, const std::string& running, const Options& options,
                                              Status& status);

}  // namespace gpustrap
