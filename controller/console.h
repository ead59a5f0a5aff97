#pragma once

#include <chrono>
#include <functional>
#include <string_view>

#include "controller/line_printer.h"

namespace gpustrap {

/// What the place that is written to can do, and the clock. Tests give their own.
struct Console {
  bool person = false;  ///< a terminal of any kind: a token may be shown
  bool live = false;    ///< a terminal that moves its cursor
  bool colour = false;
  bool unicode = true;
  std::function<TerminalSize()> size;
  std::function<void(std::string_view)> write;
  std::function<std::chrono::milliseconds()> now;  ///< any epoch, never backwards
};

enum class ColourChoice { automatic, never };
/// The console behind a descriptor, after NO_COLOR, TERM and the locale.
[[nodiscard]] Console console_of(int descriptor, ColourChoice colour);
/// Whether a person sits at both ends: questions can be asked and answered.
[[nodiscard]] bool person_is_here();

}  // namespace gpustrap
