#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/protocol/json.h"
#include "agent/steps/conda_command.h"
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

constexpr const char* kConda = "/home/ubuntu/conda/bin/conda";
constexpr const char* kEnv = "/home/ubuntu/conda/envs/d2l";

// What conda 26.7.0 (its sources, run on Debian 12 with the classic solver and channels of a few packages) printed, shortened.
constexpr const char* kMissingPackage = R"({
  "caused_by": "None",
  "channel_urls": [
    "https://conda.anaconda.org/conda-forge/linux-64",
    "https://conda.anaconda.org/conda-forge/noarch"
  ],
  "error": "PackagesNotFoundInChannelsError: The following packages are not available from current channels:\n\n  - nopackage\n",
  "exception_name": "PackagesNotFoundInChannelsError",
  "exception_type": "<class 'conda.exceptions.PackagesNotFoundInChannelsError'>",
  "message": "The following packages are not available from current channels:\n\n  - nopackage\n",
  "packages": [
    "nopackage"
  ],
  "packages_formatted": "\n  - nopackage"
}
)";
constexpr const char* kNoChannel = R"({
  "channel_name": "nochan",
  "channel_url": "file:///srv/nochan",
  "error": "UnavailableInvalidChannel: HTTP 404 UNAVAILABLE OR INVALID for channel nochan <file:///srv/nochan>\n",
  "exception_name": "UnavailableInvalidChannel",
  "message": "HTTP 404 UNAVAILABLE OR INVALID for channel nochan <file:///srv/nochan>\n\nThe channel is not accessible or is invalid.\n",
  "reason": "UNAVAILABLE OR INVALID",
  "status_code": 404
}
)";
constexpr const char* kNoConnection = R"({
  "elapsed_time": "-",
  "error": "CondaHTTPError: HTTP 000 CONNECTION FAILED for url <http://127.0.0.1:9/x/linux-64/current_repodata.json>\nElapsed: -\n",
  "exception_name": "CondaHTTPError",
  "message": "HTTP 000 CONNECTION FAILED for url <http://127.0.0.1:9/x/linux-64/current_repodata.json>\nElapsed: -\n\nAn HTTP error occurred when trying to retrieve this URL.\n",
  "reason": "CONNECTION FAILED",
  "status_code": "000",
  "url": "http://127.0.0.1:9/x/linux-64/current_repodata.json"
}
)";
constexpr const char* kLostDownload = R"({
  "error": "Multiple Errors Encountered.",
  "errors": [
    {
      "exception_name": "CondaHTTPError",
      "message": "HTTP 404 Not Found for url <http://127.0.0.1:18766/noarch/toy-2.0-0.tar.bz2>\nElapsed: 00:00.002632\n",
      "status_code": 404,
      "url": "http://127.0.0.1:18766/noarch/toy-2.0-0.tar.bz2"
    }
  ],
  "exception_name": "CondaMultiError"
}
)";
constexpr const char* kNoChannels = R"({
  "error": "NoChannelsConfiguredError: No channels are configured. Conda requires at least one channel to search for packages.\n",
  "exception_name": "NoChannelsConfiguredError",
  "message": "No channels are configured. Conda requires at least one channel to search for packages.\n",
  "packages": [
    "toy"
  ]
}
)";
// As users report it (its text), in the frame of the others.
constexpr const char* kTerms = R"({
  "exception_name": "CondaToSNonInteractiveError",
  "message": "Terms of Service have not been accepted for the following channels. Please accept or remove them before proceeding:\n    - https://repo.anaconda.com/pkgs/main\n    - https://repo.anaconda.com/pkgs/r\n\nTo accept these channels' Terms of Service, run the following commands:\n"
}
)";

void put_package(FakeHost& host, const std::string& name, const std::string& version, const std::string& build = "0",
                 const std::string& environment = kEnv) {
  host.put(environment + "/conda-meta/" + name + "-" + version + "-" + build + ".json", "{}");
  if (name == "python") {
    host.put(environment + "/bin/python3.11", "", 0755);
    host.put_symlink(environment + "/bin/python", "python3.11");
    host.put_directory(environment + "/lib/python3.11/site-packages");
  }
}
void put_environment(FakeHost& host, const std::string& python = "3.11.9") {
  put_package(host, "python", python, "hb806964_0_cpython");
  host.put(std::string(kEnv) + "/conda-meta/history", "==> 2026-11-21 <==\n");
}

