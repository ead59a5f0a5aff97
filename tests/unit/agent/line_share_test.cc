#include "agent/line_share.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gpustrap {
namespace {

using Awaited = LineShare::Awaited;
using std::chrono::milliseconds;

constexpr double kMega = 1e6;

/// A line of which the first takes what `rate` says of how many others go; looked at every 100 ms of a time of its own.
class Line {
 public:
  using Rate = std::function<double(std::size_t others)>;

  std::size_t pass(milliseconds time, std::size_t first, Awaited awaited, const Rate& rate) {
    for (milliseconds gone{0}; gone < time; gone += milliseconds(100)) {
      for (int slice = 0; slice < 10; ++slice) {
        now_ += milliseconds(10);
        bytes_ += rate(std::min(may_go_, kOthers)) / 100;
        since_told_ += milliseconds(10);
        if (since_told_ < told_every_) continue;
        since_told_ = {};
        told_ = static_cast<std::uint64_t>(bytes_);
        told_at_ = now_;
      }
      held_ += may_go_ == 0 ? milliseconds(100) : milliseconds(0);
      may_go_ = share_.look({first, awaited, told_, missing_, told_at_}, now_);
      seen_.push_back(may_go_);
    }
    return may_go_;
  }
  LineShare share_;
  std::uint64_t missing_ = 0;
  milliseconds told_every_{10}, since_told_{0};
  std::size_t may_go_ = LineShare::kAll;
  milliseconds held_{0};
  std::vector<std::size_t> seen_;
  static constexpr std::size_t kOthers = 3;

