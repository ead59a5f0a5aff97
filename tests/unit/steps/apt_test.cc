#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/text.h"
#include "agent/steps/apt_simulation.h"
#include "agent/steps/dpkg_status.h"
#include "tests/support/fake_host.h"
#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kStatus = "/var/lib/dpkg/status";

std::string stanza(const std::string& name, const std::string& version, const std::string& status = "install ok installed") {
  return "Package: " + name + "\nStatus: " + status + "\nArchitecture: amd64\nVersion: " + version + "\nDescription: x\n more\n\n";
}

/// apt-get as far as the step can see it: install adds stanzas, remove takes them away.
CommandResult fake_apt(FakeHost& host, const Command& command) {
  const auto verb = std::find_if(command.argv.begin(), command.argv.end(),
                                 [](const std::string& word) { return word == "install" || word == "remove" || word == "update"; });
  if (verb == command.argv.end()) return {100, "", "E: Invalid operation\n"};
  if (*verb == "update") {
    host.put("/var/lib/apt/lists/mirror_InRelease", "");
    return {};
  }
  std::string status = host.content(kStatus);
  for (auto word = std::find(verb, command.argv.end(), "--"); word != command.argv.end(); ++word) {
    if (*word == "--") continue;
    const std::size_t equals = word->find('=');
    const std::string name = word->substr(0, equals);
    if (name == "no-such-package") return {100, "", "E: Unable to locate package no-such-package\n"};
    if (*verb == "install")
      status += stanza(name, equals == std::string::npos ? "1.0" : word->substr(equals + 1));
    else
      status.replace(status.find("Package: " + name + "\nStatus: install ok installed"), 9 + name.size() + 29,
                     "Package: " + name + "\nStatus: deinstall ok config-files");
  }
  host.put(kStatus, status);
  return {};
}

FakeHost debian_host(const std::string& status = stanza("base-files", "12")) {
  FakeHost host({{kStatus, status}, {"/var/lib/apt/lists/mirror_InRelease", ""}});
  host.put_directory("/var/lib/gpustrap");
  host.put("/var/lib/gpustrap/apt-updated", "");
  host.on({"apt-get"}, fake_apt);
  // Asked what it would download, it installs nothing.
  host.answer({"apt-get", "-q", "-y", "-o", "Debug::NoLocking=1", "-o", "Acquire::ForceHash=SHA256", "--print-uris"}, {});
  return host;
}

AptSpec packages(std::vector<std::string> names) {
  AptSpec spec;
  spec.packages.items = std::move(names);
  return spec;
}

TEST(DpkgStatus, ReadsStanzasAndWhatTheyProvide) {
  const DpkgStatus status =
      DpkgStatus::parse(stanza("git", "1:2.39.5-0") +
                        "Package: exim4\nStatus: install ok installed\nVersion: 4\nProvides: mail-transport-agent, x (= 1)\n\n" +
                        stanza("half", "1", "install ok half-configured") + stanza("old", "1", "deinstall ok config-files") +
                        stanza("kept", "2", "hold ok installed"));
  ASSERT_NE(status.installed("git"), nullptr);
  EXPECT_EQ(status.installed("git")->version, "1:2.39.5-0");
  EXPECT_NE(status.installed("mail-transport-agent"), nullptr);
  EXPECT_EQ(status.installed("old"), nullptr);
  EXPECT_EQ(status.installed("gi"), nullptr);
  EXPECT_TRUE(status.is_held("kept"));
  EXPECT_EQ(status.unfinished(), std::vector<std::string>{"half"});
}

TEST(DpkgStatus, TellsArchitecturesOfOneNameApart) {
  std::string foreign = stanza("libc6", "2.36", "install ok half-configured");
  foreign.replace(foreign.find("amd64"), 5, "i386");
  const DpkgStatus status = DpkgStatus::parse(stanza("libc6", "2.36") + foreign);
  for (const char* name : {"libc6", "libc6:amd64", "libc6:any"}) EXPECT_NE(status.installed(name), nullptr) << name;
  EXPECT_EQ(status.installed("libc6:i386"), nullptr);
  EXPECT_EQ(status.unfinished(), std::vector<std::string>{"libc6:i386"});
  EXPECT_EQ(status.installed_names(), std::vector<std::string>{"libc6"});
}

TEST(AptStep, WhatAnotherPackageProvidesIsNotThereToBeRemoved) {
  const std::string provider =
      "Package: containerd.io\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nProvides: containerd, runc\n\n";
  const FakeHost host = debian_host(provider);
  AptSpec spec = packages({"containerd", "runc"});
  spec.state = AptSpec::State::absent;
  EXPECT_EQ(make_step(spec)->check(host)->is, StepState::Is::satisfied);
}

