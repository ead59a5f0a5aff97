#include "agent/steps/deb_package.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/sha256.h"
#include "tests/support/fake_apt.h"
#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* kUrl = "https://example.org/pool/tool_2.0-1_amd64.deb";

DebSpec tool(const std::string& content = fake_deb("tool", "2.0-1")) {
  DebSpec spec;
  spec.url = Url{kUrl};
  spec.sha256 = Sha256Digest{sha256_hex(content)};
  return spec;
}

FakeHost host_with_tool(const std::string& content = fake_deb("tool", "2.0-1")) {
  FakeHost host = host_with_dpkg();
  host.serve(kUrl, content);
  return host;
}

TEST(DebStep, InstallsThroughAptAndRemembersWhatTheFileHeld) {
  FakeHost host = host_with_tool();
  EXPECT_EQ(state_of(tool(), host).is, StepState::Is::unknown);
  EXPECT_THAT(state_of(tool(), host).reason, HasSubstr("is not known before it is fetched"));
  const auto done = run_step(tool(), host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->reason, "tool 2.0-1 is installed");
  EXPECT_THAT(host.changes(), Contains(HasSubstr("APT::Status-Fd=3 install -- /var/lib/gpustrap/cache/")));
  EXPECT_THAT(host.snapshot(), Not(HasSubstr("cache/" + tool().sha256->hex))) << "what is installed needs no copy";
}

TEST(DebStep, AWarmCheckFetchesNothingAndStartsNoProcess) {
  FakeHost host = host_with_tool();
  ASSERT_TRUE(run_step(tool(), host).has_value());
  host.forget();
  ASSERT_TRUE(run_step(tool(), host).has_value());
  EXPECT_THAT(host.changes(), ::testing::IsEmpty());
  EXPECT_THAT(host.looks(), Not(Contains(StartsWith("look "))));
}

TEST(DebStep, FetchesNothingWhereTheRecipeSaysWhatItHolds) {
  FakeHost host = host_with_dpkg(dpkg_stanza("tool", "2.0-1"));  // the URL leads nowhere
  DebSpec spec = tool();
  spec.package = "tool";
  spec.version = "2.0-1";
  EXPECT_EQ(state_of(spec, host).reason, "tool 2.0-1 is installed");
  spec.version = "2.1-1";
  EXPECT_EQ(state_of(spec, host).reason, "tool 2.0-1 installed, 2.1-1 wanted");
  spec.version = "1.9-1";
  EXPECT_EQ(state_of(spec, host).reason, "tool 2.0-1 is installed, newer than 1.9-1");
}

TEST(DebStep, AnInstallationThatWasCutShortIsNone) {
  FakeHost host = host_with_dpkg(dpkg_stanza("tool", "2.0-1", "install ok half-configured"));
  DebSpec spec = tool();
  spec.package = "tool";
  spec.version = "2.0-1";
  EXPECT_EQ(state_of(spec, host).reason, "tool is not installed");
}

TEST(DebStep, APackageThatProvidesTheNameIsAnotherOne) {
  FakeHost host = host_with_dpkg("Package: other\nStatus: install ok installed\nVersion: 2.0-1\nProvides: tool\n\n");
  DebSpec spec = tool();
  spec.package = "tool";
  spec.version = "2.0-1";
  EXPECT_EQ(state_of(spec, host).reason, "tool is not installed");
}

TEST(DebStep, AnotherFileThanTheRecipeSaysIsNotInstalled) {
  FakeHost host = host_with_tool();
  DebSpec spec = tool();
  spec.package = "tool";
  spec.version = "3.0-1";
  const auto done = run_step(spec, host);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().why(), HasSubstr("holds tool 2.0-1, the recipe says tool 3.0-1"));
  EXPECT_THAT(host.changes(), Not(Contains(HasSubstr("apt-get"))));
}

