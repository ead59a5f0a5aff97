#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/steps/python_version.h"
#include "tests/support/fake_host.h"
#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kVenv = "/home/ubuntu/env";

void put_environment(FakeHost& host, const std::string& version = "3.11.2") {
  host.put("/usr/bin/python3.11", "", 0755);
  host.put(std::string(kVenv) + "/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\nversion = " + version + "\n");
  host.put_symlink(std::string(kVenv) + "/bin/python", "python3");
  host.put_symlink(std::string(kVenv) + "/bin/python3", "/usr/bin/python3.11");
  host.put(std::string(kVenv) + "/lib/python3.11/site-packages/pip-26.1.dist-info/METADATA", "Name: pip\nVersion: 26.1\n");
}

void install(FakeHost& host, const std::string& name, const std::string& version) {
  host.put(std::string(kVenv) + "/lib/python3.11/site-packages/" + name + "-" + version + ".dist-info/METADATA",
           "Name: " + name + "\nVersion: " + version + "\n");
}

FakeHost host_with_environment() {
  FakeHost host;
  put_environment(host);
  host.as_user();
  host.on({std::string(kVenv) + "/bin/python", "-m", "pip", "install"}, [](FakeHost& fake, const Command& command) {
    for (auto word = command.argv.begin() + 4; word != command.argv.end(); ++word) {
      if (word->starts_with("-") || *word == "off" || *word == "raw" || *word == "20") continue;
      if (*word == "nothing==9")
        return CommandResult{1, "", "ERROR: Could not find a version that satisfies the requirement nothing==9 (from versions: none)\n"};
      install(fake, word->substr(0, word->find_first_of("=<>[")),
              word->find("==") == std::string::npos ? "1.5" : word->substr(word->find("==") + 2));
    }
    return CommandResult{};
  });
  return host;
}

PipSpec packages(std::vector<std::string> names) {
  PipSpec spec;
  spec.venv = HostPath{"~/env"};
  spec.packages.items = std::move(names);
  return spec;
}

TEST(PythonVersion, OrdersAsPep440Does) {
  // The order of the examples in PEP 440.
  const std::vector<std::string> ascending = {
      "1.0.dev456",           "1.0a1",         "1.0a2.dev456",  "1.0a12.dev456", "1.0a12", "1.0b1.dev456", "1.0b2",
      "1.0b2.post345.dev456", "1.0b2.post345", "1.0rc1.dev456", "1.0rc1",        "1.0",    "1.0+abc.5",    "1.0.post456.dev34",
      "1.0.post456",          "1.1.dev1"};
  for (std::size_t i = 0; i < ascending.size(); ++i) {
    for (std::size_t j = 0; j < ascending.size(); ++j) {
      EXPECT_EQ(compare_python_versions(ascending[i], ascending[j]), i < j ? -1 : i > j ? 1 : 0) << ascending[i] << " and " << ascending[j];
    }
  }
  EXPECT_EQ(compare_python_versions("1.0", "1.0.0"), 0);
  EXPECT_EQ(compare_python_versions("1!1.0", "2.0"), 1);
  EXPECT_EQ(compare_python_versions("1.0-RC.1", "1.0rc1"), 0);
}

TEST(PythonVersion, SatisfiesConditions) {
  const std::vector<std::pair<std::string, std::string>> holds = {{"2.1.0+cu121", "==2.1.0"}, {"1.5", ">=1.2,<2"}, {"1.4.9", "==1.4.*"},
                                                                  {"2.2.5", "~=2.2.1"},       {"2", "!=3"},        {"1.0.3", ""}};
  const std::vector<std::pair<std::string, std::string>> fails = {
      {"2.1.0", "==2.1.0+cu121"}, {"2.0", ">=1.2,<2"}, {"1.40", "==1.4.*"}, {"2.3.0", "~=2.2.1"}, {"3", "!=3"}};
  for (const auto& [version, condition] : holds) EXPECT_TRUE(python_version_satisfies(version, condition).value()) << version << condition;
  for (const auto& [version, condition] : fails) EXPECT_FALSE(python_version_satisfies(version, condition).value()) << version << condition;
  EXPECT_FALSE(python_version_satisfies("1", "=1").has_value());
}

