#include "controller/leaving.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "agent/base/unique_fd.h"

namespace gpustrap {
namespace {

struct Left {
  int status = 0;
  std::string said;
  bool way_is_gone = false;
};

/// A child that waits for `number` while it is on its way to a host, by a process that has a process of its own.
Left left_by(int number, bool is_ignored = false) {
  std::array<int, 2> told{}, said{};
  EXPECT_EQ(::pipe(told.data()), 0);
  EXPECT_EQ(::pipe(said.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(said[1], STDERR_FILENO);
    if (is_ignored) ::signal(number, SIG_IGN);
    const pid_t way = ::fork();
    if (way == 0) {
      const pid_t below = ::fork();
      if (below == 0) {
        ::close(told[0]);  // its end of `told` closes with it
        while (true) ::pause();
      }
      while (true) ::pause();
    }
    const LeavesAtOnce leaves("left before gpu let anybody in");
    const LeavesAtOnce of_another("not this");
    const WayToHost to_host(way);
    (void)!::write(told[1], "r", 1);
    ::close(told[1]);
    if (is_ignored) {
      ::raise(number);
      ::kill(way, SIGKILL);
      ::_exit(7);
    }
    while (true) ::pause();
  }
  ::close(told[1]);
  ::close(said[1]);
  const UniqueFd reads(told[0]), hears(said[0]);
  char ready = 0;
  EXPECT_EQ(::read(reads.get(), &ready, 1), 1);
  if (!is_ignored) ::kill(child, number);
  Left left;
  ::waitpid(child, &left.status, 0);
  if (is_ignored) return left;
  // All that held the pipes have gone, or this waits for ever.
  left.way_is_gone = ::read(reads.get(), &ready, 1) == 0;
  std::array<char, 256> text{};
  for (ssize_t got = 0; (got = ::read(hears.get(), text.data(), text.size())) > 0;)
    left.said.append(text.data(), static_cast<std::size_t>(got));
  return left;
}

TEST(Leaving, EndsTheProgramWithOneLineAndTheWayWithItsChildren) {
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    const Left left = left_by(number);
    EXPECT_TRUE(WIFEXITED(left.status) && WEXITSTATUS(left.status) == 130) << left.status;
    EXPECT_EQ(left.said, "left before gpu let anybody in\n");
    EXPECT_TRUE(left.way_is_gone);
  }
}

TEST(Leaving, LeavesASignalThatIsIgnoredAsItIs) {
  const Left left = left_by(SIGHUP, true);
  EXPECT_TRUE(WIFEXITED(left.status) && WEXITSTATUS(left.status) == 7) << "nohup";
}

TEST(Leaving, GivesTheSignalsBack) {
  struct sigaction before {
  }, within{}, after{};
  ::sigaction(SIGTERM, nullptr, &before);
  {
    const LeavesAtOnce leaves("x");
    ::sigaction(SIGTERM, nullptr, &within);
  }
  ::sigaction(SIGTERM, nullptr, &after);
  EXPECT_NE(within.sa_handler, before.sa_handler);
  EXPECT_EQ(after.sa_handler, before.sa_handler);
}

}  // namespace
}  // namespace gpustrap
