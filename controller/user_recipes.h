#pragma once

#include <string>

#include "controller/recipe_sources.h"

namespace gpustrap {

/// ${XDG_CONFIG_HOME:-~/.config}/gpustrap; empty where neither is set.
[[nodiscard]] std::string config_directory();
/// The built-in recipes, and those in ${XDG_CONFIG_HOME:-~/.config}/gpustrap/recipes.
[[nodiscard]] RecipeSources recipe_sources();

}  // namespace gpustrap
