#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/fake_host.h"
#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

RebootSpec always() {
  RebootSpec spec;
  spec.mode = RebootSpec::Mode::always;
  return spec;
}

FakeHost required_host() { return FakeHost({{"/run/reboot-required", "*** System restart required ***\n"}}); }

/// Kernels that are installed and could be booted.
void install_kernels(FakeHost& host, const std::vector<std::string>& releases) {
  for (const std::string& release : releases) host.put_directory("/lib/modules/" + release).put("/boot/vmlinuz-" + release, "");
}

TEST(RebootStep, LeavesAHostAloneThatNeedsNone) {
  FakeHost host;
  const StepState state = state_of(RebootSpec{}, host);
  EXPECT_EQ(state.is, StepState::Is::satisfied);
  EXPECT_EQ(state.reason, "no restart is required");
}

TEST(RebootStep, NamesThePackagesThatAskForIt) {
  FakeHost host = required_host();
  host.put("/run/reboot-required.pkgs", "linux-base\nlibc6\nlibc6\n");
  const StepState state = state_of(RebootSpec{}, host);
  EXPECT_EQ(state.is, StepState::Is::unsatisfied);
  EXPECT_EQ(state.reason, "the system asks for a restart (libc6, linux-base)");
}

TEST(RebootStep, SeesAKernelThatIsNewerThanTheRunningOne) {
  FakeHost host;
  host.edit_facts().kernel = "6.8.0-1008-aws";
  install_kernels(host, {"6.8.0-1008-aws", "6.8.0-999-aws", "6.8.0-1021-aws", "6.11.0-1003-generic"});
  const StepState state = state_of(RebootSpec{}, host);
  EXPECT_EQ(state.is, StepState::Is::unsatisfied);
  EXPECT_EQ(state.reason, "kernel 6.8.0-1021-aws is installed, 6.8.0-1008-aws runs");
}

TEST(RebootStep, AKernelThatCannotBeBootedDoesNotCount) {
  FakeHost host;
  host.edit_facts().kernel = "6.8.0-1008-aws";
  host.put_directory("/lib/modules/6.8.0-1021-aws");  // removed, with modules of DKMS left behind
  EXPECT_EQ(state_of(RebootSpec{}, host).is, StepState::Is::satisfied);
}

TEST(RebootStep, IsSatisfiedOnceTheBootIdHasChanged) {
  FakeHost host;
  const auto state = run_step(always(), host);
  ASSERT_TRUE(state.has_value()) << state.error().sentence();
  EXPECT_EQ(state->is, StepState::Is::satisfied);
  EXPECT_EQ(state->reason, "the host was restarted");
  EXPECT_THAT(host.changes(), ElementsAre("reboot"));
}

TEST(RebootStep, SaysWhenARestartDidNotSettleIt) {
  FakeHost host = required_host();
  host.on_reboot([](FakeHost& fake, const RebootWish&) { fake.put("/run/reboot-required", ""); });
  const auto state = run_step(RebootSpec{}, host);
  ASSERT_TRUE(state.has_value()) << state.error().sentence();
  EXPECT_EQ(state->is, StepState::Is::satisfied);
  EXPECT_THAT(state->reason, HasSubstr("restarted, but the system asks"));
}

TEST(RebootStep, TellsTheUsersOfTheHostWhy) {
  FakeHost host = required_host();
  std::string told;
  host.on_reboot([&](FakeHost&, const RebootWish& wish) { told = wish.message; });
  ASSERT_TRUE(run_step(RebootSpec{}, host).has_value());
  EXPECT_THAT(told, HasSubstr("the system asks for a restart"));
  RebootSpec spec = always();
  spec.message = "back in a minute";
  ASSERT_TRUE(make_step(spec)->apply(host, *std::make_unique<RecordingLog>()).has_value());
  EXPECT_EQ(told, "back in a minute");
}

TEST(RebootStep, RefusesAContainerThatARestartWouldEnd) {
  FakeHost host({{"/run/systemd/container", "docker\n"}});
  host.edit_facts().container = true;
  const auto state = make_step(always())->check(host);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code(), ErrorCode::unsupported);
  EXPECT_THAT(state.error().why(), HasSubstr("docker"));
  EXPECT_EQ(state_of(RebootSpec{}, host).is, StepState::Is::satisfied) << "nothing is refused that is not wanted";
}

TEST(RebootStep, RestartsAContainerThatIsKeptLikeAMachine) {
  FakeHost host({{"/run/systemd/container", "systemd-nspawn"}});
  host.edit_facts().container = true;
  EXPECT_EQ(state_of(always(), host).is, StepState::Is::unsatisfied);
}

