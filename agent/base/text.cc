#include "agent/base/text.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <numeric>

#include <fmt/format.h>

#include "agent/base/eight_bytes.h"

namespace gpustrap {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

// What hosts print is nearly all ASCII, and there may be gigabytes of it.

std::size_t ascii_length(std::string_view bytes) {
  return length_until(bytes, any_above_ascii, [](unsigned char c) { return c >= 0x80; });
}

/// Of what strip_control() leaves as it is, as far as it is ASCII and no newline.
std::size_t shown_ascii_length(std::string_view text) {
  return length_until(
      text, [](std::uint64_t eight) { return any_above_ascii(eight) | any_below(eight, 0x20) | any_is(eight, 0x7F); },
      [](unsigned char c) { return c < 0x20 || c >= 0x7F; });
}

/// Length of the valid UTF-8 sequence at the start of `bytes`, 0 where there is none (overlong, surrogate, cut).
std::size_t utf8_length(std::string_view bytes) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const auto continues = [&](std::size_t i) { return i < bytes.size() && (at(i) & 0xC0U) == 0x80U; };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    if (!continues(1) || !continues(2)) return 0;
    if (first == 0xE0 && at(1) < 0xA0) return 0;
    if (first == 0xED && at(1) > 0x9F) return 0;
    return 3;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    if (first == 0xF0 && at(1) < 0x90) return 0;
    if (first == 0xF4 && at(1) > 0x8F) return 0;
    return 4;
  }
  return 0;
}

/// Length of the escape sequence at the start of `text` (which begins with ESC).
std::size_t escape_length(std::string_view text) {
  if (text.size() < 2) return 1;
  const char kind = text[1];
  if (kind == '[') {  // CSI: parameters, then one final byte @…~
    std::size_t i = 2;
    while (i < text.size() && (text[i] < 0x40 || text[i] > 0x7E)) {
      if (text[i] == '\n' || static_cast<unsigned char>(text[i]) >= 0x80) return i;
      ++i;
    }
    return std::min(i + 1, text.size());
  }
  if (kind == ']' || kind == 'P' || kind == '_' || kind == '^' || kind == 'X') {  // strings, ended by BEL or ESC backslash
    for (std::size_t i = 2; i < text.size(); ++i) {
      if (text[i] == '\a') return i + 1;
      if (text[i] == '\x1b' && i + 1 < text.size() && text[i + 1] == '\\') return i + 2;
      if (text[i] == '\n') return i;
    }
    return text.size();
  }
  return kind >= 0x20 && kind <= 0x7E ? 2 : 1;
}

std::string scaled(std::uint64_t bytes, double base, const std::array<const char*, 5>& units) {
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= base * 0.9995 && unit + 1 < units.size()) {
    value /= base;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} {}", bytes, units[0]);
  return value < 99.95 ? fmt::format("{:.1f} {}", value, units[unit]) : fmt::format("{:.0f} {}", value, units[unit]);
}

/// Letters added, left out, replaced, or swapped with their neighbour.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::swap(before, above);
    std::swap(above, row);
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

std::size_t common_prefix(std::string_view a, std::string_view b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

std::string_view trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = text.find(separator, begin);
    parts.emplace_back(text.substr(begin, end == std::string_view::npos ? end : end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> parts;
  std::size_t end = 0;
  while (true) {
    const std::size_t begin = text.find_first_not_of(kSpace, end);
    if (begin == std::string_view::npos) return parts;
    end = text.find_first_of(kSpace, begin);
    if (end == std::string_view::npos) end = text.size();
    parts.emplace_back(text.substr(begin, end - begin));
  }
}

std::string join(const std::vector<std::string>& parts, std::string_view between) {
  std::string text;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += between;
    text += parts[i];
  }
  return text;
}

std::string shell_quote(std::string_view text) {
  const auto is_plain = [](unsigned char c) {
    return c < 0x80 && (std::isalnum(c) != 0 || std::string_view("@%_+=:,./-").find(static_cast<char>(c)) != std::string_view::npos);
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), is_plain)) return std::string(text);
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'')
      quoted += "'\\''";
    else
      quoted += c;
  }
  return quoted + "'";
}

bool is_utf8(std::string_view bytes) {
  while (true) {
    bytes.remove_prefix(ascii_length(bytes));
    if (bytes.empty()) return true;
    const std::size_t length = utf8_length(bytes);
    if (length == 0) return false;
    bytes.remove_prefix(length);
  }
}

std::string to_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    std::size_t length = ascii_length(bytes);
    if (length == 0) length = utf8_length(bytes);
    if (length == 0)
      text += "\xEF\xBF\xBD";
    else
      text += bytes.substr(0, length);
    bytes.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return text;
}

std::string strip_control(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  while (!text.empty()) {
    const auto first = static_cast<unsigned char>(text[0]);
    std::size_t used = 1;
    if (const std::size_t shown = shown_ascii_length(text); shown > 0) {
      used = shown;
      clean += text.substr(0, used);
    } else if (first == '\n' || first == '\t') {
      clean += text[0];
    } else if (first == 0x1B) {
      used = escape_length(text);
    } else if (first < 0x80) {
      used = 1;  // another control character
    } else if ((used = utf8_length(text)) == 0) {
      used = 1;
      clean += "\xEF\xBF\xBD";
    } else {
      const std::string_view character = text.substr(0, used);
      const bool c1 = used == 2 && first == 0xC2 && static_cast<unsigned char>(character[1]) < 0xA0;
      // U+202A…U+202E and U+2066…U+2069 reorder what a reader sees.
      const bool bidi = used == 3 && ((character >= "\xE2\x80\xAA" && character <= "\xE2\x80\xAE") ||
                                      (character >= "\xE2\x81\xA6" && character <= "\xE2\x81\xA9"));
      if (!c1 && !bidi) clean += character;
    }
    text.remove_prefix(used);
  }
  return clean;
}

std::string first_line(std::string_view text, std::size_t limit) {
  text = trim(text);
  text = text.substr(0, text.find('\n'));
  if (text.size() <= limit) return std::string(text);
  std::size_t cut = limit;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0U) == 0x80U) --cut;
  return std::string(text.substr(0, cut)) + "…";
}

std::string last_lines(std::string_view text, std::size_t count) {
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  std::size_t begin = text.size();
  for (std::size_t found = 0; begin > 0; --begin) {
    if (text[begin - 1] == '\n' && ++found == count) break;
  }
  return std::string(text.substr(begin));
}

std::string human_bytes(std::uint64_t bytes) { return scaled(bytes, 1000, {"B", "kB", "MB", "GB", "TB"}); }
std::string human_size(std::uint64_t bytes) { return scaled(bytes, 1024, {"B", "KiB", "MiB", "GiB", "TiB"}); }

std::string human_duration(std::chrono::milliseconds time) {
  const auto total = std::max<std::int64_t>(time.count(), 0);
  if (total < 10'000) return fmt::format("{:.1f}s", static_cast<double>(total) / 1000.0);
  const std::int64_t seconds = (total + 500) / 1000;
  if (seconds < 60) return fmt::format("{}s", seconds);
  if (seconds < 3600) return fmt::format("{}m{:02}s", seconds / 60, seconds % 60);
  return fmt::format("{}h{:02}m", seconds / 3600, seconds % 3600 / 60);
}

std::string nearest_name(std::string_view wrong, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(wrong.size() / 3, 1) + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(wrong, candidate);
    // Slips are rare in the first letters.
    const bool better = distance == best_distance && !best.empty() && common_prefix(wrong, candidate) > common_prefix(wrong, best);
    if (distance < best_distance || better) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace gpustrap
