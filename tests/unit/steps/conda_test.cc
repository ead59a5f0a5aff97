#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/sha256.h"
#include "agent/protocol/json.h"
#include "agent/steps/conda_prefix.h"
#include "tests/support/fake_host.h"
#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* kPrefix = "/home/ubuntu/conda";
constexpr const char* kInstaller = "#!/bin/sh\n# an installer\n";
constexpr const char* kUrl = "https://example.org/installer.sh";
constexpr const char* kMain = "https://repo.anaconda.com/pkgs/main";

std::string at(const std::string& path) { return kPrefix + path; }

/// What an installation leaves; `terms`: with the plugin that asks for Anaconda's terms.
void put_conda(FakeHost& host, const std::string& version, bool terms = false) {
  host.put(at("/bin/conda"), "#!/bin/sh\n", 0755);
  host.put(at("/bin/python"), "", 0755);
  host.put(at("/conda-meta/history"), "");
  host.put(at("/conda-meta/conda-" + version + "-py313h06a4308_0.json"), "{}");
  host.put(at("/conda-meta/python-3.13.2-hf623796_100_cp313.json"), "{}");
  if (terms) host.put(at("/conda-meta/conda-anaconda-tos-0.2.1-py313h06a4308_0.json"), "{}");
}

/// The fake installer and conda: flags and files as the real ones have them.
FakeHost bare_host(const std::string& version = "26.3.2", bool terms = false) {
  FakeHost host;
  host.as_user();
  host.serve(kUrl, kInstaller);
  host.on({"sh"}, [version, terms](FakeHost& fake, const Command&) {
    fake.take_away(at("/conda-meta"));
    put_conda(fake, version, terms);
    return CommandResult{};
  });
  host.on({at("/bin/conda"), "init", "bash"}, [](FakeHost& fake, const Command& command) {
    EXPECT_EQ(command.env.at(0).first, "HOME");
    const std::string path = command.env.at(0).second + "/.bashrc";
    fake.put(path, fake.content(path) + "# >>> conda initialize >>>\n__conda_setup=\"$('" + at("/bin/conda") +
                       "' 'shell.bash' 'hook' 2> /dev/null)\"\n# <<< conda initialize <<<\n");
    return CommandResult{};
  });
  host.on({at("/bin/conda"), "tos", "accept", "--override-channels", "--channel"}, [](FakeHost& fake, const Command& command) {
    fake.put("/home/ubuntu/.conda/tos/" + sha256_hex(command.argv.back()) + "/1752532320.0.json",
             R"({"version":"2025-07-14T22:32:00Z","text":"…","support":"","tos_accepted":true,"base_url":")" + command.argv.back() + "\"}");
    return CommandResult{};
  });
  return host;
}

CondaSpec wanted() {
  CondaSpec spec;
  spec.url = Url{kUrl};
  spec.sha256 = Sha256Digest{sha256_hex(kInstaller)};
  return spec;
}
CondaSpec anaconda(bool accept) {
  CondaSpec spec = wanted();
  spec.distribution = CondaDistribution::anaconda;
  spec.accept_tos = accept;
  return spec;
}

TEST(CondaStep, InstallsInBatchModeAsTheLoginUser) {
  FakeHost host = bare_host();
  host.put("/home/ubuntu/.bashrc", "alias ll='ls -l'\n");
  const auto done = run_step(wanted(), host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->is, StepState::Is::satisfied) << done->reason;
  EXPECT_EQ(done->reason, "conda 26.3.2 in /home/ubuntu/conda; ~/.bashrc knows it");
  const std::string installer = "/home/ubuntu/.cache/gpustrap/" + sha256_hex(kInstaller).substr(0, 16) + "-" +
                                sha256_hex(kPrefix).substr(0, 8) + "-Miniforge3-26.3.2-3-Linux-x86_64.sh";
  EXPECT_THAT(host.changes(), Contains("act sh " + installer + " -b -f -p /home/ubuntu/conda"));
  EXPECT_FALSE(host.at(installer).has_value()) << "it is of no more use";
  EXPECT_THAT(host.content("/home/ubuntu/.bashrc"), AllOf(StartsWith("alias ll='ls -l'\n"), HasSubstr("# >>> conda initialize >>>")));
  EXPECT_FALSE(host.at("/home/ubuntu/.local/state/gpustrap/conda/init").has_value());
}