/// Each line as conda's, through takes_line as a real host gives it.
CommandResult answer(const Command& command, int exit_code, const std::string& json) {
  std::string rest;
  std::string line;
  for (const char c : json) {
    if (c != '\n') {
      line += c;
      continue;
    }
    if (!command.takes_line(line)) rest += line + "\n";
    line.clear();
  }
  return {exit_code, rest, ""};
}

/// A host with a conda that makes and fills environments: "name=1.2" is installed as 1.2, what has no version as 1.0.
FakeHost host_with_conda() {
  FakeHost host;
  host.as_user();
  host.put(kConda, "#!/bin/sh\n", 0755);
  const auto act = [](FakeHost& fake, const Command& command) {
    std::string environment;
    for (std::size_t i = 2; i < command.argv.size(); ++i) {
      const std::string& word = command.argv[i];
      if (word == "-p") environment = command.argv[++i];
      if (word == "-c" || word == "-p") {
        if (word == "-c") ++i;
        continue;
      }
      if (word.starts_with("-")) continue;
      const std::string name = word.substr(0, word.find_first_of("=<>"));
      const std::size_t version = word.find_last_of('=');
      put_package(fake, name, version == std::string::npos ? "1.0" : word.substr(version + 1), "0", environment);
    }
    fake.put(environment + "/conda-meta/history", "");
    return answer(command, 0,
                  "{\"fetch\":\"numpy 1.26 | 7 MB\",\"finished\":false,\"maxval\":1,\"progress\":0.250000}\n"
                  "{\n\"success\": true,\n\"actions\": {\"LINK\": [{\"name\": \"numpy\", \"version\": \"1.26.4\"}]}\n}\n");
  };
  host.on({kConda, "create"}, act);
  host.on({kConda, "install"}, act);
  return host;
}

CondaEnvSpec wanted(std::vector<std::string> packages = {}, const std::string& python = "3.11") {
  CondaEnvSpec spec;
  spec.name = "d2l";
  spec.python = python;
  spec.packages.items = std::move(packages);
  return spec;
}

TEST(CondaEnvStep, MakesTheEnvironmentWithEverythingAtOnce) {
  FakeHost host = host_with_conda();
  CondaEnvSpec spec = wanted({"numpy=1.26"});
  spec.channels.items = {"conda-forge"};
  RecordingLog log;
  const auto done = run_step(spec, host, log);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->reason, "python 3.11, numpy 1.26 in /home/ubuntu/conda/envs/d2l");
  EXPECT_THAT(host.changes(), Contains("act /home/ubuntu/conda/bin/conda create --json --yes -p /home/ubuntu/conda/envs/d2l "
                                       "--override-channels -c conda-forge python=3.11 numpy=1.26"));
  EXPECT_THAT(log.lines, Contains("installed numpy 1.26.4"));
  EXPECT_EQ(log.last_share, (std::pair<std::string, double>("fetching numpy 1.26", 0.25)));
}

TEST(CondaEnvStep, APlanNamesVersionsAsCondaFindsThemAndChangesNothing) {
  FakeHost host = host_with_conda();
  host.answer({"sh", "-c"},
              {0,
               "{\n  \"actions\": {\n    \"FETCH\": [],\n    \"LINK\": [\n      {\"name\": \"python\", \"version\": \"3.11.9\"},\n"
               "      {\"name\": \"openssl\", \"version\": \"3.3.1\"},\n      {\"name\": \"numpy\", \"version\": \"1.26.4\"}\n    ]\n"
               "  },\n  \"dry_run\": true,\n  \"success\": true\n}\n{\n  \"message\": \"Dry run. Exiting.\"\n}\n",
               ""});
  const std::string before = host.snapshot();
  EXPECT_EQ(make_step(wanted({"numpy"}))->planned(host),
            "install python 3.11.9\ninstall numpy 1.26.4\nand with them 1 more:\n  openssl 3.3.1\n");
  EXPECT_THAT(host.looks(), Contains(HasSubstr("bin/conda create --json --yes -p")));
  EXPECT_THAT(host.looks(), Contains(HasSubstr("--dry-run")));
  EXPECT_EQ(host.snapshot(), before);
}

