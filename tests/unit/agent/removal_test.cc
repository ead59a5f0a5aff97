#include "agent/removal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "agent/base/file.h"
#include "agent/identity.h"
#include "agent/protocol/json.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::Not;

class RemovalTest : public ::testing::Test {
 protected:
  RemovalTest() : login_(identity_of_self()) {
    login_.home = directory_.path() + "/home";
    paths_ = {directory_.path() + "/state", directory_.path() + "/runtime"};
    put(paths_.state + "/runs/r1/run.json");
    put(paths_.runtime + "/run.sock");
    put(login_.home + "/.cache/gpustrap/part");
    put(login_.home + "/.local/state/gpustrap/archives/a.json");
    put(login_.home + "/.local/state/other/kept");
    put(login_.home + "/work");
  }
  static void put(const std::string& path) {
    std::filesystem::create_directories(parent_of(path));
    std::ofstream(path) << "x";
  }
  static std::vector<std::string> listed(const Json& description) { return description.at("paths").get<std::vector<std::string>>(); }

  TemporaryDirectory directory_;
  Identity login_;
  AgentPaths paths_;
};

TEST_F(RemovalTest, ListsWithoutTouching) {
  const std::vector<std::string> list = listed(removal_list(paths_, login_));
  EXPECT_THAT(list, Contains(paths_.state));
  EXPECT_THAT(list, Contains(paths_.runtime));
  EXPECT_THAT(list, Contains(login_.home + "/.cache/gpustrap"));
  EXPECT_TRUE(path_exists(paths_.state + "/runs/r1/run.json"));
}

TEST_F(RemovalTest, RemovesWhatItListsAndNothingElse) {
  const Json list = removal_list(paths_, login_);
  const Result<Json> removed = remove_all(paths_, login_);
  ASSERT_TRUE(removed.has_value()) << removed.error().sentence();
  EXPECT_EQ(*removed, list);
  for (const std::string& path : listed(list)) EXPECT_FALSE(path_exists(path)) << path;
  EXPECT_FALSE(path_exists(login_.home + "/.local/state/gpustrap"));
  EXPECT_TRUE(path_exists(login_.home + "/.local/state/other/kept"));
  EXPECT_TRUE(path_exists(login_.home + "/work"));
}

TEST_F(RemovalTest, LeavesTheTokenOfANotebook) {
  const std::string token = login_.home + "/.local/state/gpustrap/jupyter-lab.token";
  put(token);
  ASSERT_TRUE(remove_all(paths_, login_).has_value());
  EXPECT_TRUE(path_exists(token));
}

TEST_F(RemovalTest, LeavesServicesThatRunWithoutSystemd) {
  put(paths_.services() + "/web.service");
  const Json list = removal_list(paths_, login_);
  EXPECT_THAT(listed(list), Not(Contains(paths_.state)));
  EXPECT_THAT(listed(list), Contains(paths_.runs()));
  EXPECT_THAT(listed(list), Not(Contains(paths_.services())));
  const Result<Json> removed = remove_all(paths_, login_);
  ASSERT_TRUE(removed.has_value()) << removed.error().sentence();
  EXPECT_EQ(*removed, list);
  EXPECT_TRUE(path_exists(paths_.services() + "/web.service"));
  EXPECT_FALSE(path_exists(paths_.runs()));
}

TEST_F(RemovalTest, FollowsNoLink) {
  put(directory_.path() + "/elsewhere/kept");
  std::filesystem::remove_all(login_.home + "/.cache/gpustrap");
  std::filesystem::create_symlink(directory_.path() + "/elsewhere", login_.home + "/.cache/gpustrap");
  ASSERT_TRUE(remove_all(paths_, login_).has_value());
  EXPECT_TRUE(path_exists(directory_.path() + "/elsewhere/kept"));
  EXPECT_FALSE(std::filesystem::is_symlink(login_.home + "/.cache/gpustrap"));
}

TEST_F(RemovalTest, WithoutRootTheHomeIsAll) {
  const AgentPaths own = user_paths(login_.home);
  put(own.runs() + "/r1/run.json");
  const std::vector<std::string> list = listed(removal_list(own, login_));
  EXPECT_THAT(list, Contains(own.runs()));
  EXPECT_THAT(list, Not(Contains(own.state)));
  ASSERT_TRUE(remove_all(own, login_).has_value());
  EXPECT_FALSE(path_exists(own.state));
  EXPECT_TRUE(path_exists(paths_.state + "/runs/r1/run.json"));
}

TEST_F(RemovalTest, WhatTheLoginMayNotRemoveIsNamed) {
  if (::geteuid() == 0) {
    login_.uid = login_.gid = 65534;
    login_.groups = {65534};
    login_.name = "nobody";
    std::filesystem::permissions(directory_.path(), std::filesystem::perms(0755));
  }
  const std::string folder = login_.home + "/.cache/gpustrap";
  std::filesystem::permissions(folder, std::filesystem::perms(0555));
  const Result<Json> removed = remove_all(paths_, login_);
  std::filesystem::permissions(folder, std::filesystem::perms(0755));
  ASSERT_FALSE(removed.has_value());
  EXPECT_EQ(removed.error().code(), ErrorCode::permission);
  EXPECT_THAT(removed.error().why(), ::testing::StartsWith(login_.name + " could not remove " + login_.home + "/."));
  EXPECT_THAT(removed.error().hint(), ::testing::HasSubstr("look at who owns it"));
}

}  // namespace
}  // namespace gpustrap
