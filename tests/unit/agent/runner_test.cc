#include "agent/runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/gather_facts.h"
#include "agent/identity.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "tests/support/process_state.h"

// Real processes, real files in a private folder: the runner's business is exactly these.

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

class RunnerTest : public ::testing::Test {
 protected:
  RunnerTest() {
    std::string name = ::testing::TempDir() + "runnerXXXXXX";
    directory_ = ::mkdtemp(name.data());
  }
  ~RunnerTest() override { std::filesystem::remove_all(directory_); }

  /// `steps` is JSON in which @ stands for the private folder.
  RunFinished run(std::string steps, RunMode mode = RunMode::apply, const std::function<void(Runner&, const Event&)>& watch = {}) {
    for (std::size_t at = steps.find('@'); at != std::string::npos; at = steps.find('@')) steps.replace(at, 1, directory_);
    std::vector<FieldProblem> problems;
    RunDescription description;
    description.id = "test";
    description.mode = mode;
    description.choice = choice_;
    description.recipe = read_recipe(Json{{"name", "test"}, {"steps", Json::parse(steps)}}, Placeholders::allowed, problems);
    for (const FieldProblem& problem : problems) ADD_FAILURE() << problem.pointer << ": " << problem.message;
    description.login = identity_of_self();
    const std::string path = directory_ + "/events" + std::to_string(++runs_) + ".jsonl";
    auto journal = Journal::open(path);
    events_.clear();
    Runner* pointer = nullptr;
    RunnerHooks hooks;
    hooks.on_event = [&](const std::string& line) {
      auto event = event_from_json(*parse_line(line));
      ASSERT_TRUE(event.has_value()) << line;
      events_.push_back(*event);
      if (watch) watch(*pointer, *event);
    };
    hooks.on_end = [&] { told_at_end_.push_back(events_.size()); };
    Runner runner(std::move(description), std::move(*journal), std::move(hooks));
    pointer = &runner;
    auto finished = runner.run(gather_facts(), identity_of_self());
    EXPECT_TRUE(finished.has_value());
    return finished.value_or(RunFinished{});
  }

  const StepFinished* finished(const std::string& step) const {
    for (const Event& event : events_) {
      if (const auto* body = std::get_if<StepFinished>(&event.body); body != nullptr && body->step == step) return body;
    }
    return nullptr;
  }
  std::string output_of(const std::string& step, const std::string& stream) const {
    std::string text;
    for (const Event& event : events_) {
      const auto* body = std::get_if<StepOutput>(&event.body);
      if (body != nullptr && body->step == step && body->stream == stream) text += body->text;
    }
    return text;
  }
  bool exists(const std::string& name) const { return path_exists(directory_ + "/" + name); }

  std::string directory_;
  StepChoice choice_;
  std::vector<Event> events_;
  std::vector<std::size_t> told_at_end_;  ///< how many events there were when the run's end was told
  int runs_ = 0;
};

TEST_F(RunnerTest, ASecondRunFindsEverythingAsItShouldBe) {
  const std::string steps =
      R"([{"file": {"path": "@/motd", "content": "hello\n"}}, {"command": {"run": "touch @/made", "creates": "@/made"}}])";
  const RunFinished first = run(steps);
  EXPECT_EQ(first.changed, 2U);
  EXPECT_TRUE(exists("made"));
  const RunFinished second = run(steps);
  EXPECT_EQ(second.unchanged, 2U);
  EXPECT_EQ(second.changed, 0U);
  EXPECT_EQ(second.end, RunFinished::End::ok);
}

/// "started a", "checked a", "unchanged a" …: what the events say of steps, in order.
std::vector<std::string> told_of_steps(const std::vector<Event>& events) {
  std::vector<std::string> told;
  for (const Event& event : events) {
    if (const auto* started = std::get_if<StepStarted>(&event.body)) told.push_back("started " + started->step);
    if (const auto* checked = std::get_if<StepChecked>(&event.body)) told.push_back("checked " + checked->step);
    if (const auto* end = std::get_if<StepFinished>(&event.body)) told.push_back(std::string(outcome_name(end->outcome)) + " " + end->step);
  }
  return told;
}

