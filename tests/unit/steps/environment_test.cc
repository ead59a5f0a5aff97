#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/subprocess.h"
#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using Kind = EnvironmentChange::Kind;
using Scope = EnvironmentSpec::Scope;

EnvironmentSpec environment(std::vector<std::pair<std::string, EnvironmentChange>> variables, Scope scope = Scope::login) {
  EnvironmentSpec spec;
  spec.scope = scope;
  spec.variables.items = std::move(variables);
  return spec;
}
EnvironmentSpec cuda(Scope scope = Scope::login) {
  return environment({{"PATH", {Kind::prepend, {"/usr/local/cuda/bin"}}}, {"CUDA_HOME", {Kind::set, {"/usr/local/cuda"}}}}, scope);
}
EnvironmentSpec libraries() { return environment({{"LD_LIBRARY_PATH", {Kind::append, {"/usr/local/cuda/lib64"}}}}); }

const std::string kUbuntuBashrc = "# ~/.bashrc\ncase $- in\n    *i*) ;;\n      *) return;;\nesac\nalias ll='ls -l'\n";
const std::string kUbuntuProfile =
    "if [ -n \"$BASH_VERSION\" ]; then\n    if [ -f \"$HOME/.bashrc\" ]; then\n\t. \"$HOME/.bashrc\"\n    fi\nfi\n";

FakeHost ubuntu() { return FakeHost({{"/home/ubuntu/.bashrc", kUbuntuBashrc}, {"/home/ubuntu/.profile", kUbuntuProfile}}); }

INSTANTIATE_TEST_SUITE_P(Environment, StepContract,
                         ::testing::Values(ContractCase{"environment_login", cuda(), ubuntu},
                                           ContractCase{"environment_login_without_files", cuda(), [] { return FakeHost(); }},
                                           ContractCase{"environment_as_the_user", cuda(), [] { return std::move(ubuntu().as_user()); }},
                                           ContractCase{"environment_system", cuda(Scope::system), ubuntu},
                                           ContractCase{"environment_libraries", libraries(), ubuntu}),
                         contract_name);

/// The variable as a shell has it that reads `script` with `before` in its environment.
std::string value_after(const std::string& shell, const std::string& script, const std::string& variable, const std::string& before) {
  Subprocess subprocess;
  subprocess.argv = {shell, "-euc", script + "\nprintf %s \"${" + variable + "-}\"\n"};
  subprocess.clean_env.emplace();
  subprocess.clean_env->emplace_back("HOME", "/home/some one");
  if (before != "(unset)") subprocess.env.emplace_back(variable, before);
  const auto result = run_subprocess(subprocess);
  EXPECT_TRUE(result.has_value());
  EXPECT_EQ(result->exit_code, 0) << result->err;
  return result->out;
}

/// The block that the step writes, for a real shell to read.
std::string script_for(const EnvironmentSpec& spec) {
  FakeHost host;
  EXPECT_TRUE(run_step(spec, host));
  return host.content("/home/ubuntu/.bashrc");
}

TEST(EnvironmentStep, ShellsExtendAListExactlyOnce) {
  const std::string prepend = script_for(environment({{"LIST", {Kind::prepend, {"/a:/b", "/c d"}}}}));
  const std::string append = script_for(environment({{"LIST", {Kind::append, {"/a", "", "/b"}}}}));
  for (const char* shell : {"/bin/sh", "/bin/bash"}) {
    EXPECT_EQ(value_after(shell, prepend, "LIST", "/x"), "/a:/b:/c d:/x");
    EXPECT_EQ(value_after(shell, prepend + prepend, "LIST", "/x"), "/a:/b:/c d:/x");
    EXPECT_EQ(value_after(shell, prepend, "LIST", "(unset)"), "/a:/b:/c d") << "no empty element";
    EXPECT_EQ(value_after(shell, append, "LIST", "/x"), "/x:/a:/b");
    EXPECT_EQ(value_after(shell, append, "LIST", "/b"), "/b:/a");
    EXPECT_EQ(value_after(shell, append, "LIST", ""), "/a:/b");
    EXPECT_EQ(value_after(shell, append, "LIST", "/aa"), "/aa:/a:/b") << "a longer name is another element";
  }
}

