#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/control_socket.h"
#include "agent/gather_facts.h"
#include "agent/host_power.h"
#include "agent/identity.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/resume_unit.h"
#include "agent/run_history.h"
#include "agent/run_store.h"
#include "agent/runner.h"
#include "agent/runner_process.h"
#include "tests/support/temporary_directory.h"

// A run that goes on after its runner, or its host, went down: each runner is a process of its own, on a boot of its own.

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kWentDown = 42;  ///< exit code of a runner that took the host down with it

class ResumeTest : public ::testing::Test {
 protected:
  std::string journal() const { return directory_.path() + "/events.jsonl"; }
  bool exists(const std::string& name) const { return path_exists(directory_.path() + "/" + name); }

  /// One runner of the run, on this boot. `steps` is JSON in which @ stands for the private folder. True where it came to the run's end.
  bool runner(std::string steps, const std::string& boot, const std::function<bool()>& is_shutting_down = {},
              const std::function<bool()>& is_told_to_leave = {}) {
    for (std::size_t at = steps.find('@'); at != std::string::npos; at = steps.find('@')) steps.replace(at, 1, directory_.path());
    const pid_t child = ::fork();
    if (child == 0) ::_exit(run(steps, boot, is_shutting_down, is_told_to_leave));
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status)) << "the runner was killed by signal " << WTERMSIG(status);
    read_events();
    return WEXITSTATUS(status) == 0;
  }

  int run(const std::string& steps, const std::string& boot, const std::function<bool()>& is_shutting_down,
          const std::function<bool()>& is_told_to_leave = {}) {
    std::vector<FieldProblem> problems;
    RunDescription description;
    description.id = "test";
    description.recipe = read_recipe(Json{{"name", "test"}, {"steps", Json::parse(steps)}}, Placeholders::allowed, problems);
    if (!problems.empty()) return 3;
    description.login = identity_of_self();
    description.history = *RunHistory::read(journal());
    RunnerHooks hooks;
    hooks.reboot = [](const RebootWish&) -> Result<void> { ::_exit(kWentDown); };
    hooks.is_shutting_down = is_shutting_down;
    hooks.is_told_to_leave = is_told_to_leave;
    hooks.before_first_change = [&](const std::vector<pid_t>& pids) {
      (void)write_file_atomically(directory_.path() + "/prepared", std::to_string(pids.size()));
    };
    Runner one(std::move(description), std::move(*Journal::open(journal())), std::move(hooks));
    Facts facts = gather_facts();
    facts.boot_id = boot;
    facts.systemd = true;
    facts.container = false;
    const Result<RunFinished> finished = one.run(facts, identity_of_self());
    return finished ? 0 : 1;
  }

  void read_events() {
    events_.clear();
    const Result<std::string> text = read_file(journal());
    for (const std::string& line : split(text.value_or(""), '\n')) {
      if (line.empty()) continue;
      const auto event = event_from_json(*parse_line(line));
      ASSERT_TRUE(event.has_value()) << line;
      events_.push_back(*event);
      EXPECT_EQ(event->seq, events_.size());
    }
  }
  template <class T> std::vector<T> all() const {
    std::vector<T> found;
    for (const Event& event : events_) {
      if (const auto* body = std::get_if<T>(&event.body)) found.push_back(*body);
    }
    return found;
  }
  /// "a changed", "b unchanged": every end of a step, in order.
  std::vector<std::string> ends() const {
    std::vector<std::string> words;
    for (const StepFinished& end : all<StepFinished>()) words.push_back(end.step + " " + std::string(outcome_name(end.outcome)));
    return words;
  }

  TemporaryDirectory directory_;
  std::vector<Event> events_;
};

const std::string kRebootInTheMiddle = R"([
  {"id": "once", "as": "login", "command": {"run": "echo x >> @/once"}},
  {"id": "file", "as": "login", "command": {"run": "echo x >> @/made", "creates": "@/made"}},
  {"id": "reboot", "as": "login", "reboot": {"mode": "always", "allow_disruption": true}},
  {"id": "after", "as": "login", "command": {"run": "touch @/after", "creates": "@/after"}}])";

