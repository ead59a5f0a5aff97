#include "agent/restarts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

const RebootWish kWish{"a reboot is required (libc6)", "gpustrap restarts this host", std::chrono::minutes(10)};

TEST(Restarts, AreRefusedBeyondTheThird) {
  RunHistory history;
  history.reboots_asked = 2;
  EXPECT_FALSE(restart_refusal(history, kWish, true).has_value());
  history.reboots_asked = 3;
  const auto refusal = restart_refusal(history, kWish, true);
  ASSERT_TRUE(refusal.has_value());
  EXPECT_THAT(refusal->sentence(), HasSubstr("3 times already"));
  EXPECT_THAT(refusal->sentence(), HasSubstr("libc6"));
}

TEST(Restarts, AreRefusedWhereTheRunCouldNotGoOnAfterwards) {
  const auto refusal = restart_refusal(RunHistory(), kWish, false);
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->code(), ErrorCode::unsupported);
}

TEST(Restarts, AreNumberedOverAllRunners) {
  RunHistory history;
  history.reboots_asked = 1;
  const Rebooting event = restart_event(history, "driver", kWish, "boot-a");
  EXPECT_EQ(event.number, 2U);
  EXPECT_EQ(event.step, "driver");
  EXPECT_EQ(event.boot_id, "boot-a");
  EXPECT_EQ(event.reason, kWish.reason);
}

TEST(Restarts, AHostThatStaysUpIsToldWithItsLimit) { EXPECT_THAT(restart_overdue(kWish).sentence(), HasSubstr("still up after 10")); }

TEST(Restarts, ARunIsGivenUpWhenItGetsNoFurther) {
  RunHistory history;
  history.fruitless_boots = 3;
  history.fruitless_starts = 5;
  EXPECT_FALSE(reason_to_give_up(history).has_value());
  history.fruitless_starts = 6;
  EXPECT_THAT(reason_to_give_up(history)->sentence(), HasSubstr("runner died 6 times"));
  history.fruitless_boots = 4;
  EXPECT_THAT(reason_to_give_up(history)->sentence(), HasSubstr("went down 4 times"));
}

}  // namespace
}  // namespace gpustrap
