#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gpustrap {

struct TerminalSize {
  std::size_t columns = 80;
  std::size_t rows = 24;
};

/// Draws a block of lines at the bottom of a terminal and keeps it up to date: one write per frame, and only lines that changed.
/// It changes no mode of the terminal (no hidden cursor, no raw input), so there is nothing to restore, however the program ends.
/// Lines must be free of control characters other than colours, and narrower than the terminal.
class LinePrinter {
 public:
  LinePrinter(std::function<void(std::string_view)> write, std::function<TerminalSize()> size)
      : write_(std::move(write)), size_(std::move(size)) {}

  /// The block looks like this now.
  void draw(const std::vector<std::string>& block);
  /// Prints lines above the block; they stay.
  void record(const std::vector<std::string>& lines);
  /// The block's last look; it stays too, and what is drawn next comes below.
  void finish(const std::vector<std::string>& block);

 private:
  [[nodiscard]] std::string move_to_top() const;

  std::function<void(std::string_view)> write_;
  std::function<TerminalSize()> size_;
  std::vector<std::string> drawn_;
  std::size_t columns_ = 0;  ///< of the terminal when `drawn_` was drawn
};

}  // namespace gpustrap
