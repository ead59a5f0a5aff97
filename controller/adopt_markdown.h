#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gpustrap {

/// Lines between ``` and ```.
struct MarkdownBlock {
  int line = 1;                       ///< of its first line, behind the fence
  std::string language;               ///< "bash"; empty where none is said
  std::vector<std::string> headings;  ///< that it stands below, the nearest last
  std::vector<std::string> lines;     ///< without the fence's indentation
};

/// What Markdown has of shell commands, each on the line that it had there; everything else is empty, and headings are comments.
struct MarkdownCommands {
  std::string text;
  std::size_t taken = 0;
  struct Left {
    int line;
    std::string what, why;
  };
  std::vector<Left> left;  ///< blocks that are no commands, or not for the host
};

/// Whether a text is Markdown with blocks, by its name or its fences.
[[nodiscard]] bool is_markdown(std::string_view text, const std::string& name);
[[nodiscard]] std::vector<MarkdownBlock> markdown_blocks(std::string_view text);
[[nodiscard]] MarkdownCommands commands_of_markdown(std::string_view text);

}  // namespace gpustrap
