#include "agent/steps/text_diff.h"
#include "agent/base/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gpustrap {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

std::string numbered(int from, int to) {
  std::string text;
  for (int i = from; i <= to; ++i) text += std::to_string(i) + "\n";
  return text;
}

TEST(TextDiff, ShowsTheBeginningOfALineThatHasMegabytes) {
  std::string line;
  while (line.size() < (3U << 20U)) line += "\u00e4";
  const TextDiff diff = diff_texts(line + "\n", "b\n", "/f");
  EXPECT_EQ(diff.removed, 1U);
  EXPECT_LT(diff.unified.size(), 700U);
  EXPECT_EQ(to_utf8(diff.unified), diff.unified) << "cut between characters";
  EXPECT_NE(diff.unified.find(" more bytes)\n"), std::string::npos);
}

TEST(TextDiff, PrintsWhatDiffWouldPrint) {
  const TextDiff diff = diff_texts(numbered(1, 30), numbered(1, 9) + "ten\n" + numbered(11, 24) + numbered(26, 30), "f");
  EXPECT_EQ(diff.unified,
            "--- f\n+++ f\n@@ -7,7 +7,7 @@\n 7\n 8\n 9\n-10\n+ten\n 11\n 12\n 13\n@@ -22,7 +22,6 @@\n 22\n 23\n 24\n-25\n 26\n 27\n 28\n");
  EXPECT_EQ(diff.summary(), "1 line added, 2 removed");
}

TEST(TextDiff, ANewFileIsAllAdded) {
  const TextDiff diff = diff_texts("", "a\nb\n", "f");
  EXPECT_EQ(diff.unified, "--- f\n+++ f\n@@ -0,0 +1,2 @@\n+a\n+b\n");
  EXPECT_EQ(diff.summary(), "2 lines added");
}

TEST(TextDiff, EqualTextsDoNotDiffer) { EXPECT_EQ(diff_texts("a\n", "a\n", "f").added, 0U); }

TEST(TextDiff, IsBounded) {
  const TextDiff diff = diff_texts("", numbered(1, 1000), "f", 20);
  EXPECT_THAT(diff.unified, EndsWith("… and 983 more lines\n"));
  EXPECT_EQ(diff.added, 1000U);
}

TEST(TextDiff, TakesLongTextsThatHaveLittleInCommon) {
  const TextDiff diff = diff_texts(numbered(1, 5000), numbered(10001, 15000), "f");
  EXPECT_EQ(diff.added, 5000U);
  EXPECT_EQ(diff.removed, 5000U);
}

TEST(TextDiff, LineEndsCount) { EXPECT_THAT(diff_texts("a\r\n", "a\n", "f").unified, HasSubstr("-a\r\n+a\n")); }

}  // namespace
}  // namespace gpustrap
