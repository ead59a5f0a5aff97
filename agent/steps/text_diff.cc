#include "agent/steps/text_diff.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

constexpr std::size_t kContext = 3;
/// Of a line that is shown, in bytes: minified files have lines of megabytes.
constexpr std::size_t kLongestShown = 500;
/// Cells of the table that finds the longest common part: 16 MB at four bytes each. Beyond it the whole middle counts as replaced.
constexpr std::size_t kMostCells = 4U << 20U;

/// Lines with their ends.
std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::size_t length = end == std::string_view::npos ? text.size() : end + 1;
    lines.push_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return lines;
}

struct DiffLine {
  char mark;  ///< ' ', '-' or '+'
  std::string_view text;
};

using Lines = std::vector<std::string_view>;

/// The middle, where the texts differ: by the table of longest common subsequences.
void diff_middle(const Lines& a, std::size_t a_begin, std::size_t a_end, const Lines& b, std::size_t b_begin, std::size_t b_end,
                 std::vector<DiffLine>& out) {
  const std::size_t rows = a_end - a_begin;
  const std::size_t columns = b_end - b_begin;
  if ((rows + 1) * (columns + 1) > kMostCells) {
    for (std::size_t i = a_begin; i < a_end; ++i) out.push_back({'-', a[i]});
    for (std::size_t j = b_begin; j < b_end; ++j) out.push_back({'+', b[j]});
    return;
  }
  // common(i, j): how many lines a[i…] and b[j…] can keep.
  std::vector<std::uint32_t> table((rows + 1) * (columns + 1), 0);
  const auto common = [&](std::size_t i, std::size_t j) -> std::uint32_t& { return table[i * (columns + 1) + j]; };
  for (std::size_t i = rows; i-- > 0;) {
    for (std::size_t j = columns; j-- > 0;) {
      common(i, j) = a[a_begin + i] == b[b_begin + j] ? common(i + 1, j + 1) + 1 : std::max(common(i + 1, j), common(i, j + 1));
    }
  }
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < rows || j < columns) {
    if (i < rows && j < columns && a[a_begin + i] == b[b_begin + j]) {
      out.push_back({' ', a[a_begin + i]});
      ++i;
      ++j;
    } else if (i < rows && (j == columns || common(i + 1, j) >= common(i, j + 1))) {
      out.push_back({'-', a[a_begin + i++]});
    } else {
      out.push_back({'+', b[b_begin + j++]});
    }
  }
}

std::vector<DiffLine> diff_lines(const Lines& a, const Lines& b) {
  std::size_t begin = 0;
  while (begin < a.size() && begin < b.size() && a[begin] == b[begin]) ++begin;
  std::size_t tail = 0;
  while (tail < a.size() - begin && tail < b.size() - begin && a[a.size() - 1 - tail] == b[b.size() - 1 - tail]) ++tail;
  std::vector<DiffLine> lines;
  for (std::size_t i = 0; i < begin; ++i) lines.push_back({' ', a[i]});
  diff_middle(a, begin, a.size() - tail, b, begin, b.size() - tail, lines);
  for (std::size_t i = a.size() - tail; i < a.size(); ++i) lines.push_back({' ', a[i]});
  return lines;
}

std::string printed(const DiffLine& line) {
  std::string_view text = line.text;
  const bool ended = text.ends_with('\n');
  if (ended) text.remove_suffix(1);
  std::string shown = line.mark + std::string(text.substr(0, kLongestShown));
  if (text.size() > kLongestShown) {
    while ((static_cast<unsigned char>(text[shown.size() - 1]) & 0xC0U) == 0x80U) shown.pop_back();  // not within a character
    shown += fmt::format("… ({} more bytes)", text.size() - (shown.size() - 1));
  }
  shown += "\n";
  return ended ? shown : shown + "\\ No newline at end of file\n";
}

/// "@@ -3,7 +3,8 @@": the first line and the number of lines on each side; a side without lines names the line before.
std::string hunk_header(std::size_t a_begin, std::size_t a_count, std::size_t b_begin, std::size_t b_count) {
  return fmt::format("@@ -{},{} +{},{} @@\n", a_count == 0 ? a_begin : a_begin + 1, a_count, b_count == 0 ? b_begin : b_begin + 1, b_count);
}

std::string print_hunks(const std::vector<DiffLine>& lines) {
  std::string text;
  std::size_t a_line = 0;
  std::size_t b_line = 0;
  std::size_t at = 0;
  while (at < lines.size()) {
    std::size_t first = at;
    while (first < lines.size() && lines[first].mark == ' ') ++first;
    if (first == lines.size()) break;
    const std::size_t begin = std::max(at, first > kContext ? first - kContext : 0);
    a_line += begin - at;
    b_line += begin - at;
    // A hunk ends where more than two contexts of unchanged lines follow.
    std::size_t end = first;
    for (std::size_t i = first, unchanged = 0; i < lines.size() && unchanged <= 2 * kContext; ++i) {
      unchanged = lines[i].mark == ' ' ? unchanged + 1 : 0;
      if (unchanged == 0) end = i + 1;
    }
    end = std::min(lines.size(), end + kContext);
    std::size_t a_count = 0;
    std::size_t b_count = 0;
    std::string body;
    for (std::size_t i = begin; i < end; ++i) {
      if (lines[i].mark != '+') ++a_count;
      if (lines[i].mark != '-') ++b_count;
      body += printed(lines[i]);
    }
    text += hunk_header(a_line, a_count, b_line, b_count) + body;
    a_line += a_count;
    b_line += b_count;
    at = end;
  }
  return text;
}

std::string bounded(const std::string& text, std::size_t most_lines) {
  const std::vector<std::string_view> lines = lines_of(text);
  if (lines.size() <= most_lines) return text;
  std::string kept;
  for (std::size_t i = 0; i < most_lines; ++i) kept += lines[i];
  return kept + fmt::format("… and {} more lines\n", lines.size() - most_lines);
}

bool is_text(std::string_view bytes) { return bytes.find('\0') == std::string_view::npos && to_utf8(bytes) == bytes; }

std::string counted(std::size_t count) { return fmt::format("{} {}", count, count == 1 ? "line" : "lines"); }

}  // namespace

std::string TextDiff::summary() const {
  if (unified.empty()) return "content differs";
  if (removed == 0) return counted(added) + " added";
  if (added == 0) return counted(removed) + " removed";
  return fmt::format("{} added, {} removed", counted(added), removed);
}

TextDiff diff_texts(std::string_view before, std::string_view after, const std::string& name, std::size_t most_lines) {
  TextDiff diff;
  if (before == after || !is_text(before) || !is_text(after)) return diff;
  const std::vector<DiffLine> lines = diff_lines(lines_of(before), lines_of(after));
  for (const DiffLine& line : lines) {
    if (line.mark == '+') ++diff.added;
    if (line.mark == '-') ++diff.removed;
  }
  diff.unified = bounded(fmt::format("--- {0}\n+++ {0}\n", name) + print_hunks(lines), most_lines);
  return diff;
}

}  // namespace gpustrap
