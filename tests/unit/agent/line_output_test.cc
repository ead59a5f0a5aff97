#include "agent/line_output.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <zlib.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <limits>
#include <string>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/protocol/request.h"

namespace gpustrap {
namespace {

constexpr std::size_t kEveryLinkIsSlow = std::numeric_limits<std::size_t>::max();
constexpr std::size_t kNoLinkIsSlow = 0;
/// A machine under load may take its time; the tests wait for what happens.
constexpr auto kPatience = std::chrono::seconds(30);

/// What an agent writes to and a controller reads from: a pipe of the usual 64 KiB.
class LineOutputTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<Pipe> pipe = make_pipe();
    ASSERT_TRUE(pipe.has_value());
    pipe_ = *std::move(pipe);
    ASSERT_TRUE(set_nonblocking(pipe_.write_end.get()));
    ASSERT_TRUE(set_nonblocking(pipe_.read_end.get()));
  }

  void read_some() {
    std::array<char, 16 * 1024> buffer{};
    const ssize_t got = ::read(pipe_.read_end.get(), buffer.data(), buffer.size());
    if (got > 0) read_.append(buffer.data(), static_cast<std::size_t>(got));
  }

  /// Until nothing is left to write or to read.
  void read_all(LineOutput& output) {
    std::size_t before = 0;
    do {
      before = read_.size();
      ASSERT_TRUE(output.flush());
      read_some();
    } while (!output.empty() || read_.size() > before);
  }

  /// As a controller that has more to read than it can, until the agent packs.
  void read_slowly_until_packed(LineOutput& output) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!output.is_packing() && std::chrono::steady_clock::now() < deadline) {
      if (output.waiting() < (1U << 20U)) output.add(lines(20'000));
      ASSERT_TRUE(output.flush());
      read_some();
    }
    ASSERT_TRUE(output.is_packing());
  }

  std::string lines(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += fmt::format("{{\"line\":{}}}\n", ++number_);
    said_ += text;
    return text;
  }

  /// What was read, with what was packed unpacked.
  std::string understood() const {
    const std::string mark = "\n" + std::string(kPackedLine) + "\n";
    const std::size_t place = read_.find(mark);
    if (place == std::string::npos) return read_;
    std::string text = read_.substr(0, place + 1);
    z_stream stream{};
    EXPECT_EQ(inflateInit(&stream), Z_OK);
    std::string packed = read_.substr(place + mark.size());
    stream.next_in = reinterpret_cast<Bytef*>(packed.data());
    stream.avail_in = static_cast<uInt>(packed.size());
    std::array<char, 64 * 1024> buffer{};
    do {
      stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
      stream.avail_out = static_cast<uInt>(buffer.size());
      const int status = inflate(&stream, Z_SYNC_FLUSH);
      EXPECT_TRUE(status == Z_OK || status == Z_BUF_ERROR) << status;
      text.append(buffer.data(), buffer.size() - stream.avail_out);
    } while (stream.avail_out == 0);
    inflateEnd(&stream);
    return text;
  }

  /// Compared as a whole: a failure's difference of so many lines would need all memory.
  void expect_all_understood() const {
    const std::string text = understood();
    EXPECT_TRUE(text == said_) << "of " << said_.size() << " bytes, " << text.size() << " can be read";
  }

  Pipe pipe_;
  std::string said_, read_;
  int number_ = 0;
};

TEST_F(LineOutputTest, PacksWhereTheLinkIsSlowAndLosesNothing) {
  LineOutput output(pipe_.write_end.get(), kEveryLinkIsSlow);
  output.allow_packing();
  read_slowly_until_packed(output);
  for (int i = 0; i < 50; ++i) {
    output.add(lines(10'000));
    ASSERT_TRUE(output.flush());
    read_some();
  }
  read_all(output);
  expect_all_understood();
  EXPECT_LT(read_.size(), said_.size() / 2);
}

TEST_F(LineOutputTest, HoldsNothingBackOncePacked) {
  LineOutput output(pipe_.write_end.get(), kEveryLinkIsSlow);
  output.allow_packing();
  read_slowly_until_packed(output);
  read_all(output);
  for (int i = 0; i < 5; ++i) {
    output.add(lines(1));
    read_all(output);
    expect_all_understood();  // a single line is readable as soon as it was written
  }
}

TEST_F(LineOutputTest, HoldsNothingBackOfMuchThatPacksWell) {
  // zlib keeps the symbols of whole pieces for itself; they come with the last few lines, of which alone there would be next to nothing.
  LineOutput output(pipe_.write_end.get(), kEveryLinkIsSlow);
  output.allow_packing();
  read_slowly_until_packed(output);
  read_all(output);
  for (int count = 13'000; count < 21'000; count += 250) {
    output.add(lines(count));
    read_all(output);
    expect_all_understood();
  }
}

TEST_F(LineOutputTest, PacksNothingUnlessTheControllerCanReadIt) {
  LineOutput output(pipe_.write_end.get(), kEveryLinkIsSlow);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(200);
  while (std::chrono::steady_clock::now() < deadline) {
    if (output.waiting() < (1U << 20U)) output.add(lines(20'000));
    ASSERT_TRUE(output.flush());
    read_some();
  }
  EXPECT_FALSE(output.is_packing());
  read_all(output);
  EXPECT_TRUE(read_ == said_);
}

TEST_F(LineOutputTest, PacksNothingWhereTheLinkIsFastOrLittleIsSaid) {
  LineOutput fast(pipe_.write_end.get(), kNoLinkIsSlow);
  fast.allow_packing();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(200);
  while (std::chrono::steady_clock::now() < deadline) {
    if (fast.waiting() < (1U << 20U)) fast.add(lines(20'000));
    ASSERT_TRUE(fast.flush());
    read_some();
  }
  read_all(fast);
  EXPECT_TRUE(read_ == said_);

  LineOutput quiet(pipe_.write_end.get(), kEveryLinkIsSlow);
  quiet.allow_packing();
  quiet.add(lines(1));
  read_all(quiet);
  EXPECT_FALSE(quiet.is_packing());
  EXPECT_EQ(read_, said_);
}

TEST_F(LineOutputTest, SaysWhereNobodyReadsAnyMore) {
  ::signal(SIGPIPE, SIG_IGN);
  LineOutput output(pipe_.write_end.get());
  output.add(lines(1));
  pipe_.read_end.reset();
  EXPECT_FALSE(output.flush());
}

}  // namespace
}  // namespace gpustrap
