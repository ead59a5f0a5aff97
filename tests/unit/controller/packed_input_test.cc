#include "controller/packed_input.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <string>
#include <string_view>

namespace gpustrap {
namespace {

/// `text` as an agent packs it, its stream not ended.
std::string packed(std::string_view text, int flush = Z_SYNC_FLUSH) {
  z_stream stream{};
  EXPECT_EQ(deflateInit(&stream, Z_BEST_SPEED), Z_OK);
  std::string input(text);
  std::string bytes(deflateBound(&stream, input.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(input.data());
  stream.avail_in = static_cast<uInt>(input.size());
  stream.next_out = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_out = static_cast<uInt>(bytes.size());
  deflate(&stream, flush);
  bytes.resize(bytes.size() - stream.avail_out);
  deflateEnd(&stream);
  return bytes;
}

TEST(PackedInput, UnpacksPiecesOfAnySize) {
  const std::string text = "{\"signal\":\"heartbeat\"}\n{\"event\":\"x\"}\n";
  const std::string bytes = packed(text);
  for (std::size_t size = 1; size <= bytes.size(); ++size) {
    Result<PackedInput> input = PackedInput::begin();
    ASSERT_TRUE(input.has_value());
    std::string got;
    for (std::size_t at = 0; at < bytes.size(); at += size) {
      input->add(std::string_view(bytes).substr(at, size));
      while (true) {
        const Result<std::size_t> more = input->next(got);
        ASSERT_TRUE(more.has_value());
        if (*more == 0) break;
      }
    }
    EXPECT_EQ(got, text);
  }
}

TEST(PackedInput, GivesMuchInPieces) {
  Result<PackedInput> input = PackedInput::begin();
  ASSERT_TRUE(input.has_value());
  const std::string bytes = packed(std::string(50'000'000, 'x'));
  EXPECT_LT(bytes.size(), 1'000'000U);
  input->add(bytes);
  std::size_t total = 0;
  while (true) {
    std::string piece;
    const Result<std::size_t> got = input->next(piece);
    ASSERT_TRUE(got.has_value());
    if (*got == 0) break;
    EXPECT_LE(piece.size(), 256U << 10U);
    total += *got;
  }
  EXPECT_EQ(total, 50'000'000U);
}

TEST(PackedInput, RefusesWhatIsNoStreamOrGoesOnBehindItsEnd) {
  for (const std::string& bytes :
       {std::string("{\"event\":\"x\"}\n"), packed("a line\n").substr(2), packed("a line\n", Z_FINISH) + "more"}) {
    Result<PackedInput> input = PackedInput::begin();
    ASSERT_TRUE(input.has_value());
    input->add(bytes);
    std::string text;
    Result<std::size_t> got = input->next(text);
    while (got && *got > 0) got = input->next(text);
    ASSERT_FALSE(got.has_value());
    EXPECT_EQ(got.error().code(), ErrorCode::protocol);
  }
}

}  // namespace
}  // namespace gpustrap
