#include "controller/run_catalogue.h"

#include <gmock/gmock.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <string>
#include <utility>

#include "agent/protocol/event_line.h"
#include "agent/protocol/json.h"
#include "controller/run_log.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

class RunCatalogue : public ::testing::Test {
 protected:
  RunCatalogue() {
    ::setenv("TZ", "UTC", 1);
    ::tzset();
  }
  /// A run of recipe `lab` at 2026-08-01 14:15 UTC.
  void begin(const std::string& run, const std::string& host) {
    log_.emplace(*RunLog::create(state_.path(), run, host));
    RunStarted started;
    started.run = run;
    started.recipe = "lab";
    started.login = "ubuntu";
    seq_ = 0;
    say(std::move(started));
  }
  void say(decltype(Event::body) body) {
    const Event event{++seq_, 1785593703000, std::move(body)};
    log_->event(event, to_line(event));
  }
  void finish(RunFinished::End end, std::uint64_t changed, std::uint64_t failed) {
    RunFinished finished;
    finished.end = end;
    finished.changed = changed;
    finished.failed = failed;
    finished.elapsed = std::chrono::seconds(252);
    say(finished);
  }
  [[nodiscard]] std::string shown(const std::vector<std::string>& hosts = {}, std::size_t columns = 0) const {
    const auto runs = past_runs(state_.path(), hosts);
    return runs ? history_text(*runs, columns) : runs.error().sentence();
  }

  TemporaryDirectory state_;
  std::optional<RunLog> log_;
  std::uint64_t seq_ = 0;
};

TEST_F(RunCatalogue, ShowsTheNewestRunFirstAndHowEachEnded) {
  begin("20260801-141503-0001", "ubuntu@gpu1");
  finish(RunFinished::End::ok, 9, 0);
  begin("20260801-151503-0002", "gpu22");
  StepFinished failed;
  failed.step = "pip";
  failed.outcome = Outcome::failed;
  failed.error = ErrorText{ErrorCode::network, "the index\nis away", ""};
  say(std::move(failed));
  finish(RunFinished::End::failed, 2, 1);
  begin("20260801-161503-0003", "gpu22");
  EXPECT_EQ(shown(),
            "20260801-161503-0003  2026-08-01 14:15  gpu22        lab  not seen to its end\n"
            "20260801-151503-0002  2026-08-01 14:15  gpu22        lab  failed in 4m12s: 2 changed, 1 failed; pip: the index\n"
            "20260801-141503-0001  2026-08-01 14:15  ubuntu@gpu1  lab  ok in 4m12s: 9 changed\n");
}

TEST_F(RunCatalogue, ARunTakesTwoLinesOfANarrowTerminal) {
  begin("20260801-141503-0001", "ubuntu@gpu1");
  finish(RunFinished::End::ok, 9, 0);
  EXPECT_THAT(shown({}, 40), StartsWith("20260801-141503-0001  ubuntu@gpu1\n  2026-08-01 14:15  lab  "));
  EXPECT_EQ(shown({}, 200), shown());
}

TEST_F(RunCatalogue, ReadsTheEndOfALongLogWithoutItsMiddle) {
  begin("20260801-141503-0001", "gpu1");
  for (int i = 0; i < 40; ++i) say(StepOutput{"train", "out", std::string(30'000, 'x') + "\n"});
  finish(RunFinished::End::ok, 1, 0);
  EXPECT_THAT(shown(), HasSubstr("ok in 4m12s: 1 changed\n"));
}

TEST_F(RunCatalogue, PicksTheRunsOfAHost) {
  begin("20260801-141503-0001", "ubuntu@gpu1");
  begin("20260801-151503-0002", "gpu2");
  EXPECT_THAT(shown({"gpu1"}), AllOf(HasSubstr("ubuntu@gpu1"), Not(HasSubstr("gpu2"))));
  EXPECT_THAT(shown({"gpu1", "gpu2"}), AllOf(HasSubstr("ubuntu@gpu1"), HasSubstr("gpu2")));
  EXPECT_EQ(shown({"gpu3"}), "no run on gpu3 is logged on this machine");
}

TEST_F(RunCatalogue, PassesOverWhatIsNoLogOfARun) {
  EXPECT_EQ(shown(), "No run is logged on this machine yet.\n");
  begin("20260801-141503-0001", "gpu1");
  log_.emplace(*RunLog::create(state_.path(), "20260801-151503-0002"));  // killed before its first event
  EXPECT_THAT(past_runs(state_.path(), {}).value(), SizeIs(1));
}

TEST_F(RunCatalogue, WhatAHostSaysCannotMoveTheCursor) {
  begin("20260801-141503-0001", "gpu1");
  StepFinished failed;
  failed.step = "\x1b[31mred";
  failed.outcome = Outcome::failed;
  say(std::move(failed));
  finish(RunFinished::End::failed, 0, 1);
  EXPECT_THAT(shown(), Not(HasSubstr("\x1b")));
}

TEST_F(RunCatalogue, IsOneDocumentForPrograms) {
  begin("20260801-141503-0001", "gpu1");
  finish(RunFinished::End::ok, 9, 0);
  begin("20260801-151503-0002", "gpu1");
  const Json document = history_document(past_runs(state_.path(), {}).value());
  EXPECT_EQ(document.at("version"), 1);
  ASSERT_EQ(document.at("runs").size(), 2U);
  EXPECT_TRUE(document.at("runs")[0].at("finished").is_null());
  const Json& first = document.at("runs")[1];
  EXPECT_EQ(first.at("recipe"), "lab");
  EXPECT_EQ(first.at("mode"), "apply");
  EXPECT_EQ(first.at("began_ms"), 1785593703000);
  EXPECT_EQ(first.at("finished").at("changed"), 9);
  EXPECT_FALSE(first.at("finished").contains("event"));
}

}  // namespace
}  // namespace gpustrap
