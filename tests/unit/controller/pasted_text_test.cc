#include "controller/pasted_text.h"

#include <gtest/gtest.h>

namespace gpustrap {
namespace {

std::string of_shell(std::string_view text) {
  const auto found = find_pasted_in_shell(text);
  return found ? describe(*found) : "nothing";
}

TEST(PastedText, FindsWhatLooksLikeAnotherCharacter) {
  EXPECT_FALSE(find_pasted("~/work and caf\xC3\xA9, \xE4\xB8\xAD\xE6\x96\x87"));
  const auto quote = find_pasted("a “~/work”");
  ASSERT_TRUE(quote);
  EXPECT_EQ(quote->at, 2U);
  EXPECT_EQ(describe(*quote), "`“` is a typographic quote: expected `\"`");
  EXPECT_EQ(describe(*find_pasted("git\xE2\x80\x8B")), "it holds a space of no width: expected nothing");
  EXPECT_EQ(describe(*find_pasted("\xC2\xA0git")), "it holds a no-break space: expected a space");
}

TEST(PastedText, AShellsOwnQuotesHoldWhatTheyLike) {
  EXPECT_EQ(of_shell("echo “hi”"), "`“` is a typographic quote: expected `\"`");
  EXPECT_EQ(of_shell("echo 'it’s' \"“x”\" \\“ # don’t\necho y"), "nothing");
  EXPECT_EQ(of_shell("cat > x <<EOF\nit’s\nEOF"), "nothing");
  EXPECT_EQ(of_shell("cat <<< it’s"), "`’` is a typographic quote: expected `'`");
  EXPECT_EQ(of_shell("echo \"a\\\"“\""), "nothing");
}

TEST(PastedText, ADashIsWrongWhereAnOptionBegins) {
  EXPECT_EQ(of_shell("pip install –upgrade pip"), "`–` is a typographic dash: expected `-`");
  EXPECT_EQ(of_shell("pip install —upgrade pip"), "`—` is a typographic dash: expected `--`");
  EXPECT_EQ(of_shell("echo done – now"), "nothing");
  EXPECT_EQ(of_shell("echo 1–2"), "nothing");
}

}  // namespace
}  // namespace gpustrap
