#include "agent/service_unit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

ServiceUnit unit_of(const std::string& lines) {
  const Result<ServiceUnit> read = read_service_unit("[Service]\n" + lines);
  EXPECT_TRUE(read.has_value()) << read.error().sentence();
  return read.value_or(ServiceUnit{});
}

TEST(ServiceUnit, ReadsWhatTheNotebooksUnitSays) {
  const Result<ServiceUnit> unit = read_service_unit(
      "# Written by gpustrap; changes are overwritten by the next run.\n"
      "[Unit]\nDescription=Jupyter server of ubuntu\nAfter=network.target\n\n"
      "[Service]\nUser=ubuntu\nWorkingDirectory=/home/ubuntu/my notebooks\n"
      "Environment=\"PATH=/home/ubuntu/env/bin:/usr/bin\"\nEnvironment=\"A=100%% of it\" B=2\n"
      "ExecStart=\"/home/ubuntu/env/bin/jupyter-lab\" --no-browser \"--ServerApp.root_dir=/home/ubuntu/my notebooks\"  --allow-root\n"
      "Restart=on-failure\nRestartSec=5\n\n[Install]\nWantedBy=multi-user.target\n");
  ASSERT_TRUE(unit.has_value()) << unit.error().sentence();
  EXPECT_EQ(unit->user, "ubuntu");
  EXPECT_EQ(unit->directory, "/home/ubuntu/my notebooks");
  EXPECT_THAT(unit->environment, ElementsAre("PATH=/home/ubuntu/env/bin:/usr/bin", "A=100% of it", "B=2"));
  EXPECT_THAT(unit->command, ElementsAre("/home/ubuntu/env/bin/jupyter-lab", "--no-browser",
                                         "--ServerApp.root_dir=/home/ubuntu/my notebooks", "--allow-root"));
  EXPECT_EQ(unit->restart, ServiceUnit::Restart::on_failure);
  EXPECT_EQ(unit->pause, 5s);
}

TEST(ServiceUnit, KnowsQuotesEscapesAndContinuedLines) {
  const ServiceUnit unit = unit_of("ExecStart=/bin/sh -c 'echo \"a b\"' \"c\\\"d\" \"\" f$$g 100%% \\\n  # no comment\n");
  EXPECT_THAT(unit.command, ElementsAre("/bin/sh", "-c", "echo \"a b\"", "c\"d", "", "f$g", "100%", "#", "no", "comment"));
}

TEST(ServiceUnit, LeavesDollarsOfTheEnvironmentAlone) {
  EXPECT_THAT(unit_of("ExecStart=/bin/true\nEnvironment=A=$HOME$$\n").environment, ElementsAre("A=$HOME$$"));
}

TEST(ServiceUnit, ReadsSpans) {
  EXPECT_EQ(unit_of("ExecStart=/bin/true\n").pause, 100ms);
  EXPECT_EQ(unit_of("ExecStart=/bin/true\nRestartSec=250ms\n").pause, 250ms);
  EXPECT_EQ(unit_of("ExecStart=/bin/true\nRestartSec=2min\nTimeoutStopSec=3s\n").pause, 120s);
  EXPECT_EQ(unit_of("ExecStart=/bin/true\nTimeoutStopSec=3s\n").patience, 3s);
}

class RefusedUnit : public ::testing::TestWithParam<const char*> {};

TEST_P(RefusedUnit, NamesWhatItDoesNotKnow) {
  const std::string text = std::string("[Unit]\nDescription=x\n[Service]\nExecStart=/bin/true\n") + GetParam() + "\n";
  const Result<ServiceUnit> unit = read_service_unit(text);
  ASSERT_FALSE(unit.has_value()) << GetParam();
  EXPECT_EQ(unit.error().code(), ErrorCode::unsupported);
  EXPECT_THAT(unit.error().why(), HasSubstr(GetParam()));
  EXPECT_THAT(unit.error().hint(), HasSubstr("systemd"));
}

INSTANTIATE_TEST_SUITE_P(ServiceUnit, RefusedUnit,
                         ::testing::Values("KillMode=process", "EnvironmentFile=/etc/default/web", "ExecStartPre=/bin/true",
                                           "ExecStart=/bin/second", "Type=forking", "Type=oneshot", "Restart=on-abnormal",
                                           "RestartSec=infinity", "RestartSec=-1", "User=%i", "WorkingDirectory=%h", "WorkingDirectory=-/a",
                                           "Environment=NAME", "Environment=A=%h", "Environment=\"A=1", "ExecStop"));

TEST(ServiceUnit, RefusesWhatSystemdWouldReplaceInACommand) {
  for (const char* command :
       {"/bin/echo $HOME", "/bin/echo ${HOME}", "/bin/echo %h", "-/bin/false", "/bin/echo 'open", "/bin/echo \\q", ""}) {
    const Result<ServiceUnit> unit = read_service_unit(std::string("[Service]\nExecStart=") + command + "\n");
    ASSERT_FALSE(unit.has_value()) << command;
    EXPECT_EQ(unit.error().code(), ErrorCode::unsupported) << command;
  }
  EXPECT_THAT(unit_of("ExecStart=/bin/echo $ 5$ $1\n").command, ElementsAre("/bin/echo", "$", "5$", "$1"));
}

TEST(ServiceUnit, RefusesOtherSections) {
  const Result<ServiceUnit> unit = read_service_unit("[Service]\nExecStart=/bin/true\n[Socket]\nListenStream=80\n");
  ASSERT_FALSE(unit.has_value());
  EXPECT_THAT(unit.error().why(), HasSubstr("[Socket] ListenStream=80"));
}

TEST(ServiceUnit, RefusesOneThatStartsNothing) {
  const Result<ServiceUnit> unit = read_service_unit("[Unit]\nDescription=x\n[Service]\nUser=root\n");
  ASSERT_FALSE(unit.has_value());
  EXPECT_THAT(unit.error().why(), HasSubstr("ExecStart"));
}

}  // namespace
}  // namespace gpustrap
