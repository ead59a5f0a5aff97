#include "agent/base/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

TEST(RemoveTree, TakesEverythingUnderTheName) {
  const TemporaryDirectory home;
  ASSERT_TRUE(make_directories(home / "run/steps/one"));
  ASSERT_TRUE(write_file_atomically(home / "run/steps/one/log", "text"));
  ASSERT_TRUE(remove_tree_at(AT_FDCWD, home / "run"));
  EXPECT_FALSE(path_exists(home / "run"));
}

TEST(RemoveTree, LeavesWhatALinkPointsTo) {
  const TemporaryDirectory home;
  ASSERT_TRUE(make_directories(home / "run"));
  ASSERT_TRUE(make_directories(home / "precious"));
  ASSERT_TRUE(write_file_atomically(home / "precious/notebook", "work"));
  ASSERT_EQ(::symlink((home / "precious").c_str(), (home / "run/link").c_str()), 0);
  ASSERT_TRUE(remove_tree_at(AT_FDCWD, home / "run"));
  EXPECT_TRUE(path_exists(home / "precious/notebook"));
}

TEST(RemoveTree, IsContentWhereNothingIs) {
  const TemporaryDirectory home;
  EXPECT_TRUE(remove_tree_at(AT_FDCWD, home / "nothing"));
}

TEST(ReadFile, StopsAtItsLimit) {
  const TemporaryDirectory home;
  ASSERT_TRUE(write_file_atomically(home / "long", std::string(100'000, 'x')));
  EXPECT_TRUE(read_file(home / "long", 100'000));
  const Result<std::string> read = read_file(home / "long", 99'999);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), ErrorCode::io);
  EXPECT_EQ(read.error().sentence(), "reading " + (home / "long") + ": it is longer than 99999 bytes");
  EXPECT_EQ(read.error().hint(), "is it the right file?");
}

TEST(MakeDirectories, SaysWhatStandsInTheWay) {
  const TemporaryDirectory home;
  ASSERT_TRUE(write_file_atomically(home / "state", ""));
  const Result<void> made = make_directories(home / "state/runs");
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code(), ErrorCode::io);
  EXPECT_EQ(made.error().sentence(), "making " + (home / "state") + ": it exists and is not a directory");
  EXPECT_EQ(made.error().hint(), "move it away, or choose another path");
}

}  // namespace
}  // namespace gpustrap