TEST(CondaStep, TwoAtOnceHaveAnInstallerEach) {
  FakeHost host = bare_host();
  CondaSpec first = wanted(), second = wanted();
  first.init = second.init = false;
  second.prefix.text = "~/other";
  bool beside = false;
  host.on({"sh"}, [&](FakeHost& fake, const Command& command) {
    // All of the second happens while the first one's installer is about to run.
    if (!std::exchange(beside, true)) {
      const auto done = run_step(second, fake);
      EXPECT_TRUE(done.has_value()) << done.error().sentence();
    }
    EXPECT_TRUE(fake.at(command.argv.at(1)).has_value()) << "the other step has removed it";
    for (const char* name : {"/bin/conda", "/bin/python", "/conda-meta/history", "/conda-meta/conda-26.3.2-py313h06a4308_0.json"})
      fake.put(command.argv.back() + name, "", 0755);
    return CommandResult{};
  });
  const auto done = run_step(first, host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_TRUE(host.at("/home/ubuntu/other/bin/conda").has_value());
}

TEST(CondaStep, LooksOnlyAtFilesOnceItStands) {
  FakeHost host = bare_host();
  ASSERT_TRUE(run_step(wanted(), host).has_value());
  host.forget();
  EXPECT_EQ(state_of(wanted(), host).is, StepState::Is::satisfied);
  EXPECT_THAT(host.looks(), Not(Contains(StartsWith("look "))));
  EXPECT_THAT(host.looks(), Not(Contains(HasSubstr(".json"))));
}

TEST(CondaStep, ADifferentInstallerIsNotRun) {
  FakeHost host = bare_host();
  CondaSpec spec = wanted();
  spec.sha256 = Sha256Digest{sha256_hex("something else")};
  const auto done = run_step(spec, host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::digest);
  EXPECT_THAT(host.changes(), Not(Contains(StartsWith("act"))));
  EXPECT_FALSE(host.at(kPrefix).has_value());
}

TEST(CondaStep, OnlyInstallersOfAKnownDigestAreRun) {
  FakeHost host = bare_host();
  host.edit_facts().arch = "riscv64";
  CondaSpec spec;
  const auto done = run_step(spec, host);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().why(), HasSubstr("no digest of Miniforge3-26.3.2-3-Linux-riscv64.sh"));
  EXPECT_THAT(done.error().hint(), HasSubstr("sha256"));
}

TEST(CondaStep, UsesTheCondaThatIsThere) {
  FakeHost host;
  host.as_user();
  put_conda(host, "24.1.0");
  CondaSpec spec = wanted();
  spec.init = false;
  const StepState state = state_of(spec, host);
  EXPECT_EQ(state.is, StepState::Is::satisfied);
  EXPECT_EQ(state.reason, "conda 24.1.0 in /home/ubuntu/conda");
}

TEST(CondaStep, UpdatesAnOlderOneWhereAVersionIsAskedFor) {
  FakeHost host = bare_host("26.3.2");
  put_conda(host, "24.1.0");
  host.put("/home/ubuntu/conda/envs/mine/kept", "of the user");
  CondaSpec spec = wanted();
  spec.version = "26.3.2-3";
  EXPECT_EQ(state_of(spec, host).reason, "conda 24.1.0 in /home/ubuntu/conda, 26.3.2 wanted");
  ASSERT_TRUE(run_step(spec, host).has_value());
  EXPECT_THAT(host.changes(), Contains(HasSubstr(" -b -u -p /home/ubuntu/conda")));
  EXPECT_EQ(host.content("/home/ubuntu/conda/envs/mine/kept"), "of the user");
  spec.version = "25.1.1-0";
  EXPECT_EQ(state_of(spec, host).is, StepState::Is::satisfied) << "a newer one is left";
}

