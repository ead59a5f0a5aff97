#include "agent/output_relay.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "agent/base/file.h"
#include "agent/base/pipe_size.h"
#include "agent/base/subprocess.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// A process whose pipes the test writes itself.
class OutputRelayTest : public ::testing::Test {
 protected:
  OutputRelayTest() {
    for (auto [pipe, end] : {std::pair{&out_, &process_.output}, {&err_, &process_.errors}, {&records_, &process_.records}}) {
      auto made = make_pipe();
      *pipe = std::move(made->write_end);
      *end = std::move(made->read_end);
      EXPECT_TRUE(set_nonblocking(end->get()).has_value());
    }
  }
  void write(const UniqueFd& pipe, std::string_view text) { ASSERT_TRUE(write_all(pipe.get(), text).has_value()); }
  bool read() {
    const Result<bool> came = relay_.read(process_, said_);
    EXPECT_TRUE(came.has_value());
    return came.value_or(false);
  }

  std::vector<std::string> events_;  ///< "out:text"
  OutputRelay relay_{"step", [this](decltype(Event::body) body) -> Result<void> {
                       if (const auto* output = std::get_if<StepOutput>(&body)) events_.push_back(output->stream + ":" + output->text);
                       return {};
                     }};
  UniqueFd out_, err_, records_;
  StepProcess process_;
  std::vector<StepRecord> said_;
};

TEST_F(OutputRelayTest, WaitsForALinesEndAndSaysWhetherAnythingCame) {
  EXPECT_FALSE(read());
  write(out_, "half");
  EXPECT_TRUE(read());
  EXPECT_THAT(events_, IsEmpty());
  write(out_, " a line\nnext");
  read();
  EXPECT_THAT(events_, ElementsAre("out:half a line\n"));
}

TEST_F(OutputRelayTest, ALastLineWithoutAnEndIsSaidWhenTheProcessIsGone) {
  write(out_, "no newline");
  write(err_, "nor here");
  out_.reset();
  err_.reset();
  ASSERT_TRUE(relay_.drain(process_).has_value());
  EXPECT_THAT(events_, ElementsAre("out:no newline\n", "err:nor here\n"));
}

TEST_F(OutputRelayTest, TheStepsOwnWordsAreCutIntoEventsThatFitIntoALine) {
  std::string text;
  for (int line = 0; line < 3000; ++line) text += std::string(1000, 'x') + "\n";
  const std::string endless(3U << 20U, 'y');
  for (const std::string& said : {text, endless}) {
    events_.clear();
    ASSERT_TRUE(relay_.say("log", said).has_value());
    std::string whole;
    for (const std::string& event : events_) {
      EXPECT_LE(event.size() - 4, 64U << 10U) << "a line of the protocol has at most 1 MiB, and each byte may become six";
      whole += event.substr(4);
    }
    EXPECT_TRUE(whole == said);
  }
}

TEST_F(OutputRelayTest, AnotherAttemptDoesNotInheritHalfALine) {
  write(out_, "of the first");
  read();
  relay_.begin();
  write(out_, "of the second\n");
  read();
  EXPECT_THAT(events_, ElementsAre("out:of the second\n"));
}

TEST_F(OutputRelayTest, AnEndlessLineIsCut) {
  write(out_, std::string(20000, 'x'));
  read();
  ASSERT_EQ(events_.size(), 1U);
  EXPECT_EQ(events_[0].size(), 4 + (16U << 10U));
}

TEST_F(OutputRelayTest, MuchOutputIsFewEvents) {
  hold_more(out_.get());
  std::string text;
  while (text.size() < 400'000) text += std::string(102, 'x') + "\n";
  write(out_, text);
  while (read()) {}
  EXPECT_EQ(events_.size(), 7U) << "64 KiB each, but for the last";
  std::string all;
  for (const std::string& event : events_) all += event.substr(4);
  EXPECT_EQ(all, text);
}

TEST_F(OutputRelayTest, BeyondTheCapOneEventSaysSo) {
  std::vector<std::uint64_t> kept;
  int outputs = 0;
  OutputRelay relay(
      "step",
      [&](decltype(Event::body) body) -> Result<void> {
        if (const auto* truncated = std::get_if<StepTruncated>(&body)) kept.push_back(truncated->kept);
        outputs += std::holds_alternative<StepOutput>(body) ? 1 : 0;
        return {};
      },
      100);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(relay.say("log", std::string(40, 'x')).has_value());
  EXPECT_EQ(outputs, 2);
  EXPECT_THAT(kept, ElementsAre(80U));
}

TEST_F(OutputRelayTest, WhereTheDiskIsFullOneEventSaysSoAndTheRunGoesOn) {
  std::vector<std::uint64_t> kept;
  OutputRelay relay("step", [&](decltype(Event::body) body) -> Result<void> {
    if (std::holds_alternative<StepOutput>(body)) return fail(ErrorCode::no_space, "the disk is full");
    if (const auto* truncated = std::get_if<StepTruncated>(&body)) kept.push_back(truncated->kept);
    return {};
  });
  EXPECT_TRUE(relay.say("log", "a line\n").has_value());
  EXPECT_TRUE(relay.say("log", "another\n").has_value());
  EXPECT_THAT(kept, ElementsAre(0U));
}

TEST_F(OutputRelayTest, AsksForAPromiseAreTaken) {
  write(records_, "{\"must_finish\":true}\n");
  read();
  ASSERT_EQ(said_.size(), 1U);
  EXPECT_TRUE(std::holds_alternative<StepMustFinish>(said_[0].body));
}

TEST_F(OutputRelayTest, RecordsAreTakenWholeAndNonsenseIsLeftOut) {
  write(records_, "{\"said\":\"hello\"}\nnonsense\n{\"said\":");
  read();
  ASSERT_EQ(said_.size(), 1U);
  write(records_, "\"again\"}\n");
  read();
  ASSERT_EQ(said_.size(), 2U);
  EXPECT_EQ(std::get<StepSaid>(said_[1].body).line, "again");
}

}  // namespace
}  // namespace gpustrap
