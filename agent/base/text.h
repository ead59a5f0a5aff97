#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gpustrap {

[[nodiscard]] std::string_view trim(std::string_view text);
[[nodiscard]] std::vector<std::string> split(std::string_view text, char separator);
/// Fields separated by any run of spaces, tabs or newlines; no empty ones.
[[nodiscard]] std::vector<std::string> words(std::string_view text);
[[nodiscard]] std::string join(const std::vector<std::string>& parts, std::string_view between);

/// `text` as one word for sh: unchanged where safe, else in single quotes. The only quoting function.
[[nodiscard]] std::string shell_quote(std::string_view text);

[[nodiscard]] bool is_utf8(std::string_view bytes);
/// Bytes that are not UTF-8 become U+FFFD.
[[nodiscard]] std::string to_utf8(std::string_view bytes);
/// For a terminal: control characters (C0 but tab and newline, DEL, C1, bidi overrides) and escape sequences are removed.
[[nodiscard]] std::string strip_control(std::string_view text);
/// The first line only, and at most `limit` bytes of it, cut at a character boundary with "…".
[[nodiscard]] std::string first_line(std::string_view text, std::size_t limit = 200);
/// The last `count` lines.
[[nodiscard]] std::string last_lines(std::string_view text, std::size_t count);

/// "0 B", "999 B", "1.2 MB", "2.9 GB": decimal units, as download tools print.
[[nodiscard]] std::string human_bytes(std::uint64_t bytes);
/// "61 GiB": binary units, as disks and memory are asked for.
[[nodiscard]] std::string human_size(std::uint64_t bytes);
/// "0.4s", "52s", "4m12s", "3h05m".
[[nodiscard]] std::string human_duration(std::chrono::milliseconds time);

/// The candidate with the smallest edit distance when it is close enough to be a slip (a third of the length), else "".
[[nodiscard]] std::string nearest_name(std::string_view wrong, const std::vector<std::string>& candidates);

}  // namespace gpustrap
