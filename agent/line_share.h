#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>

namespace gpustrap {

/// Who has the line: what is needed first goes first, and what is fetched for later holds still meanwhile, unless the first does not go
/// faster for it; its server may be what is slow. That is found out by trying: alone for a while, then with one beside it.
class LineShare {
 public:
  using Clock = std::chrono::steady_clock;
  /// How many of those for later may go on.
  static constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();
  /// Somebody stands still for the first one, or it is only the next that will be needed: then it has to show first that it uses the line.
  enum class Awaited { no, yes };
  struct First {
    std::size_t who = 0;  ///< the same for as long as it is the same that goes first
    Awaited awaited = Awaited::no;
    std::uint64_t bytes = 0;                                                 ///< that have come for it since whenever
    std::uint64_t missing = 0;                                               ///< that have still to come, as far as is known
    enum class Counted { by_itself, by_host } counted = Counted::by_itself;  ///< bytes of the one cannot be compared with the other's
  };

  [[nodiscard]] std::size_t look(const First& first, Clock::time_point now);
  /// There is nothing to be shared: whatever comes next is looked at afresh.
  void forget() { first_.reset(); }

  /// What somebody waits for has the line to itself from when it has taken this long, or at once where this much of it is missing: a row
  /// of small files, each there within a second, would stop all others for as long as it goes on.
  static constexpr std::chrono::milliseconds kPatience{1500};
  static constexpr std::uint64_t kLarge = 4U << 20U;

  /// Before a rate is measured: what was on its way when the others were stopped or let go has come by then.
  static constexpr std::chrono::milliseconds kSettle{300}, kMeasure{700};
  /// Until another is let go beside it again; doubles up to kLongestHold, so that trying costs little.
  static constexpr std::chrono::seconds kHold{8}, kLongestHold{64};
  /// Slower than this nobody uses a line.
  static constexpr double kNoticeable = 128 * 1024;
  /// It goes as fast beside another where it has this part of its rate.
  static constexpr double kUnharmed = 0.8, kHarmed = 0.6;
  /// Alone it is measured once more where it had this much more than before: the others' connections take what they have room for at first.
  static constexpr double kRising = 1.2;

 private:
  enum class Phase { open, alone, trial, held };
  void enter(Phase phase, Clock::time_point now);
  /// Bytes a second, once kSettle and then kMeasure are over; measures anew from there on.
  std::optional<double> rate(std::uint64_t bytes, Clock::time_point now);

  std::optional<First> first_;
  bool is_new_ = false;  ///< it is awaited, and has not been alone yet
  Phase phase_ = Phase::open;
  Clock::time_point begun_{}, since_{}, marked_{};
  std::uint64_t at_mark_ = 0;
  bool is_marked_ = false;
  double alone_ = 0;  ///< its rate without others
  std::chrono::seconds hold_ = kHold;
};

/// Bytes that all interfaces but the loopback have received since the boot; 0 where the kernel does not say.
[[nodiscard]] std::uint64_t bytes_received_by_host();

}  // namespace gpustrap
