#pragma once

#include <algorithm>
#include <chrono>

namespace gpustrap {

/// How eagerly a host is come back to.
enum class Haste {
  none,
  rebooting,  ///< it said that it restarts, and somebody watches
  refused,    ///< it answers and does not let us in (yet): newer sshds shut out who knocks too often
};

/// The pauses between attempts to come back to a host. The first is a moment, for a link that broke and is whole again at once; while
/// somebody is likely to wait they stay short, for what an outage costs beyond its own length is half of the last pause.
class ReturnPauses {
 public:
  [[nodiscard]] std::chrono::milliseconds next(Haste haste) {
    using std::chrono::milliseconds;
    const milliseconds longest = haste == Haste::rebooting ? milliseconds(500) : waited_ < kPatience ? milliseconds(1'000) : kLongest;
    const milliseconds shortest(haste == Haste::refused ? 2'000 : 0);
    const milliseconds pause = std::max(std::min(next_, longest), shortest);
    next_ = std::min(next_ * 2, kLongest);
    waited_ += pause;
    return pause;
  }

 private:
  static constexpr std::chrono::milliseconds kLongest{15'000}, kPatience{5 * 60'000};

  std::chrono::milliseconds next_{100};
  std::chrono::milliseconds waited_{0};
};

}  // namespace gpustrap
