#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "agent/base/file.h"
#include "agent/gather_facts.h"
#include "agent/identity.h"
#include "agent/private_memory.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/runner.h"

// Real processes: what a step gets of a secret, and what is told of it.

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kValue = "Tr0ub4dor&3 'quoted\"";

class RunnerSecrets : public ::testing::Test {
 protected:
  RunnerSecrets() {
    std::string name = ::testing::TempDir() + "secretsXXXXXX";
    directory_ = ::mkdtemp(name.data());
  }
  ~RunnerSecrets() override { std::filesystem::remove_all(directory_); }

  /// `steps` is JSON in which @ stands for the private folder; `watch` may hand secrets over.
  RunFinished run(std::string steps, const SecretValues& secrets, RunMode mode = RunMode::apply,
                  const std::function<void(Runner&, const Event&)>& watch = {}) {
    for (std::size_t at = steps.find('@'); at != std::string::npos; at = steps.find('@')) steps.replace(at, 1, directory_);
    std::vector<FieldProblem> problems;
    RunDescription description;
    description.id = "test";
    description.mode = mode;
    description.recipe = read_recipe(Json{{"name", "test"}, {"secrets", {"token", "other"}}, {"steps", Json::parse(steps)}},
                                     Placeholders::allowed, problems);
    for (const FieldProblem& problem : problems) ADD_FAILURE() << problem.pointer << ": " << problem.message;
    description.login = identity_of_self();
    description.history = history_;
    journal_path_ = directory_ + "/events" + std::to_string(++runs_) + ".jsonl";
    auto journal = Journal::open(journal_path_);
    events_.clear();
    Runner* pointer = nullptr;
    RunnerHooks hooks;
    hooks.on_event = [&](const std::string& line) {
      events_.push_back(*event_from_json(*parse_line(line)));
      if (watch) watch(*pointer, events_.back());
    };
    Runner runner(std::move(description), std::move(*journal), std::move(hooks));
    pointer = &runner;
    runner.take_secrets(secrets);
    auto finished = runner.run(gather_facts(), identity_of_self());
    EXPECT_TRUE(finished.has_value());
    return finished.value_or(RunFinished{});
  }
  template <class T> std::vector<T> all() const {
    std::vector<T> found;
    for (const Event& event : events_) {
      if (const auto* body = std::get_if<T>(&event.body)) found.push_back(*body);
    }
    return found;
  }
  [[nodiscard]] std::string file(const std::string& name) const { return read_file(directory_ + "/" + name).value_or("(none)"); }
  [[nodiscard]] std::string journal() const { return read_file(journal_path_).value_or(""); }

  std::string directory_, journal_path_;
  std::vector<Event> events_;
  RunHistory history_;
  int runs_ = 0;
};

TEST_F(RunnerSecrets, ReachEveryPlaceThatARecipeAllowsAndNoOther) {
  const RunFinished finished = run(R"([
    {"id":"text","command":{"run":"printf %s ${{ secrets.token }} >@/text; echo \"it is ${{ secrets.token }}\"; tr '\\0' ' ' </proc/$$/cmdline"}},
    {"id":"env","command":["sh","-c","printf %s \"$A\" >@/env; env"],"env":{"A":"<${{ secrets.token }}>"}},
    {"id":"file","file":{"path":"@/file","content":"a=1\nb=${{ secrets.token }}\n"}},
    {"id":"block","block":{"path":"@/block","marker":"m","content":"c=${{ secrets.token }}"}},
    {"id":"without","command":"env; cat @/file"}])",
                                   {{"token", kValue}, {"other", "a value that no step needs"}});
  EXPECT_EQ(finished.end, RunFinished::End::ok);
  EXPECT_EQ(finished.changed, 5U);
  EXPECT_EQ(file("text"), kValue);
  EXPECT_EQ(file("env"), std::string("<") + kValue + ">");
  EXPECT_EQ(file("file"), std::string("a=1\nb=") + kValue + "\n");
  EXPECT_THAT(file("block"), HasSubstr(std::string("c=") + kValue + "\n"));
  struct stat info {};
  for (const char* name : {"/file", "/block"}) {
    ASSERT_EQ(::stat((directory_ + name).c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777U, 0600U) << name;
  }
  EXPECT_THAT(journal(), Not(HasSubstr("Tr0ub4dor")));
  EXPECT_THAT(journal(), Not(HasSubstr("no step needs")));
  EXPECT_THAT(journal(), HasSubstr("it is ***"));
  EXPECT_THAT(journal(), HasSubstr("b=***")) << "a later step that prints it is masked, too";
  EXPECT_THAT(journal(), HasSubstr("GPUSTRAP_SECRET_token"));
}

TEST_F(RunnerSecrets, ASecondRunFindsNothingToDoAndADifferentValueIsAChange) {
  const std::string steps = R"([{"file":{"path":"@/file","content":"b=${{ secrets.token }}\n"}}])";
  EXPECT_EQ(run(steps, {{"token", kValue}}).changed, 1U);
  EXPECT_EQ(run(steps, {{"token", kValue}}).unchanged, 1U);
  EXPECT_EQ(run(steps, {{"token", "another value"}}).changed, 1U);
  EXPECT_THAT(journal(), Not(HasSubstr("Tr0ub4dor"))) << "what stood there before is not shown either";
  EXPECT_THAT(journal(), Not(HasSubstr("another value")));
}

