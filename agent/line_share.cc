#include "agent/line_share.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>

#include "agent/base/file.h"
#include "agent/base/text.h"

namespace gpustrap {

void LineShare::enter(Phase phase, Clock::time_point now) {
  phase_ = phase;
  since_ = now;
  is_marked_ = false;
  if (phase == Phase::alone) alone_ = 0;
}

std::optional<double> LineShare::rate(std::uint64_t bytes, Clock::time_point now) {
  if (now - since_ < kSettle) return std::nullopt;
  if (!is_marked_) {
    is_marked_ = true;
    marked_ = now;
    at_mark_ = bytes;
  }
  const std::chrono::duration<double> time = now - marked_;
  if (time < kMeasure) return std::nullopt;
  // What is counted apart from it may be counted a little later, so that it seems to go backwards.
  const double rate = static_cast<double>(bytes - std::min(bytes, at_mark_)) / time.count();
  marked_ = now;
  at_mark_ = bytes;
  return rate;
}

std::size_t LineShare::look(const First& first, Clock::time_point now) {
  const bool awaited = first.awaited == Awaited::yes;
  if (!first_ || first_->who != first.who || first_->counted != first.counted || (awaited && first_->awaited == Awaited::no)) {
    alone_ = 0;
    hold_ = kHold;
    is_new_ = awaited;
    enter(Phase::open, now);
    begun_ = now;
  }
  first_ = first;
  if (is_new_ && (first.missing > kLarge || now - begun_ >= kPatience)) {
    is_new_ = false;
    enter(Phase::alone, now);
  }
  const std::optional<double> measured = rate(first.bytes, now);
  switch (phase_) {
    case Phase::open:
      if (is_new_) break;
      // More than it had without the others: it has only now begun in earnest. Much less: they may be why.
      if (measured && (*measured > 2 * alone_ + kNoticeable || (alone_ > kNoticeable && *measured < kHarmed * alone_)))
        enter(Phase::alone, now);
      break;
    case Phase::alone:
      if (!measured) break;
      if (*measured >= kNoticeable && *measured > kRising * alone_) {
        alone_ = *measured;
        break;
      }
      alone_ = std::max(alone_, *measured);
      // Who does not use the line needs no trial.
      enter(alone_ < kNoticeable ? Phase::open : Phase::trial, now);
      break;
    case Phase::trial:
      if (!measured) break;
      enter(*measured < kUnharmed * alone_ ? Phase::held : Phase::open, now);
      break;
    case Phase::held:
      if (now - since_ < hold_) break;
      hold_ = std::min(2 * hold_, kLongestHold);
      enter(Phase::alone, now);
      break;
  }
  switch (phase_) {
    case Phase::open: return kAll;
    case Phase::trial: return 1;
    case Phase::alone:
    case Phase::held: return 0;
  }
  return kAll;
}

std::uint64_t bytes_received_by_host() {
  // "  eth0: 123456 …", behind two lines of headings; the bytes received come first.
  const Result<std::string> text = read_file("/proc/net/dev", 1U << 20U);
  std::uint64_t sum = 0;
  if (!text) return sum;
  for (const std::string& line : split(*text, '\n')) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos || trim(std::string_view(line).substr(0, colon)) == "lo") continue;
    const std::string_view numbers = trim(std::string_view(line).substr(colon + 1));
    std::uint64_t bytes = 0;
    if (std::from_chars(numbers.data(), numbers.data() + numbers.size(), bytes).ec == std::errc()) sum += bytes;
  }
  return sum;
}

}  // namespace gpustrap
