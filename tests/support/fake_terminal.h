#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "controller/display_width.h"

namespace gpustrap {

/// As much of a terminal as LinePrinter uses: lines with scrolling, carriage return, cursor up, clearing. Colours are dropped.
class FakeTerminal {
 public:
  FakeTerminal(std::size_t columns, std::size_t rows) : columns_(columns), rows_(rows), lines_(1) {}

  void write(std::string_view text) {
    while (!text.empty()) {
      const char c = text[0];
      if (c == '\x1b') {
        const std::size_t end = text.find_first_of("ABCDHJKm");
        escape(text.substr(2, end - 2), text[end]);
        text.remove_prefix(end + 1);
      } else if (c == '\n') {
        ++row_;
        column_bytes_ = 0;  // the line discipline adds the return
        if (row_ == lines_.size()) lines_.emplace_back();
        text.remove_prefix(1);
      } else if (c == '\r') {
        column_bytes_ = 0;
        text.remove_prefix(1);
      } else {
        const std::size_t end = std::min(text.find_first_of("\x1b\r\n"), text.size());
        put(text.substr(0, end));
        text.remove_prefix(end);
      }
    }
  }

  /// Everything that was ever on it, scrolled-off lines too, without trailing spaces.
  [[nodiscard]] std::string text() const {
    std::string all;
    for (const std::string& line : lines_) all += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    while (all.ends_with("\n\n")) all.pop_back();
    return all;
  }
  /// Whether a redrawn line was ever as wide as the terminal, or the cursor asked to go above its top.
  [[nodiscard]] bool wrapped() const { return wrapped_; }

 private:
  void put(std::string_view text) {
    std::string& line = lines_[row_];
    if (column_bytes_ == 0) line.clear();
    line += text;
    column_bytes_ = line.size();
    if (redrawing_ && display_width(line) >= columns_) wrapped_ = true;
  }
  void escape(std::string_view number, char what) {
    if (what == 'A') {
      redrawing_ = true;
      const auto up = static_cast<std::size_t>(std::strtoul(std::string(number).c_str(), nullptr, 10));
      if (up > row_ || up >= rows_) wrapped_ = true;  // above the visible part
      row_ -= std::min(up, row_);
    } else if (what == 'J') {
      lines_.resize(row_ + 1);
      lines_[row_].resize(column_bytes_);
    } else if (what == 'K') {
      lines_[row_].resize(column_bytes_);
    }
  }

  std::size_t columns_, rows_;
  std::vector<std::string> lines_;
  std::size_t row_ = 0;
  std::size_t column_bytes_ = 0;
  bool redrawing_ = false;
  bool wrapped_ = false;
};

}  // namespace gpustrap
