#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace gpustrap {

/// Longest script that is read.
constexpr std::size_t kLongestScript = 256U << 10U;

struct AdoptedScript {
  std::string recipe;        ///< YAML that loads, with the script's comments and a `# review:` wherever a person should look
  std::string problem;       ///< why nothing can be made of it; empty where something was
  std::string advice;        ///< what to do about the problem
  std::size_t typed = 0;     ///< steps of kinds that know what they do
  std::size_t commands = 0;  ///< what stayed shell text
  /// Where a person should look.
  struct Review {
    std::string step;
    int script_line = 0, recipe_line = 0;
    std::string why;
  };
  std::vector<Review> reviews;
  /// A command that needs no step.
  struct LeftOut {
    int script_line = 0;
    std::string text, why;
  };
  std::vector<LeftOut> left_out;  ///< in the script's order
  std::size_t blocks = 0;         ///< of Markdown that were taken
  std::vector<LeftOut> blocks_left;
};

/// Turns a shell script, or the commands of a tutorial, into a recipe. What is understood becomes typed steps; everything else stays a
/// `command` with its original text, in its place. `name` is the script's file.
[[nodiscard]] AdoptedScript adopt_script(std::string_view script, const std::string& name);
/// The same for programs: one line of JSON (docs/json.md). `script` is as the command line calls it; `file`: what was written, or empty.
[[nodiscard]] std::string adopted_json(const AdoptedScript& adopted, const std::string& script, const std::string& file);

}  // namespace gpustrap
