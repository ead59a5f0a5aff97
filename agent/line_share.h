#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>

namespace gpustrap {

/// Whether the one transfer that comes first (line_order.h) has the line alone: the others hold still meanwhile, unless it does not go
/// faster for it; its server may be what is slow. That is found out by trying: alone for a while, then with one beside it.
class LineShare {
 public:
  using Clock = std::chrono::steady_clock;
  /// How many others may go on.
  static constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();
  /// Somebody stands still for the first one, or it is only the next that will be needed: then it has to show first that it uses the line.
  enum class Awaited { no, yes };
  struct First {
    std::size_t who = 0;  ///< the same for as long as it is the same that goes first
    Awaited awaited = Awaited::no;
    std::uint64_t bytes = 0;    ///< that have come for it since whenever
    std::uint64_t missing = 0;  ///< that have still to come, as far as is known
    /// When they were counted: whoever brings them says so a few times a second. The rate is that of the time in between.
    Clock::time_point counted_at{};
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
  /// Of what was not counted for so long, nothing more has come.
  static constexpr std::chrono::milliseconds kSilent{500};
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
  std::optional<double> rate(const First& first, Clock::time_point now);

  std::optional<First> first_;
  bool is_new_ = false;  ///< it is awaited, and has not been alone yet
  Phase phase_ = Phase::open;
  Clock::time_point begun_{}, since_{}, marked_{};
  std::uint64_t at_mark_ = 0;
  bool is_marked_ = false;
  double alone_ = 0;  ///< its rate without others
  std::chrono::seconds hold_ = kHold;
};

}  // namespace gpustrap
