#include "controller/interrupts.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>

namespace gpustrap {
namespace {

using What = Interrupt::What;
using std::chrono::milliseconds;

milliseconds steady_now() { return std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now().time_since_epoch()); }

void wait_for_another_millisecond() {
  for (const milliseconds now = steady_now(); steady_now() == now;) {}
}

TEST(Interrupts, EachPressHasTheTimeAtWhichItWasMade) {
  Interrupts interrupts;
  EXPECT_FALSE(interrupts.take());
  const milliseconds first = steady_now();
  ::raise(SIGINT);
  wait_for_another_millisecond();
  const milliseconds second = steady_now();
  ::raise(SIGINT);
  wait_for_another_millisecond();
  const milliseconds read = steady_now();
  const auto one = interrupts.take(), two = interrupts.take();
  ASSERT_TRUE(one && two);
  EXPECT_TRUE(one->what == What::ctrl_c && two->what == What::ctrl_c);
  EXPECT_TRUE(first <= one->at && one->at <= second);
  EXPECT_TRUE(second <= two->at && two->at < read);
  EXPECT_FALSE(interrupts.take());
}

TEST(Interrupts, ToBeToldToLeaveComesBeforeAllPresses) {
  Interrupts interrupts;
  ::raise(SIGINT);
  ::raise(SIGTERM);
  EXPECT_TRUE(interrupts.take()->what == What::leave);
  EXPECT_TRUE(interrupts.take()->what == What::ctrl_c);
  EXPECT_FALSE(interrupts.take());
}

TEST(Interrupts, OfAKeyThatIsHeldDownTheFirstPressesCount) {
  Interrupts interrupts;
  for (int round = 0; round < 3; ++round) {
    ::raise(SIGINT);
    wait_for_another_millisecond();
    const milliseconds later = steady_now();
    for (int i = 0; i < 1000; ++i) ::raise(SIGINT);
    const auto first = interrupts.take();
    ASSERT_TRUE(first);
    EXPECT_LT(first->at, later);
    int rest = 0;
    while (interrupts.take()) ++rest;
    EXPECT_TRUE(rest >= 2 && rest < 1000) << rest;
  }
}

TEST(Interrupts, WhatAnEarlierOneWasToldIsForgotten) {
  {
    const Interrupts earlier;
    ::raise(SIGINT);
    ::raise(SIGHUP);
  }
  EXPECT_FALSE(Interrupts().take());
}

}  // namespace
}  // namespace gpustrap
