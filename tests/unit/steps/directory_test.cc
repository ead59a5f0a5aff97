#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

DirectorySpec spec_of(std::string path) {
  DirectorySpec spec;
  spec.path.text = std::move(path);
  return spec;
}

DirectorySpec private_spec() {
  DirectorySpec spec = spec_of("/srv/data");
  spec.mode = FileMode{0750};
  spec.owner = "ubuntu";
  spec.group = "ubuntu";
  return spec;
}

INSTANTIATE_TEST_SUITE_P(Directory, StepContract,
                         ::testing::Values(ContractCase{"directory_new", spec_of("/srv/a/b"), [] { return FakeHost(); }},
                                           ContractCase{"directory_in_the_home", spec_of("~/work"),
                                                        [] { return std::move(FakeHost().as_user()); }},
                                           ContractCase{"directory_with_other_owner", private_spec(),
                                                        [] { return std::move(FakeHost().put_directory("/srv/data")); }}),
                         contract_name);

TEST(DirectoryStep, SaysThatItMadeIt) {
  FakeHost host;
  EXPECT_EQ(run_step(spec_of("/srv/data"), host)->reason, "/srv/data made");
  EXPECT_EQ(state_of(spec_of("/srv/data"), host).reason, "/srv/data exists");
  EXPECT_EQ(run_step(private_spec(), host)->reason, "/srv/data exists") << "only its mode and owner were changed";
}

TEST(DirectoryStep, SetsModeAndOwner) {
  FakeHost host;
  ASSERT_TRUE(run_step(private_spec(), host));
  EXPECT_EQ(host.at("/srv/data")->mode, 0750U);
  EXPECT_EQ(host.at("/srv/data")->uid, 1000U);
  EXPECT_EQ(host.at("/srv/data")->gid, 1000U);
}

TEST(DirectoryStep, SaysWhichAttributeDiffers) {
  FakeHost host;
  host.put_directory("/srv/data", 0755);
  EXPECT_EQ(state_of(private_spec(), host).reason,
            "mode is 0755, 0750 wanted; owner is uid 0, ubuntu wanted; group is gid 0, ubuntu wanted");
}

TEST(DirectoryStep, NeverReplacesAFile) {
  FakeHost host({{"/srv/data", "precious"}});
  const auto result = run_step(spec_of("/srv/data"), host);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().why(), HasSubstr("is a file"));
  EXPECT_EQ(host.content("/srv/data"), "precious");
}

TEST(DirectoryStep, RootDoesNotFollowALinkThatAUserMade) {
  FakeHost host;
  host.put_directory("/etc/secret", 0700).put_symlink("/home/ubuntu/data", "/etc/secret");
  DirectorySpec spec = spec_of("/home/ubuntu/data");
  spec.mode = FileMode{0777};
  const auto result = run_step(spec, host);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::unsafe);
  EXPECT_EQ(host.at("/etc/secret")->mode, 0700U);
}

TEST(DirectoryStep, FollowsALinkOfRoot) {
  FakeHost host;
  host.put_directory("/data").put_symlink("/srv", "/data");
  EXPECT_EQ(state_of(spec_of("/srv"), host).is, StepState::Is::satisfied);
}

TEST(DirectoryStep, NamesAUserThatDoesNotExist) {
  FakeHost host;
  DirectorySpec spec = spec_of("/srv/data");
  spec.owner = "nobody-here";
  const auto result = run_step(spec, host);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().why(), HasSubstr("no user `nobody-here`"));
  EXPECT_FALSE(host.at("/srv/data"));
}

}  // namespace
}  // namespace gpustrap
