#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace gpustrap {

/// How one text becomes another.
struct TextDiff {
  std::size_t added = 0, removed = 0;  ///< lines
  std::string unified;                 ///< as diff -u prints it, at most `most_lines` lines; empty where a text is not UTF-8
  /// "2 lines added, 1 removed", "content differs" where it is not text.
  [[nodiscard]] std::string summary() const;
};

/// `name` goes into the header of the diff. Lines count as different where only their end differs (\r\n, or none).
[[nodiscard]] TextDiff diff_texts(std::string_view before, std::string_view after, const std::string& name, std::size_t most_lines = 200);

}  // namespace gpustrap
