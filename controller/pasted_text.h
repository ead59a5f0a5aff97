#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

// Characters that come along when text is copied from a web page or a word processor, and look like another one.

namespace gpustrap {

struct PastedCharacter {
  std::size_t at = 0;         ///< where it stands, in bytes
  std::string_view bytes;     ///< the character
  std::string_view is;        ///< what it is: "a no-break space"
  std::string_view expected;  ///< what was meant: "a space"
};

/// The first one in a value such as a path or a name, where none can be meant: quotes, spaces, what has no width.
[[nodiscard]] std::optional<PastedCharacter> find_pasted(std::string_view text);

/// The first one that a shell takes literally: outside of its own quotes, its comments and here documents. Dashes as well, where an option
/// begins.
[[nodiscard]] std::optional<PastedCharacter> find_pasted_in_shell(std::string_view text);

/// "“ is a typographic quote: expected \"" for people.
[[nodiscard]] std::string describe(const PastedCharacter& found);

}  // namespace gpustrap
