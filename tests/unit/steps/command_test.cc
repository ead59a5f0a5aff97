#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

CommandSpec shell(std::string text) {
  CommandSpec spec;
  spec.run.shell = std::move(text);
  return spec;
}
CommandSpec creating(std::string text, std::vector<std::string> paths) {
  CommandSpec spec = shell(std::move(text));
  spec.creates.items = std::move(paths);
  return spec;
}
CommandSpec guarded(std::string text, std::string unless) {
  CommandSpec spec = shell(std::move(text));
  spec.unless.shell = std::move(unless);
  return spec;
}

FakeHost host_with_bash() {
  FakeHost host({{"/bin/bash", ""}});
  host.on({"/bin/bash", "-eo", "pipefail", "-c", "make it"}, [](FakeHost& fake, const Command&) {
    fake.put("/opt/made", "x");
    return CommandResult{};
  });
  host.on({"/bin/bash", "-eo", "pipefail", "-c", "test -e /opt/made"}, [](FakeHost& fake, const Command&) {
    return CommandResult{fake.at("/opt/made") ? 0 : 1, "", ""};
  });
  return host;
}

INSTANTIATE_TEST_SUITE_P(Command, StepContract,
                         ::testing::Values(ContractCase{"command_always", shell("make it"), host_with_bash},
                                           ContractCase{"command_creates", creating("make it", {"/opt/made"}), host_with_bash},
                                           ContractCase{"command_unless", guarded("make it", "test -e /opt/made"), host_with_bash}),
                         contract_name);

TEST(CommandStep, SaysThatItAlwaysRuns) {
  EXPECT_THAT(state_of(shell("date"), FakeHost()).reason, HasSubstr("always runs"));
  EXPECT_FALSE(make_step(shell("date"))->can_verify());
}

TEST(CommandStep, NamesTheMissingFile) {
  FakeHost host({{"/opt/a", ""}});
  EXPECT_EQ(state_of(creating("x", {"/opt/a", "/opt/b"}), host).reason, "/opt/b does not exist");
}

TEST(CommandStep, ExpandsTheHomeInCreates) {
  FakeHost host({{"/home/ubuntu/conda/bin/conda", ""}});
  host.as_user();
  EXPECT_EQ(state_of(creating("x", {"~/conda/bin/conda"}), host).is, StepState::Is::satisfied);
}

TEST(CommandStep, ALinkToNothingIsNotThere) {
  FakeHost host;
  host.put_symlink("/opt/made", "/opt/gone");
  EXPECT_EQ(state_of(creating("x", {"/opt/made"}), host).is, StepState::Is::unsatisfied);
  host.put_symlink("/opt/made", "real").put("/opt/real", "");
  EXPECT_EQ(state_of(creating("x", {"/opt/made"}), host).is, StepState::Is::satisfied);
}

TEST(CommandStep, FallsBackToShWhereThereIsNoBash) {
  FakeHost host;
  host.answer({"/bin/sh"}, {});
  ASSERT_TRUE(run_step(shell("echo one"), host));
  EXPECT_THAT(host.changes(), ElementsAre("act /bin/sh -e -c echo one"));
}

TEST(CommandStep, AListIsAnArgvWithoutAShell) {
  CommandSpec spec;
  spec.run.argv = {"~/bin/tool", "$HOME", "a b"};
  FakeHost host({{"/home/ubuntu/bin/tool", ""}});
  host.as_user().on({"/home/ubuntu/bin/tool"}, [](FakeHost&, const Command& command) {
    EXPECT_THAT(command.argv, ElementsAre("/home/ubuntu/bin/tool", "$HOME", "a b"));
    return CommandResult{};
  });
  EXPECT_TRUE(run_step(spec, host));
}

TEST(CommandStep, RunsWhereItWasTold) {
  CommandSpec spec = guarded("make it", "make --question");
  spec.chdir = HostPath{"/srv/project"};
  FakeHost host = host_with_bash();
  EXPECT_THAT(state_of(spec, host).reason, HasSubstr("/srv/project does not exist"));
  EXPECT_THAT(host.looks(), Not(::testing::Contains(HasSubstr("look "))));
  host.put_directory("/srv/project");
  host.on({"/bin/bash"}, [](FakeHost&, const Command& command) {
    EXPECT_EQ(command.cwd, "/srv/project");
    return CommandResult{command.argv.back() == "make --question" ? 1 : 0, "", ""};
  });
  EXPECT_TRUE(run_step(spec, host));
}

TEST(CommandStep, AFailureQuotesTheLastLine) {
  FakeHost host({{"/bin/bash", ""}});
  host.answer({"/bin/bash"}, {3, "compiling\n", "warning\nno space left on device\n"});
  const auto result = run_step(shell("make all"), host);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().why(), "`make all` failed (exit 3): no space left on device");
}

TEST(CommandStep, AMissingWordInAShellTextIsTheShellsToName) {
  FakeHost host({{"/bin/bash", ""}});
  host.answer({"/bin/bash"}, {127, "", "bash: line 1: cmake: command not found\n"});
  const auto result = run_step(shell("cmake ."), host);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().why(), HasSubstr("cmake: command not found"));
  EXPECT_THAT(result.error().why(), Not(HasSubstr("/bin/bash` is not on this host")));
}

TEST(CommandStep, UnlessThatCannotBeFoundDoesNotCountAsDone) {
  CommandSpec spec = shell("make it");
  spec.unless.argv = {"no-such-tool", "--version"};
  EXPECT_THAT(state_of(spec, FakeHost()).reason, HasSubstr("exits with 127"));
}

}  // namespace
}  // namespace gpustrap
