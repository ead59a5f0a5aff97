#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

namespace gpustrap {

/// How fast bytes come, over the last few seconds: long enough not to flicker, short enough to show that a mirror got slower.
class TransferRate {
 public:
  using Clock = std::chrono::steady_clock;

  /// `done` bytes of `what` are there now. Bytes a second; 0 until there is something to compare with.
  std::uint64_t of(std::string_view what, std::uint64_t done, Clock::time_point now) {
    if (what != what_ || (!seen_.empty() && done < seen_.back().done)) seen_.clear();  // another file, or the same one from its start
    what_ = what;
    seen_.push_back({now, done});
    while (seen_.size() > 2 && now - seen_[1].when >= kWindow) seen_.pop_front();
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(now - seen_.front().when).count();
    return took <= 0 ? 0 : (done - seen_.front().done) * 1000 / static_cast<std::uint64_t>(took);
  }

 private:
  static constexpr std::chrono::seconds kWindow{3};
  struct Seen {
    Clock::time_point when;
    std::uint64_t done;
  };
  std::string what_;
  std::deque<Seen> seen_;
};

}  // namespace gpustrap
