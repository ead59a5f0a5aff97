#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "controller/adopt_state.h"

namespace gpustrap {

struct AdoptedRecipe {
  std::string name, script;
  std::vector<AdoptedStep> steps;
  std::vector<std::string> comments;  ///< behind the last step
  bool asks_terms = false;
};

/// "setup" of "scripts/setup.sh": a recipe's name.
[[nodiscard]] std::string recipe_name_from(const std::string& script);
/// The recipe's YAML. `lines`, where given, gets the line on which each step's comments begin.
[[nodiscard]] std::string write_adopted(const AdoptedRecipe& recipe, std::vector<int>* lines);
/// In lines of 76 characters.
[[nodiscard]] std::string base64_of(std::string_view bytes);

}  // namespace gpustrap
