#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

SymlinkSpec link(std::string path, std::string target) { return {HostPath{std::move(path)}, HostPath{std::move(target)}}; }

INSTANTIATE_TEST_SUITE_P(
    Symlink, StepContract,
    ::testing::Values(ContractCase{"symlink_new", link("/usr/local/cuda", "/usr/local/cuda-12.8"), [] { return FakeHost(); }},
                      ContractCase{"symlink_elsewhere", link("/usr/local/cuda", "/usr/local/cuda-12.8"),
                                   [] { return std::move(FakeHost().put_symlink("/usr/local/cuda", "/usr/local/cuda-11.8")); }},
                      ContractCase{"symlink_in_a_new_folder", link("~/bin/python", "~/venv/bin/python"),
                                   [] { return std::move(FakeHost().as_user()); }}),
    contract_name);

TEST(SymlinkStep, SaysWhereItPointsNow) {
  FakeHost host;
  host.put_symlink("/usr/local/cuda", "/usr/local/cuda-11.8");
  EXPECT_EQ(state_of(link("/usr/local/cuda", "/usr/local/cuda-12.8"), host).reason,
            "/usr/local/cuda points to /usr/local/cuda-11.8, /usr/local/cuda-12.8 wanted");
}

TEST(SymlinkStep, NeverReplacesAFileOrADirectory) {
  FakeHost host({{"/opt/file", "precious"}});
  host.put_directory("/opt/folder");
  for (const char* path : {"/opt/file", "/opt/folder"}) {
    const auto result = run_step(link(path, "/opt/other"), host);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), ErrorCode::unsafe);
    EXPECT_THAT(result.error().why(), HasSubstr("never replaces"));
  }
  EXPECT_EQ(host.content("/opt/file"), "precious");
  EXPECT_TRUE(host.changes().empty());
}

TEST(SymlinkStep, SaysThatItsTargetIsMissing) {
  FakeHost host;
  host.put_symlink("/opt/link", "/opt/nothing");
  const StepState state = state_of(link("/opt/link", "/opt/nothing"), host);
  EXPECT_EQ(state.is, StepState::Is::satisfied);
  EXPECT_THAT(state.reason, HasSubstr("which does not exist"));
}

}  // namespace
}  // namespace gpustrap