TEST(EnvironmentStep, AValueIsNeverShellCode) {
  const std::string nasty = "it's $(touch /tmp/owned) `id` \"x\" \\ * ;";
  EXPECT_EQ(value_after("/bin/sh", script_for(environment({{"V", {Kind::set, {nasty}}}})), "V", ""), nasty);
  EXPECT_EQ(value_after("/bin/sh", script_for(environment({{"V", {Kind::append, {nasty}}}})), "V", "/x"), "/x:" + nasty);
}

TEST(EnvironmentStep, TheHomeIsTheShells) {
  for (const char* value : {"~/conda/bin", "$HOME/conda/bin", "${HOME}/conda/bin"}) {
    EXPECT_EQ(value_after("/bin/sh", script_for(environment({{"V", {Kind::prepend, {value}}}})), "V", "/x"), "/home/some one/conda/bin:/x");
  }
  EXPECT_EQ(value_after("/bin/sh", script_for(environment({{"V", {Kind::set, {"~"}}}})), "V", ""), "/home/some one");
}

TEST(EnvironmentStep, StandsBeforeTheEarlyReturnOfBashrc) {
  FakeHost host = ubuntu();
  ASSERT_TRUE(run_step(cuda(), host));
  EXPECT_THAT(host.content("/home/ubuntu/.bashrc"), StartsWith("# >>> gpustrap environment >>>\n"));
  EXPECT_THAT(host.content("/home/ubuntu/.bashrc"), ::testing::EndsWith(kUbuntuBashrc)) << "the user's lines are as they were";
  EXPECT_EQ(host.content("/home/ubuntu/.profile"), kUbuntuProfile) << "it reads .bashrc already";
}

TEST(EnvironmentStep, CoversLoginShellsThatDoNotReadBashrc) {
  FakeHost host({{"/home/ubuntu/.bash_profile", "# not .bashrc\nPS1=x\n"}, {"/home/ubuntu/.profile", kUbuntuProfile}});
  ASSERT_TRUE(run_step(cuda(), host));
  EXPECT_THAT(host.content("/home/ubuntu/.bash_profile"), HasSubstr("cuda/bin"));
  EXPECT_EQ(host.content("/home/ubuntu/.profile"), kUbuntuProfile) << "bash does not read it where there is a .bash_profile";
}

TEST(EnvironmentStep, CoversZsh) {
  FakeHost host = ubuntu();
  host.edit_login().shell = "/usr/bin/zsh";
  ASSERT_TRUE(run_step(cuda(), host));
  EXPECT_THAT(host.content("/home/ubuntu/.zshenv"), HasSubstr("cuda/bin"));
}

TEST(EnvironmentStep, ARootStepWritesTheHomeAsItsUser) {
  FakeHost host = ubuntu();
  ASSERT_TRUE(run_step(cuda(), host));
  EXPECT_THAT(host.changes(), Each(StartsWith("ubuntu: ")));
  EXPECT_EQ(host.at("/home/ubuntu/.bashrc")->uid, 1000U);
}

TEST(EnvironmentStep, APlantedLinkGivesRootNothing) {
  FakeHost host({{"/etc/shadow", "root:x"}});
  host.put_symlink("/home/ubuntu/.bashrc", "/etc/shadow");
  ASSERT_FALSE(run_step(cuda(), host));
  EXPECT_EQ(host.content("/etc/shadow"), "root:x");
}

TEST(EnvironmentStep, TwoStepsDoNotUndoEachOther) {
  FakeHost host = ubuntu();
  const EnvironmentSpec conda = environment({{"PATH", {Kind::prepend, {"~/conda/bin"}}}});
  ASSERT_TRUE(run_step(cuda(), host));
  ASSERT_TRUE(run_step(conda, host));
  EXPECT_EQ(state_of(cuda(), host).is, StepState::Is::satisfied);
  EXPECT_EQ(state_of(conda, host).is, StepState::Is::satisfied);
  EXPECT_EQ(value_after("/bin/sh", host.content("/home/ubuntu/.bashrc").substr(0, host.content("/home/ubuntu/.bashrc").find("# ~/.bashrc")),
                        "PATH", "/usr/bin"),
            "/home/some one/conda/bin:/usr/local/cuda/bin:/usr/bin");
}