TEST_F(ResumeTest, ARestartIsAStepLikeAnyOther) {
  EXPECT_FALSE(runner(kRebootInTheMiddle, "boot-1"));
  ASSERT_TRUE(std::holds_alternative<Rebooting>(events_.back().body)) << "written down before it happens";
  EXPECT_EQ(all<Rebooting>()[0].boot_id, "boot-1");
  EXPECT_FALSE(exists("after"));

  EXPECT_TRUE(runner(kRebootInTheMiddle, "boot-2"));
  EXPECT_THAT(ends(), ElementsAre("once changed", "file changed", "once unchanged", "file unchanged", "reboot unchanged", "after changed"));
  EXPECT_EQ(*read_file(directory_.path() + "/once"), "x\n") << "what cannot be verified is not done again";
  EXPECT_EQ(*read_file(directory_.path() + "/made"), "x\n");
  const RunnerStarted second = all<RunnerStarted>()[1];
  EXPECT_EQ(second.incarnation, 2U);
  EXPECT_EQ(second.boot_id, "boot-2");
  const RunFinished end = all<RunFinished>()[0];
  EXPECT_EQ(end.end, RunFinished::End::ok);
  EXPECT_EQ(end.changed, 3U) << "by the run as a whole";
  EXPECT_EQ(end.unchanged, 1U);
}

TEST_F(ResumeTest, ARunnerThatComesBackOnTheSameBootAsksAgain) {
  EXPECT_FALSE(runner(kRebootInTheMiddle, "boot-1"));
  EXPECT_FALSE(runner(kRebootInTheMiddle, "boot-1"));
  EXPECT_EQ(all<Rebooting>().size(), 2U);
  EXPECT_TRUE(runner(kRebootInTheMiddle, "boot-2"));
}

TEST_F(ResumeTest, ARunRestartsItsHostThreeTimesAtMost) {
  std::string steps = "[";
  for (const char* id : {"a", "b", "c", "d"})
    steps += std::string(R"({"id": ")") + id + R"(", "as": "login", "reboot": {"mode": "always", "allow_disruption": true}},)";
  steps.back() = ']';
  for (const char* boot : {"1", "2", "3"}) EXPECT_FALSE(runner(steps, boot));
  EXPECT_TRUE(runner(steps, "4"));
  EXPECT_EQ(all<Rebooting>().size(), 3U);
  const StepFinished last = all<StepFinished>().back();
  EXPECT_EQ(last.step, "d");
  EXPECT_EQ(last.outcome, Outcome::failed);
  EXPECT_THAT(last.reason, HasSubstr("restarted the host 3 times already"));
  EXPECT_EQ(all<RunFinished>()[0].end, RunFinished::End::failed);
}

TEST_F(ResumeTest, AHostThatGoesDownInTheSameStepAgainAndAgainIsLeftAlone) {
  int runners = 0;
  for (std::string boot = "1"; runners < 10; boot += "'") {
    ++runners;
    // The step takes its runner along, as a power cut would.
    const std::string killing =
        R"([{"id": "deadly", "as": "login", "command": {"run": "true", "unless": "kill -KILL $(cat @/runner); sleep 9"}}])";
    const pid_t child = ::fork();
    if (child == 0) {
      (void)write_file_atomically(directory_.path() + "/runner", std::to_string(::getpid()));
      std::string text = killing;
      for (std::size_t at = text.find('@'); at != std::string::npos; at = text.find('@')) text.replace(at, 1, directory_.path());
      ::_exit(run(text, boot, {}));
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status)) break;
  }
  read_events();
  EXPECT_EQ(runners, 5) << "one, and one after each of four restarts, of which the last only says so";
  EXPECT_THAT(ends(), ElementsAre("deadly failed"));
  EXPECT_THAT(all<StepFinished>()[0].reason, HasSubstr("went down 4 times in a row"));
  EXPECT_THAT(all<RunnerStarted>()[1].interrupted, ElementsAre("deadly"));
}