TEST_F(RunnerTest, WhatIsDoneAlreadyIsToldStepByStepThoughOneProcessLooks) {
  const std::string steps = R"([
    {"id": "a", "file": {"path": "@/a", "content": "a"}},
    {"id": "b", "directory": {"path": "@/b"}},
    {"id": "left_out", "when": {"os": "plan9"}, "file": {"path": "@/c", "content": "c"}},
    {"id": "d", "command": {"run": "touch @/d", "creates": "@/d"}},
    {"id": "asks", "command": {"run": "touch @/asks", "unless": "test -e @/asks && echo asked >> @/log"}},
    {"id": "e", "symlink": {"path": "@/e", "target": "/"}},
    {"id": "f", "file": {"path": "@/f", "content": "f"}},
    {"id": "g", "file": {"path": "@/g", "content": "g"}}])";
  EXPECT_EQ(run(steps).changed, 7U);
  const std::vector<std::string> all = {"started a",        "checked a", "unchanged a", "started b",   "checked b",    "unchanged b",
                                        "skipped left_out", "started d", "checked d",   "unchanged d", "started asks", "checked asks",
                                        "unchanged asks",   "started e", "checked e",   "unchanged e", "started f",    "checked f",
                                        "unchanged f",      "started g", "checked g",   "unchanged g"};
  EXPECT_EQ(run(steps).end, RunFinished::End::ok);
  EXPECT_EQ(told_of_steps(events_), all);
  EXPECT_EQ(read_file(directory_ + "/log").value_or(""), "asked\nasked\n")
      << "the recipe's own command is asked when the step was done, and once by the second run";

  std::filesystem::remove(directory_ + "/f");
  const RunFinished third = run(steps);
  EXPECT_EQ(third.changed, 1U);
  std::vector<std::string> one_changed = all;
  std::replace(one_changed.begin(), one_changed.end(), std::string("unchanged f"), std::string("changed f"));
  EXPECT_EQ(told_of_steps(events_), one_changed);
  EXPECT_TRUE(exists("f"));

  EXPECT_EQ(run(steps, RunMode::plan).unchanged, 7U);
  EXPECT_EQ(told_of_steps(events_), all);
}

TEST_F(RunnerTest, AForcedStepActsThoughThereIsNothingToDoAndWhatIsLeftOutIsNotLookedAt) {
  const std::string steps = R"([
    {"id": "a", "command": {"run": "echo a >> @/log", "creates": "@/log"}},
    {"id": "b", "command": {"run": "echo b >> @/log", "creates": "@/log"}},
    {"id": "c", "command": {"run": "echo c >> @/log", "unless": "echo looked >> @/log"}}])";
  choice_.left_out = {"c"};
  EXPECT_EQ(run(steps).unchanged, 1U);
  EXPECT_EQ(finished("c")->reason, "left out of this run, as asked");
  choice_.forced = {"b"};
  EXPECT_EQ(run(steps, RunMode::plan).would_change, 1U);
  EXPECT_EQ(finished("b")->reason, "forced; it was: " + directory_ + "/log exists");
  EXPECT_EQ(run(steps).changed, 1U);
  EXPECT_EQ(read_file(directory_ + "/log").value_or(""), "a\nb\n");
}

TEST_F(RunnerTest, ALookThatFailsIsToldInTheStepsOwnWords) {
  // A folder where a file should be: what is before it is done, and what is after it does not start.
  std::filesystem::create_directory(directory_ + "/b");
  const std::string steps =
      R"([{"id": "a", "directory": {"path": "@/b"}}, {"id": "b", "file": {"path": "@/b", "content": "b"}}, {"id": "c", "directory": {"path": "@/b"}}])";
  EXPECT_EQ(run(steps).end, RunFinished::End::failed);
  EXPECT_EQ(finished("a")->outcome, Outcome::unchanged);
  ASSERT_EQ(finished("b")->outcome, Outcome::failed);
  EXPECT_THAT(finished("b")->reason, HasSubstr("director"));
  EXPECT_EQ(finished("c")->outcome, Outcome::skipped);
}

TEST_F(RunnerTest, TheEndIsToldOnceAndBehindTheLastEvent) {
  run(R"([{"command": {"run": "exit 3"}}, {"id": "never", "command": {"run": "true"}}])");
  EXPECT_EQ(told_at_end_, std::vector<std::size_t>{events_.size()});
  EXPECT_TRUE(std::holds_alternative<RunFinished>(events_.back().body));
}

TEST_F(RunnerTest, NumbersItsEventsAndEndsWithTheRunsEnd) {
  run(R"([{"command": {"run": "true"}}])");
  for (std::size_t i = 0; i < events_.size(); ++i) EXPECT_EQ(events_[i].seq, i + 1);
  EXPECT_TRUE(std::holds_alternative<RunStarted>(events_.front().body));
  EXPECT_TRUE(std::holds_alternative<RunnerStarted>(events_[1].body));
  EXPECT_TRUE(std::holds_alternative<RunFinished>(events_.back().body));
}

