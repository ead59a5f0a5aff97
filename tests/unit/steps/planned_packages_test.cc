#include "agent/steps/planned_packages.h"

#include <unistd.h>

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/identity.h"
#include "agent/real_host.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> texts(const std::vector<SimulatedPackage>& packages) {
  std::vector<std::string> all;
  for (const SimulatedPackage& one : packages) all.push_back(one.name + " " + one.from + ">" + one.to);
  return all;
}

TEST(PlannedPackages, AreReadOffWhatPipAndUvSay) {
  EXPECT_THAT(texts(packages_of_pip("Collecting x\nWould install Typing_Extensions-4.12.2 x-1.0.post1\n", {{"x", "0.9"}})),
              ::testing::ElementsAre("typing-extensions >4.12.2", "x 0.9>1.0.post1"));
  EXPECT_THAT(texts(packages_of_pip(" - idna==3.9\n + idna==3.10\n + torch==2.9.0+cu126\n", {{"idna", "3.9"}})),
              ::testing::ElementsAre("idna 3.9>3.10", "torch >2.9.0+cu126"));
  EXPECT_THAT(packages_of_pip("Requirement already satisfied: idna in /x\n", {}), IsEmpty());
  EXPECT_THAT(packages_of_pip("Would install - -1 x\n + \n + ==1\n", {}), IsEmpty()) << "what is no such word is passed over";
}

TEST(PlannedPackages, AreReadOffCondasJson) {
  EXPECT_THAT(packages_of_conda(""), IsEmpty());
  EXPECT_THAT(packages_of_conda("{\"success\": true}"), IsEmpty());
  EXPECT_THAT(packages_of_conda("{\"actions\": [1]}"), IsEmpty());
  EXPECT_THAT(packages_of_conda("{\"actions\": {\"LINK\": [1, {\"name\": 2}]}}"), IsEmpty());
  EXPECT_THAT(texts(packages_of_conda("{\n \"actions\": {\"UNLINK\": [{\"name\": \"gone\", \"version\": \"1\"}]}\n}\n{\n}\n")),
              ::testing::ElementsAre("gone 1>"));
}

/// Programs of this machine, in a home of the test's.
class LookAside : public ::testing::Test {
 protected:
  LookAside() {
    self_ = identity_of_self();
    self_.home = directory_.path();
    cache_ = ::geteuid() == 0 ? "" : self_.home + "/.cache/gpustrap";
    if (!cache_.empty()) std::filesystem::create_directories(cache_);
  }
  Result<CommandResult> look(const std::string& script, PlanLimits limits = {}) {
    Command command;
    command.argv = {"sh", "-c", script};
    return look_aside(RealHost({}, self_, self_, {}), std::move(command), limits);
  }
  TemporaryDirectory directory_;
  Identity self_;
  std::string cache_;
};

TEST_F(LookAside, CachesAndTemporaryFilesLieInAFolderThatIsGoneAfterwards) {
  const Result<CommandResult> said = look(
      "echo made >$TMPDIR/a; mkdir -p $CONDA_PKGS_DIRS $UV_CACHE_DIR; touch $UV_CACHE_DIR/b; echo $TMPDIR; echo $XDG_CACHE_HOME; exit 3");
  ASSERT_TRUE(said.has_value()) << said.error().sentence();
  EXPECT_EQ(said->exit_code, 3);
  const std::vector<std::string> lines = split(said->out, '\n');
  ASSERT_GE(lines.size(), 2U) << said->err;
  EXPECT_EQ(lines[0], lines[1]);
  EXPECT_THAT(lines[0], HasSubstr("plan."));
  EXPECT_TRUE(lines[0].starts_with(cache_)) << lines[0];
  EXPECT_FALSE(path_exists(lines[0]));
}

TEST_F(LookAside, WhatTakesTooLongIsEndedAndLeavesNothing) {
  const std::string where = directory_ / "where";
  const Result<CommandResult> said = look("echo $TMPDIR >" + where + "; exec sleep 600", {std::chrono::seconds(1), 1U << 20U});
  ASSERT_FALSE(said.has_value());
  EXPECT_EQ(said.error().code(), ErrorCode::timeout);
  const std::string folder(trim(read_file(where).value_or("")));
  ASSERT_FALSE(folder.empty());
  EXPECT_FALSE(path_exists(folder));
}

TEST_F(LookAside, NoFileGrowsBeyondTheLimit) {
  const Result<CommandResult> said = look("head -c 3000000 /dev/zero >$TMPDIR/wheel", {std::chrono::seconds(20), 1U << 20U});
  ASSERT_TRUE(said.has_value());
  EXPECT_NE(said->exit_code, 0);
}

TEST_F(LookAside, AProgramThatIsNotThereIs127) {
  const Result<CommandResult> said = look_aside(RealHost({}, self_, self_, {}), {{"/nowhere/conda"}, {}, "", "", {}, {}}, {});
  ASSERT_TRUE(said.has_value());
  EXPECT_EQ(said->exit_code, 127);
}

}  // namespace
}  // namespace gpustrap
