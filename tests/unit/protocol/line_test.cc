#include "agent/protocol/line.h"

#include <gtest/gtest.h>

#include <string>

#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

TEST(LineReader, JoinsPiecesAndKeepsTheRest) {
  LineReader reader;
  reader.add("{\"a\":1}\n{\"b\"");
  EXPECT_EQ(reader.next()->value(), "{\"a\":1}");
  EXPECT_FALSE(reader.next()->has_value());
  reader.add(":2}\n");
  EXPECT_EQ(reader.next()->value(), "{\"b\":2}");
  EXPECT_EQ(reader.rest(), "");
}

TEST(LineReader, RefusesALineOverTheLimitBeforeItEnds) {
  LineReader reader;
  reader.add(std::string(kMaxLine + 1, 'x'));
  const auto line = reader.next();
  ASSERT_FALSE(line.has_value());
  EXPECT_EQ(line.error().code(), ErrorCode::protocol);
}

TEST(ParseLine, QuotesWhatIsNotJsonWithoutControlCharacters) {
  const auto document = parse_line("\x1b[2JWelcome to Ubuntu");
  ASSERT_FALSE(document.has_value());
  EXPECT_EQ(document.error().why(), "not a JSON object: Welcome to Ubuntu");
}

TEST(ParseLine, RefusesBottomlessNesting) {
  EXPECT_FALSE(parse_line("{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}").has_value());
}

TEST(ToLine, ReplacesBytesThatAreNotUtf8) {
  Json document;
  document["text"] = "a\xff";
  EXPECT_EQ(to_line(document), "{\"text\":\"a\xEF\xBF\xBD\"}\n");
}

}  // namespace
}  // namespace gpustrap