TEST(EnvironmentStep, ASetVariableChangesItsOwnLineOnly) {
  FakeHost host = ubuntu();
  ASSERT_TRUE(run_step(environment({{"A", {Kind::set, {"1"}}}, {"B", {Kind::set, {"2"}}}}), host));
  ASSERT_TRUE(run_step(environment({{"A", {Kind::set, {"3"}}}}), host));
  EXPECT_THAT(host.content("/home/ubuntu/.bashrc"), HasSubstr("export A=3\nexport B=2\n"));
  EXPECT_THAT(host.content("/home/ubuntu/.bashrc"), Not(HasSubstr("export A=1")));
}

TEST(EnvironmentStep, WhatSetsComesBeforeWhatExtends) {
  FakeHost host = ubuntu();
  ASSERT_TRUE(run_step(environment({{"LIST", {Kind::append, {"/a"}}}}), host));
  ASSERT_TRUE(run_step(environment({{"LIST", {Kind::set, {"/base"}}}}), host));
  const std::string bashrc = host.content("/home/ubuntu/.bashrc");
  EXPECT_LT(bashrc.find("export LIST=/base"), bashrc.find("case "));
}

TEST(EnvironmentStep, WhatTheLoaderKnowsNeedsNoVariable) {
  FakeHost host = ubuntu();
  host.put("/usr/local/cuda-12.8/targets/x86_64-linux/lib/libcudart.so.12", "")
      .put_symlink("/usr/local/cuda-12.8/lib64", "targets/x86_64-linux/lib")
      .put_symlink("/usr/local/cuda", "/usr/local/cuda-12.8")
      .answer(
          {"ldconfig", "-p"},
          {0, "1 libs found in cache\n\tlibcudart.so.12 (libc6,x86-64) => /usr/local/cuda/targets/x86_64-linux/lib/libcudart.so.12\n", ""});
  const StepState state = state_of(libraries(), host);
  EXPECT_EQ(state.is, StepState::Is::satisfied);
  EXPECT_EQ(state.reason, "ld.so already searches /usr/local/cuda/lib64, so LD_LIBRARY_PATH is not needed");
}

TEST(EnvironmentStep, WithoutLdconfigTheConfigurationCounts) {
  FakeHost host({{"/etc/ld.so.conf.d/cuda.conf", "# CUDA\n/usr/local/cuda/lib64\n"}, {"/usr/local/cuda/lib64/libcudart.so.12", ""}});
  EXPECT_EQ(state_of(libraries(), host).is, StepState::Is::satisfied);
}

TEST(EnvironmentStep, WarnsOfALibraryPath) {
  FakeHost host = ubuntu();
  host.answer({"ldconfig", "-p"}, {0, "\tlibc.so.6 (libc6,x86-64) => /lib/x86_64-linux-gnu/libc.so.6\n", ""});
  RecordingLog log;
  ASSERT_TRUE(run_step(libraries(), host, log));
  EXPECT_THAT(log.lines, Contains(HasSubstr("before the CUDA libraries that Python packages bring")));
  EXPECT_THAT(host.content("/home/ubuntu/.bashrc"), HasSubstr("/usr/local/cuda/lib64"));
}

TEST(EnvironmentStep, RefusesAValueThatExpectsAShell) {
  FakeHost host = ubuntu();
  const auto result = run_step(environment({{"PATH", {Kind::set, {"/x:${PATH}"}}}}), host);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::recipe);
  EXPECT_THAT(result.error().hint(), HasSubstr("PATH: {prepend: …}"));
  EXPECT_THAT(host.changes(), IsEmpty());
}

TEST(EnvironmentStep, NamesWhatIsMissingWhere) {
  EXPECT_EQ(state_of(cuda(), ubuntu()).reason, "/home/ubuntu/.bashrc lacks PATH, CUDA_HOME");
}

TEST(EnvironmentStep, RefusesBrokenMarkers) {
  FakeHost host({{"/home/ubuntu/.bashrc", "# >>> gpustrap environment >>>\nalias x=y\n"}});
  const auto result = run_step(cuda(), host);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().sentence(), HasSubstr("/home/ubuntu/.bashrc: the markers"));
}

}  // namespace
}  // namespace gpustrap