TEST(PythonRequirement, IsReadAsPipReadsIt) {
  EXPECT_EQ(parse_python_requirement("Torch_Vision[gpu] >= 0.15, <1")->name, "torch-vision");
  EXPECT_EQ(parse_python_requirement("Torch_Vision[gpu] >= 0.15, <1")->versions, ">= 0.15, <1");
  EXPECT_EQ(parse_python_requirement("d2l @ https://example.org/d2l.whl")->name, "d2l");
  EXPECT_FALSE(parse_python_requirement("--index-url x").has_value());
  EXPECT_FALSE(parse_python_requirement("x; python_version < '3'").has_value());
}

TEST(PipStep, PackagesOfThePythonBeforeAreNotThere) {
  FakeHost host = host_with_environment();
  host.put(std::string(kVenv) + "/lib/python3.10/site-packages/torch-2.1.dist-info/METADATA", "Name: torch\nVersion: 2.1\n");
  EXPECT_EQ(make_step(packages({"torch"}))->check(host)->is, StepState::Is::unsatisfied);
}

TEST(PipStep, ReadsMetadataAndStartsNoPython) {
  FakeHost host = host_with_environment();
  install(host, "jupyterlab", "4.2.0");
  const StepState state = state_of(packages({"JupyterLab>=4"}), host);
  EXPECT_EQ(state.is, StepState::Is::satisfied) << state.reason;
  EXPECT_EQ(state.reason, "jupyterlab 4.2.0");
  EXPECT_THAT(host.looks(), Not(Contains(::testing::StartsWith("look "))));
}

TEST(PipStep, NamesWhatIsThereAndWhatIsWanted) {
  FakeHost host = host_with_environment();
  install(host, "numpy", "2.0.0");
  EXPECT_EQ(state_of(packages({"numpy<2", "d2l"}), host).reason, "numpy 2.0.0 is installed, <2 wanted; d2l is not installed");
}

TEST(PipStep, SaysWhatPipSaidAndWhatToDo) {
  FakeHost host = host_with_environment();
  const auto done = run_step(packages({"nothing==9"}), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().why(), HasSubstr("nothing==9"));
  EXPECT_THAT(done.error().hint(), HasSubstr("check name and version"));
}

