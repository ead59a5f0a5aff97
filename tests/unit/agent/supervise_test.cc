#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/file.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"
#include "tests/support/local_agent.h"
#include "tests/support/process_state.h"
#include "tests/support/temporary_directory.h"

// `gpustrap-agent supervise` with real programs.

namespace gpustrap {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class SuperviseTest : public ::testing::Test {
 protected:
  ~SuperviseTest() override { run("stop"); }

  SubprocessResult run(const std::string& verb) const {
    Subprocess call;
    call.argv = {agent_program(), "supervise", verb, unit_};
    call.env = {{"FROM_THE_STARTER", "1"}};
    return run_subprocess(call).value_or(SubprocessResult{});
  }
  /// Writes a unit whose program is this shell text, and starts it.
  SubprocessResult start(const std::string& script, const std::string& more = "") const {
    std::ofstream(directory_ / "program") << script << "\n";
    std::ofstream(unit_) << "[Service]\nExecStart=/bin/sh " << directory_ / "program"
                         << "\n"
                         << more << "\n";
    return run("start");
  }
  std::string property(const std::string& name) const {
    for (const std::string& line : split(run("show").out, '\n')) {
      if (line.starts_with(name + "=")) return line.substr(name.size() + 1);
    }
    return {};
  }
  pid_t main_pid() const { return std::atoi(property("MainPID").c_str()); }
  pid_t supervisor() const { return std::atoi(content("web.status").c_str()); }
  std::string content(const std::string& name) const { return read_file(directory_ / name).value_or(""); }
  std::string log() const { return content("web.log"); }

  /// 20 s at most.
  static bool comes_true(const std::function<bool()>& condition) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > limit) return false;
      ::poll(nullptr, 0, 10);
    }
    return true;
  }

  TemporaryDirectory directory_;
  std::string unit_ = directory_ / "web.service";
};

TEST_F(SuperviseTest, KeepsAProgramUpInASessionOfItsOwn) {
  const SubprocessResult started = start("echo ready >&2; exec sleep 1000");
  ASSERT_EQ(started.exit_code, 0) << started.err;
  EXPECT_EQ(property("LoadState"), "loaded");
  EXPECT_EQ(property("ActiveState"), "active");
  const pid_t main = main_pid();
  ASSERT_GT(main, 1);
  EXPECT_TRUE(is_running(main));
  EXPECT_NE(::getsid(main), ::getsid(0));
  EXPECT_NE(::getsid(main), ::getsid(supervisor()));
  EXPECT_TRUE(comes_true([&] { return log().find("ready") != std::string::npos; }));

  EXPECT_EQ(run("start").exit_code, 0);
  EXPECT_EQ(main_pid(), main);
  EXPECT_EQ(run("restart").exit_code, 0);
  EXPECT_NE(main_pid(), main);
  EXPECT_FALSE(is_running(main));
}

TEST_F(SuperviseTest, GivesTheProgramTheUnitsEnvironmentAndNoOther) {
  ASSERT_EQ(start("pwd; env; exec sleep 1000", "WorkingDirectory=/usr\nEnvironment=\"GREETING=hello you\" PATH=/usr/bin:/bin").exit_code,
            0);
  ASSERT_TRUE(comes_true([&] { return log().find("PATH=") != std::string::npos && log().find("LOGNAME=") != std::string::npos; }));
  EXPECT_THAT(log(), HasSubstr("/usr\n"));
  EXPECT_THAT(log(), HasSubstr("GREETING=hello you\n"));
  EXPECT_THAT(log(), HasSubstr("PATH=/usr/bin:/bin\n"));
  EXPECT_THAT(log(), Not(HasSubstr("FROM_THE_STARTER")));
  // It may be a secret of the step that starts the service.
  EXPECT_THAT(read_file(fmt::format("/proc/{}/environ", supervisor())).value_or("unread"), Not(HasSubstr("FROM_THE_STARTER")));
}

TEST_F(SuperviseTest, StartsAKilledProgramAgain) {
  ASSERT_EQ(start("exec sleep 1000", "Restart=on-failure\nRestartSec=10ms").exit_code, 0);
  const pid_t first = main_pid();
  ASSERT_EQ(::kill(first, SIGKILL), 0);
  EXPECT_TRUE(comes_true([&] { return main_pid() > 0 && main_pid() != first; }));
  EXPECT_TRUE(is_running(main_pid()));
  EXPECT_EQ(property("NRestarts"), "1");
  EXPECT_THAT(log(), HasSubstr("ended by signal 9, starts again"));
}

