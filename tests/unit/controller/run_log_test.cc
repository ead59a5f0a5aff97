#include "controller/run_log.h"

#include <gmock/gmock.h>

#include <cstdint>
#include <string>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/event_line.h"
#include "agent/protocol/json.h"
#include "tests/support/environment.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr const char* kRun = "20260801-141503-7f3a";

class RunLogTest : public testing::Test {
 protected:
  RunLogTest() : log_(*RunLog::create(state_.path(), kRun)) {}
  void say(std::uint64_t seq, const std::string& text, const std::string& step = "pip") { note(seq, StepOutput{step, "out", text + "\n"}); }
  void note(std::uint64_t seq, decltype(Event::body) body) {
    const Event event{seq, 1000, std::move(body)};
    log_.event(event, to_line(event));
  }
  /// "1 one": number and text of every event that events.jsonl holds.
  [[nodiscard]] std::vector<std::string> events() const {
    std::vector<std::string> found;
    for (const std::string& line : split(*read_file(state_ / "runs" + std::string("/") + kRun + "/events.jsonl", 1U << 20U), '\n')) {
      if (line.empty()) continue;
      const Json document = Json::parse(line);
      found.push_back(std::to_string(document.at("seq").get<std::uint64_t>()) + " " +
                      std::string(trim(document.value("text", document.at("event").get<std::string>()))));
    }
    return found;
  }
  [[nodiscard]] std::string text() const { return *read_file(log_.path(), 1U << 20U); }

  TemporaryDirectory state_;
  RunLog log_;
};

TEST_F(RunLogTest, KeepsEveryEventForProgramsAndForPeople) {
  say(1, "one");
  say(2, "two");
  EXPECT_THAT(events(), ElementsAre("1 one", "2 two"));
  EXPECT_THAT(text(), AllOf(HasSubstr("[pip] | one\n"), EndsWith("[pip] | two\n")));
}

TEST(RunLogs, ARunHasAnIdAndAPlaceToBeKept) {
  const TemporaryDirectory state;
  const Result<RunLog> path = RunLog::create(state.path(), "../../etc");
  ASSERT_FALSE(path);
  EXPECT_EQ(path.error().code(), ErrorCode::protocol);
  EXPECT_EQ(path.error().why(), "`../../etc` is not the id of a run");
  EXPECT_THAT(path.error().hint(), HasSubstr("gpustrap doctor HOST"));
  const EnvironmentVariable home("HOME", std::nullopt), xdg("XDG_STATE_HOME", "relative");
  const Result<std::string> none = state_directory();
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), ErrorCode::io);
  EXPECT_EQ(none.error().why(), "neither XDG_STATE_HOME nor HOME names a folder for the logs of runs");
  EXPECT_EQ(none.error().hint(), "set HOME");
}

TEST(RunLogs, TheRunsOfOneCommandCountAsOne) {
  const TemporaryDirectory state;
  for (int i = 100; i < 199; ++i) ASSERT_TRUE(RunLog::create(state.path(), fmt::format("20260801-141{}-7f3a", i)));
  for (int i = 1; i < 5; ++i)
    ASSERT_TRUE(RunLog::create(state.path(), fmt::format("20260801-150000-7f3a-{:03}", i), "", RunLog::Forget::nothing));
  RunLog::forget_oldest(state.path());
  EXPECT_TRUE(path_exists(state / "runs/20260801-141100-7f3a")) << "a hundred commands are kept";
  ASSERT_TRUE(RunLog::create(state.path(), "20260801-160000-7f3a"));
  RunLog::forget_oldest(state.path());
  EXPECT_FALSE(path_exists(state / "runs/20260801-141100-7f3a"));
  EXPECT_TRUE(path_exists(state / "runs/20260801-150000-7f3a-001"));
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(RunLog::create(state.path(), fmt::format("20260802-141{}-7f3a", 100 + i)));
  for (int i = 1; i < 5; ++i)
    EXPECT_FALSE(path_exists(state / fmt::format("runs/20260801-150000-7f3a-{:03}", i))) << "all of them go at once";
}

