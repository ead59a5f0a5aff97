#include "agent/masking.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "agent/protocol/json.h"
#include "agent/secret_store.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

Masking masking_of(std::initializer_list<std::string_view> values) {
  Masking masking;
  for (const std::string_view value : values) masking.add(value);
  return masking;
}

TEST(MaskingTest, HidesAValueWhereverItStands) {
  const Masking masking = masking_of({"s3cret-value"});
  EXPECT_EQ(masking.mask("s3cret-value"), "***");
  EXPECT_EQ(masking.mask("a=s3cret-value;b=s3cret-values3cret-value\n"), "a=***;b=******\n");
  EXPECT_EQ(masking.mask("s3cret-valu"), "s3cret-valu");
}

TEST(MaskingTest, HidesTheLongerOfTwoValues) { EXPECT_EQ(masking_of({"abcd", "abcdefgh"}).mask("abcdefgh abcd"), "*** ***"); }

TEST(MaskingTest, HidesEachLineOfALongValue) {
  const Masking masking = masking_of({"-----BEGIN KEY-----\nAAAABBBBCCCC\n\nDDDDEEEEFFFF\r\nend"});
  EXPECT_EQ(masking.mask("+AAAABBBBCCCC\n+DDDDEEEEFFFF\n"), "+***\n+***\n");
  EXPECT_EQ(masking.mask("the end\n"), "the end\n") << "a short line of it is a common word";
}

TEST(MaskingTest, HidesWhatJsonUrlsAndHexadecimalDigitsMakeOfIt) {
  const Masking masking = masking_of({"pa\"ss/wo rd\n+next line"});
  EXPECT_EQ(masking.mask(R"({"p":"pa\"ss/wo rd\n+next line"})"), R"({"p":"***"})");
  EXPECT_EQ(masking.mask("?p=pa%22ss%2Fwo%20rd%0A%2Bnext%20line&"), "?p=***&");
  EXPECT_EQ(masking.mask("?p=pa%22ss%2fwo%20rd%0a%2bnext%20line&"), "?p=***&");
  EXPECT_EQ(masking.mask("?p=pa%22ss/wo%20rd%0A%2Bnext%20line&"), "?p=***&") << "Python's quote keeps the slash";
  EXPECT_EQ(masking_of({"hunter22"}).mask("68756e7465723232 68756E7465723232"), "*** ***");
}

TEST(MaskingTest, HidesWhatShellsPythonAndXmlMakeOfIt) {
  const Masking masking = masking_of({"a'b\"c$d e&f"});
  EXPECT_EQ(masking.mask(R"(+ : 'a'\''b"c$d e&f')"), "+ : '***'") << "bash -x";
  EXPECT_EQ(masking.mask(R"(declare -x A="a'b\"c\$d e&f")"), R"(declare -x A="***")") << "export -p";
  EXPECT_EQ(masking.mask(R"(a\'b\"c\$d\ e\&f)"), "***") << "printf %q";
  EXPECT_EQ(masking.mask(R"('a\'b"c$d e&f')"), "'***'") << "Python";
  EXPECT_EQ(masking.mask("<p>a'b\"c$d e&amp;f</p> a&#39;b&#34;c$d e&amp;f a&#x27;b&quot;c$d e&amp;f"), "<p>***</p> *** ***");
}

TEST(MaskingTest, HidesBase64AtEveryOffset) {
  const Masking masking = masking_of({"correct horse battery"});
  EXPECT_EQ(masking.mask("Y29ycmVjdCBob3JzZSBiYXR0ZXJ5"), "***");
  // user:correct horse battery; ab:…; abc:…: what is left says nothing of the value but at its ends.
  for (const std::string text :
       {"dXNlcjpjb3JyZWN0IGhvcnNlIGJhdHRlcnk=", "YWI6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5", "YWJjOmNvcnJlY3QgaG9yc2UgYmF0dGVyeQ=="}) {
    const std::string masked = masking.mask(text);
    EXPECT_THAT(masked, HasSubstr("***"));
    EXPECT_LE(masked.size(), 14U) << masked;
  }
}

TEST(MaskingTest, ACutNeverFallsIntoASecret) {
  const Masking masking = masking_of({"0123456789"});
  const std::string text = "xxxxx0123456789yyyyy";
  EXPECT_EQ(masking.safe_end(text, 5), 5U);
  EXPECT_EQ(masking.safe_end(text, 6), 5U);
  EXPECT_EQ(masking.safe_end(text, 14), 5U);
  EXPECT_EQ(masking.safe_end(text, 15), 15U);
  EXPECT_EQ(masking.safe_end("xxxxx0123", 9), 5U) << "the rest may be on its way";
  EXPECT_EQ(masking.safe_end("0123", 4), 0U);
  EXPECT_EQ(masking.safe_end("0123x", 4), 4U) << "it is another text after all";
  EXPECT_EQ(Masking().safe_end(text, 14), 14U);
}

TEST(SecretStoreTest, KeepsForAStepWhatItNeeds) {
  SecretStore store;
  store.put({{"a", "value-of-a"}, {"b", "value-of-b"}});
  EXPECT_THAT(store.missing({"a", "c"}), ElementsAre("c"));
  EXPECT_EQ(store.pick({"a", "c"}), (SecretValues{{"a", "value-of-a"}}));
  store.put({{"a", "another-value"}});
  EXPECT_EQ(store.pick({"a"}).at("a"), "another-value");
  EXPECT_EQ(store.masking().mask("value-of-a another-value"), "*** ***") << "what was handed over before may still be printed";
  store.clear();
  EXPECT_THAT(store.missing({"a"}), ElementsAre("a"));
}

TEST(SecretStoreTest, MasksEveryEventThatAStepWrites) {
  SecretStore store;
  store.put({{"a", "value-of-a"}});
  const ErrorText error{ErrorCode::command, "`login value-of-a` failed", "not value-of-a"};
  for (decltype(Event::body) body :
       {decltype(Event::body)(StepOutput{"s", "out", "x value-of-a\n"}),
        decltype(Event::body)(StepChecked{"s", false, "value-of-a is missing"}), decltype(Event::body)(StepRetry{"s", 2, error, {}}),
        decltype(Event::body)(Downloaded{"s", "https://example.com/value-of-a/x", 1, {}, false}),
        decltype(Event::body)(StepFinished{"s", Outcome::failed, "value-of-a", {}, error}),
        decltype(Event::body)(Rebooting{"s", "value-of-a", "b", 1})}) {
    store.mask(body);
    const std::string line = to_json(Event{1, 1, body}).dump();
    EXPECT_THAT(line, HasSubstr("***"));
    EXPECT_THAT(line, Not(HasSubstr("value-of-a")));
  }
}

}  // namespace
}  // namespace gpustrap