TEST_F(SuperviseTest, WaitsLongerEveryTime) {
  ASSERT_EQ(start("exit 1", "Restart=always\nRestartSec=10ms").exit_code, 0);
  ASSERT_TRUE(comes_true([&] { return log().find("exit 1, starts again in 2.0s") != std::string::npos; }));
  EXPECT_THAT(log(), HasSubstr("starts again in 1.0s"));
  EXPECT_TRUE(comes_true([&] { return property("SubState") == "auto-restart"; }));
  EXPECT_EQ(run("stop").exit_code, 0);
  EXPECT_EQ(property("ActiveState"), "inactive");
}

TEST_F(SuperviseTest, LeavesAProgramEndedThatIsNotToBeRestarted) {
  ASSERT_EQ(start("exit 3").exit_code, 0);
  EXPECT_TRUE(comes_true([&] { return property("ActiveState") == "failed"; }));
  EXPECT_THAT(log(), HasSubstr("ended by itself, exit 3\n"));
  ASSERT_EQ(start("exit 0", "Restart=on-failure").exit_code, 0);
  EXPECT_TRUE(comes_true([&] { return property("ActiveState") == "inactive"; }));
}

TEST_F(SuperviseTest, StopsAllThatTheProgramStarted) {
  ASSERT_EQ(start("setsid sleep 1000 & echo child $! >&2; trap '' TERM; while :; do sleep 1; done", "TimeoutStopSec=300ms").exit_code, 0);
  ASSERT_TRUE(comes_true([&] { return log().find("child ") != std::string::npos && log().ends_with('\n'); }));
  const pid_t child = std::atoi(log().c_str() + log().find("child ") + 6);
  const pid_t main = main_pid();
  ASSERT_TRUE(is_running(child));
  EXPECT_EQ(run("stop").exit_code, 0);
  EXPECT_FALSE(is_running(main));
  EXPECT_FALSE(is_running(child));
  EXPECT_EQ(property("ActiveState"), "inactive");
}

TEST_F(SuperviseTest, NothingOutlivesAKilledSupervisorForLong) {
  ASSERT_EQ(start("sleep 1000 & echo child $! >&2; wait", "Restart=always").exit_code, 0);
  ASSERT_TRUE(comes_true([&] { return log().find("child ") != std::string::npos && log().ends_with('\n'); }));
  const pid_t child = std::atoi(log().c_str() + log().find("child ") + 6);
  const pid_t main = main_pid();
  ASSERT_EQ(::kill(supervisor(), SIGKILL), 0);
  EXPECT_TRUE(ends_soon(main));
  EXPECT_TRUE(comes_true([&] { return property("ActiveState") == "inactive"; }));
  EXPECT_EQ(run("start").exit_code, 0);
  EXPECT_FALSE(is_running(child));
  EXPECT_EQ(property("ActiveState"), "active");
}

TEST_F(SuperviseTest, TakesNoOtherProcessOfTheSameNumberForItsOwn) {
  std::ofstream(directory_ / "web.status") << ::getpid() << " 1\nActiveState=active\nSubState=running\nMainPID=" << ::getpid() << "\n";
  EXPECT_EQ(property("ActiveState"), "inactive");
  ASSERT_EQ(start("exec sleep 1000").exit_code, 0);
  EXPECT_EQ(property("ActiveState"), "active");
  EXPECT_NE(main_pid(), ::getpid());
}

TEST_F(SuperviseTest, TellsWhyAProgramCannotBeStarted) {
  std::ofstream(unit_) << "[Service]\nExecStart=/no/such/program\nRestart=on-failure\n";
  ASSERT_EQ(run("start").exit_code, 0);
  EXPECT_TRUE(comes_true([&] { return log().find("web.service: Failed to start /no/such/program: No such file") != std::string::npos; }));
  EXPECT_TRUE(comes_true([&] { return property("SubState") == "auto-restart"; }));
}

TEST_F(SuperviseTest, KeepsTheNewestOfALongLog) {
  ASSERT_EQ(start("yes | head -c 5000000; echo last >&2; exec sleep 1000").exit_code, 0);
  ASSERT_TRUE(comes_true([&] { return log().ends_with("last\n"); }));
  EXPECT_LT(log().size(), 2'000'000U);
  EXPECT_GT(content("web.log.1").size(), 4'000'000U);
}

TEST_F(SuperviseTest, RefusesAUnitThatItCannotRun) {
  const SubprocessResult started = start("exit 0", "KillMode=process");
  EXPECT_EQ(started.exit_code, 1);
  EXPECT_THAT(started.err, HasSubstr("[Service] KillMode=process"));
  EXPECT_EQ(property("ActiveState"), "inactive");
}

TEST_F(SuperviseTest, SaysThatThereIsNoSuchUnit) {
  EXPECT_EQ(run("start").exit_code, 2);
  EXPECT_EQ(property("LoadState"), "not-found");
}

}  // namespace
}  // namespace gpustrap