TEST(CondaEnvStep, APlanNamesWhatIsReplacedAndSaysWhyVersionsAreNotKnown) {
  FakeHost host = host_with_conda();
  put_environment(host);
  put_package(host, "numpy", "1.25.0");
  host.answer(
      {"sh", "-c"},
      {0,
       R"({"actions": {"UNLINK": [{"name": "numpy", "version": "1.25.0"}], "LINK": [{"name": "numpy", "version": "2.1.0"}]}, "success": true})",
       ""});
  EXPECT_EQ(make_step(wanted({"numpy>=2"}))->planned(host), "install numpy 2.1.0 in place of 1.25.0\n");
  host.answer({"sh", "-c"}, {1, kNoChannels, ""});
  EXPECT_EQ(make_step(wanted({"numpy>=2"}))->planned(host),
            "the versions are chosen when it runs: conda does not find them now (this conda has no channel to take packages from)\n");
  FakeHost bare;
  bare.as_user();
  EXPECT_EQ(make_step(wanted({"numpy"}))->planned(bare),
            "the versions are chosen when it runs: there is no conda in /home/ubuntu/conda yet\n");
}

TEST(CondaEnvStep, ReadsFileNamesAndStartsNothing) {
  FakeHost host = host_with_conda();
  put_environment(host);
  put_package(host, "pytorch-cuda", "12.1", "ha16c6d3_6");
  const StepState state = state_of(wanted({"pytorch-cuda>=12,<13"}), host);
  EXPECT_EQ(state.is, StepState::Is::satisfied) << state.reason;
  EXPECT_EQ(state.reason, "python 3.11.9, pytorch-cuda 12.1 in /home/ubuntu/conda/envs/d2l");
  EXPECT_THAT(host.looks(), Not(Contains(StartsWith("look "))));
  EXPECT_THAT(host.looks(), Not(Contains(AllOf(StartsWith("read "), HasSubstr(".json")))));
}

TEST(CondaEnvStep, NamesWhatIsThereAndWhatIsWanted) {
  FakeHost host = host_with_conda();
  put_environment(host);
  put_package(host, "numpy", "1.26.4", "py311h64a7726_0");
  EXPECT_EQ(state_of(wanted({"numpy<1.20", "zlib"}), host).reason, "numpy 1.26.4 is installed, numpy<1.20 wanted; zlib is not installed");
  EXPECT_EQ(state_of(wanted({"numpy=1.26=py311*"}), host).is, StepState::Is::satisfied);
  EXPECT_THAT(state_of(wanted({"numpy=1.26=*cuda*"}), host).reason, HasSubstr("py311h64a7726_0 is installed, numpy=1.26=*cuda* wanted"));
  EXPECT_EQ(state_of(wanted({"numpy=1.2|1.26"}), host).is, StepState::Is::satisfied);
  EXPECT_EQ(state_of(wanted({"numpy=1.2"}), host).is, StepState::Is::unsatisfied) << "1.2 is no beginning of 1.26";
}

TEST(CondaEnvStep, AddsToAnEnvironmentThatIsThereAndNeverMakesItAnew) {
  FakeHost host = host_with_conda();
  put_environment(host);
  host.put(std::string(kEnv) + "/lib/python3.11/site-packages/mine.py", "of the user");
  ASSERT_TRUE(run_step(wanted({"zlib"}), host).has_value());
  EXPECT_THAT(host.changes(), Not(Contains(HasSubstr("conda create"))));  // which would remove it first
  EXPECT_EQ(host.content(std::string(kEnv) + "/lib/python3.11/site-packages/mine.py"), "of the user");
}

