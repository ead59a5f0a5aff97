#include "agent/line_share.h"

#include <algorithm>

namespace gpustrap {

void LineShare::enter(Phase phase, Clock::time_point now) {
  phase_ = phase;
  since_ = now;
  is_marked_ = false;
  if (phase == Phase::alone) alone_ = 0;
}

std::optional<double> LineShare::rate(const First& first, Clock::time_point now) {
  const Clock::time_point when = now - first.counted_at > kSilent ? now : first.counted_at;
  if (when - since_ < kSettle) return std::nullopt;
  if (!is_marked_) {
    is_marked_ = true;
    marked_ = when;
    at_mark_ = first.bytes;
  }
  const std::chrono::duration<double> time = when - marked_;
  if (time < kMeasure) return std::nullopt;
  // What is counted apart from it may be counted a little later, so that it seems to go backwards.
  const double rate = static_cast<double>(first.bytes - std::min(first.bytes, at_mark_)) / time.count();
  marked_ = when;
  at_mark_ = first.bytes;
  return rate;
}

std::size_t LineShare::look(const First& first, Clock::time_point now) {
  const bool awaited = first.awaited == Awaited::yes;
  if (!first_ || first_->who != first.who || (awaited && first_->awaited == Awaited::no)) {
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
  const std::optional<double> measured = rate(first, now);
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

}  // namespace gpustrap
