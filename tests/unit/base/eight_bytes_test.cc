#include "agent/base/eight_bytes.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>

namespace gpustrap {
namespace {

std::uint64_t eight_of(const std::array<unsigned char, 8>& bytes) {
  std::uint64_t eight = 0;
  std::memcpy(&eight, bytes.data(), sizeof eight);
  return eight;
}

TEST(EightBytes, AnswerForEachByteInEachPlace) {
  for (const unsigned char filler : {'x', '\x20', '\x7e', '!', '['}) {
    for (std::size_t place = 0; place < 8; ++place) {
      for (int c = 0; c < 256; ++c) {
        std::array<unsigned char, 8> bytes{};
        bytes.fill(filler);
        bytes[place] = static_cast<unsigned char>(c);
        const std::uint64_t eight = eight_of(bytes);
        EXPECT_EQ(any_below(eight, 0x20) != 0, c < 0x20) << c;
        EXPECT_EQ(any_is(eight, '"') != 0, c == '"') << c;
        EXPECT_EQ(any_is(eight, '\\') != 0, c == '\\') << c;
        EXPECT_EQ(any_is(eight, 0x7F) != 0, c == 0x7F) << c;
        EXPECT_EQ(any_above_ascii(eight) != 0, c >= 0x80) << c;
      }
    }
  }
}

TEST(LengthUntil, StopsAtTheFirstByteThatStops) {
  for (std::size_t length = 0; length < 40; ++length) {
    for (std::size_t place = 0; place <= length; ++place) {
      std::string text(length, 'x');
      if (place < length) text[place] = '"';
      EXPECT_EQ(length_until(
                    text, [](std::uint64_t eight) { return any_is(eight, '"'); }, [](unsigned char c) { return c == '"'; }),
                place);
    }
  }
}

}  // namespace
}  // namespace gpustrap