TEST_F(RunnerTest, APlanChangesNothingAndSaysWhatItCannotKnow) {
  const RunFinished plan =
      run(R"([{"id": "a", "file": {"path": "@/motd", "content": "x"}}, {"id": "b", "command": {"run": "touch @/made"}}])", RunMode::plan);
  EXPECT_EQ(plan.would_change, 2U);
  EXPECT_FALSE(exists("motd"));
  EXPECT_FALSE(exists("made"));
}

TEST_F(RunnerTest, AFailureStopsWhatComesAfterAndSaysWhy) {
  const RunFinished end =
      run(R"([{"id": "bad", "command": {"run": "echo no such thing >&2; exit 7"}}, {"id": "later", "command": {"run": "touch @/made"}}])");
  EXPECT_EQ(end.end, RunFinished::End::failed);
  ASSERT_NE(finished("bad"), nullptr);
  EXPECT_THAT(finished("bad")->reason, HasSubstr("7"));
  EXPECT_THAT(output_of("bad", "err"), HasSubstr("no such thing"));
  EXPECT_EQ(finished("later")->outcome, Outcome::skipped);
  EXPECT_THAT(finished("later")->reason, HasSubstr("bad failed"));
  EXPECT_FALSE(exists("made"));
}

TEST_F(RunnerTest, StepsThatDoNotNeedEachOtherOverlap) {
  // Each waits for the other's file: in a row, the first would time out.
  const RunFinished end = run(R"([
    {"id": "start", "command": {"run": "true"}},
    {"id": "a", "needs": ["start"], "timeout": "20s", "command": {"run": "touch @/a; until test -e @/b; do sleep 0.01; done"}},
    {"id": "b", "needs": ["start"], "timeout": "20s", "command": {"run": "touch @/b; until test -e @/a; do sleep 0.01; done"}}])");
  EXPECT_EQ(end.end, RunFinished::End::ok);
}

TEST_F(RunnerTest, ABarrierHoldsBackStepsThatDoNotNeedIt) {
  run(R"([{"id": "gate", "require": {"cpus": 1}}, {"id": "free", "needs": [], "command": {"run": "true"}}])");
  std::size_t gate_end = 0, free_start = 0;
  for (std::size_t i = 0; i < events_.size(); ++i) {
    if (const auto* end = std::get_if<StepFinished>(&events_[i].body); end != nullptr && end->step == "gate") gate_end = i;
    if (const auto* start = std::get_if<StepStarted>(&events_[i].body); start != nullptr && start->step == "free") free_start = i;
  }
  EXPECT_LT(gate_end, free_start);
}

TEST_F(RunnerTest, ATimeoutEndsTheWholeFamilyOfProcesses) {
  const RunFinished end = run(R"([{"id": "slow", "timeout": "1s", "command": {"run": "sleep 300 & echo $! > @/pid; wait"}}])");
  EXPECT_EQ(end.failed, 1U);
  EXPECT_EQ(finished("slow")->error->code, ErrorCode::timeout);
  const pid_t grandchild = std::stoi(*read_file(directory_ + "/pid"));
  EXPECT_TRUE(ends_soon(grandchild)) << "process " << grandchild << " outlived its step";
}

TEST_F(RunnerTest, ABackgroundProcessThatKeepsThePipeDoesNotKeepTheRun) {
  const RunFinished end = run(R"([{"command": {"run": "sleep 30 & echo $! > @/pid"}}])");
  EXPECT_EQ(end.end, RunFinished::End::ok);
  ::kill(std::stoi(*read_file(directory_ + "/pid")), SIGKILL);
}

TEST_F(RunnerTest, SilenceHasALimitOfItsOwn) {
  run(R"([{"id": "quiet", "stall": "1s", "timeout": "100s", "command": {"run": "sleep 300"}}])");
  ASSERT_TRUE(finished("quiet") && finished("quiet")->error);
  EXPECT_EQ(finished("quiet")->error->code, ErrorCode::timeout);
  EXPECT_THAT(finished("quiet")->error->message, HasSubstr("it was silent for 1"));
  EXPECT_NE(finished("quiet")->error->hint, "");
}

TEST_F(RunnerTest, WhatWasAppliedAndIsNotThereHasFailed) {
  run(R"([{"id": "lazy", "command": {"run": "true", "creates": "@/never"}}])");
  ASSERT_TRUE(finished("lazy") && finished("lazy")->error);
  EXPECT_EQ(finished("lazy")->error->code, ErrorCode::command);
  EXPECT_THAT(finished("lazy")->error->message, HasSubstr("it was applied without an error, but: "));
  EXPECT_THAT(finished("lazy")->error->message, HasSubstr("/never"));
  EXPECT_NE(finished("lazy")->error->hint, "");
}