 private:
  LineShare::Clock::time_point now_{};
  double bytes_ = 0;
  std::uint64_t told_ = 0;
  LineShare::Clock::time_point told_at_{};
};

double narrow(std::size_t others) { return 10 * kMega / static_cast<double>(1 + others); }
double own_limit(std::size_t) { return 2 * kMega; }
double silent(std::size_t) { return 0; }

TEST(LineShare, WhatIsAwaitedAndLargeIsAloneFromItsBeginning) {
  Line line;
  line.missing_ = 100U << 20U;
  EXPECT_EQ(line.pass(milliseconds(100), 1, Awaited::yes, narrow), 0U);
  EXPECT_EQ(line.seen_.front(), 0U);
}

TEST(LineShare, WhatIsAwaitedForLongIsAlone) {
  Line line;
  EXPECT_EQ(line.pass(milliseconds(1500), 1, Awaited::yes, narrow), LineShare::kAll);
  EXPECT_EQ(line.pass(milliseconds(200), 1, Awaited::yes, narrow), 0U);
}

TEST(LineShare, ARowOfSmallFilesStopsNobody) {
  Line line;
  line.missing_ = 60'000;
  for (std::size_t file = 1; file <= 12; ++file) line.pass(milliseconds(1400), file, Awaited::yes, narrow);
  EXPECT_EQ(line.held_, milliseconds(0));
}

TEST(LineShare, TheOthersHoldStillWhereTheLineIsNarrow) {
  Line line;
  line.missing_ = 100U << 20U;
  line.pass(milliseconds(9000), 1, Awaited::yes, narrow);
  EXPECT_EQ(line.may_go_, 0U);
  EXPECT_GE(line.held_, milliseconds(7500)) << "but for one trial";
  // It is tried again, ever more seldom, and always with one alone.
  line.held_ = {};
  line.pass(milliseconds(60'000), 1, Awaited::yes, narrow);
  EXPECT_GE(line.held_, milliseconds(55'000));
  EXPECT_EQ(std::count(line.seen_.begin(), line.seen_.end(), LineShare::kAll), 0);
}

TEST(LineShare, WhatIsSeldomToldOfIsMeasuredBetweenTwoTellings) {
  for (const int every : {200, 230, 310, 350}) {
    for (int begin = 0; begin < every; begin += 10) {
      Line line;
      line.missing_ = 100U << 20U;
      line.told_every_ = milliseconds(every);
      line.since_told_ = milliseconds(begin);
      // Alone it has three quarters of the line, for those that were stopped still take some.
      line.pass(milliseconds(8000), 1, Awaited::yes, [](std::size_t others) { return others == 0 ? 7.2 * kMega : narrow(1); });
      EXPECT_EQ(line.may_go_, 0U) << "told every " << every << " ms from " << begin << " on";
    }
  }
}

TEST(LineShare, TheOthersGoOnWhereItsServerIsWhatIsSlow) {
  Line line;
  EXPECT_EQ(line.pass(milliseconds(4500), 1, Awaited::yes, own_limit), LineShare::kAll);
  line.held_ = {};
  EXPECT_EQ(line.pass(milliseconds(60'000), 1, Awaited::yes, own_limit), LineShare::kAll);
  EXPECT_EQ(line.held_, milliseconds(0));
}

TEST(LineShare, WhatIsOnItsWayToTheOthersIsNotTheirsToKeep) {
  Line line;
  line.missing_ = 100U << 20U;
  int looks_alone = 0;
  // For 700 ms the connections of those that were stopped take as much as before.
  line.pass(milliseconds(6000), 1, Awaited::yes, [&](std::size_t others) {
    looks_alone = others == 0 ? looks_alone + 1 : 0;
    return narrow(others == 0 && looks_alone <= 7 ? Line::kOthers : others);
  });
  EXPECT_EQ(line.may_go_, 0U);
}

TEST(LineShare, WhoTakesNothingHoldsNobodyUp) {
  Line line;
  // An awaited file that another process holds, or whose server has stalled.
  EXPECT_EQ(line.pass(milliseconds(3000), 1, Awaited::yes, silent), LineShare::kAll);
  EXPECT_LE(line.held_, milliseconds(1100));
  EXPECT_EQ(line.pass(milliseconds(20'000), 1, Awaited::yes, silent), LineShare::kAll);
  // A step that compiles.
  Line other;
  other.pass(milliseconds(20'000), 1, Awaited::no, silent);
  EXPECT_EQ(std::count(other.seen_.begin(), other.seen_.end(), LineShare::kAll), 200);
}

TEST(LineShare, WhoBeginsToUseTheLineLaterGetsIt) {
  Line line;
  line.pass(milliseconds(5000), 1, Awaited::no, silent);
  ASSERT_EQ(line.may_go_, LineShare::kAll);
  line.pass(milliseconds(5000), 1, Awaited::no, narrow);  // apt has read its lists, and fetches
  EXPECT_EQ(line.may_go_, 0U);
  // It has what it wanted, and installs.
  line.pass(milliseconds(12'000), 1, Awaited::no, silent);
  EXPECT_EQ(line.may_go_, LineShare::kAll);
}

TEST(LineShare, AnotherThatGoesFirstIsLookedAtAfresh) {
  Line line;
  line.missing_ = 100U << 20U;
  line.pass(milliseconds(3000), 1, Awaited::yes, own_limit);
  ASSERT_EQ(line.may_go_, LineShare::kAll);
  EXPECT_EQ(line.pass(milliseconds(100), 2, Awaited::yes, narrow), 0U);
  line.share_.forget();
  EXPECT_EQ(line.pass(milliseconds(100), 2, Awaited::no, narrow), LineShare::kAll);
  // Now a step stands still for the same.
  EXPECT_EQ(line.pass(milliseconds(100), 2, Awaited::yes, narrow), 0U);
}

TEST(LineShare, ACountThatGoesBackwardsIsNoRate) {
  LineShare share;
  LineShare::Clock::time_point now{};
  std::uint64_t bytes = 1'000'000'000;
  std::size_t may_go = 0;
  for (int i = 0; i < 30; ++i) {
    bytes -= 1'000'000;
    now += milliseconds(100);
    may_go = share.look({1, Awaited::yes, bytes, 0, now}, now);
  }
  EXPECT_EQ(may_go, LineShare::kAll);
}

}  // namespace
}  // namespace gpustrap
