#pragma once

#include "controller/recipe_sources.h"

namespace gpustrap {

/// The built-in recipes, and those in ${XDG_CONFIG_HOME:-~/.config}/gpustrap/recipes.
[[nodiscard]] RecipeSources recipe_sources();

}  // namespace gpustrap
