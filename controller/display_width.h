#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace gpustrap {

/// Columns that valid UTF-8 text takes on a terminal: 2 for East Asian wide characters and emoji, 0 for marks that combine.
[[nodiscard]] std::size_t display_width(std::string_view text);
/// The longest start of `text` that takes at most `columns`; where something was cut, it ends in `ellipsis`.
[[nodiscard]] std::string cut_to_width(std::string_view text, std::size_t columns, std::string_view ellipsis = "…");
/// `text` cut or filled with spaces to exactly `columns`.
[[nodiscard]] std::string fit_to_width(std::string_view text, std::size_t columns, std::string_view ellipsis = "…");

/// `text` in lines of at most `columns`, broken between words; the second and later ones begin with `indent`. A word that is longer
/// than a line stays whole, so that a path or an address can still be copied.
[[nodiscard]] std::vector<std::string> wrap_to_width(std::string_view text, std::size_t columns, std::string_view indent);

}  // namespace gpustrap
