#include "agent/steps/managed_block.h"

#include <algorithm>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

/// Bytes [begin, end) from the begin marker's line to behind the end marker's line, and what lies between those lines.
struct Span {
  std::size_t begin = 0, end = 0;
  std::string_view inner;
};

std::string begin_mark(const BlockName& name) { return fmt::format("{} >>> gpustrap {} >>>", name.comment, name.marker); }
std::string end_mark(const BlockName& name) { return fmt::format("{} <<< gpustrap {} <<<", name.comment, name.marker); }

Error broken(const BlockName& name, const std::string& what) {
  return {ErrorCode::unsafe, fmt::format("the markers of the block `{}` are broken: {}", name.marker, what),
          "restore the missing marker line, or remove the block by hand; then run the same command again"};
}

Result<std::optional<Span>> find_block(std::string_view text, const BlockName& name) {
  const std::string begin = begin_mark(name);
  const std::string end = end_mark(name);
  std::optional<Span> found;
  std::size_t begin_line = 0;
  std::size_t inner_begin = 0;
  std::size_t number = 0;
  bool open = false;
  for (std::size_t at = 0; at < text.size();) {
    ++number;
    const std::size_t newline = text.find('\n', at);
    const std::size_t next = newline == std::string_view::npos ? text.size() : newline + 1;
    // Blanks around a marker come from editors, and do not make it another line.
    const std::string_view line = trim(text.substr(at, next - at));
    if (line == begin) {
      if (open) return fail(broken(name, fmt::format("lines {} and {} both begin it", begin_line, number)));
      if (found) return fail(broken(name, fmt::format("lines {} and {} both begin it", begin_line, number)));
      open = true;
      begin_line = number;
      found = Span{at, 0, {}};
      inner_begin = next;
    } else if (line == end) {
      if (!open) return fail(broken(name, fmt::format("line {} ends it, and no line before begins it", number)));
      open = false;
      found->end = next;
      found->inner = text.substr(inner_begin, at - inner_begin);
    }
    at = next;
  }
  if (open) return fail(broken(name, fmt::format("line {} begins it, and no line ends it", begin_line)));
  return found;
}

/// "\r\n" where the first line of the file ends so.
std::string_view line_end_of(std::string_view text) {
  const std::size_t newline = text.find('\n');
  return newline != std::string_view::npos && newline > 0 && text[newline - 1] == '\r' ? "\r\n" : "\n";
}

}  // namespace

std::vector<std::string> text_lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t newline = text.find('\n');
    std::string_view line = text.substr(0, newline);
    text.remove_prefix(newline == std::string_view::npos ? text.size() : newline + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.emplace_back(line);
  }
  return lines;
}

Result<std::optional<std::vector<std::string>>> lines_of_block(std::string_view text, const BlockName& name) {
  Result<std::optional<Span>> span = find_block(text, name);
  if (!span) return fail(std::move(span).error());
  if (!*span) return std::optional<std::vector<std::string>>();
  return std::optional<std::vector<std::string>>(text_lines((*span)->inner));
}

Result<std::string> with_block(std::string_view text, const BlockName& name, const std::vector<std::string>& lines, BlockPlace place) {
  Result<std::optional<Span>> span = find_block(text, name);
  if (!span) return fail(std::move(span).error());
  const std::string_view line_end = line_end_of(text);
  std::string block = begin_mark(name);
  for (const std::string& line : lines) {
    if (trim(line) == begin_mark(name) || trim(line) == end_mark(name)) {
      return fail(ErrorCode::recipe, fmt::format("a line of the block `{}` is one of its own markers", name.marker),
                  "choose another marker");
    }
    block += line_end;
    block += line;
  }
  block += line_end;
  block += end_mark(name);

  std::string result;
  if (*span) {
    result = text.substr(0, (*span)->begin);
    result += block;
    if (text.substr(0, (*span)->end).ends_with('\n')) result += line_end;
    return result += text.substr((*span)->end);
  }
  if (place == BlockPlace::end) {
    result = text;
    // A file without a last newline keeps that property, so that removing the block gives back its very bytes.
    if (!text.empty() && !text.ends_with('\n')) return result.append(line_end).append(block);
    return result.append(block).append(line_end);
  }
  std::size_t at = 0;
  if (text.starts_with("#!")) {
    const std::size_t newline = text.find('\n');
    if (newline == std::string_view::npos) return std::string(text).append(line_end).append(block);
    at = newline + 1;
  }
  result = text.substr(0, at);
  return result.append(block).append(line_end).append(text.substr(at));
}

Result<std::string> without_block(std::string_view text, const BlockName& name) {
  Result<std::optional<Span>> span = find_block(text, name);
  if (!span) return fail(std::move(span).error());
  if (!*span) return std::string(text);
  std::string_view before = text.substr(0, (*span)->begin);
  if ((*span)->end == text.size() && !text.ends_with('\n')) {
    // The newline before the block came with it: see with_block.
    if (before.ends_with("\r\n"))
      before.remove_suffix(2);
    else if (before.ends_with('\n'))
      before.remove_suffix(1);
  }
  return std::string(before).append(text.substr((*span)->end));
}

}  // namespace gpustrap