TEST(AptStep, NamesWhatIsMissingAndInstallsNothingElse) {
  FakeHost host = debian_host(stanza("git", "2"));
  const AptSpec spec = packages({"git", "unzip", "tmux"});
  EXPECT_EQ(state_of(spec, host).reason, "unzip tmux not installed");
  const auto done = run_step(spec, host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->reason, "git unzip tmux: installed");
  EXPECT_THAT(host.changes(), Contains(HasSubstr("install -- unzip tmux")));
}

TEST(AptSimulation, ReadsWhatComesAndWhatGoes) {
  // As apt 2.6 says it.
  const std::vector<SimulatedPackage> packages = simulated_packages(
      "NOTE: This is only a simulation!\n"
      "Reading package lists... Done\n"
      "The following NEW packages will be installed:\n  tmux\n"
      "Remv screen [4.9.0-4]\n"
      "Inst libevent-core-2.1-7 (2.1.12-stable-8 Debian:12.11/oldstable [amd64])\n"
      "Inst tmux (3.3a-3 Debian:12.11/oldstable [amd64]) []\n"
      "Inst git [1:2.39.2-1.1] (1:2.39.5-0+deb12u2 Debian:12.11/oldstable [amd64])\n"
      "Conf tmux (3.3a-3 Debian:12.11/oldstable [amd64])\nInst\nInst x\nInst y [1\n");
  ASSERT_EQ(packages.size(), 5U);
  EXPECT_EQ(simulation_text({packages.begin(), packages.begin() + 4}, {"git", "tmux"}),
            "install tmux 3.3a-3\n"
            "install git 1:2.39.5-0+deb12u2 in place of 1:2.39.2-1.1\n"
            "and with them 2 more:\n"
            "  remove screen 4.9.0-4, libevent-core-2.1-7 2.1.12-stable-8\n");
}

TEST(AptSimulation, BreaksLinesBetweenPackages) {
  std::vector<SimulatedPackage> packages;
  for (int i = 0; i < 9; ++i) packages.push_back({fmt::format("a-library-of-many-words-{}", i), "", "1.0"});
  const std::string text = simulation_text(packages, {"a-library-of-many-words-0"});
  EXPECT_THAT(text, ::testing::StartsWith("install a-library-of-many-words-0 1.0\nand with it 8 more:\n  a-library-of-many-words-1 1.0, "));
  for (const std::string& line : split(text, '\n')) EXPECT_LE(line.size(), 95U) << line;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 6);
}