TEST(CondaStep, AnacondaIsComparedByItsOwnVersion) {
  FakeHost host;
  host.as_user();
  put_conda(host, "25.11.0");
  host.put(at("/conda-meta/anaconda-2025.06-py313_0.json"), "{}");
  CondaSpec spec = anaconda(true);
  spec.init = false;
  spec.version = "2025.12-2";
  EXPECT_EQ(state_of(spec, host).reason, "anaconda 2025.06 in /home/ubuntu/conda, 2025.12 wanted");
  host.take_away(at("/conda-meta/anaconda-2025.06-py313_0.json"));
  host.put(at("/conda-meta/anaconda-custom-py313_0.json"), "{}");
  EXPECT_EQ(state_of(spec, host).is, StepState::Is::satisfied) << "its user has chosen other packages";
}

TEST(CondaStep, TermsAreTheUsersToAccept) {
  FakeHost host = bare_host("25.11.0", true);
  const auto refused = run_step(anaconda(false), host);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), ErrorCode::recipe);
  EXPECT_THAT(refused.error().why(), HasSubstr("Terms of Service"));
  EXPECT_THAT(refused.error().hint(),
              AllOf(HasSubstr("accept_tos: true"), HasSubstr("https://www.anaconda.com/legal"), HasSubstr("miniforge")));
  EXPECT_TRUE(host.changes().empty());

  const auto done = run_step(anaconda(true), host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_THAT(done->reason, HasSubstr("Anaconda's terms are accepted"));
  EXPECT_THAT(host.changes(),
              Contains(StartsWith("act /home/ubuntu/conda/bin/conda tos accept --override-channels --channel " + std::string(kMain))));
  host.take_away("/home/ubuntu/.conda/tos/" + sha256_hex(kMain));
  EXPECT_THAT(state_of(anaconda(true), host).reason, HasSubstr("the terms of https://repo.anaconda.com/pkgs/main are not accepted yet"));
}

