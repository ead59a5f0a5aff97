#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

/// A recipe that comes with gpustrap; controller/embed_recipes.cmake makes the list from recipes/*.yaml.
struct BuiltinRecipe {
  std::string_view name;
  std::string_view text;
};
[[nodiscard]] const std::vector<BuiltinRecipe>& builtin_recipes();

/// Where bare names are looked up: the user's folder first, so that a changed copy of a built-in recipe is the one used.
struct RecipeSources {
  std::string user_directory;  ///< ~/.config/gpustrap/recipes; may be empty or not exist
  const std::vector<BuiltinRecipe>* builtins = &builtin_recipes();
};

struct RecipeText {
  std::string label;  ///< what messages call it: the path, or "built-in/jupyter.yaml"
  std::string text;
  std::string directory;  ///< that of the file, to which includes are relative; empty for a built-in one
};

/// Whether `name` means a file: it has a '/' or ends in .yaml or .yml. Anything else is a bare name.
[[nodiscard]] bool is_recipe_file(std::string_view name);
/// The text of a bare name or a file. Relative files are below `directory` where that is not empty.
/// An unknown name is an error (recipe) with the nearest one and the list.
[[nodiscard]] Result<RecipeText> find_recipe(const std::string& name, const RecipeSources& sources, const std::string& directory = {});
/// All bare names, sorted.
[[nodiscard]] std::vector<std::string> recipe_names(const RecipeSources& sources);

}  // namespace gpustrap