TEST(AptStep, APlanNamesVersionsAndLeavesAptsOwnCacheAlone) {
  FakeHost host = debian_host(stanza("git", "2"));
  const std::vector<std::string> simulation = {
      "apt-get", "-s", "-o", "Debug::NoLocking=1", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="};
  host.answer(simulation, {0, "Inst libevent (2 Debian:12 [amd64])\nInst tmux (3.3a-3 Debian:12 [amd64])\n", ""});
  const AptSpec spec = packages({"git", "tmux"});
  EXPECT_EQ(make_step(spec)->planned(host), "install tmux 3.3a-3\nand with them 1 more:\n  libevent 2\n");
  EXPECT_TRUE(host.changes().empty());

  host.take_away("/var/lib/apt/lists/mirror_InRelease");
  EXPECT_EQ(make_step(spec)->planned(host),
            "by the package lists as they are; newer ones are fetched first:\ninstall tmux 3.3a-3\nand with them 1 more:\n  libevent 2\n");
  host.answer(simulation, {100, "", "E: Unable to locate package tmux\n"});
  EXPECT_EQ(make_step(spec)->planned(host), "the versions are known once the package lists have been fetched\n");
}

TEST(AptStep, AWarmCheckStartsNoProcess) {
  const FakeHost host = debian_host(stanza("git", "2"));
  EXPECT_EQ(state_of(packages({"git"}), host).is, StepState::Is::satisfied);
  EXPECT_THAT(host.looks(), Not(Contains(::testing::StartsWith("look "))));
}

TEST(AptStep, WantsTheVersionThatIsNamed) {
  FakeHost host = debian_host(stanza("git", "1"));
  const auto done = run_step(packages({"git=2"}), host);
  ASSERT_TRUE(done.has_value());
  EXPECT_THAT(host.changes(), Contains(HasSubstr("--allow-downgrades -- git=2")));
}

TEST(AptStep, RefreshesListsOnlyWhereTheyAreMissingOrOld) {
  FakeHost fresh = debian_host();
  ASSERT_TRUE(run_step(packages({"git"}), fresh).has_value());
  EXPECT_THAT(fresh.changes(), Not(Contains(HasSubstr("update"))));
  FakeHost bare = debian_host();
  bare.take_away("/var/lib/apt/lists/mirror_InRelease");
  ASSERT_TRUE(run_step(packages({"git"}), bare).has_value());
  EXPECT_THAT(bare.changes(), Contains(HasSubstr("update")));
}

TEST(AptStep, FinishesAnInstallationThatWasCutShortFirst) {
  FakeHost host = debian_host(stanza("half", "1", "install ok half-configured"));
  host.on({"dpkg", "--configure", "-a"}, [](FakeHost& fake, const Command&) {
    fake.put(kStatus, stanza("half", "1"));
    return CommandResult{};
  });
  EXPECT_THAT(state_of(packages({"git"}), host).reason, HasSubstr("cut short (half)"));
  const auto done = run_step(packages({"git"}), host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->is, StepState::Is::satisfied);
}

TEST(AptStep, InstallsAgainWhatWasNotEvenUnpacked) {
  FakeHost host = debian_host(stanza("half", "1", "install ok half-installed"));
  host.on({"dpkg", "--configure", "-a"}, [](FakeHost&, const Command&) { return CommandResult{}; });
  host.on({"apt-get"}, [](FakeHost& fake, const Command& command) {
    if (std::find(command.argv.begin(), command.argv.end(), "--reinstall") == command.argv.end()) return fake_apt(fake, command);
    EXPECT_EQ(command.argv.back(), "half");
    fake.put(kStatus, stanza("half", "1"));
    return CommandResult{};
  });
  const auto done = run_step(packages({"git"}), host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->is, StepState::Is::satisfied);
}

TEST(AptStep, AnUnknownPackageIsAskedForOnceMoreAndThenNamed) {
  FakeHost host = debian_host();
  const auto done = run_step(packages({"no-such-package"}), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().why(), HasSubstr("Unable to locate package no-such-package"));
  EXPECT_THAT(done.error().hint(), HasSubstr("check the package's name"));
  EXPECT_THAT(host.changes(), Contains(HasSubstr("update")));
}

TEST(AptStep, TriesAgainWhereAMirrorFailsInPassing) {
  FakeHost host = debian_host();
  int calls = 0;
  host.on({"apt-get"}, [&calls](FakeHost& fake, const Command& command) {
    if (++calls < 3) return CommandResult{100, "", "E: Failed to fetch http://mirror/x.deb  Hash Sum mismatch\n"};
    return fake_apt(fake, command);
  });
  const auto done = run_step(packages({"git"}), host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(calls, 3);
}

TEST(AptStep, AMirrorThatServesOtherBytesThanItPromisedIsNamedAsSuch) {
  FakeHost host = debian_host();
  host.on({"apt-get"}, [](FakeHost&, const Command&) {
    return CommandResult{100, "", "E: Failed to fetch http://mirror/x.deb  Hash Sum mismatch\n"};
  });
  const auto done = run_step(packages({"git"}), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::network);
  EXPECT_THAT(done.error().why(), HasSubstr("http://mirror/x.deb"));
  EXPECT_THAT(done.error().hint(), HasSubstr("another mirror"));
}

TEST(AptStep, MayBeEndedUntilItChangesWhatIsInstalled) {
  FakeHost host = debian_host();
  RecordingLog log;
  std::vector<std::pair<std::string, bool>> lines;
  host.on({"apt-get"}, [&](FakeHost& fake, const Command& command) {
    EXPECT_FALSE(log.finishes) << "what is fetched can be fetched again";
    for (const char* line : {"dlstatus:1:20.5:Retrieving file 1 of 2", "pmstatus:dpkg-exec:0:Running dpkg"}) {
      command.takes_line(line);
      lines.emplace_back(line, log.finishes);
    }
    return fake_apt(fake, command);
  });
  ASSERT_TRUE(run_step(packages({"git"}), host, log).has_value());
  EXPECT_EQ(lines, (std::vector<std::pair<std::string, bool>>{{"dlstatus:1:20.5:Retrieving file 1 of 2", false},
                                                              {"pmstatus:dpkg-exec:0:Running dpkg", true}}));
}

TEST(AptStep, ARepairIsNotEndedEither) {
  FakeHost host = debian_host(stanza("half", "1", "install ok half-configured"));
  RecordingLog log;
  host.on({"dpkg", "--configure", "-a"}, [&](FakeHost& fake, const Command&) {
    EXPECT_TRUE(log.finishes);
    fake.put(kStatus, stanza("half", "1"));
    return CommandResult{};
  });
  EXPECT_TRUE(run_step(packages({"git"}), host, log).has_value());
}

TEST(AptStep, ARepairHoldsOffAShutdownWhereThatCanBeAsked) {
  for (const int refused : {0, 1}) {
    FakeHost host = debian_host(stanza("half", "1", "install ok half-configured"));
    host.answer({"systemd-inhibit"}, {refused, "", ""});
    std::vector<std::string> repair;
    const auto mend = [&](FakeHost& fake, const Command& command) {
      repair = command.argv;
      fake.put(kStatus, stanza("half", "1"));
      return CommandResult{};
    };
    host.on({"dpkg", "--configure", "-a"}, mend);
    host.on({"systemd-inhibit", "--what=shutdown", "--mode=block", "--who=gpustrap", "--why=packages are being installed", "dpkg"}, mend);
    EXPECT_TRUE(run_step(packages({"git"}), host).has_value());
    ASSERT_FALSE(repair.empty());
    EXPECT_EQ(repair.front(), refused != 0 ? "dpkg" : "systemd-inhibit");
  }
}

TEST(AptStep, WhereItMayBeFastDpkgSyncsOnceAtTheEnd) {
  for (const bool fast : {false, true}) {
    FakeHost host = debian_host();
    host.on({"apt-get"}, [fast](FakeHost& fake, const Command& command) {
      const bool installs = std::find(command.argv.begin(), command.argv.end(), "install") != command.argv.end();
      EXPECT_EQ(std::find(command.argv.begin(), command.argv.end(), "Dpkg::Options::=--force-unsafe-io") != command.argv.end(),
                installs && fast);
      return fake_apt(fake, command);
    });
    AptSpec spec = packages({"git"});
    spec.fast = fast;
    EXPECT_TRUE(run_step(spec, host).has_value());
    EXPECT_EQ(std::count(host.changes().begin(), host.changes().end(), "act sync"), fast ? 1 : 0);
  }
}

TEST(AptStep, NeverAsks) {
  FakeHost host = debian_host();
  host.on({"apt-get"}, [](FakeHost& fake, const Command& command) {
    EXPECT_THAT(command.env, Contains(std::pair<std::string, std::string>("DEBIAN_FRONTEND", "noninteractive")));
    EXPECT_THAT(command.env, Contains(std::pair<std::string, std::string>("NEEDRESTART_SUSPEND", "1")));
    EXPECT_THAT(command.argv, Contains("Dpkg::Options::=--force-confold"));
    return fake_apt(fake, command);
  });
  EXPECT_TRUE(run_step(packages({"git"}), host).has_value());
}

TEST(AptStep, ShowsAptsOwnProgressAndKeepsItOutOfTheOutput) {
  FakeHost host = debian_host();
  std::vector<bool> taken;
  host.on({"apt-get"}, [&taken](FakeHost& fake, const Command& command) {
    for (const char* line : {"dlstatus:1:20.5:Retrieving file 1 of 2", "pmstatus:git:61.5:Unpacking git", "Setting up git"})
      taken.push_back(command.takes_line(line));
    return fake_apt(fake, command);
  });
  RecordingLog log;
  ASSERT_TRUE(run_step(packages({"git"}), host, log).has_value());
  EXPECT_EQ(taken, (std::vector<bool>{true, true, false}));
  EXPECT_EQ(log.last_share.first, "Unpacking git");
  EXPECT_DOUBLE_EQ(log.last_share.second, 0.615);
}

TEST(AptStep, SaysThatAHostWithoutDpkgIsTheWrongHost) {
  const FakeHost host;
  const auto state = make_step(packages({"git"}))->check(host);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code(), ErrorCode::unsupported);
}

AptSpec absent() {
  AptSpec spec = packages({"nano"});
  spec.state = AptSpec::State::absent;
  return spec;
}
INSTANTIATE_TEST_SUITE_P(Apt, StepContract,
                         ::testing::Values(ContractCase{"apt_missing", packages({"git", "unzip=6.0"}), [] { return debian_host(); }},
                                           ContractCase{"apt_absent", absent(), [] { return debian_host(stanza("nano", "7")); }}),
                         contract_name);

}  // namespace
}  // namespace gpustrap
