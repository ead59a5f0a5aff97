#include "controller/line_printer.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/display_width.h"

namespace gpustrap {
namespace {

constexpr std::string_view kClearLine = "\x1b[K";
constexpr std::string_view kClearBelow = "\x1b[J";

std::string all_of(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + std::string(kClearLine) + "\r\n";
  return text;
}

}  // namespace

std::string LinePrinter::move_to_top() const {
  // A terminal that became narrower has wrapped what was drawn.
  const std::size_t columns = std::max<std::size_t>(size_().columns, 1);
  std::size_t rows = 0;
  for (const std::string& line : drawn_) {
    const std::size_t width = columns < columns_ ? display_width(strip_control(line)) : 0;
    rows += std::max<std::size_t>((width + columns - 1) / columns, 1);
  }
  return rows == 0 ? "\r" : fmt::format("\r\x1b[{}A", rows);
}

void LinePrinter::draw(const std::vector<std::string>& block) {
  const std::size_t columns = size_().columns;
  if (block == drawn_ && columns == columns_) return;
  std::string frame;
  if (columns != columns_) {
    frame = move_to_top() + std::string(kClearBelow) + all_of(block);
  } else {
    frame = move_to_top();
    for (std::size_t i = 0; i < block.size(); ++i) {
      if (i >= drawn_.size() || drawn_[i] != block[i]) frame += block[i] + std::string(kClearLine) + "\r";
      frame += "\n";
    }
    frame += kClearBelow;
  }
  write_(frame);
  drawn_ = block;
  columns_ = columns;
}

void LinePrinter::record(const std::vector<std::string>& lines) {
  write_(move_to_top() + std::string(kClearBelow) + all_of(lines) + all_of(drawn_));
  columns_ = size_().columns;
}

void LinePrinter::finish(const std::vector<std::string>& block) {
  write_(move_to_top() + std::string(kClearBelow) + all_of(block));
  drawn_.clear();
}

}  // namespace gpustrap
