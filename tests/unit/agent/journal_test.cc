#include "agent/journal.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"

namespace gpustrap {
namespace {

class JournalTest : public ::testing::Test {
 protected:
  JournalTest() {
    std::string name = ::testing::TempDir() + "journalXXXXXX";
    directory_ = ::mkdtemp(name.data());
    path_ = directory_ + "/events.jsonl";
  }
  ~JournalTest() override { std::filesystem::remove_all(directory_); }

  static std::uint64_t sequence_in(const std::string& line) { return parse_line(line)->at("seq").get<std::uint64_t>(); }

  std::string directory_;
  std::string path_;
};

TEST_F(JournalTest, NumbersEventsFromOneWithoutGaps) {
  auto journal = Journal::open(path_);
  ASSERT_TRUE(journal.has_value());
  EXPECT_EQ(sequence_in(*journal->append(StepStarted{"a"})), 1U);
  EXPECT_EQ(sequence_in(*journal->append(StepStarted{"b"}, Journal::Durability::synced)), 2U);
  EXPECT_EQ(journal->last(), 2U);
}

TEST_F(JournalTest, DropsATornLastLineAndGoesOnBehindTheLastWholeOne) {
  {
    auto journal = Journal::open(path_);
    ASSERT_TRUE(journal->append(StepStarted{"a"}).has_value());
    ASSERT_TRUE(journal->append(StepStarted{"b"}).has_value());
  }
  std::ofstream(path_, std::ios::app) << "{\"event\":\"step_fin";
  auto journal = Journal::open(path_);
  ASSERT_TRUE(journal.has_value());
  EXPECT_EQ(journal->last(), 2U);
  ASSERT_TRUE(journal->append(StepStarted{"c"}).has_value());
  const std::vector<std::string> lines = split(*read_file(path_), '\n');
  ASSERT_EQ(lines.size(), 4U);  // three events and what follows the last newline
  EXPECT_EQ(sequence_in(lines[2]), 3U);
  EXPECT_EQ(lines[3], "");
}

TEST_F(JournalTest, KeepsRoomForItsEndAndGivesBackWhatIsLeft) {
  const auto on_disk = [&] {
    struct stat info {};
    EXPECT_EQ(::stat(path_.c_str(), &info), 0);
    return static_cast<std::int64_t>(info.st_blocks) * 512;
  };
  auto journal = Journal::open(path_);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(journal->append(StepOutput{"a", "out", std::string(30000, 'x')}).has_value());
    const auto size = static_cast<std::int64_t>(std::filesystem::file_size(path_));
    EXPECT_GE(on_disk() - size, 200 << 10) << "after " << size << " bytes";
  }
  EXPECT_FALSE(journal->is_short_of_room());
  journal->close_room();
  EXPECT_LT(on_disk() - static_cast<std::int64_t>(std::filesystem::file_size(path_)), 16 << 10);
  auto again = Journal::open(path_);
  EXPECT_EQ(again->last(), 20U);
}

TEST_F(JournalTest, IsReadableByItsOwnerAlone) {
  ASSERT_TRUE(Journal::open(path_).has_value());
  EXPECT_EQ(std::filesystem::status(path_).permissions(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(JournalTest, ATailStartsBehindTheEventAskedFor) {
  auto journal = Journal::open(path_);
  for (const char* step : {"a", "b", "c"}) ASSERT_TRUE(journal->append(StepStarted{step}).has_value());
  auto tail = JournalTail::open(path_, 2);
  ASSERT_TRUE(tail.has_value());
  EXPECT_EQ(sequence_in(std::string(trim(*tail->next()))), 3U);
  EXPECT_EQ(*tail->next(), "");
  ASSERT_TRUE(journal->append(StepStarted{"d"}).has_value());
  EXPECT_EQ(sequence_in(std::string(trim(*tail->next()))), 4U);
}

TEST_F(JournalTest, ATailIsWokenByTheClockWhereNoWatchIsLeft) {
  auto journal = Journal::open(path_);
  enum Answer { woken, no_namespace, has_watches, not_opened, not_woken };
  // In a child: a namespace of users is for good, and a limit of 0 in it is for nobody else.
  const pid_t child = ::fork();
  if (child == 0) {
    if (::unshare(CLONE_NEWUSER) != 0) ::_exit(no_namespace);
    std::ofstream("/proc/sys/user/max_inotify_instances") << "0" << std::flush;
    if (const int watch = ::inotify_init1(IN_CLOEXEC); watch >= 0) ::_exit(has_watches);
    auto tail = JournalTail::open(path_, 0);
    if (!tail) ::_exit(not_opened);
    for (int times = 0; times < 2; ++times) {
      pollfd until{tail->descriptor(), POLLIN, 0};
      if (::poll(&until, 1, 10'000) != 1) ::_exit(not_woken);
      tail->drained();
    }
    ::_exit(woken);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == no_namespace) GTEST_SKIP() << "this system gives nobody a namespace of users";
  EXPECT_EQ(WEXITSTATUS(status), woken);
}

TEST_F(JournalTest, ATailReadsATornLineAnewOnceItHasBeenCutOff) {
  {
    auto journal = Journal::open(path_);
    ASSERT_TRUE(journal->append(StepStarted{"a"}).has_value());
  }
  std::ofstream(path_, std::ios::app) << "{\"event\":\"step_finished\",\"seq\":2,\"time_ms\":17172369";
  auto tail = JournalTail::open(path_, 0);
  EXPECT_EQ(sequence_in(std::string(trim(*tail->next()))), 1U);
  auto journal = Journal::open(path_);
  ASSERT_TRUE(journal->append(StepStarted{"b"}).has_value());
  EXPECT_EQ(parse_line(trim(*tail->next()))->at("step"), "b");
}

/// Two runners: the second took the journal up behind event 3.
class RewoundTest : public JournalTest {
 protected:
  RewoundTest() {
    auto journal = Journal::open(path_);
    (void)journal->append(RunStarted{});
    (void)journal->append(RunnerStarted{1, 1, 7, "boot-1", {}});
    (void)journal->append(StepStarted{"a"});
    (void)journal->append(RunnerStarted{2, 3, 8, "boot-2", {"a"}});
    for (const char* step : {"a", "b", "c"}) (void)journal->append(StepStarted{step});
  }
  std::optional<std::uint64_t> to(std::uint64_t after, std::uint64_t incarnation) { return rewound_to(path_, after, incarnation).value(); }
};

TEST_F(RewoundTest, OneWhoHasSeenNothingElseGoesOn) {
  EXPECT_EQ(to(0, 0), std::nullopt);
  EXPECT_EQ(to(3, 1), std::nullopt);
  EXPECT_EQ(to(7, 2), std::nullopt);
}

TEST_F(RewoundTest, OneWhoHasSeenMoreOfTheFirstRunnerGoesBack) { EXPECT_EQ(to(6, 1), 3U) << "though the journal has grown beyond"; }

TEST_F(RewoundTest, AJournalThatIsShorterIsAllThatCounts) {
  EXPECT_EQ(to(9, 2), 7U);
  EXPECT_EQ(to(9, 0), 7U) << "for one who has not told which runner it knows";
}

TEST_F(JournalTest, ATailNeverPassesOnHalfALine) {
  std::ofstream file(path_);
  file << "{\"a\":1}\n{\"b\"" << std::flush;
  auto tail = JournalTail::open(path_, 0);
  EXPECT_EQ(*tail->next(), "{\"a\":1}\n");
  EXPECT_EQ(*tail->next(), "");
  file << ":2}\n" << std::flush;
  EXPECT_EQ(*tail->next(), "{\"b\":2}\n");
}

}  // namespace
}  // namespace gpustrap