TEST(CondaStep, AForeignFolderIsLeftAlone) {
  FakeHost host = bare_host();
  host.put("/home/ubuntu/conda/thesis.txt", "all of it");
  const auto done = run_step(wanted(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::unsafe);
  EXPECT_EQ(done.error().why(), "/home/ubuntu/conda exists, is not empty, and is no conda");
  EXPECT_THAT(done.error().hint(), HasSubstr("mv /home/ubuntu/conda /home/ubuntu/conda.old"));
  EXPECT_EQ(host.content("/home/ubuntu/conda/thesis.txt"), "all of it");

  FakeHost file = bare_host();
  file.put("/home/ubuntu/conda", "a file");
  EXPECT_EQ(run_step(wanted(), file).error().code(), ErrorCode::unsafe);
}

TEST(CondaStep, AnInstallationThatSomebodyElseCutIsLeftAlone) {
  FakeHost host = bare_host();
  put_conda(host, "26.3.2");
  host.put("/home/ubuntu/conda/install_tmp/x", "");
  const auto done = run_step(wanted(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().why(), HasSubstr("cut short, not by gpustrap"));
  EXPECT_TRUE(host.at("/home/ubuntu/conda/install_tmp/x").has_value());
}

/// What a process that was killed in mid installation leaves.
void put_cut_installation(FakeHost& host, std::string_view doing) {
  if (!host.at(kPrefix)) host.put_directory(kPrefix);
  ASSERT_TRUE(begin_conda_work(host, kPrefix, doing).has_value());
  host.put(at("/install_tmp/part"), "half");
  host.put(at("/conda-meta/history"), "");
  host.forget();
}

TEST(CondaStep, GoesOnAfterItWasKilledInMidInstall) {
  FakeHost host = bare_host();
  put_cut_installation(host, "install");
  EXPECT_EQ(state_of(wanted(), host).reason, "gpustrap's installation in /home/ubuntu/conda was cut short");
  RecordingLog log;
  const auto done = run_step(wanted(), host, log);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->is, StepState::Is::satisfied);
  EXPECT_THAT(log.lines, Contains(HasSubstr("clearing it away")));
  EXPECT_FALSE(host.at(at("/install_tmp/part")).has_value());
}

TEST(CondaStep, GoesOnWithAnUpdateThatWasCutAndClearsNothing) {
  FakeHost host = bare_host("26.3.2");
  put_conda(host, "24.1.0");
  host.put("/home/ubuntu/conda/envs/mine/kept", "of the user");
  put_cut_installation(host, "update");
  CondaSpec spec = wanted();
  spec.init = false;
  EXPECT_EQ(state_of(spec, host).reason, "an update of /home/ubuntu/conda was cut short");
  host.on({"sh"}, [](FakeHost& fake, const Command&) {
    fake.take_away(at("/install_tmp"));
    put_conda(fake, "26.3.2");
    return CommandResult{};
  });
  ASSERT_TRUE(run_step(spec, host).has_value());
  EXPECT_THAT(host.changes(), Contains(HasSubstr(" -b -u -p /home/ubuntu/conda")));
  EXPECT_EQ(host.content("/home/ubuntu/conda/envs/mine/kept"), "of the user");
}

TEST(CondaStep, ACondaThatHasBeenUsedSinceIsNotCleared) {
  FakeHost host = bare_host();
  put_cut_installation(host, "install");
  host.put("/home/ubuntu/conda/envs/mine/kept", "of the user");
  const auto done = run_step(wanted(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::unsafe);
  EXPECT_EQ(host.content("/home/ubuntu/conda/envs/mine/kept"), "of the user");
}

TEST(CondaStep, WhatSomebodyPutInPlaceOfACutInstallationIsTheirs) {
  FakeHost host = bare_host();
  put_cut_installation(host, "install");
  host.take_away(kPrefix);
  host.put("/home/ubuntu/conda/thesis.txt", "all of it");
  EXPECT_FALSE(run_step(wanted(), host).has_value());
  EXPECT_EQ(host.content("/home/ubuntu/conda/thesis.txt"), "all of it");
}

TEST(CondaStep, SaysThatTheDiskWasFullAndTakesNothingOfIt) {
  FakeHost host = bare_host();
  host.set_disk_free(std::uint64_t{300} << 20U);
  host.on({"sh"}, [](FakeHost& fake, const Command&) {
    fake.put(at("/pkgs/half.conda"), "half");
    return CommandResult{1, "Unpacking payload...\n", "dd: error writing: No space left on device\n"};
  });
  const auto done = run_step(wanted(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::no_space);
  EXPECT_THAT(done.error().why(), HasSubstr("300 MiB are free"));
  EXPECT_FALSE(host.at(at("/pkgs/half.conda")).has_value()) << "the room is given back";
  // With room the run goes on, and fetches nothing twice.
  host.forget();
  host.on({"sh"}, [](FakeHost& fake, const Command&) {
    put_conda(fake, "26.3.2");
    return CommandResult{};
  });
  ASSERT_TRUE(run_step(wanted(), host).has_value());
  EXPECT_THAT(host.changes(), Not(Contains(StartsWith("fetch"))));
}

TEST(CondaStep, SaysThatTheInstallerIsTooNewForTheHost) {
  FakeHost host = bare_host();
  host.answer({"sh"}, {1, "Installer requires GLIBC >=2.28, but system has 2.27.\n", ""});
  const auto done = run_step(wanted(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::unsupported);
  EXPECT_EQ(done.error().sentence(),
            "running Miniforge3-26.3.2-3-Linux-x86_64.sh: the installer wants a newer C library than this host has");
  EXPECT_THAT(done.error().hint(), HasSubstr("older `version` with its `sha256`"));
}

TEST(CondaStep, AnInstallerThatLeftNoCondaIsFoundOut) {
  FakeHost host = bare_host();
  host.answer({"sh"}, {});
  const auto done = run_step(wanted(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::command);
  EXPECT_EQ(done.error().why(), "Miniforge3-26.3.2-3-Linux-x86_64.sh ended well, but left no whole conda in /home/ubuntu/conda");
  EXPECT_THAT(done.error().hint(), HasSubstr("is it an installer of conda?"));
}

TEST(CondaStep, AnInitThatWroteNothingLeavesTheBashrcAlone) {
  FakeHost host = bare_host();
  host.put("/home/ubuntu/.bashrc", "mine\n");
  host.answer({at("/bin/conda"), "init", "bash"}, {});
  const auto done = run_step(wanted(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::command);
  EXPECT_EQ(done.error().why(), "`conda init bash` of /home/ubuntu/conda did not write its block");
  EXPECT_THAT(done.error().hint(), HasSubstr("`init: false`"));
  EXPECT_EQ(host.content("/home/ubuntu/.bashrc"), "mine\n");
}

TEST(CondaStep, AnotherCondaInBashrcIsLeftWhileItIsThere) {
  FakeHost host = bare_host();
  const std::string block =
      "# >>> conda initialize >>>\n__conda_setup=\"$('/home/ubuntu/miniconda3/bin/conda' 'shell.bash' 'hook')\"\n# <<< conda initialize "
      "<<<\n";
  host.put("/home/ubuntu/.bashrc", block);
  host.put("/home/ubuntu/miniconda3/bin/conda", "", 0755);
  const auto done = run_step(wanted(), host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_THAT(done->reason, HasSubstr("~/.bashrc starts /home/ubuntu/miniconda3 and is left"));
  EXPECT_EQ(host.content("/home/ubuntu/.bashrc"), block);
  host.take_away("/home/ubuntu/miniconda3");
  EXPECT_THAT(state_of(wanted(), host).reason, HasSubstr("which is gone"));
}

TEST(CondaStep, ABashrcThatCannotBeWrittenStaysAsItWas) {
  FakeHost host = bare_host();
  host.put("/home/ubuntu/.bashrc", "mine\n");
  host.fail_changes("/home/ubuntu/.bashrc", ENOSPC);
  EXPECT_FALSE(run_step(wanted(), host).has_value());
  EXPECT_EQ(host.content("/home/ubuntu/.bashrc"), "mine\n");
}

TEST(CondaSpec, IsCheckedBeforeAnythingIsContacted) {
  const auto problems_of = [](const Json& value) {
    std::vector<FieldProblem> problems;
    (void)read_step_spec(StepKind::conda, value, "", Placeholders::refused, problems);
    std::string all;
    for (const FieldProblem& problem : problems) all += problem.message + "\n";
    return all;
  };
  EXPECT_EQ(problems_of(Json("miniforge")), "");
  EXPECT_EQ(problems_of({{"distribution", "miniconda"}, {"version", "py313_26.3.2-2"}}), "");
  EXPECT_THAT(problems_of({{"version", "24.1.0-0"}}),
              AllOf(HasSubstr("needs a field `sha256`"), HasSubstr("26.3.2-3"), HasSubstr("https://")));
  EXPECT_EQ(problems_of({{"version", "24.1.0-0"}, {"sha256", std::string(64, 'a')}}), "");
  EXPECT_THAT(problems_of({{"prefix", "~/my conda"}}), HasSubstr("without spaces"));
  EXPECT_THAT(problems_of({{"prefix", "~"}}), HasSubstr("a folder of conda's own"));
  EXPECT_THAT(problems_of({{"distribution", "mamba"}}), HasSubstr("miniforge"));
  EXPECT_THAT(problems_of({{"version", "1;rm"}, {"sha256", std::string(64, 'a')}}), HasSubstr("an installer's version"));
}

INSTANTIATE_TEST_SUITE_P(Conda, StepContract,
                         ::testing::Values(ContractCase{"conda_new", wanted(), [] { return bare_host(); }},
                                           ContractCase{"conda_terms", anaconda(true), [] { return bare_host("25.11.0", true); }}),
                         contract_name);

}  // namespace
}  // namespace gpustrap
