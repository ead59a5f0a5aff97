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

}  // namespace
}  // namespace gpustrap
