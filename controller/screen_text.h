#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/protocol/event.h"
#include "controller/console.h"

namespace gpustrap {

// What the view of one host and that of many have in common.

constexpr std::string_view kGreen = "32", kRed = "31", kYellow = "33", kCyan = "36", kDim = "2", kBold = "1";

/// Text of a host's, safe to print on one line: no control characters, and ASCII where nothing else can be shown.
[[nodiscard]] std::string shown_on(const Console& console, std::string_view text);
[[nodiscard]] std::string painted(const Console& console, std::string_view colour, std::string text);
/// Takes what the terminal's line shows off it, for a program that has no time for more.
[[nodiscard]] std::string line_anew();
[[nodiscard]] inline std::string_view ellipsis_of(const Console& console) { return console.unicode ? "…" : ".."; }

/// "0:52", "1:02:03"
[[nodiscard]] std::string clock_text(std::chrono::milliseconds time);
/// "78.4/91.2 MB": both numbers in the unit of the second.
[[nodiscard]] std::string byte_fraction(std::uint64_t done, std::uint64_t total);
/// "9 changed, 2 unchanged": what is zero is left out.
[[nodiscard]] std::string counts_text(const RunFinished& finished);

}  // namespace gpustrap
