#include "agent/transfer_rate.h"

#include <gtest/gtest.h>

namespace gpustrap {
namespace {

using std::chrono::milliseconds;

class TransferRateTest : public ::testing::Test {
 protected:
  std::uint64_t at(int ms, std::uint64_t done, const char* what = "a.zip") { return rate_.of(what, done, start_ + milliseconds(ms)); }
  TransferRate rate_;
  TransferRate::Clock::time_point start_{};
};

TEST_F(TransferRateTest, ComparesWithWhatWasThereBefore) {
  EXPECT_EQ(at(0, 70'000'000), 0U);  // resumed: these did not come now
  EXPECT_EQ(at(200, 71'000'000), 5'000'000U);
  EXPECT_EQ(at(400, 72'000'000), 5'000'000U);
}

TEST_F(TransferRateTest, ForgetsWhatIsLongPast) {
  std::uint64_t done = 0;
  for (int ms = 0; ms < 10'000; ms += 200) at(ms, done += 2'000'000);
  std::uint64_t last = 0;
  for (int ms = 10'000; ms < 14'000; ms += 200) last = at(ms, done += 20'000);
  EXPECT_EQ(last, 100'000U);
}

TEST_F(TransferRateTest, AnotherFileStartsAnew) {
  at(0, 0);
  at(1000, 5'000'000);
  EXPECT_EQ(at(1200, 9'000'000, "b.zip"), 0U);
  EXPECT_EQ(at(1400, 9'100'000, "b.zip"), 500'000U);
  EXPECT_EQ(at(1600, 0, "b.zip"), 0U);
}

}  // namespace
}  // namespace gpustrap