TEST(RunLogs, AHostCannotWriteOverWhatAnotherOneHasSaid) {
  const TemporaryDirectory state;
  const auto log = [&](const std::string& host) {
    Result<RunLog> made = RunLog::create(state.path(), kRun, host);
    EXPECT_TRUE(made) << made.error().sentence();
    const Event event{1, 1000, StepOutput{"pip", "out", "this is " + host + "\n"}};
    made->event(event, to_line(event));
    return made->path();
  };
  const std::string first = log("ubuntu@gpu1");
  const std::string second = log("root@gpu2");
  EXPECT_EQ(first, state / "runs/20260801-141503-7f3a/log.txt");
  EXPECT_EQ(second, state / "runs/20260801-141503-7f3a-2/log.txt");
  EXPECT_THAT(*read_file(first), HasSubstr("ubuntu@gpu1"));
  EXPECT_EQ(host_of_run(state.path(), kRun), "ubuntu@gpu1");
  EXPECT_EQ(log("gpu2"), second) << "the same host again";
  EXPECT_EQ(log("gpu3"), state / "runs/20260801-141503-7f3a-3/log.txt");
}

TEST_F(RunLogTest, AStepsOutputEndsAtItsLimit) {
  log_.keep_at_most({20, 10'000, 1'000});
  say(1, "12345678");
  say(2, "9 is too much");
  say(3, "and the rest");
  say(4, "another's", "apt");
  note(5, StepFinished{"pip", Outcome::changed, "", {}, {}});
  EXPECT_THAT(events(), ElementsAre("1 12345678", "4 another's", "5 step_finished"));
  EXPECT_THAT(text(), AllOf(HasSubstr("[pip] output beyond 20 B is not kept\n"), ::testing::Not(HasSubstr("rest"))));
  say(4, "afresh", "apt");
  EXPECT_THAT(events(), ElementsAre("1 12345678", "4 afresh")) << "what the host has lost gives way as ever";
}

TEST_F(RunLogTest, BeyondTheLimitOfARunOnlyHowItEndsIsKept) {
  log_.keep_at_most({10'000, 1'000, 1'000});
  for (std::uint64_t seq = 1; seq <= 100; ++seq) say(seq, "a line");
  const std::size_t kept = events().size();
  EXPECT_LT(kept, 10U);
  StepFinished failed;
  failed.step = "pip";
  failed.error = ErrorText{ErrorCode::command, "no such package", ""};
  note(101, failed);
  note(102, RunFinished{});
  EXPECT_EQ(events().size(), kept + 2);
  EXPECT_EQ(events().back(), "102 run_finished");
  EXPECT_THAT(text(), AllOf(HasSubstr("what follows is not kept: the host has said more than 1000 B\n"), HasSubstr("no such package")));
  for (std::uint64_t seq = 103; seq <= 200; ++seq) note(seq, failed);
  EXPECT_LT(events().size(), kept + 20) << "nor do ends go on for ever";
  say(2, "afresh");
  EXPECT_EQ(events().at(0), "1 a line");
}

TEST_F(RunLogTest, ALongNameIsNotRepeatedBeforeEachOfManyLines) {
  say(1, std::string(5'000, '\n'), std::string(5'000, 'n'));
  EXPECT_LT(text().size(), 1'000'000U);
}

TEST_F(RunLogTest, MayBeWrittenLater) {
  log_.write(RunLog::Writes::when_flushed);
  say(1, "one");
  say(2, "two");
  EXPECT_THAT(text(), "");
  say(2, "other");
  EXPECT_THAT(events(), ElementsAre("1 one")) << "what gives way must have been there";
  log_.flush();
  EXPECT_THAT(events(), ElementsAre("1 one", "2 other"));
  say(3, std::string(70'000, 'x'));
  EXPECT_THAT(text(), HasSubstr("xxx")) << "much is not kept back";
}

TEST_F(RunLogTest, EventsThatTheHostLostGiveWayToThoseThatTookTheirPlace) {
  say(1, "one");
  say(2, "two");
  say(3, "a third that is longer than what replaces it");
  say(2, "other");
  say(3, "third");
  EXPECT_THAT(events(), ElementsAre("1 one", "2 other", "3 third"));
  EXPECT_THAT(text(), AllOf(HasSubstr("two"), HasSubstr("lost what followed event 1"), EndsWith("third\n")));
}

TEST_F(RunLogTest, EscapeCodesDoNotReachTheTextThatPeopleRead) {
  say(1, "\x1b[2Jone");
  EXPECT_THAT(text(), ::testing::Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace gpustrap
