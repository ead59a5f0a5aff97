#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "agent/base/file.h"
#include "agent/base/subprocess.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/request.h"
#include "tests/support/local_agent.h"
#include "tests/support/temporary_directory.h"

// The agent's program, called by hand.

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

class AgentProgram : public ::testing::Test {
 protected:
  SubprocessResult call(std::vector<std::string> words) {
    Subprocess program;
    program.argv = {agent_program()};
    program.argv.insert(program.argv.end(), words.begin(), words.end());
    program.argv.push_back("--state=" + directory_.path());
    program.argv.push_back("--runtime=" + directory_.path() + "/runtime");
    Result<SubprocessResult> result = run_subprocess(program);
    EXPECT_TRUE(result.has_value());
    return result.value_or(SubprocessResult{});
  }
  /// What it says on its standard error, and the exit code of a wrong call.
  std::string complaint(std::vector<std::string> words) {
    const SubprocessResult result = call(std::move(words));
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_EQ(result.out, "");
    return result.err;
  }

  TemporaryDirectory directory_;
};

TEST_F(AgentProgram, SaysHowItIsCalled) {
  EXPECT_EQ(complaint({"dance"}), "gpustrap-agent: there is no verb `dance`\n  gpustrap-agent --help\n");
  EXPECT_EQ(complaint({"run"}), "gpustrap-agent: run takes one file: the resolved recipe\n  gpustrap-agent run recipe.json\n");
  EXPECT_EQ(complaint({"secrets", "a", "b"}),
            "gpustrap-agent: secrets takes one file: the resolved recipe\n  gpustrap-agent secrets recipe.json\n");
  EXPECT_EQ(complaint({"supervise", "dance", "web"}),
            "gpustrap-agent: supervise takes a service, and start, restart, stop or show before it\n  gpustrap-agent --help\n");
  for (const char* time : {"31d", "soon"})
    EXPECT_EQ(complaint({"keep", time}),
              "gpustrap-agent: keep takes a time of at most 30 days, or off\n  for instance: gpustrap-agent keep 2h\n");
}

TEST_F(AgentProgram, HasNothingToResumeWhereNothingRan) {
  EXPECT_EQ(complaint({"resume"}), "gpustrap-agent: there was no run on this host yet\n  `gpustrap-agent run recipe.json` starts one\n");
}

TEST_F(AgentProgram, SecretsAreHandedToTheirOwnRecipeAlone) {
  const auto recipe = [](const std::string& name, const std::string& command) {
    return Json{{"name", name}, {"steps", {{{"id", "wait"}, {"command", {{"run", command}}}}}}};
  };
  const std::string go = directory_ / "go";
  std::vector<FieldProblem> problems;
  RunRequest run;
  run.run = "r1";
  run.recipe = read_recipe(recipe("notebook", "until test -e " + go + "; do sleep 0.01; done"), Placeholders::allowed, problems);
  ASSERT_TRUE(problems.empty());
  LocalAgent agent(directory_.path());
  agent.send(to_json(Hello{kProtocolVersion, "test", {}}));
  agent.send(to_json(Request{1, std::move(run)}));
  agent.receive_until("event", "step_started");
  ASSERT_TRUE(write_file_atomically(directory_ / "other.json", recipe("other", "true").dump()).has_value());
  const SubprocessResult refused = call({"secrets", directory_ / "other.json"});
  EXPECT_EQ(refused.exit_code, 10);
  EXPECT_EQ(refused.err, "gpustrap-agent: the run in progress is of another recipe, notebook\n  give the file that it was started with\n");
  ASSERT_TRUE(write_file_atomically(go, "").has_value());
  agent.receive_until("event", "run_finished");
}

}  // namespace
}  // namespace gpustrap
