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
/// Where a step stands in the recipe's YAML: its first line, comments included, and those of its reviews.
struct AdoptedLines {
  int begin = 0;
  std::vector<int> reviews;
};
/// The recipe's YAML, and where in it each step stands.
[[nodiscard]] std::string write_adopted(const AdoptedRecipe& recipe, std::vector<AdoptedLines>& lines);
/// One line: what a person should look at.
[[nodiscard]] std::string review_text(const std::string& review);
/// In lines of 76 characters.
[[nodiscard]] std::string base64_of(std::string_view bytes);

}  // namespace gpustrap
