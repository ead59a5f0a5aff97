#include "controller/screen_text.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {

std::string shown_on(const Console& console, std::string_view text) {
  std::string safe = strip_control(text);
  std::replace(safe.begin(), safe.end(), '\t', ' ');
  std::replace(safe.begin(), safe.end(), '\n', ' ');
  if (console.unicode) return safe;
  std::string ascii;
  for (const char c : safe) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80)
      ascii += c;
    else if (byte >= 0xC0)
      ascii += '?';  // one for each character
  }
  return ascii;
}

std::string painted(const Console& console, std::string_view colour, std::string text) {
  if (!console.colour || colour.empty() || text.empty()) return text;
  return fmt::format("\x1b[{}m{}\x1b[0m", colour, text);
}

std::string line_anew() { return "\r\x1b[K"; }

std::string clock_text(std::chrono::milliseconds time) {
  const auto seconds = std::max<std::int64_t>(time.count(), 0) / 1000;
  if (seconds < 3600) return fmt::format("{}:{:02}", seconds / 60, seconds % 60);
  return fmt::format("{}:{:02}:{:02}", seconds / 3600, seconds % 3600 / 60, seconds % 60);
}

std::string byte_fraction(std::uint64_t done, std::uint64_t total) {
  const std::string whole = human_bytes(total);
  const std::size_t space = whole.find(' ');
  const std::string part = human_bytes(done);
  const std::size_t part_space = part.find(' ');
  if (part.substr(part_space) == whole.substr(space)) return part.substr(0, part_space) + "/" + whole;
  return part + "/" + whole;
}

std::string counts_text(const RunFinished& finished) {
  std::vector<std::string> parts;
  const auto add = [&](std::uint64_t count, std::string_view what) {
    if (count > 0) parts.push_back(fmt::format("{} {}", count, what));
  };
  add(finished.failed, "failed");
  add(finished.changed, "changed");
  add(finished.would_change, "would change");
  add(finished.unknown, "unknown until it runs");
  add(finished.unchanged, "unchanged");
  add(finished.skipped, "skipped");
  return parts.empty() ? "nothing to do" : join(parts, ", ");
}

}  // namespace gpustrap