TEST(RebootStep, RefusesAHostWithoutSystemd) {
  FakeHost host;
  host.edit_facts().systemd = false;
  const auto state = make_step(always())->check(host);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code(), ErrorCode::unsupported);
  EXPECT_THAT(state.error().why(), HasSubstr("systemd"));
}

TEST(RebootStep, RefusesAHostThatDoesNotTellItsBoots) {
  FakeHost host;
  host.edit_facts().boot_id.clear();
  const auto state = make_step(always())->check(host);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code(), ErrorCode::unsupported);
  EXPECT_EQ(state.error().why(), "this host does not tell its boot id, so a restart could not be told from none");
  EXPECT_THAT(state.error().hint(), HasSubstr("/proc/sys/kernel/random/boot_id"));
}

/// ann is at work, ubuntu is the run's own login, a cron job of root's runs, bob has just left.
FakeHost busy_host() {
  FakeHost host;
  host.answer({"loginctl", "list-sessions"},
              {0, "   3 1000 ubuntu seat0 pts/0\n   5 1001 ann    -     pts/1\n   7 0 root\n   9 1002 bob - pts/2\n", ""});
  host.answer({"loginctl", "show-session", "5"}, {0, "Class=user\nState=active\n", ""});
  host.answer({"loginctl", "show-session", "7"}, {0, "Class=background\nState=active\n", ""});
  host.answer({"loginctl", "show-session", "9"}, {0, "Class=user\nState=closing\n", ""});
  return host;
}

TEST(RebootStep, NamesTheUsersWhoseWorkItWouldEnd) {
  FakeHost host = busy_host();
  const auto state = run_step(always(), host);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code(), ErrorCode::busy);
  EXPECT_THAT(state.error().why(), HasSubstr("ann is logged in"));
  EXPECT_THAT(state.error().hint(), HasSubstr("allow_disruption"));
  EXPECT_TRUE(host.changes().empty());
}

TEST(RebootStep, DisruptsThemWhereThatIsAllowed) {
  FakeHost host = busy_host();
  RebootSpec spec = always();
  spec.allow_disruption = true;
  RecordingLog log;
  ASSERT_TRUE(run_step(spec, host, log).has_value());
  EXPECT_THAT(host.changes(), Contains("reboot"));
  ASSERT_EQ(log.lines.size(), 1U);
  EXPECT_THAT(log.lines[0], HasSubstr("ann is logged in"));
}

TEST(RebootStep, NamesTheProgramsOnTheGpusThatItWouldEnd) {
  FakeHost host = busy_host();
  host.answer({"nvidia-smi", "--query-compute-apps=pid,process_name"}, {0, "812, python3\n990, /opt/train\n", ""});
  const auto state = run_step(always(), host);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code(), ErrorCode::busy);
  EXPECT_EQ(state.error().why(), "ann is logged in; 812 (python3), 990 (/opt/train) compute on the GPUs, and a restart would end that");
  EXPECT_TRUE(host.changes().empty());
  RebootSpec spec = always();
  spec.allow_disruption = true;
  EXPECT_TRUE(run_step(spec, host).has_value());
  EXPECT_THAT(host.changes(), Contains("reboot"));
}

TEST(RebootStep, ADriverThatDoesNotAnswerIsNoReasonToWait) {
  FakeHost host;
  host.answer({"nvidia-smi"}, {9, "", "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver\n"});
  EXPECT_TRUE(run_step(always(), host).has_value());
}

TEST(RebootStep, WhatHasAGpuOpenCountsWhereTheDriverAnswersNobody) {
  FakeHost host;
  host.answer({"nvidia-smi"}, {18, "", "Failed to initialize NVML: Driver/library version mismatch\n"});
  host.put("/proc/700/comm", "nvidia-persiste\n").put_symlink("/proc/700/fd/3", "/dev/nvidia0");
  host.put("/proc/812/comm", "python3\n").put_symlink("/proc/812/fd/0", "/dev/null").put_symlink("/proc/812/fd/7", "/dev/nvidia0");
  host.put("/proc/813/comm", "watch\n").put_symlink("/proc/813/fd/3", "/dev/nvidiactl");
  const auto state = run_step(always(), host);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code(), ErrorCode::busy);
  EXPECT_THAT(state.error().why(), HasSubstr("812 (python3) computes on the GPUs"));
}

INSTANTIATE_TEST_SUITE_P(Reboot, StepContract,
                         ::testing::Values(ContractCase{"reboot_required", RebootSpec{}, [] { return required_host(); }}), contract_name);

}  // namespace
}  // namespace gpustrap
