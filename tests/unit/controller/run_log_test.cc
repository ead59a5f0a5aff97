#include "controller/run_log.h"

#include <gmock/gmock.h>

#include <cstdint>
#include <string>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/event_line.h"
#include "agent/protocol/json.h"
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
  void say(std::uint64_t seq, const std::string& text) {
    const Event event{seq, 1000, StepOutput{"pip", "out", text + "\n"}};
    log_.event(event, to_line(event));
  }
  /// "1 one": number and text of every event that events.jsonl holds.
  [[nodiscard]] std::vector<std::string> events() const {
    std::vector<std::string> found;
    for (const std::string& line : split(*read_file(state_ / "runs" + std::string("/") + kRun + "/events.jsonl", 1U << 20U), '\n')) {
      if (line.empty()) continue;
      const Json document = Json::parse(line);
      found.push_back(std::to_string(document.at("seq").get<std::uint64_t>()) + " " +
                      std::string(trim(document.at("text").get<std::string>())));
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

TEST(RunLogs, TheRunsOfOneCommandCountAsOne) {
  const TemporaryDirectory state;
  for (int i = 100; i < 199; ++i) ASSERT_TRUE(RunLog::create(state.path(), fmt::format("20260801-141{}-7f3a", i)));
  for (int i = 1; i < 5; ++i)
    ASSERT_TRUE(RunLog::create(state.path(), fmt::format("20260801-150000-7f3a-{:03}", i), RunLog::Forget::nothing));
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