TEST_F(RunnerSecrets, AreMaskedInALineThatIsTooLongForOneEvent) {
  // 16 KiB is where a line without an end is cut: the value stands across every such place.
  const RunFinished finished =
      run(R"([{"command":"for i in $(seq 1 4000); do printf '%s-' ${{ secrets.token }}; done"}])", {{"token", "0123456789abcdef"}});
  EXPECT_EQ(finished.end, RunFinished::End::ok);
  std::string text;
  for (const StepOutput& output : all<StepOutput>()) {
    if (output.stream == "out") text += output.text;
  }
  EXPECT_THAT(text, Not(HasSubstr("0123")));
  EXPECT_THAT(text, Not(HasSubstr("cdef")));
  EXPECT_THAT(text, HasSubstr("***-***-"));
}

TEST_F(RunnerSecrets, AFailureDoesNotTellThem) {
  const RunFinished finished = run(R"([{"command":"echo no login with ${{ secrets.token }} >&2; exit 3"}])", {{"token", kValue}});
  EXPECT_EQ(finished.failed, 1U);
  EXPECT_THAT(journal(), Not(HasSubstr("Tr0ub4dor")));
  EXPECT_THAT(all<StepFinished>().at(0).reason, HasSubstr("no login with ***"));
}

TEST_F(RunnerSecrets, AFailureDoesNotTellTheBeginningOfALongOne) {
  std::string value;
  for (int i = 0; i < 100; ++i) value += "part" + std::to_string(1000 + i);
  const RunFinished finished =
      run(R"([{"command":"echo 403 for https://a.example/?token=${{ secrets.token }}#end >&2; exit 3"}])", {{"token", value}});
  EXPECT_EQ(finished.failed, 1U);
  EXPECT_THAT(journal(), Not(HasSubstr("part1000")));
  EXPECT_THAT(all<StepFinished>().at(0).reason, HasSubstr("403 for https://a.example/?token=***#end"));
}

TEST_F(RunnerSecrets, AStepWaitsForThemWhileOthersGoOn) {
  bool handed = false;
  const auto hand_over = [&](Runner& runner, const Event& event) {
    if (const auto* waiting = std::get_if<WaitingForSecret>(&event.body)) {
      EXPECT_EQ(waiting->step, "needy");
      EXPECT_THAT(waiting->secrets, ElementsAre("token"));
      EXPECT_TRUE(path_exists(directory_ + "/beside"));
      handed = true;
      runner.take_secrets({{"token", kValue}, {"undeclared", "xxxxxxxx"}});
    }
  };
  const RunFinished finished = run(R"([{"id":"needy","command":"printf %s ${{ secrets.token }} >@/needy"},
    {"id":"beside","needs":[],"command":"touch @/beside"}])",
                                   {}, RunMode::apply, hand_over);
  EXPECT_TRUE(handed);
  EXPECT_EQ(finished.changed, 2U);
  EXPECT_EQ(file("needy"), kValue);
}

TEST_F(RunnerSecrets, ACancelEndsTheWait) {
  const RunFinished finished =
      run(R"([{"command":"echo ${{ secrets.token }}"}])", {}, RunMode::apply, [](Runner& runner, const Event& event) {
        if (std::holds_alternative<WaitingForSecret>(event.body)) runner.cancel("test");
      });
  EXPECT_EQ(finished.end, RunFinished::End::cancelled);
  EXPECT_EQ(finished.skipped, 1U);
}

TEST_F(RunnerSecrets, WhatAnEarlierRunnerHasDoneWaitsForNone) {
  history_.incarnations = 1;
  history_.done = {"file"};
  history_.changed = {"file"};
  const RunFinished finished = run(R"([{"file":{"path":"@/file","content":"${{ secrets.token }}"}}])", {});
  EXPECT_EQ(finished.end, RunFinished::End::ok);
  EXPECT_EQ(finished.changed, 1U);
  EXPECT_EQ(file("file"), "(none)");
  EXPECT_THAT(all<StepFinished>().at(0).reason, HasSubstr("not looked at again without the secret token"));
}

TEST_F(RunnerSecrets, APlanNeedsNoValues) {
  const RunFinished plan = run(R"([{"id":"file","file":{"path":"@/file","content":"${{ secrets.token }}"}},
    {"id":"made","needs":[],"command":{"run":"login ${{ secrets.token }}","creates":"@/made"}},
    {"id":"asked","needs":[],"command":{"run":"true","unless":"test -n ${{ secrets.token }}"}}])",
                               {}, RunMode::plan);
  EXPECT_EQ(plan.unknown, 2U);
  EXPECT_EQ(plan.would_change, 1U) << "whether a file exists is seen without the secret";
  for (const StepFinished& step : all<StepFinished>()) {
    if (step.step == "made") continue;
    EXPECT_THAT(step.reason, HasSubstr("without the secret token"));
  }
}

TEST(PrivateMemory, AProcessThatIsClosedLeavesNoCore) {
  const int before = ::prctl(PR_GET_DUMPABLE);
  close_process_to_others();
  EXPECT_EQ(::prctl(PR_GET_DUMPABLE), 0);
  ::prctl(PR_SET_DUMPABLE, before);
}

TEST(PrivateMemory, IsCleared) {
  std::string text = "a value that is longer than what a string holds in itself";
  const char* where = text.data();
  clear_text(text);
  EXPECT_TRUE(text.empty());
  EXPECT_EQ(where[3], '\0');
}

}  // namespace
}  // namespace gpustrap