TEST_F(ResumeTest, WhatFailsBecauseTheHostGoesDownIsLookedAtAfresh) {
  const std::string steps = R"([{"id": "a", "as": "login", "command": {"run": "touch @/a; exit 1", "unless": "test -e @/back"}}])";
  EXPECT_FALSE(runner(steps, "boot-1", [] { return true; }));
  EXPECT_TRUE(ends().empty());
  ASSERT_TRUE(write_file_atomically(directory_.path() + "/back", "").has_value());
  EXPECT_TRUE(runner(steps, "boot-2"));
  EXPECT_THAT(all<RunnerStarted>()[1].interrupted, ElementsAre("a"));
  EXPECT_THAT(ends(), ElementsAre("a unchanged"));
}

TEST_F(ResumeTest, ARunnerThatIsToldToEndInterruptsItsStepsAndTheNextOneGoesOn) {
  const std::string steps = R"([
    {"id": "a", "as": "login", "command": {"run": "touch @/begun; while :; do sleep 0.05; done", "unless": "test -e @/back"}},
    {"id": "b", "as": "login", "command": {"run": "touch @/b", "creates": "@/b"}}])";
  EXPECT_FALSE(runner(steps, "boot-1", {}, [&] { return exists("begun"); }));
  EXPECT_TRUE(ends().empty()) << "it has not failed";
  EXPECT_FALSE(exists("b"));
  ASSERT_TRUE(write_file_atomically(directory_.path() + "/back", "").has_value());
  EXPECT_TRUE(runner(steps, "boot-1"));
  EXPECT_THAT(all<RunnerStarted>()[1].interrupted, ElementsAre("a"));
  EXPECT_THAT(ends(), ElementsAre("a unchanged", "b changed"));
}

TEST_F(ResumeTest, NothingIsChangedBeforeTheRunCouldSurviveIt) {
  EXPECT_TRUE(runner(R"([{"id": "a", "as": "login", "command": {"run": "cp @/prepared @/seen", "creates": "@/seen"}}])", "boot-1"));
  EXPECT_EQ(read_file(directory_.path() + "/seen").value_or(""), "1");
}

TEST(RunHistory, CountsTheTimeOfARunAndNoJumpOfTheClock) {
  constexpr std::int64_t kMinute = 60'000, kYears = std::int64_t{3} * 365 * 24 * 60 * kMinute;
  RunHistory history;
  history.add(Event{1, 5 * kMinute, RunStarted{}});
  history.add(Event{2, 6 * kMinute, StepStarted{"a"}});
  history.add(Event{3, kYears, StepStarted{"b"}});  // the clock was set
  history.add(Event{4, kYears + 2 * kMinute, StepStarted{"c"}});
  history.add(Event{5, kYears - kMinute, StepStarted{"d"}});  // and set back
  history.add(Event{6, kYears, StepStarted{"e"}});
  EXPECT_EQ(history.elapsed_ms, 4 * kMinute);
}