TEST_F(RunnerTest, RetriesAsOftenAsAsked) {
  const RunFinished end = run(
      R"([{"id": "flaky", "retries": 1, "command": {"run": "if test -e @/second; then touch @/made; else touch @/second; exit 1; fi", "creates": "@/made"}}])");
  EXPECT_EQ(end.end, RunFinished::End::ok);
  EXPECT_EQ(std::count_if(events_.begin(), events_.end(), [](const Event& event) { return std::holds_alternative<StepRetry>(event.body); }),
            1);
}

TEST_F(RunnerTest, AKilledStepIsAFailedStepWithTheCause) {
  run(R"([{"id": "victim", "command": {"run": "kill -KILL $PPID; sleep 5"}}])");
  ASSERT_NE(finished("victim"), nullptr);
  EXPECT_EQ(finished("victim")->outcome, Outcome::failed);
  EXPECT_THAT(finished("victim")->reason, HasSubstr("killed"));
}

TEST_F(RunnerTest, KeepsEveryByteOfOutputInOrderAndReplacesWhatIsNotUtf8) {
  run(R"([{"id": "loud", "command": {"run": "seq 1 20000; printf 'bad \\377 byte\\nno newline'"}}])");
  std::string expected;
  for (int i = 1; i <= 20000; ++i) expected += std::to_string(i) + "\n";
  expected += "bad \xEF\xBF\xBD byte\nno newline\n";
  EXPECT_EQ(output_of("loud", "out"), expected);
}

TEST_F(RunnerTest, ACancelLetsTheRunningStepEndAndStartsNoOther) {
  const RunFinished end =
      run(R"([{"id": "now", "command": {"run": "touch @/made"}}, {"id": "later", "command": {"run": "touch @/later"}}])", RunMode::apply,
          [](Runner& runner, const Event& event) {
            if (std::holds_alternative<StepStarted>(event.body)) runner.cancel("tester");
          });
  EXPECT_EQ(end.end, RunFinished::End::cancelled);
  EXPECT_TRUE(exists("made"));
  EXPECT_FALSE(exists("later"));
  EXPECT_EQ(finished("later")->outcome, Outcome::skipped);
}

TEST_F(RunnerTest, ACancelNowStopsTheStepThatRuns) {
  const RunFinished end = run(
      R"([{"id": "hangs", "retries": 3, "command": {"run": "touch @/made; sleep 600"}}, {"id": "later", "command": {"run": "touch @/later"}}])",
      RunMode::apply, [](Runner& runner, const Event& event) {
        if (std::holds_alternative<StepStarted>(event.body)) runner.cancel("tester", true);
      });
  EXPECT_EQ(end.end, RunFinished::End::cancelled);
  EXPECT_EQ(finished("hangs")->error->code, ErrorCode::cancelled);
  EXPECT_EQ(finished("hangs")->error->message, "it was stopped: the run was cancelled by tester");
  EXPECT_EQ(finished("later")->reason, "the run was cancelled");
  EXPECT_FALSE(exists("later"));
}

TEST_F(RunnerTest, AnUnmetConditionSkipsTheStepAndNotWhatFollows) {
  const RunFinished end = run(
      R"([{"id": "elsewhere", "when": {"os": "plan9"}, "command": {"run": "touch @/made"}}, {"id": "next", "command": {"run": "touch @/next"}}])");
  EXPECT_EQ(end.end, RunFinished::End::ok);
  EXPECT_FALSE(exists("made"));
  EXPECT_TRUE(exists("next"));
  EXPECT_THAT(finished("elsewhere")->reason, HasSubstr("plan9"));
}

TEST_F(RunnerTest, PutsFactsIntoShellTextAsOneWord) {
  run(R"([{"id": "say", "command": {"run": "printf %s ${{ facts.arch }}"}}])");
  EXPECT_EQ(output_of("say", "out"), gather_facts().arch + "\n");
}

TEST_F(RunnerTest, AMistakeThatOnlyTheHostCanSeeChangesNothing) {
  const RunFinished end =
      run(R"([{"id": "a", "command": {"run": "touch @/made"}}, {"id": "b", "jupyter": {"venv": "~/x", "port": "${{ facts.hostname }}"}}])");
  EXPECT_EQ(end.end, RunFinished::End::failed);
  EXPECT_FALSE(exists("made"));
}

}  // namespace
}  // namespace gpustrap
