#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

/// Lines of a text file that gpustrap owns, between two marker lines:
///
///   # >>> gpustrap cuda >>>
///   …
///   # <<< gpustrap cuda <<<
///
/// Every byte outside is the user's and stays as it is: line ends, a missing last newline, what is not UTF-8. The block takes
/// the file's line ends. Adding a block and removing it gives back the very same bytes.
struct BlockName {
  std::string marker;
  std::string comment = "#";  ///< what starts a comment in that file
};
enum class BlockPlace { start, end };  ///< of a new block; start: behind a "#!" line. A block that exists stays where it is.

/// The lines of the block, without their ends; nullopt where there is no block. Error unsafe where the markers are not one pair:
/// what lies between is then anybody's guess.
[[nodiscard]] Result<std::optional<std::vector<std::string>>> lines_of_block(std::string_view text, const BlockName& name);
/// `text` with the block made or replaced. Error recipe where a line is itself a marker of this block.
[[nodiscard]] Result<std::string> with_block(std::string_view text, const BlockName& name, const std::vector<std::string>& lines,
                                             BlockPlace place);
/// `text` without the block; unchanged where there is none.
[[nodiscard]] Result<std::string> without_block(std::string_view text, const BlockName& name);

/// A text as lines; its last newline, if any, ends the last of them. "" has none. "\r\n" counts as one end.
[[nodiscard]] std::vector<std::string> text_lines(std::string_view text);

}  // namespace gpustrap