TEST_F(ResumeTest, ARunThatIsOverIsNotBegunAgain) {
  const AgentPaths paths{directory_.path(), directory_.path()};
  RunDescription run;
  run.id = "r1";
  std::vector<FieldProblem> problems;
  run.recipe = read_recipe(Json{{"name", "test"}, {"steps", Json::parse(R"([{"id": "a", "as": "login", "command": {"run": "true"}}])")}},
                           Placeholders::allowed, problems);
  ASSERT_TRUE(problems.empty());
  run.login = identity_of_self();
  ASSERT_TRUE(store_run(paths, run).has_value());
  const auto end_of_runner = [&] {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(runner_main(paths, "r1", "", -1, -1));
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  EXPECT_EQ(end_of_runner(), 0);
  const std::string before = read_file(journal_path(paths, "r1")).value_or("");
  EXPECT_THAT(before, HasSubstr("run_finished"));
  EXPECT_EQ(end_of_runner(), 1);
  EXPECT_EQ(read_file(journal_path(paths, "r1")).value_or(""), before);
}

TEST(RunStore, TheRunThatWasStoredLastIsTheNewestThoughTheClockWasSetBack) {
  const TemporaryDirectory directory;
  const AgentPaths paths{directory.path(), directory.path()};
  RunDescription run;
  run.login = identity_of_self();
  for (const char* id : {"b", "c", "a"}) {
    run.id = id;
    ASSERT_TRUE(store_run(paths, run).has_value());
    if (run.id != "b") continue;
    const timespec in_2096{std::int64_t{4'000'000'000}, 0};
    const timespec times[2] = {in_2096, in_2096};
    ASSERT_EQ(::utimensat(AT_FDCWD, (paths.run("b") + "/run.json").c_str(), times, 0), 0);
  }
  EXPECT_EQ(newest_run(paths), "a");
  EXPECT_THAT(runs_newest_first(paths), ElementsAre("a", "c", "b"));
  prune_runs(paths, 2);
  EXPECT_THAT(runs_newest_first(paths), ElementsAre("a", "c"));
}

RunDescription description_of(const std::string& id) {
  RunDescription run;
  run.id = id;
  std::vector<FieldProblem> problems;
  run.recipe = read_recipe(Json{{"name", "test"}, {"steps", Json::parse(R"([{"id": "a", "as": "login", "command": {"run": "true"}}])")}},
                           Placeholders::allowed, problems);
  EXPECT_TRUE(problems.empty());
  run.login = identity_of_self();
  return run;
}

TEST_F(ResumeTest, ARunHasAFolderOfItsOwn) {
  const AgentPaths paths{directory_.path(), directory_.path()};
  ASSERT_TRUE(store_run(paths, description_of("r1")).has_value());
  const Result<void> again = store_run(paths, description_of("r1"));
  ASSERT_FALSE(again.has_value());
  EXPECT_EQ(again.error().code(), ErrorCode::busy);
  EXPECT_EQ(again.error().why(), "there is a run r1 already");
  EXPECT_EQ(again.error().hint(), "run the same command again");
  for (const char* id : {"../x", "", ".x"}) {
    const std::string why = std::string("\"") + id + "\" cannot be a run's id";
    EXPECT_EQ(store_run(paths, description_of(id)).error().why(), why);
    EXPECT_EQ(load_run(paths, id).error().why(), why);
    EXPECT_EQ(summarize_run(paths, id).error().why(), why);
  }
}

TEST_F(ResumeTest, ADamagedRunIsNotTakenUp) {
  const AgentPaths paths{directory_.path(), directory_.path()};
  ASSERT_TRUE(store_run(paths, description_of("r1")).has_value());
  const std::string path = paths.run("r1") + "/run.json";
  const Json whole = *parse_line(*read_file(path));
  const auto error_with = [&](const Json& document) {
    EXPECT_TRUE(write_file_atomically(path, to_line(document)).has_value());
    const Result<RunDescription> run = load_run(paths, "r1");
    EXPECT_FALSE(run.has_value());
    return run ? Error(ErrorCode::internal, "") : run.error();
  };
  Json without = whole;
  without.erase("mode");
  EXPECT_EQ(error_with(without).code(), ErrorCode::protocol);
  EXPECT_THAT(error_with(without).why(), HasSubstr("run r1 is not readable: "));
  EXPECT_EQ(error_with(without).hint(), "start it anew with `gpustrap up`");
  Json nobody = whole;
  nobody["login"].erase("uid");
  EXPECT_EQ(error_with(nobody).code(), ErrorCode::protocol);
  EXPECT_THAT(error_with(nobody).sentence(), HasSubstr("reading run r1: not an identity: "));
  Json other = whole;
  other["recipe"]["steps"][0]["dance"] = 1;
  EXPECT_EQ(error_with(other).code(), ErrorCode::recipe);
  EXPECT_THAT(error_with(other).sentence(), HasSubstr("reading run r1: "));
  EXPECT_THAT(error_with(other).why(), HasSubstr("dance"));
}

TEST_F(ResumeTest, ARunnerThatHangsBeforeItBeginsIsSaid) {
  const AgentPaths paths{directory_.path(), directory_.path() + "/runtime"};
  ASSERT_TRUE(store_run(paths, description_of("r1")).has_value());
  const std::string path = paths.run("r1") + "/run.json";
  ASSERT_EQ(::unlink(path.c_str()), 0);
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);  // as a disk that does not answer
  const Result<void> started = start_runner_process(paths, "r1", "here", -1, nullptr);
  const std::optional<RunLock::Holder> holder = RunLock::holder(paths);
  if (holder) ::kill(holder->pid, SIGKILL);
  ASSERT_FALSE(started.has_value());
  EXPECT_EQ(started.error().code(), ErrorCode::timeout);
  EXPECT_EQ(started.error().why(), "the runner did not begin within 10 s");
  EXPECT_EQ(started.error().hint(), "look at " + paths.state + "/agent.log on the host");
  EXPECT_TRUE(holder);
}

TEST_F(ResumeTest, ASocketsPathHasALimit) {
  const std::string deep = directory_.path() + "/" + std::string(120, 'x') + "/run.sock";
  const Result<ControlSocket> listening = ControlSocket::listen(deep);
  ASSERT_FALSE(listening.has_value());
  EXPECT_EQ(listening.error().code(), ErrorCode::io);
  EXPECT_EQ(listening.error().why(), "the socket's path is too long: " + deep);
  EXPECT_THAT(listening.error().hint(), HasSubstr("--runtime"));
}

TEST_F(ResumeTest, AHostThatDoesNotRestartSaysWhoKeepsIt) {
  // A systemctl of the test's own, and no other anywhere on the way to it.
  const std::string path = directory_.path() + "/bin/systemctl";
  std::filesystem::create_directory(parent_of(path));
  ASSERT_TRUE(write_file_atomically(path, "#!/bin/sh\necho 'Call to Reboot failed: Access denied' >&2\nexit 1\n", 0755).has_value());
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("PATH", parent_of(path).c_str(), 1);
    const Result<void> restarted = restart_host("a new kernel");
    if (restarted) ::_exit(1);
    (void)write_file_atomically(directory_.path() + "/said", restarted.error().sentence() + "\n" + restarted.error().hint());
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(read_file(directory_.path() + "/said").value_or(""),
            "systemctl reboot: Call to Reboot failed: Access denied\n"
            "look at `systemctl list-jobs` and `systemd-inhibit --list` on the host");
}

TEST_F(ResumeTest, ACancelSurvivesARestart) {
  {
    auto file = Journal::open(journal());
    RunStarted started;
    started.run = "test";
    ASSERT_TRUE(file->append(started).has_value());
    ASSERT_TRUE(file->append(RunnerStarted{1, 1, 7, "boot-1", {}}).has_value());
    ASSERT_TRUE(file->append(CancelRequested{"ann"}).has_value());
  }
  EXPECT_TRUE(runner(R"([{"id": "a", "as": "login", "command": {"run": "touch @/a"}}])", "boot-2"));
  EXPECT_FALSE(exists("a"));
  EXPECT_EQ(all<RunFinished>()[0].end, RunFinished::End::cancelled);
  EXPECT_EQ(all<CancelRequested>().size(), 1U);
}

TEST_F(ResumeTest, TheUnitNamesOnlyWhatRootAloneCanWrite) {
  const ResumeUnit unit(directory_.path());
  EXPECT_FALSE(unit.is_there());
  const auto installed = unit.install();
  ASSERT_TRUE(installed.has_value()) << installed.error().sentence();
  const std::string folder = directory_.path() + "/etc/systemd/system/";
  const std::string text = read_file(folder + ResumeUnit::kName).value_or("");
  EXPECT_THAT(text, ::testing::ContainsRegex("ExecStart=/usr/local/lib/gpustrap/agent-[0-9a-f]+ resume\n"));
  // Enabled: the link leads to it.
  EXPECT_EQ(read_file(folder + "multi-user.target.wants/" + ResumeUnit::kName).value_or(""), text);
  EXPECT_TRUE(unit.install().has_value()) << "a second time too";
  ASSERT_TRUE(unit.remove().has_value());
  EXPECT_FALSE(unit.is_there());
  EXPECT_TRUE(unit.remove().has_value());
}

}  // namespace
}  // namespace gpustrap
