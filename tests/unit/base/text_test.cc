#include "agent/base/text.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace gpustrap {
namespace {

TEST(Utf8, IsToldFromOtherBytesWhereverTheyStand) {
  for (std::size_t before = 0; before < 20; ++before) {
    const std::string plain(before, 'x');
    EXPECT_TRUE(is_utf8(plain + "\xC3\xA4" + plain));
    EXPECT_FALSE(is_utf8(plain + "\xC3" + plain));
    EXPECT_FALSE(is_utf8(plain + "\xFF"));
    EXPECT_EQ(to_utf8(plain + "\xFF\xC3\xA4" + plain), plain + "\xEF\xBF\xBD\xC3\xA4" + plain);
  }
}

TEST(ShellQuote, LeavesPlainWordsAndQuotesTheRest) {
  EXPECT_EQ(shell_quote("/usr/bin/x-1.2"), "/usr/bin/x-1.2");
  EXPECT_EQ(shell_quote(""), "''");
  EXPECT_EQ(shell_quote("a b"), "'a b'");
  EXPECT_EQ(shell_quote("it's"), "'it'\\''s'");
  EXPECT_EQ(shell_quote("a\nb"), "'a\nb'");
  EXPECT_EQ(shell_quote("$(id)"), "'$(id)'");
}

TEST(StripControl, RemovesWhatMovesACursor) {
  EXPECT_EQ(strip_control("a\x1b[31mred\x1b[0m b"), "ared b");
  EXPECT_EQ(strip_control("\x1b]0;title\x07ok"), "ok");
  EXPECT_EQ(strip_control("x\ry\bz\x7f"), "xyz");
  EXPECT_EQ(strip_control("tab\tand\nline"), "tab\tand\nline");
  EXPECT_EQ(strip_control("\xC2\x9B"
                          "31m"),
            "31m");  // C1 CSI
  EXPECT_EQ(strip_control("a\xE2\x80\xAE"
                          "b"),
            "ab");  // right-to-left override
  EXPECT_EQ(strip_control("日本"), "日本");
  EXPECT_EQ(strip_control("\xff"), "\xEF\xBF\xBD");
}

TEST(ToUtf8, ReplacesEveryByteThatIsNotPartOfACharacter) {
  EXPECT_EQ(to_utf8("ü"), "ü");
  EXPECT_EQ(to_utf8("\xC0\xAF"), "\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(to_utf8("a\xE2\x82"), "a\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(to_utf8("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate
}

TEST(Human, SaysSizesAndTimesAsPeopleDo) {
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(78'400'000), "78.4 MB");
  EXPECT_EQ(human_size(61ULL << 30U), "61.0 GiB");
  EXPECT_EQ(human_duration(std::chrono::milliseconds(400)), "0.4s");
  EXPECT_EQ(human_duration(std::chrono::milliseconds(252'000)), "4m12s");
}

TEST(NearestName, FindsSlipsAndNotStrangers) {
  EXPECT_EQ(nearest_name("packges", {"packages", "update", "hold"}), "packages");
  EXPECT_EQ(nearest_name("zzz", {"packages", "update"}), "");
  EXPECT_EQ(nearest_name("prot", {"zrot", "port"}), "port") << "swapped letters are one slip";
  EXPECT_EQ(nearest_name("gpus", {"cpus", "gpu"}), "gpu") << "first letters are seldom wrong";
}

TEST(LastLines, KeepsTheEnd) {
  EXPECT_EQ(last_lines("a\nb\nc\n", 2), "b\nc");
  EXPECT_EQ(last_lines("a", 5), "a");
  EXPECT_EQ(last_lines("", 5), "");
}

}  // namespace
}  // namespace gpustrap
