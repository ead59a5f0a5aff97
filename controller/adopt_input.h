#pragma once

#include <string>
#include <string_view>

namespace gpustrap {

/// What `adopt` was given, as the shell text that it is.
struct AdoptInput {
  std::string text;     ///< prompts are gone, what a terminal answered is a comment
  std::string problem;  ///< why it is no shell text that can be read
  std::string advice;   ///< what to give instead
};
[[nodiscard]] AdoptInput read_adopt_input(std::string_view text, const std::string& name);

}  // namespace gpustrap
