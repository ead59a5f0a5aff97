#include "agent/base/subprocess.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/process_state.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

SubprocessResult run(std::vector<std::string> argv, std::string input = {}) {
  Subprocess subprocess;
  subprocess.argv = std::move(argv);
  subprocess.input = std::move(input);
  auto result = run_subprocess(subprocess);
  EXPECT_TRUE(result.has_value());
  return result.value_or(SubprocessResult{});
}

TEST(Subprocess, KeepsOutputAndErrorsApart) {
  const SubprocessResult result = run({"sh", "-c", "echo out; echo err >&2; exit 3"});
  EXPECT_EQ(result.out, "out\n");
  EXPECT_EQ(result.err, "err\n");
  EXPECT_EQ(result.exit_code, 3);
}

TEST(Subprocess, SaysWhenThereIsNoSuchProgram) {
  const SubprocessResult result = run({"no-such-program-here"});
  EXPECT_EQ(result.exit_code, 127);
  EXPECT_THAT(result.err, HasSubstr("No such file"));
}

TEST(Subprocess, PassesOnALargeInputWhileItReadsTheOutput) {
  const std::string input(3U << 20U, 'x');
  EXPECT_EQ(run({"cat"}, input).out, input);
}

TEST(Subprocess, AChildThatDoesNotReadItsInputIsNoError) { EXPECT_EQ(run({"true"}, std::string(1U << 20U, 'x')).exit_code, 0); }

TEST(Subprocess, EndsTheWholeGroupWhenTimeRunsOut) {
  Subprocess subprocess;
  subprocess.argv = {"sh", "-c", "sleep 300 & echo $!; wait"};
  subprocess.timeout = std::chrono::milliseconds(300);
  const auto result = run_subprocess(subprocess);
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(result->timed_out);
  const pid_t grandchild = std::stoi(result->out);
  EXPECT_TRUE(ends_soon(grandchild));
}

TEST(Subprocess, KeepsTheEndOfALongOutputWhereThatCounts) {
  Subprocess subprocess;
  subprocess.argv = {"sh", "-c", "seq 1 200000; echo last"};
  subprocess.limit = 1000;
  EXPECT_EQ(run_subprocess(subprocess)->out.substr(0, 4), "1\n2\n");
  subprocess.keep = Subprocess::Keep::end;
  const auto result = run_subprocess(subprocess);
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->out.size(), 1000U);
  EXPECT_TRUE(result->out.ends_with("200000\nlast\n"));
}

TEST(Subprocess, DoesNotListenForeverToAGrandchildThatWritesOnAndOn) {
  const SubprocessResult result = run({"sh", "-c", "yes & exit 7"});
  EXPECT_EQ(result.exit_code, 7);  // and yes ends with the pipe
}

TEST(Subprocess, DoesNotWaitForAGrandchildThatKeepsThePipe) {
  const SubprocessResult result = run({"sh", "-c", "sleep 60 & echo $!"});
  EXPECT_EQ(result.exit_code, 0);
  ::kill(std::stoi(result.out), SIGKILL);
}

TEST(Subprocess, NamesTheSignalThatEndedIt) { EXPECT_EQ(run({"sh", "-c", "kill -KILL $$"}).exit_code, 128 + SIGKILL); }

TEST(Subprocess, AddsToTheEnvironmentOrReplacesIt) {
  Subprocess subprocess;
  subprocess.argv = {"env"};
  subprocess.clean_env = std::vector<std::pair<std::string, std::string>>{{"PATH", "/usr/bin:/bin"}};
  subprocess.env = {{"A", "1"}, {"A", "2"}};
  EXPECT_EQ(run_subprocess(subprocess)->out, "PATH=/usr/bin:/bin\nA=2\n");
}

TEST(Subprocess, BoundsWhatItKeepsAndStillPassesOnEverything) {
  Subprocess subprocess;
  subprocess.argv = {"head", "-c", "1000000", "/dev/zero"};
  subprocess.limit = 1000;
  std::size_t passed_on = 0;
  const auto result = run_subprocess(subprocess, [&](std::string_view, std::string_view bytes) { passed_on += bytes.size(); });
  EXPECT_EQ(result->out.size(), 1000U);
  EXPECT_EQ(passed_on, 1000000U);
}

}  // namespace
}  // namespace gpustrap