TEST(PipStep, WhatPipFailedForDecidesWhatToDo) {
  const std::pair<const char*, const char*> rows[] = {
      {"ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "make room"},
      {"ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/", "exclude each other"},
      {"ERROR: Failed building wheel for flash-attn", "all that pip said"},
  };
  for (const auto& [said, hint] : rows) {
    FakeHost host = host_with_environment();
    host.answer({std::string(kVenv) + "/bin/python", "-m", "pip", "install"}, {1, "", std::string(said) + "\n"});
    const auto done = run_step(packages({"numpy"}), host);
    ASSERT_FALSE(done.has_value());
    EXPECT_EQ(done.error().why(), std::string(said).substr(7));
    EXPECT_THAT(done.error().hint(), HasSubstr(hint));
  }
}

TEST(PipStep, AnEnvironmentWithNeitherPipNorUvIsSaid) {
  FakeHost host = host_with_environment();
  host.take_away(std::string(kVenv) + "/lib/python3.11/site-packages/pip-26.1.dist-info");
  const auto done = run_step(packages({"numpy"}), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::not_found);
  EXPECT_EQ(done.error().why(), "/home/ubuntu/env has no pip, and there is no uv");
  EXPECT_THAT(done.error().hint(), HasSubstr("make it anew with a `venv` step"));
}

/// What a plan says of the step, where the tool that is asked ends so.
std::string planned(FakeHost& host, const PipSpec& spec, CommandResult said) {
  host.answer({"sh", "-c"}, std::move(said));
  return make_step(spec)->planned(host);
}

TEST(PipStep, APlanNamesVersionsAsPipFindsThemAndChangesNothing) {
  FakeHost host = host_with_environment();
  install(host, "numpy", "1.26.4");
  const std::string before = host.snapshot();
  const std::string text =
      planned(host, packages({"torch", "NumPy>=2"}), {0, "Collecting torch\nWould install jinja2-3.1 numpy-2.1.0 torch-2.9.0+cu126\n", ""});
  EXPECT_EQ(text,
            "install numpy 2.1.0 in place of 1.26.4\n"
            "install torch 2.9.0+cu126\n"
            "and with them 1 more:\n"
            "  jinja2 3.1\n");
  EXPECT_EQ(host.snapshot(), before);
  ASSERT_FALSE(host.looks().empty());
  EXPECT_THAT(host.looks().back(), HasSubstr("pip install --dry-run"));
  EXPECT_THAT(host.looks().back(), HasSubstr("--only-binary :all:")) << "what is no wheel runs its own code to say what it needs";
}

TEST(PipStep, APlanAsksUvWhereTheEnvironmentHasNoPip) {
  FakeHost host = host_with_environment();
  host.take_away(std::string(kVenv) + "/lib/python3.11/site-packages/pip-26.1.dist-info");
  EXPECT_EQ(planned(host, packages({"idna"}), {0, "", "Resolved 1 package in 3ms\nWould install 1 package\n + idna==3.10\n"}),
            "install idna 3.10\n");
  EXPECT_THAT(host.looks().back(), HasSubstr("uv pip install --python"));
  EXPECT_THAT(host.looks().back(), HasSubstr("--dry-run --no-build --no-cache"));
}

TEST(PipStep, APlanSaysWhyVersionsAreNotKnown) {
  FakeHost bare;
  bare.as_user();
  EXPECT_EQ(planned(bare, packages({"idna"}), {}), "the versions are chosen when it runs: /home/ubuntu/env is not there yet\n");
  FakeHost host = host_with_environment();
  EXPECT_EQ(planned(host, packages({"nothing"}), {1, "", "ERROR: No matching distribution found for nothing\n"}),
            "the versions are chosen when it runs: pip does not find them now (No matching distribution found for nothing)\n");
  host.take_away(std::string(kVenv) + "/lib/python3.11/site-packages/pip-26.1.dist-info");
  install(host, "pip", "20.3.4");
  EXPECT_EQ(planned(host, packages({"idna"}), {}),
            "the versions are chosen when it runs: its pip is 20.3.4; from 22.2 on pip can tell before\n");
  FakeHost without = host_with_environment();
  without.take_away(std::string(kVenv) + "/lib/python3.11/site-packages/pip-26.1.dist-info");
  EXPECT_EQ(planned(without, packages({"idna"}), {127, "", ""}),
            "the versions are chosen when it runs: there is neither pip nor uv in /home/ubuntu/env\n");
}

TEST(PipStep, AMirrorIsNamedInWhatItSaysAndInItsErrors) {
  FakeHost host = host_with_environment();
  host.edit_mirror().name = "uni";
  host.edit_mirror().places = {{"pypi", "", "https://mirror.example.org/simple"}};
  RecordingLog log;
  ASSERT_TRUE(make_step(packages({"numpy"}))->apply(host, log).has_value());
  EXPECT_THAT(log.lines, Contains("taking packages from the mirror uni (https://mirror.example.org/simple)"));
  EXPECT_THAT(host.changes().back(), Not(HasSubstr("--index-url")))
      << "the environment says where, so that a user's command goes there too";
  const auto done = run_step(packages({"nothing==9"}), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().hint(), HasSubstr("the mirror uni (https://mirror.example.org/simple) was asked"));
  EXPECT_THAT(done.error().hint(), HasSubstr("--mirror none"));
}

TEST(PipStep, AnIndexOfItsOwnIsLookedForElsewhereOnlyWhereTheMirrorNamesIt) {
  FakeHost host = host_with_environment();
  host.edit_mirror().name = "uni";
  host.edit_mirror().places = {{"pypi", "", "https://mirror.example.org/simple"}, {"downloads", "", "https://mirror.example.org/files"}};
  PipSpec spec = packages({"numpy"});
  spec.index = Url{"https://wheels.example.com/whl/cu128"};
  RecordingLog log;
  ASSERT_TRUE(make_step(spec)->apply(host, log).has_value());
  EXPECT_THAT(host.changes().back(), HasSubstr("--index-url https://wheels.example.com/whl/cu128 "));
  EXPECT_THAT(log.lines, Not(Contains(HasSubstr("mirror"))));
  host.edit_mirror().places = {{"downloads", "https://wheels.example.com/whl", "https://mirror.example.org/wheels"}};
  ASSERT_TRUE(make_step(spec)->apply(host, log).has_value());
  EXPECT_THAT(host.changes().back(), HasSubstr("--index-url https://mirror.example.org/wheels/cu128 "));
}

TEST(PipStep, AnIndexThatCannotBeReachedIsNoMissingPackage) {
  FakeHost host = host_with_environment();
  host.answer({std::string(kVenv) + "/bin/python", "-m", "pip", "install"},
              {1, "",
               "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError: Connection refused': /simple/numpy/\n"
               "ERROR: Could not find a version that satisfies the requirement numpy (from versions: none)\n"});
  const auto done = run_step(packages({"numpy"}), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::network);
  EXPECT_THAT(done.error().why(), HasSubstr("the package index could not be reached: 'NewConnectionError: Connection refused'"));
}

TEST(PipStep, AMissingEnvironmentIsWorkAndThenAnErrorThatNamesTheStep) {
  FakeHost host;
  host.as_user();
  EXPECT_THAT(state_of(packages({"numpy"}), host).reason, HasSubstr("does not exist"));
  const auto done = run_step(packages({"numpy"}), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().hint(), HasSubstr("`venv` step"));
}

/// With the pip of Debian 12 instead, which the index can replace.
FakeHost host_with_old_pip() {
  FakeHost host = host_with_environment();
  host.take_away(std::string(kVenv) + "/lib/python3.11/site-packages/pip-26.1.dist-info");
  install(host, "pip", "23.0.1");
  host.on({std::string(kVenv) + "/bin/python", "-m", "pip", "install"}, [](FakeHost& fake, const Command& command) {
    if (command.argv.back() == "pip") {
      fake.take_away(std::string(kVenv) + "/lib/python3.11/site-packages/pip-23.0.1.dist-info");
      install(fake, "pip", "26.1");
    } else {
      install(fake, command.argv.back(), "2.0");
      return CommandResult{0, "Collecting numpy\n  Downloading numpy-2.0-cp311.whl (18.0 MB)\nProgress 4096 of 18000000\nInstalled\n", ""};
    }
    return CommandResult{};
  });
  return host;
}

TEST(PipStep, BringsAVirtualEnvironmentAPipThatResumesDownloadsAndShowsThem) {
  FakeHost host = host_with_old_pip();
  RecordingLog log;
  ASSERT_TRUE(make_step(packages({"numpy"}))->apply(host, log).has_value());
  EXPECT_THAT(host.changes().back(), AllOf(HasSubstr("--resume-retries 20"), HasSubstr("--progress-bar raw")));
  EXPECT_EQ(log.last_progress.first, "numpy-2.0-cp311.whl");
  EXPECT_EQ(log.last_progress.second.first, 4096U);
  EXPECT_EQ(log.last_progress.second.second, 18000000U);
}

TEST(PipStep, AnIndexWithoutPipIsNoHindrance) {
  FakeHost host = host_with_old_pip();
  host.on({std::string(kVenv) + "/bin/python", "-m", "pip", "install"}, [](FakeHost& fake, const Command& command) {
    if (command.argv.back() == "pip") return CommandResult{1, "", "ERROR: No matching distribution found for pip\n"};
    install(fake, command.argv.back(), "2.0");
    return CommandResult{};
  });
  RecordingLog log;
  ASSERT_TRUE(make_step(packages({"numpy"}))->apply(host, log).has_value());
  EXPECT_THAT(host.changes().back(), AllOf(HasSubstr("--progress-bar off"), Not(HasSubstr("--resume-retries"))));
}

TEST(PipStep, ThePipOfACondaEnvironmentIsCondas) {
  FakeHost host = host_with_old_pip();
  host.take_away(std::string(kVenv) + "/pyvenv.cfg");
  host.put(std::string(kVenv) + "/conda-meta/history", "");
  RecordingLog log;
  PipSpec spec = packages({"numpy"});
  (void)make_step(spec)->apply(host, log);
  for (const std::string& command : host.changes()) EXPECT_THAT(command, Not(HasSubstr("--upgrade pip")));
}

VenvSpec environment(const std::string& python = "python3") {
  VenvSpec spec;
  spec.path = HostPath{"~/env"};
  spec.python = python;
  return spec;
}
FakeHost host_with_python() {
  FakeHost host;
  host.put("/usr/bin/python3.11", "", 0755);
  host.as_user();
  host.on({"python3", "-m", "venv"}, [](FakeHost& fake, const Command&) {
    put_environment(fake);
    return CommandResult{};
  });
  return host;
}

TEST(VenvStep, NamesThePackageWhereEnsurepipIsMissingAndLeavesNoHalfEnvironment) {
  FakeHost host;
  host.as_user();
  host.on({"python3", "-m", "venv"}, [](FakeHost& fake, const Command&) {
    fake.put(std::string(kVenv) + "/pyvenv.cfg", "version = 3.11.2\n");
    return CommandResult{1, "The virtual environment was not created successfully because ensurepip is not available.\n", ""};
  });
  const auto done = run_step(environment(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().hint(), HasSubstr("python3-venv"));
  EXPECT_FALSE(host.at(std::string(kVenv) + "/pyvenv.cfg").has_value());
}

TEST(VenvStep, NamesThePackageOfAPythonThatIsNotThere) {
  FakeHost host;
  host.as_user();
  VenvSpec spec = environment();
  spec.python = "3.13";
  const auto done = run_step(spec, host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::not_found);
  EXPECT_EQ(done.error().why(), "`python3.13` is not on this host");
  EXPECT_EQ(done.error().hint(), "add a step before this one: apt: [python3, python3-venv]; is python3.13 in this release?");
}

TEST(VenvStep, APlanSaysWhichPythonItWouldBe) {
  FakeHost host;
  host.as_user();
  VenvSpec spec;
  spec.path = HostPath{"~/env"};
  EXPECT_EQ(make_step(spec)->planned(host), "which Python is known when it runs: there is no `python3` here yet\n");
  host.answer({"python3", "--version"}, {0, "Python 3.11.2\n", ""});
  EXPECT_EQ(make_step(spec)->planned(host), "Python 3.11.2 of `python3`\n");
}

TEST(VenvStep, AFullDiskIsTheCauseWhereVenvDoesNotSayIt) {
  FakeHost host = host_with_python();
  host.set_disk_free(300'000);
  host.on({"python3", "-m", "venv"}, [](FakeHost& fake, const Command&) {
    put_environment(fake);
    return CommandResult{1, "Error: Command '['env/bin/python3', '-m', 'ensurepip']' returned non-zero exit status 1.\n", ""};
  });
  const auto done = run_step(environment(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::no_space);
  EXPECT_THAT(done.error().why(), HasSubstr("No space left"));
  EXPECT_FALSE(host.at(std::string(kVenv) + "/pyvenv.cfg").has_value());
}

TEST(VenvStep, WhatACrashLeftBehindIsMadeAnew) {
  FakeHost host = host_with_python();
  put_environment(host);
  host.put(std::string(kVenv) + "/.gpustrap-unfinished", "");
  host.put(std::string(kVenv) + "/lib/half", "");
  const auto state = make_step(environment())->check(host);
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(state->is, StepState::Is::unsatisfied);
  EXPECT_THAT(state->reason, HasSubstr("was interrupted"));
  ASSERT_TRUE(run_step(environment(), host).has_value());
  EXPECT_FALSE(host.at(std::string(kVenv) + "/lib/half").has_value());
  EXPECT_FALSE(host.at(std::string(kVenv) + "/.gpustrap-unfinished").has_value());
  EXPECT_EQ(make_step(environment())->check(host)->is, StepState::Is::satisfied);
}

TEST(VenvStep, TakesAnInterpreterBelowTheHome) {
  FakeHost host = host_with_python();
  host.on({"/home/ubuntu/conda/bin/python", "-m", "venv"}, [](FakeHost& fake, const Command&) {
    put_environment(fake);
    return CommandResult{};
  });
  ASSERT_TRUE(run_step(environment("~/conda/bin/python"), host).has_value());
}

TEST(VenvStep, NeverReplacesAnEnvironmentOfAnotherPython) {
  FakeHost host = host_with_python();
  put_environment(host, "3.9.2");
  const auto state = make_step(environment("3.11"))->check(host);
  ASSERT_FALSE(state.has_value());
  EXPECT_THAT(state.error().why(), HasSubstr("3.9.2"));
  EXPECT_THAT(state.error().hint(), HasSubstr("mv "));
}

TEST(VenvStep, ABrokenInterpreterIsSaidAndNotReplaced) {
  FakeHost host = host_with_python();
  put_environment(host);
  host.take_away("/usr/bin/python3.11");
  const auto state = make_step(environment())->check(host);
  ASSERT_FALSE(state.has_value());
  EXPECT_THAT(state.error().why(), HasSubstr("is gone"));
}

TEST(VenvStep, LeavesAFolderAloneThatIsNoEnvironment) {
  FakeHost host = host_with_python();
  host.put(std::string(kVenv) + "/thesis.txt", "years of work");
  EXPECT_FALSE(run_step(environment(), host).has_value());
  EXPECT_EQ(host.content(std::string(kVenv) + "/thesis.txt"), "years of work");
}

INSTANTIATE_TEST_SUITE_P(Python, StepContract,
                         ::testing::Values(ContractCase{"venv_new", environment(), [] { return host_with_python(); }},
                                           ContractCase{"pip_missing", packages({"numpy", "d2l==1.0.3"}),
                                                        [] { return host_with_environment(); }}),
                         contract_name);

}  // namespace
}  // namespace gpustrap
