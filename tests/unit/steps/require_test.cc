#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/fake_host.h"
#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

TEST(RequireStep, NamesEverythingThatIsMissingAtOnce) {
  RequireSpec spec;
  spec.os.items = {"debian", "ubuntu >= 26.04"};
  spec.arch.items = {"aarch64"};
  spec.gpu = true;
  const FakeHost host;
  const StepState state = state_of(spec, host);
  EXPECT_EQ(state.is, StepState::Is::unsatisfied);
  EXPECT_THAT(state.reason, HasSubstr("debian or ubuntu >= 26.04 wanted"));
  EXPECT_THAT(state.reason, HasSubstr("aarch64 wanted"));
  EXPECT_THAT(state.reason, HasSubstr("no NVIDIA GPU"));
}

TEST(RequireStep, IsSatisfiedByAFittingRelease) {
  RequireSpec spec;
  spec.os.items = {"ubuntu >= 22.04"};
  EXPECT_EQ(state_of(spec, FakeHost()).is, StepState::Is::satisfied);
}

TEST(RequireStep, AFullDiskIsACauseOfItsOwn) {
  RequireSpec spec;
  spec.disk_free = ByteSize{std::uint64_t{40} << 30U};
  FakeHost host;
  host.set_disk_free(std::uint64_t{2} << 30U);
  const auto done = run_step(spec, host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::no_space);
  EXPECT_THAT(done.error().why(), HasSubstr("2.0 GiB free on /, 40.0 GiB wanted"));
}

TEST(RequireStep, NeverChangesTheHost) {
  RequireSpec spec;
  spec.gpu = true;
  FakeHost host;
  EXPECT_FALSE(run_step(spec, host).has_value());
  EXPECT_TRUE(host.changes().empty());
}

TEST(WaitStep, SaysWhoHoldsTheLockWhileItWaits) {
  FakeHost host({{"/var/lib/dpkg/lock-frontend", ""}, {"/proc/812/comm", "unattended-upgr\n"}});
  const std::uint64_t inode = host.info("/var/lib/dpkg/lock-frontend").value().value().inode;
  host.put("/proc/locks", "1: POSIX  ADVISORY  WRITE 812 fe:00:" + std::to_string(inode) + " 0 EOF\n");
  int pauses = 0;
  host.on_pause([&](FakeHost& fake) {
    if (++pauses == 3) fake.put("/proc/locks", "");
  });
  WaitSpec spec;
  spec.apt = true;
  RecordingLog log;
  const auto state = run_step(spec, host, log);
  ASSERT_TRUE(state.has_value()) << state.error().sentence();
  EXPECT_EQ(state->is, StepState::Is::satisfied);
  ASSERT_EQ(log.lines.size(), 1U);
  EXPECT_THAT(log.lines[0], HasSubstr("process 812 (unattended-upgr)"));
}

TEST(WaitStep, GivesUpAtItsLimitAndSaysWhatItWaitedFor) {
  WaitSpec spec;
  spec.file = HostPath{"/ready"};
  spec.limit = Duration{std::chrono::seconds(5)};
  FakeHost host;
  const auto state = run_step(spec, host);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code(), ErrorCode::timeout);
  EXPECT_THAT(state.error().why(), HasSubstr("/ready does not exist"));
  EXPECT_EQ(host.paused(), std::chrono::seconds(5));
}

TEST(WaitStep, AcceptsCloudInitsRecoverableErrors) {
  FakeHost host({{"/run/cloud-init/status.json", "{}"}});
  host.answer({"cloud-init", "status"}, {2, "status: done\n", ""});
  host.on_pause([](FakeHost& fake) { fake.put("/run/cloud-init/result.json", "{}"); });
  WaitSpec spec;
  spec.cloud_init = true;
  const auto state = run_step(spec, host);
  ASSERT_TRUE(state.has_value()) << state.error().sentence();
  EXPECT_EQ(state->is, StepState::Is::satisfied);
}

TEST(WaitStep, CloudInitsFailureIsTheStepsFailure) {
  FakeHost host({{"/run/cloud-init/status.json", "{}"}});
  host.answer({"cloud-init", "status"}, {1, "status: error\ndetail: no network\n", ""});
  host.on_pause([](FakeHost& fake) { fake.put("/run/cloud-init/result.json", "{}"); });
  WaitSpec spec;
  spec.cloud_init = true;
  const auto state = run_step(spec, host);
  ASSERT_FALSE(state.has_value());
  EXPECT_THAT(state.error().why(), HasSubstr("no network"));
}

TEST(WaitStep, ACloudInitThatEndedBeforeIsJudgedToo) {
  WaitSpec spec;
  spec.cloud_init = true;
  FakeHost host({{"/run/cloud-init/status.json", "{}"}, {"/run/cloud-init/result.json", "{\"v1\": {\n  \"errors\": []\n }}\n"}});
  EXPECT_EQ(state_of(spec, host).reason, "cloud-init is done");
  EXPECT_THAT(host.looks(), ::testing::Not(::testing::Contains(HasSubstr("cloud-init status")))) << "no Python for what a file says";

  host.put("/run/cloud-init/result.json", "{\"v1\": {\n  \"errors\": [\n   \"no network\"\n  ]\n }}\n");
  host.answer({"cloud-init", "status"}, {2, "status: done\n", ""});
  EXPECT_EQ(state_of(spec, host).reason, "cloud-init is done, with errors that it has recovered from");
  host.answer({"cloud-init", "status"}, {1, "status: error\ndetail: no network\n", ""});
  const auto state = make_step(spec)->check(host);
  ASSERT_FALSE(state.has_value());
  EXPECT_THAT(state.error().why(), HasSubstr("no network"));
}

WaitSpec wait_for_file() {
  WaitSpec spec;
  spec.file = HostPath{"/ready"};
  return spec;
}
INSTANTIATE_TEST_SUITE_P(Wait, StepContract,
                         ::testing::Values(ContractCase{"wait_file", wait_for_file(),
                                                        [] {
                                                          FakeHost host;
                                                          host.on_pause([](FakeHost& fake) { fake.put("/ready", ""); });
                                                          return host;
                                                        }}),
                         contract_name);

}  // namespace
}  // namespace gpustrap
