#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace gpustrap {

/// Longest script that is read.
constexpr std::size_t kLongestScript = 256U << 10U;

struct AdoptedScript {
  std::string recipe;        ///< YAML that loads, with the script's comments and a `# review:` wherever a person should look
  std::string problem;       ///< why nothing can be made of it; empty where something was
  std::size_t typed = 0;     ///< steps of kinds that know what they do
  std::size_t commands = 0;  ///< what stayed shell text
  std::size_t reviews = 0;
};

/// Turns a shell script, or the commands of a tutorial, into a recipe. What is understood becomes typed steps; everything else stays a
/// `command` with its original text, in its place. `name` is the script's file.
[[nodiscard]] AdoptedScript adopt_script(std::string_view script, const std::string& name);

}  // namespace gpustrap
