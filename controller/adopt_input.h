#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "controller/adopt_state.h"

namespace gpustrap {

/// What `adopt` was given, as the shell text that it is.
struct AdoptInput {
  std::string text;     ///< prompts are gone, what a terminal answered is a comment
  std::string problem;  ///< why it is no shell text that can be read
  std::string advice;   ///< what to give instead
  /// Blocks of Markdown that are no commands for the host.
  std::vector<LeftOut> left_out;
  std::size_t blocks = 0;  ///< of Markdown that were taken
};
[[nodiscard]] AdoptInput read_adopt_input(std::string_view text, const std::string& name);
/// A transcript as the commands that were typed. Each line stays on its own.
[[nodiscard]] std::string without_prompts(std::string_view text);
/// Whether a line begins as a shell asks for one: `$ `, `ubuntu@gpu:~$ `.
[[nodiscard]] bool has_prompt(std::string_view line);

}  // namespace gpustrap
