#pragma once

#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/protocol/compat.h"
#include "agent/protocol/recipe.h"

namespace gpustrap {

/// The text of recipes/compat.yaml as it was built in.
[[nodiscard]] std::string_view builtin_compat();

/// Reads the tables from YAML. The error (recipe) holds everything that is wrong, by place: "compat.yaml:12:5: …".
[[nodiscard]] Result<Compat> load_compat(const std::string& text, const std::string& label);
/// The tables that come with gpustrap.
[[nodiscard]] Result<Compat> load_builtin_compat();
/// Puts those tables, and what machines cost, into a recipe that needs them on the host.
[[nodiscard]] Result<void> add_compat(Recipe& recipe);

}  // namespace gpustrap
