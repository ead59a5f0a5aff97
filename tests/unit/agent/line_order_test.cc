#include "agent/line_order.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using Awaited = LineShare::Awaited;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kLarge = 100U << 20U;

/// Steps by name, of what they need; `order` says whose file comes first where all of them have one.
class Recipe {
 public:
  Recipe& step(std::string name, StepKind kind, const std::vector<std::string>& needs = {}) {
    BranchStep step{kind, {}, false};
    for (const std::string& need : needs) step.after.push_back(index_of(need));
    steps_.push_back(std::move(step));
    names_.push_back(std::move(name));
    return *this;
  }
  Recipe& over(const std::string& name) {
    steps_[index_of(name)].is_over = true;
    return *this;
  }
  [[nodiscard]] seconds behind(const std::string& name) const { return work_behind(steps_)[index_of(name)]; }
  [[nodiscard]] std::vector<std::string> order(const std::vector<std::string>& files, const std::vector<std::string>& awaited = {}) const {
    const std::vector<seconds> behind = work_behind(steps_);
    std::vector<Transfer> transfers;
    for (const std::string& file : files) {
      const bool waits = std::find(awaited.begin(), awaited.end(), file) != awaited.end();
      transfers.push_back({index_of(file), behind[index_of(file)], waits ? Awaited::yes : Awaited::no, 0, kLarge});
    }
    LineOrder line;
    (void)line.look(transfers, {});
    std::vector<std::string> order;
    for (const Transfer& transfer : transfers) order.push_back(names_[transfer.step]);
    return order;
  }

 private:
  [[nodiscard]] std::size_t index_of(const std::string& name) const {
    return static_cast<std::size_t>(std::find(names_.begin(), names_.end(), name) - names_.begin());
  }
  std::vector<BranchStep> steps_;
  std::vector<std::string> names_;
};

TEST(WorkBehind, IsOnesOwnAndTheLongestRowOfStepsBehindIt) {
  Recipe recipe;
  recipe.step("a", StepKind::archive).step("short", StepKind::file, {"a"}).step("long", StepKind::pip, {"a"});
  recipe.step("end", StepKind::jupyter, {"short", "long"});
  EXPECT_EQ(recipe.behind("long"), recipe.behind("end") + seconds(20));
  EXPECT_EQ(recipe.behind("a"), recipe.behind("long") + seconds(1));
  EXPECT_GT(recipe.behind("end"), seconds(0));
}

TEST(WorkBehind, WhatIsOverCountsNothingAndPassesOnWhatIsBehindIt) {
  Recipe recipe;
  recipe.step("a", StepKind::archive).step("driver", StepKind::nvidia_driver, {"a"}).step("end", StepKind::command, {"driver"});
  const seconds before = recipe.behind("a");
  recipe.over("driver");
  EXPECT_EQ(recipe.behind("a"), before - seconds(60));
  EXPECT_EQ(recipe.behind("driver"), recipe.behind("end"));
}

TEST(LineOrder, OfARowTheFirstComesFirst) {
  Recipe row;
  row.step("a", StepKind::download).step("b", StepKind::download, {"a"}).step("c", StepKind::download, {"b"});
  EXPECT_THAT(row.order({"c", "a", "b"}), ElementsAre("a", "b", "c"));
}

TEST(LineOrder, TheLongestBranchComesFirstWhoeverWaits) {
  Recipe d2l;
  d2l.step("notebooks", StepKind::archive).step("driver", StepKind::nvidia_driver);
  d2l.step("conda", StepKind::conda).step("env", StepKind::conda_env, {"conda"}).step("wheels", StepKind::pip, {"env"});
  d2l.step("server", StepKind::jupyter, {"notebooks", "driver", "wheels"});
  EXPECT_THAT(d2l.order({"notebooks", "driver", "conda", "wheels"}, {"notebooks", "driver", "conda"}),
              ElementsAre("driver", "conda", "wheels", "notebooks"));
}

TEST(LineOrder, OfBranchesAlikeTheOneThatAStepWaitsForThenTheOneInTheRecipeBefore) {
  Recipe alike;
  alike.step("a", StepKind::archive).step("b", StepKind::archive).step("c", StepKind::archive);
  EXPECT_THAT(alike.order({"c", "b", "a"}, {"c"}), ElementsAre("c", "a", "b"));
}

/// A line that `wide` bytes a second pass: each of those who go has an equal part of it, none more than its own server gives.
class Line {
 public:
  explicit Line(std::vector<Transfer> transfers, double wide = 10e6) : transfers_(std::move(transfers)), wide_(wide) {}

  void pass(milliseconds time) {
    for (; time > milliseconds(0); time -= milliseconds(100)) {
      now_ += milliseconds(100);
      may_go_ = std::min(order_.look(transfers_, now_), transfers_.size());
      double left = wide_;
      std::size_t others = may_go_;
      for (std::size_t i = 0; i < may_go_; ++i) {
        const double part = std::min(left / static_cast<double>(others--), limits_[transfers_[i].step]);
        left -= part;
        transfers_[i].bytes += static_cast<std::uint64_t>(part / 10);
      }
      for (Transfer& transfer : transfers_) transfer.counted_at = now_;
    }
  }
  [[nodiscard]] std::uint64_t bytes(std::size_t step) const {
    return std::find_if(transfers_.begin(), transfers_.end(), [&](const Transfer& one) { return one.step == step; })->bytes;
  }
  void end(std::size_t step) {
    std::erase_if(transfers_, [&](const Transfer& one) { return one.step == step; });
  }
  std::vector<double> limits_ = {1e9, 1e9, 1e9};
  std::size_t may_go_ = 0;

 private:
  LineOrder order_;
  std::vector<Transfer> transfers_;
  LineShare::Clock::time_point now_{};
  double wide_;
};

TEST(LineOrder, OnANarrowLineTheFirstHasIt) {
  Line line({{0, seconds(1), Awaited::yes, 0, kLarge}, {1, seconds(9), Awaited::yes, 0, kLarge}, {2, seconds(5), Awaited::no, 0, kLarge}});
  line.pass(milliseconds(8000));
  EXPECT_GT(line.bytes(1), 70'000'000U) << "but for what one trial takes";
  EXPECT_EQ(line.bytes(0), 0U) << "though a step waits for it";
  line.end(1);
  line.pass(milliseconds(8000));
  EXPECT_GT(line.bytes(2), 50'000'000U) << "nobody waits for it: it shows first that it uses the line";
}

TEST(LineOrder, WhereAServerIsSlowTheRestGoesToTheSecond) {
  Line line({{0, seconds(9), Awaited::yes, 0, kLarge}, {1, seconds(5), Awaited::yes, 0, kLarge}, {2, seconds(1), Awaited::yes, 0, kLarge}});
  line.limits_[0] = 1e6;
  line.pass(milliseconds(10'000));
  EXPECT_GT(line.bytes(0), 9'000'000U);
  EXPECT_GT(line.bytes(1), 50'000'000U);
  EXPECT_LT(line.bytes(2), 15'000'000U);
}

TEST(LineOrder, OneAloneIsHeldByNobody) {
  Line line({{0, seconds(1), Awaited::no, 0, kLarge}});
  line.pass(milliseconds(3000));
  EXPECT_EQ(line.may_go_, 1U);
  EXPECT_EQ(line.bytes(0), 30'000'000U);
}

}  // namespace
}  // namespace gpustrap