TEST(DebStep, TheWrongDigestIsNotInstalled) {
  FakeHost host = host_with_tool(fake_deb("tool", "6.6.6"));
  const auto done = run_step(tool(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::digest);
  EXPECT_THAT(host.changes(), Not(Contains(HasSubstr("apt-get"))));
}

TEST(DebStep, APageIsNoPackage) {
  const std::string page = "<html>";
  FakeHost host = host_with_tool(page);
  const auto done = run_step(tool(page), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().why(), HasSubstr("is no Debian package"));
  EXPECT_THAT(done.error().hint(), HasSubstr("not to a page about it"));
}

TEST(DebStep, APackageForAnotherArchitectureIsRefusedByName) {
  const std::string content = fake_deb("tool", "2.0-1", "arm64");
  FakeHost host = host_with_tool(content);
  const auto done = run_step(tool(content), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::unsupported);
  EXPECT_THAT(done.error().why(), HasSubstr("is for arm64, this host is amd64"));
}

TEST(DebStep, WaitsForWhoeverHoldsTheLocksOfApt) {
  FakeHost host = host_with_tool();
  host.put("/var/lib/dpkg/lock-frontend", "");
  host.put("/proc/812/comm", "unattended-upgr\n");
  const std::uint64_t inode = host.info("/var/lib/dpkg/lock-frontend").value().value().inode;
  host.put("/proc/locks", "1: POSIX  ADVISORY  WRITE 812 fe:00:" + std::to_string(inode) + " 0 EOF\n");
  int pauses = 0;
  host.on_pause([&pauses](FakeHost& fake) {
    EXPECT_THAT(fake.changes(), Not(Contains(HasSubstr("apt-get"))));
    if (++pauses == 60) fake.put("/proc/locks", "");
  });
  RecordingLog log;
  const auto done = run_step(tool(), host, log);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(pauses, 60);
  EXPECT_THAT(log.lines, Contains(HasSubstr("waiting for process 812 (unattended-upgr)")));
}

TEST(DebStep, NamesWhoHoldsTheLocksOfAptForTooLong) {
  FakeHost host = host_with_tool();
  host.put("/var/lib/dpkg/lock-frontend", "");
  host.put("/proc/812/comm", "unattended-upgr\n");
  const std::uint64_t inode = host.info("/var/lib/dpkg/lock-frontend").value().value().inode;
  host.put("/proc/locks", "1: POSIX  ADVISORY  WRITE 812 fe:00:" + std::to_string(inode) + " 0 EOF\n");
  const auto done = run_step(tool(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::busy);
  EXPECT_EQ(done.error().why(), "process 812 (unattended-upgr) still holds the locks of apt after 10m00s");
  EXPECT_THAT(done.error().hint(), HasSubstr("first-boot updates can take many minutes"));
  EXPECT_THAT(host.changes(), Not(Contains(HasSubstr("apt-get"))));
}

TEST(DebStep, AFileOnTheHostThatIsAnotherOneIsNotInstalled) {
  FakeHost host = host_with_dpkg();
  host.put("/srv/tool.deb", fake_deb("tool", "2.1-1"));
  DebSpec spec = tool();
  spec.url.reset();
  spec.path = HostPath{"/srv/tool.deb"};
  const auto done = run_step(spec, host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::digest);
  EXPECT_EQ(done.error().why(), "/srv/tool.deb has sha256 " + sha256_hex(fake_deb("tool", "2.1-1")) + ", wanted was " + spec.sha256->hex);
  EXPECT_THAT(done.error().hint(), HasSubstr("put the right package there"));
}

TEST(DebStep, AFileOnTheHostIsReadByDpkg) {
  FakeHost host = host_with_dpkg();
  DebSpec spec;
  spec.path = HostPath{"/srv/tool.deb"};
  EXPECT_EQ(state_of(spec, host).is, StepState::Is::unknown) << "an earlier step may put it there";
  const auto missing = run_step(spec, host);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().why(), "/srv/tool.deb does not exist");
  host.put("/srv/tool.deb", fake_deb("tool", "2.0-1"));
  EXPECT_EQ(state_of(spec, host).reason, "tool is not installed");
  ASSERT_TRUE(run_step(spec, host).has_value());
  host.take_away("/srv/tool.deb");
  EXPECT_EQ(state_of(spec, host).reason, "tool 2.0-1 is installed") << "the file is not needed any more";
  host.put("/srv/tool.deb", fake_deb("tool", "2.1-1"));
  EXPECT_EQ(state_of(spec, host).reason, "tool 2.0-1 installed, 2.1-1 wanted");
}

TEST(DebStep, ListsAreFetchedOnlyWhereADependencyIsMissing) {
  FakeHost host = host_with_tool();
  bool updated = false;
  host.on({"apt-get"}, [&updated](FakeHost& fake, const Command& command) -> CommandResult {
    if (command.argv.back() == "update") {
      updated = true;
      return {};
    }
    if (!updated) {
      return {100, "The following packages have unmet dependencies:\n tool : Depends: libtool (>= 2) but it is not installable\n",
              "E: Unable to correct problems, you have held broken packages.\n"};
    }
    fake.put("/var/lib/dpkg/status", dpkg_stanza("tool", "2.0-1"));
    return {};
  });
  EXPECT_TRUE(run_step(tool(), host).has_value());
  EXPECT_TRUE(updated);
}

TEST(DebStep, NamesTheDependencyThatNobodyHas) {
  FakeHost host = host_with_tool();
  host.on({"apt-get"}, [](FakeHost&, const Command& command) -> CommandResult {
    if (command.argv.back() == "update") return {};
    return {100, "The following packages have unmet dependencies:\n tool : Depends: libtool (>= 2) but it is not installable\n",
            "E: Unable to correct problems, you have held broken packages.\n"};
  });
  const auto done = run_step(tool(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().why(), "tool : Depends: libtool (>= 2) but it is not installable");
  EXPECT_THAT(done.error().hint(), HasSubstr("apt-mark showhold"));
}

DebSpec local() {
  DebSpec spec;
  spec.path = HostPath{"/srv/tool.deb"};
  return spec;
}
INSTANTIATE_TEST_SUITE_P(Deb, StepContract,
                         ::testing::Values(ContractCase{"deb_url", tool(), [] { return host_with_tool(); }},
                                           ContractCase{"deb_older_installed", tool(),
                                                        [] {
                                                          FakeHost host = host_with_tool();
                                                          host.put("/var/lib/dpkg/status", dpkg_stanza("tool", "1.0-1"));
                                                          return host;
                                                        }},
                                           ContractCase{"deb_path", local(),
                                                        [] {
                                                          FakeHost host = host_with_dpkg();
                                                          host.put("/srv/tool.deb", fake_deb("tool", "2.0-1"));
                                                          return host;
                                                        }}),
                         contract_name);

}  // namespace
}  // namespace gpustrap