TEST(CondaEnvStep, AnotherPythonIsLeftAlone) {
  FakeHost host = host_with_conda();
  put_environment(host, "3.10.4");
  const auto done = run_step(wanted(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().why(), "environment d2l has Python 3.10.4, 3.11 wanted");
  EXPECT_THAT(done.error().hint(), HasSubstr("conda env remove -n d2l"));
  EXPECT_TRUE(host.changes().empty());
}

TEST(CondaEnvStep, ACutCreationIsMadeAnewAndAForeignFolderIsLeft) {
  FakeHost host = host_with_conda();
  host.put_directory(kEnv);
  ASSERT_TRUE(begin_conda_work(host, kEnv, "create").has_value());
  host.put(std::string(kEnv) + "/conda-meta/zlib-1.3-0.json", "{}");
  EXPECT_EQ(state_of(wanted(), host).reason, "making environment d2l was cut short");
  const auto done = run_step(wanted(), host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_FALSE(host.at(std::string(kEnv) + "/conda-meta/zlib-1.3-0.json").has_value());

  FakeHost foreign = host_with_conda();
  foreign.put(std::string(kEnv) + "/thesis.txt", "all of it");
  EXPECT_EQ(run_step(wanted(), foreign).error().code(), ErrorCode::unsafe);
  EXPECT_EQ(foreign.content(std::string(kEnv) + "/thesis.txt"), "all of it");
}

TEST(CondaEnvStep, ACreationThatFailsLeavesNothing) {
  FakeHost host = host_with_conda();
  host.on({kConda, "create"}, [](FakeHost& fake, const Command& command) {
    put_package(fake, "zlib", "1.3");
    return answer(command, 1, kMissingPackage);
  });
  const auto done = run_step(wanted({"nopackage"}), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_FALSE(host.at(kEnv).has_value());
  EXPECT_EQ(state_of(wanted(), host).reason, "environment d2l does not exist");
}

TEST(CondaEnvStep, AsksAgainWhereAChannelDoesNotAnswer) {
  FakeHost host = host_with_conda();
  const auto attempts = std::make_shared<int>(0);
  host.on({kConda, "create"}, [attempts](FakeHost& fake, const Command& command) {
    if (++*attempts < 3) return answer(command, 1, kNoConnection);
    put_environment(fake);
    return answer(command, 0, "{\n\"success\": true\n}\n");
  });
  ASSERT_TRUE(run_step(wanted(), host).has_value());
  EXPECT_EQ(*attempts, 3);
}

TEST(CondaEnvStep, AMirrorIsNamedInWhatItSaysAndInItsErrors) {
  FakeHost host = host_with_conda();
  host.edit_mirror().name = "uni";
  host.edit_mirror().places = {{"conda", "", "https://mirror.example.org/conda"}};
  host.on({kConda, "create"}, [](FakeHost&, const Command& command) { return answer(command, 1, kNoConnection); });
  RecordingLog log;
  const auto done = make_step(wanted())->apply(host, log);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(log.lines, Contains("taking channels from the mirror uni (https://mirror.example.org/conda)"));
  EXPECT_THAT(done.error().hint(), HasSubstr("the mirror uni (https://mirror.example.org/conda) was asked"));
}

TEST(CondaEnvStep, WithoutACondaItIsWorkAndThenAnErrorThatNamesTheStep) {
  FakeHost host;
  host.as_user();
  EXPECT_THAT(state_of(wanted(), host).reason, HasSubstr("there is no conda in /home/ubuntu/conda yet"));
  const auto done = run_step(wanted(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().hint(), HasSubstr("conda: { prefix: ~/conda }"));
}

TEST(CondaEnvStep, AppliesAFileAgainOnlyWhereItHasChanged) {
  FakeHost host = host_with_conda();
  host.put("/home/ubuntu/environment.yml", "dependencies: [numpy]\n");
  host.on({kConda, "env", "update"}, [](FakeHost& fake, const Command& command) {
    EXPECT_THAT(command.argv, ::testing::IsSupersetOf({"--json", "-p", kEnv, "-f", "/home/ubuntu/environment.yml"}));
    put_environment(fake);
    EXPECT_FALSE(command.takes_line("Collecting numpy")) << "what pip says is shown";
    return answer(command, 0, "{\n  \"success\": true\n}\n");
  });
  CondaEnvSpec spec;
  spec.name = "d2l";
  spec.file = HostPath{"~/environment.yml"};
  const auto done = run_step(spec, host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->reason, "as /home/ubuntu/environment.yml says in /home/ubuntu/conda/envs/d2l");
  host.put("/home/ubuntu/environment.yml", "dependencies: [numpy, scipy]\n");
  EXPECT_EQ(state_of(spec, host).reason, "/home/ubuntu/environment.yml has changed since it was applied");
}

TEST(CondaEnvStep, PipGoesIntoIt) {
  FakeHost host = host_with_conda();
  put_environment(host);
  const std::string site_packages = std::string(kEnv) + "/lib/python3.11/site-packages";
  host.put(site_packages + "/pip-24.0.dist-info/METADATA", "Name: pip\nVersion: 24.0\n");
  host.on({std::string(kEnv) + "/bin/python", "-m", "pip", "install"}, [site_packages](FakeHost& fake, const Command&) {
    fake.put(site_packages + "/d2l-1.0.3.dist-info/METADATA", "Name: d2l\nVersion: 1.0.3\n");
    return CommandResult{};
  });
  CondaEnvSpec spec = wanted();
  spec.pip.items = {"d2l==1.0.3"};
  EXPECT_EQ(state_of(spec, host).reason, "d2l==1.0.3 is not installed");
  const auto done = run_step(spec, host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->reason, "python 3.11.9, d2l 1.0.3 in /home/ubuntu/conda/envs/d2l");
  EXPECT_THAT(host.changes(), Not(Contains(HasSubstr("bin/conda "))));

  // A `pip` step names the same environment, and `jupyter` finds its server there.
  PipSpec pip;
  pip.env = "d2l";
  pip.packages.items = {"d2l"};
  EXPECT_EQ(state_of(pip, host).reason, "d2l 1.0.3");
  pip.env = "other";
  EXPECT_THAT(run_step(pip, host).error().hint(), HasSubstr("`conda_env` step"));
}

TEST(CondaErrors, SayWhyAndWhatToDo) {
  const Error missing = conda_error(kMissingPackage, "");
  EXPECT_EQ(missing.code(), ErrorCode::not_found);
  EXPECT_THAT(missing.why(), AllOf(StartsWith("nopackage is in no channel asked"), HasSubstr("conda-forge/linux-64")));
  EXPECT_THAT(missing.hint(), HasSubstr("channels: [conda-forge]"));
  EXPECT_EQ(conda_error(kNoChannel, "").why(), "file:///srv/nochan is no channel: it has no repodata.json");
  const Error network = conda_error(kNoConnection, "");
  EXPECT_EQ(network.code(), ErrorCode::network);
  EXPECT_THAT(network.hint(), HasSubstr("reaches http://127.0.0.1:9/x"));
  EXPECT_THAT(conda_error(kLostDownload, "").why(),
              HasSubstr("HTTP 404 Not Found for url <http://127.0.0.1:18766/noarch/toy-2.0-0.tar.bz2>"));
  EXPECT_THAT(conda_error(kNoChannels, "").hint(), HasSubstr("channels: [conda-forge]"));
  const Error terms = conda_error(kTerms, "");
  EXPECT_EQ(terms.why(), "the Terms of Service of https://repo.anaconda.com/pkgs/main, https://repo.anaconda.com/pkgs/r are not accepted");
  EXPECT_THAT(terms.hint(), AllOf(HasSubstr("accept_tos: true"), HasSubstr("channels: [conda-forge]")));
  const Error conflict = conda_error(
      R"({"exception_name":"LibMambaUnsatisfiableError","message":"Encountered problems while solving:\n  - package d2l requires numpy <1.24, but none of the providers can be installed\n"})",
      "");
  EXPECT_THAT(conflict.why(), HasSubstr("d2l requires numpy <1.24"));
  EXPECT_EQ(conda_error(R"({"exception_name":"CondaError","message":"[Errno 28] No space left on device"})", "").code(),
            ErrorCode::no_space);
  EXPECT_THAT(conda_error("", "bash: line 1: /x/bin/python: bad interpreter\n").why(), HasSubstr("bad interpreter"));
  EXPECT_EQ(conda_error("", "").why(), "conda failed without a word");
  // Without its last bracket, as a last line without a newline goes by.
  EXPECT_THAT(conda_error("{\n \"exception_name\": \"X\",\n \"message\": \"said\"\n", "").why(), HasSubstr("said"));
}

TEST(CondaErrors, OfItsOwnFilesNameTheirWayOut) {
  struct {
    const char *name, *message, *hint;
    ErrorCode code;
  } const rows[] = {
      {"ChecksumMismatchError", "Conda detected a mismatch between the expected content and downloaded content", "changed the file",
       ErrorCode::digest},
      {"EnvironmentNotWritableError", "The current user does not have write permissions to the target environment.", "(`as:`)",
       ErrorCode::permission},
      {"LockError", "Failed to acquire lock.", "another conda is at work", ErrorCode::busy},
  };
  for (const auto& row : rows) {
    const Error error = conda_error(Json{{"exception_name", row.name}, {"message", row.message}}.dump(), "");
    EXPECT_EQ(error.code(), row.code) << row.name;
    EXPECT_EQ(error.why(), row.message);
    EXPECT_THAT(error.hint(), HasSubstr(row.hint));
  }
}

TEST(CondaEnvSpec, IsCheckedBeforeAnythingIsContacted) {
  const auto problems_of = [](StepKind kind, const Json& value) {
    std::vector<FieldProblem> problems;
    (void)read_step_spec(kind, value, "", Placeholders::refused, problems);
    std::string all;
    for (const FieldProblem& problem : problems) all += problem.message + "\n";
    return all;
  };
  EXPECT_EQ(problems_of(StepKind::conda_env, {{"name", "d2l"}, {"python", "3.11"}}), "");
  EXPECT_THAT(problems_of(StepKind::conda_env, {{"name", "d2l"}}), HasSubstr("would be empty"));
  EXPECT_THAT(problems_of(StepKind::conda_env, {{"name", "../x"}, {"python", "3.11"}}), HasSubstr("not a path"));
  EXPECT_THAT(problems_of(StepKind::conda_env, {{"name", "d2l"}, {"python", ">=3.8"}}), HasSubstr("expected a version"));
  EXPECT_THAT(problems_of(StepKind::conda_env, {{"name", "d2l"}, {"packages", {"numpy 1.2"}}}), HasSubstr("numpy 1.2"));
  EXPECT_THAT(problems_of(StepKind::conda_env, {{"name", "d2l"}, {"packages", "a"}, {"channels", "-c"}}),
              HasSubstr("a channel's name or URL"));
  EXPECT_THAT(problems_of(StepKind::conda_env, {{"name", "d2l"}, {"file", "~/e.yml"}, {"channels", "x"}}), HasSubstr("names its own"));
  EXPECT_THAT(problems_of(StepKind::pip, {{"env", "d2l"}, {"venv", "~/e"}, {"packages", "a"}}), HasSubstr("expected one of them"));
  EXPECT_THAT(problems_of(StepKind::pip, {{"packages", "a"}}), HasSubstr("needs a field `venv` or `env`"));
  EXPECT_THAT(problems_of(StepKind::jupyter, {{"venv", "~/e"}, {"conda", "/opt/conda"}}), HasSubstr("goes with `env` only"));
}

INSTANTIATE_TEST_SUITE_P(CondaEnv, StepContract,
                         ::testing::Values(ContractCase{"conda_env_new", wanted({"numpy=1.26"}), [] { return host_with_conda(); }},
                                           ContractCase{"conda_env_added", wanted({"zlib"}),
                                                        [] {
                                                          FakeHost host = host_with_conda();
                                                          put_environment(host);
                                                          return host;
                                                        }}),
                         contract_name);

}  // namespace
}  // namespace gpustrap
