#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/request.h"
#include "agent/run_store.h"
#include "tests/support/local_agent.h"

// The real program over plain pipes: hello, runs that outlive it, attach, cancel, what a broken peer may send.

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

class ServeTest : public ::testing::Test {
 protected:
  ServeTest() {
    std::string name = ::testing::TempDir() + "serveXXXXXX";
    directory_ = ::mkdtemp(name.data());
  }
  ~ServeTest() override {
    for (const pid_t pid : runners_) ::kill(pid, SIGKILL);
    std::filesystem::remove_all(directory_);
  }

  static Json hello() { return to_json(Hello{kProtocolVersion, "test", {}}); }
  Json run_request(std::uint64_t number, const std::string& id, std::string steps, const std::string& name = "test") {
    for (std::size_t at = steps.find('@'); at != std::string::npos; at = steps.find('@')) steps.replace(at, 1, directory_);
    std::vector<FieldProblem> problems;
    RunRequest run;
    run.run = id;
    run.recipe = read_recipe(Json{{"name", name}, {"steps", Json::parse(steps)}}, Placeholders::allowed, problems);
    for (const FieldProblem& problem : problems) ADD_FAILURE() << problem.pointer << ": " << problem.message;
    return to_json(Request{number, std::move(run)});
  }
  static std::vector<std::uint64_t> sequence(const std::vector<Json>& lines) {
    std::vector<std::uint64_t> numbers;
    for (const Json& line : lines) {
      if (line.contains("event")) numbers.push_back(line.at("seq").get<std::uint64_t>());
    }
    return numbers;
  }
  void remember_runner(const std::vector<Json>& lines) {
    for (const Json& line : lines) {
      if (line.value("event", "") == "runner_started") runners_.push_back(line.at("pid").get<pid_t>());
    }
  }

  std::string directory_;
  std::vector<pid_t> runners_;
};

TEST_F(ServeTest, SaysHelloBeforeAnythingIsAsked) {
  LocalAgent agent(directory_);
  const Json line = agent.receive();
  const auto hello = hello_from_json(line);
  ASSERT_TRUE(hello.has_value()) << line.dump();
  EXPECT_EQ(hello->protocol, kProtocolVersion);
}

TEST_F(ServeTest, AnswersTheRequestAndStreamsTheRunToItsEnd) {
  LocalAgent agent(directory_);
  agent.send(hello());
  agent.send(run_request(1, "r1", R"([{"command": {"run": "echo hi"}}])"));
  const auto lines = agent.receive_until("event", "run_finished");
  EXPECT_EQ(lines.back().value("end", ""), "ok");
  const auto numbers = sequence(lines);
  for (std::size_t i = 0; i < numbers.size(); ++i) EXPECT_EQ(numbers[i], i + 1);
  agent.close_input();
  EXPECT_EQ(agent.wait_for_exit(), 0);
}

TEST_F(ServeTest, ARunMayBeAskedForByTheDigestOfAnEarlierOneAmongTheArguments) {
  const std::string steps = R"([{"command": {"run": "echo hi >>@/said"}}])";
  Json request = run_request(1, "r1", steps);
  {
    LocalAgent agent(directory_);
    agent.send(hello());
    agent.send(request);
    (void)agent.receive_until("event", "run_finished");
  }
  for (const bool known : {true, false}) {
    const std::string id = known ? "r2" : "r3";
    const Result<Request> whole = request_from_json(run_request(1, id, known ? steps : R"([{"command": {"run": "echo other >>@/said"}}])"));
    ASSERT_TRUE(whole.has_value());
    const std::optional<Request> brief = public_form(*whole);
    ASSERT_TRUE(brief.has_value());
    LocalAgent agent(directory_, to_line(hello()) + to_line(to_json(*brief)));
    const Json reply = agent.receive_until("reply").back();
    if (known) {
      EXPECT_EQ(reply.at("value").at("run"), "r2");
    } else {
      EXPECT_EQ(reply.at("error").at("code"), "not_found");
      agent.send(to_json(Request{2, whole->body}));
    }
    EXPECT_EQ(agent.receive_until("event", "run_finished").back().value("end", ""), "ok");
  }
  EXPECT_EQ(read_file(directory_ + "/said").value_or(""), "hi\nhi\nother\n");
}

TEST_F(ServeTest, ARunKeepsItsProxyAndItsMirrorForTheRunnersToCome) {
  LocalAgent agent(directory_);
  agent.send(hello());
  Json request = run_request(
      1, "r1",
      R"([{"id": "a", "command": {"run": "until test -e @/go; do sleep 0.01; done"}}, {"id": "b", "command": {"run": "env >@/seen"}}])");
  request["network"] = {{"proxy", "http://127.0.0.1:9"},
                        {"no_proxy", {".example.org"}},
                        {"mirror", "uni"},
                        {"places", {"pypi https://mirror.example.org/simple"}}};
  const Json network = request["network"];
  agent.send(request);
  auto lines = agent.receive_until("event", "step_started");
  for (const Json& line : lines) {
    if (line.value("event", "") == "run_started") { EXPECT_EQ(line.at("network"), network); }
    if (line.value("event", "") == "runner_started") ::kill(line.at("pid").get<pid_t>(), SIGKILL);
  }
  ASSERT_TRUE(write_file_atomically(directory_ + "/go", "").has_value());
  (void)agent.receive_until("event", "run_finished");
  const std::string seen = read_file(directory_ + "/seen").value_or("");
  EXPECT_THAT(seen, HasSubstr("https_proxy=http://127.0.0.1:9\n"));
  EXPECT_THAT(seen, HasSubstr(".example.org,localhost,127.0.0.1,::1\n"));
  EXPECT_THAT(seen, HasSubstr("PIP_INDEX_URL=https://mirror.example.org/simple\n"));
}

TEST_F(ServeTest, ARunOutlivesItsAgentAndIsReplayedExactlyOnce) {
  std::vector<std::uint64_t> seen;
  {
    LocalAgent agent(directory_);
    agent.send(hello());
    agent.send(run_request(
        1, "r1",
        R"([{"id": "wait", "command": {"run": "until test -e @/go; do sleep 0.01; done"}}, {"id": "next", "command": {"run": "touch @/made"}}])"));
    seen = sequence(agent.receive_until("event", "step_started"));
  }  // killed, as when a connection dies
  ASSERT_TRUE(write_file_atomically(directory_ + "/go", "").has_value());
  LocalAgent agent(directory_);
  agent.send(hello());
  agent.send(to_json(Request{1, AttachRequest{"r1", seen.back()}}));
  const auto rest = sequence(agent.receive_until("event", "run_finished"));
  seen.insert(seen.end(), rest.begin(), rest.end());
  for (std::size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i], i + 1);
  EXPECT_TRUE(path_exists(directory_ + "/made"));
}

TEST_F(ServeTest, ARunnerThatIsKilledIsReplacedAndTheRunEnds) {
  LocalAgent agent(directory_);
  agent.send(hello());
  agent.send(run_request(
      1, "r1",
      R"([{"id": "a", "command": {"run": "touch @/a", "creates": "@/a"}}, {"id": "wait", "command": {"run": "until test -e @/go; do sleep 0.01; done", "creates": "@/go"}}])"));
  auto lines = agent.receive_until("step", "wait");
  for (const Json& line : lines) {
    if (line.value("event", "") == "runner_started") ::kill(line.at("pid").get<pid_t>(), SIGKILL);
  }
  ASSERT_TRUE(write_file_atomically(directory_ + "/go", "").has_value());
  const auto rest = agent.receive_until("event", "run_finished");
  EXPECT_EQ(rest.back().value("end", ""), "ok");
  lines.insert(lines.end(), rest.begin(), rest.end());
  const auto numbers = sequence(lines);
  for (std::size_t i = 0; i < numbers.size(); ++i) EXPECT_EQ(numbers[i], i + 1);
}

TEST_F(ServeTest, ARunnerThatCannotBeReplacedIsSaid) {
  LocalAgent agent(directory_);
  agent.send(hello());
  agent.send(run_request(1, "r1", R"([{"id": "wait", "command": {"run": "until test -e @/go; do sleep 0.01; done"}}])"));
  const auto lines = agent.receive_until("step", "wait");
  ASSERT_TRUE(write_file_atomically(directory_ + "/runs/r1/run.json", "not a run").has_value());
  for (const Json& line : lines) {
    if (line.value("event", "") == "runner_started") ::kill(line.at("pid").get<pid_t>(), SIGKILL);
  }
  const Json reply = agent.receive_until("reply").back();
  EXPECT_EQ(reply.value("reply", 1), 0);
  EXPECT_NE(reply.at("error").value("message", "").find("going on with run r1"), std::string::npos) << reply.dump();
}

TEST_F(ServeTest, ALaterRunOfAnotherRecipeDoesNotHideANotebook) {
  LocalAgent agent(directory_);
  agent.send(hello());
  // It fails at its first look: there is no such environment. What it would set up is known all the same.
  agent.send(run_request(1, "r1", R"([{"jupyter": {"venv": "@/none", "port": 9999, "name": "lab"}}])"));
  agent.receive_until("event", "run_finished");

  LocalAgent later(directory_);
  later.send(hello());
  later.send(run_request(1, "r2", R"([{"id": "a", "command": {"run": "true"}}])"));
  later.receive_until("event", "run_finished");
  later.send(Json{{"request", 2}, {"verb", "status"}});
  const Json status = later.receive_until("reply").back();
  EXPECT_EQ(status.at("value").at("run").at("run"), "r2");
  EXPECT_EQ(status.at("value").at("notebooks"), (Json{{{"service", "lab"}, {"port", 9999}}}));
}

TEST_F(ServeTest, TheSameRecipeAttachesAndAnotherIsToldWhatRuns) {
  const std::string steps = R"([{"id": "wait", "command": {"run": "until test -e @/go; do sleep 0.01; done"}}])";
  LocalAgent first(directory_);
  first.send(hello());
  first.send(run_request(1, "r1", steps));
  first.receive_until("event", "step_started");

  LocalAgent same(directory_);
  same.send(hello());
  same.send(run_request(1, "r2", steps));
  const Json joined = same.receive_until("reply").back();
  EXPECT_EQ(joined.at("value").at("run"), "r1");
  EXPECT_EQ(joined.at("value").at("attached"), true);

  LocalAgent other(directory_);
  other.send(hello());
  other.send(run_request(1, "r3", R"([{"command": {"run": "true"}}])", "other"));
  const Json refused = other.receive_until("reply").back();
  EXPECT_EQ(refused.at("error").at("code"), "busy");
  EXPECT_THAT(refused.at("error").at("message").get<std::string>(), HasSubstr("r1"));

  ASSERT_TRUE(write_file_atomically(directory_ + "/go", "").has_value());
  EXPECT_EQ(same.receive_until("event", "run_finished").back().value("end", ""), "ok");
  EXPECT_EQ(first.receive_until("event", "run_finished").back().value("end", ""), "ok");
}

TEST_F(ServeTest, ARunOfOtherStepsOfTheRecipeIsNotJoined) {
  const std::string steps =
      R"([{"id": "wait", "command": {"run": "until test -e @/go; do sleep 0.01; done"}}, {"id": "other", "command": {"run": "true"}}])";
  const auto with_choice = [&](std::uint64_t number, const std::string& id, std::vector<std::string> left_out) {
    Json request = run_request(number, id, steps);
    if (!left_out.empty()) request["left_out"] = std::move(left_out);
    return request;
  };
  LocalAgent first(directory_);
  first.send(hello());
  first.send(with_choice(1, "r1", {"other"}));
  first.receive_until("event", "step_started");

  LocalAgent whole(directory_);
  whole.send(hello());
  whole.send(with_choice(1, "r2", {}));
  const Json refused = whole.receive_until("reply").back();
  EXPECT_EQ(refused.at("error").at("code"), "busy");
  EXPECT_THAT(
      refused.at("error").at("message").get<std::string>(),
      HasSubstr("a run of test is in progress on this host with another choice of steps (all but other) than this command's (all)"));
  EXPECT_THAT(refused.at("error").at("hint").get<std::string>(), HasSubstr("gpustrap attach HOST"));
  EXPECT_FALSE(path_exists(directory_ + "/runs/r2"));

  LocalAgent same(directory_);
  same.send(hello());
  same.send(with_choice(1, "r3", {"other"}));
  EXPECT_EQ(same.receive_until("reply").back().at("value").at("attached"), true);

  ASSERT_TRUE(write_file_atomically(directory_ + "/go", "").has_value());
  EXPECT_EQ(first.receive_until("event", "run_finished").back().value("end", ""), "ok");
  EXPECT_EQ(same.receive_until("event", "run_finished").back().value("end", ""), "ok");
}

TEST_F(ServeTest, TwoThatStartAtOnceShareOneRun) {
  const std::string steps = R"([{"id": "wait", "command": {"run": "until test -e @/go; do sleep 0.01; done"}}])";
  LocalAgent one(directory_);
  LocalAgent two(directory_);
  for (LocalAgent* agent : {&one, &two}) agent->send(hello());
  one.send(run_request(1, "r1", steps));
  two.send(run_request(1, "r2", steps));
  const Json first = one.receive_until("reply").back();
  const Json second = two.receive_until("reply").back();
  ASSERT_TRUE(first.contains("value")) << first.dump();
  ASSERT_TRUE(second.contains("value")) << second.dump();
  EXPECT_EQ(first.at("value").at("run"), second.at("value").at("run"));
  EXPECT_NE(first.at("value").at("attached"), second.at("value").at("attached"));
  ASSERT_TRUE(write_file_atomically(directory_ + "/go", "").has_value());
  EXPECT_EQ(one.receive_until("event", "run_finished").back().value("end", ""), "ok");
  EXPECT_EQ(two.receive_until("event", "run_finished").back().value("end", ""), "ok");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_ + "/runs"), {}), 1) << "a run that has never been is kept";
}

TEST_F(ServeTest, ARunnerThatIsTidyingUpIsWaitedFor) {
  const std::string steps = R"([{"id": "a", "command": {"run": "true"}}])";
  LocalAgent agent(directory_);
  agent.send(hello());
  agent.send(run_request(1, "r1", steps));
  agent.receive_until("event", "run_finished");
  // What r1's runner does after its last event, drawn out: it keeps the lock until the pipe is closed.
  auto hold = make_pipe();
  auto held = make_pipe();
  const pid_t runner = ::fork();
  if (runner == 0) {
    hold->write_end.reset();
    std::optional<RunLock> lock;
    while (!lock) lock = RunLock::take({directory_, directory_}, "r1", "").value_or(std::nullopt);
    (void)write_all(held->write_end.get(), "+");
    char byte = 0;
    ::_exit(::read(hold->read_end.get(), &byte, 1) == 0 ? 0 : 1);
  }
  char byte = 0;
  ASSERT_EQ(::read(held->read_end.get(), &byte, 1), 1);
  LocalAgent again(directory_);
  again.send(hello());
  again.send(run_request(1, "r2", steps));
  hold->write_end.reset();
  const Json reply = again.receive_until("reply").back();
  ::waitpid(runner, nullptr, 0);
  ASSERT_TRUE(reply.contains("value")) << reply.dump();
  EXPECT_EQ(reply.at("value").at("run"), "r2");
  EXPECT_EQ(reply.at("value").at("attached"), false);
  EXPECT_EQ(again.receive_until("event", "run_finished").back().value("end", ""), "ok");
}

TEST_F(ServeTest, ALockNamesItsHolderWhateverStoodInItBefore) {
  const AgentPaths paths{directory_, directory_};
  for (const std::string before : {"", "a\n\n", "20261122-104217-4de5\n2001:db8::17\n"}) {
    ASSERT_TRUE(write_file_atomically(paths.lock(), before).has_value());
    auto held = make_pipe();
    auto hold = make_pipe();
    const pid_t runner = ::fork();
    if (runner == 0) {
      hold->write_end.reset();
      const auto lock = RunLock::take(paths, "20261122-r2", "192.0.2.7");
      (void)write_all(held->write_end.get(), lock && lock->has_value() ? "+" : "-");
      char byte = 0;
      ::_exit(::read(hold->read_end.get(), &byte, 1) == 0 ? 0 : 1);
    }
    char byte = 0;
    EXPECT_EQ(::read(held->read_end.get(), &byte, 1), 1);
    EXPECT_EQ(byte, '+');
    const std::optional<RunLock::Holder> holder = RunLock::holder(paths);
    hold->write_end.reset();
    ::waitpid(runner, nullptr, 0);
    ASSERT_TRUE(holder.has_value());
    EXPECT_EQ(holder->run, "20261122-r2");
    EXPECT_EQ(holder->from, "192.0.2.7");
    EXPECT_EQ(read_file(paths.lock()).value_or(""), "20261122-r2\n192.0.2.7\n");
  }
}

TEST_F(ServeTest, ACancelFromAnotherAgentEndsTheRunAfterItsStep) {
  LocalAgent agent(directory_);
  agent.send(hello());
  agent.send(run_request(
      1, "r1",
      R"([{"id": "wait", "command": {"run": "until test -e @/go; do sleep 0.01; done"}}, {"id": "never", "command": {"run": "touch @/made"}}])"));
  agent.receive_until("event", "step_started");
  LocalAgent other(directory_);
  other.send(hello());
  other.send(to_json(Request{7, CancelRequest{"a colleague"}}));
  EXPECT_TRUE(other.receive_until("reply").back().contains("value"));
  agent.receive_until("event", "cancel_requested");
  ASSERT_TRUE(write_file_atomically(directory_ + "/go", "").has_value());
  EXPECT_EQ(agent.receive_until("event", "run_finished").back().value("end", ""), "cancelled");
  EXPECT_FALSE(path_exists(directory_ + "/made"));
}

TEST_F(ServeTest, AnUnknownVerbIsAnsweredAndTheNextRequestServed) {
  LocalAgent agent(directory_);
  agent.send(hello());
  agent.send_raw("{\"request\":3,\"verb\":\"dance\"}\n");
  const Json refused = agent.receive_until("reply").back();
  EXPECT_EQ(refused.at("reply"), 3);
  EXPECT_THAT(refused.at("error").at("message").get<std::string>(), HasSubstr("dance"));
  agent.send(to_json(Request{4, StatusRequest{}}));
  const Json status = agent.receive_until("reply").back();
  EXPECT_EQ(status.at("reply"), 4);
  EXPECT_TRUE(status.at("value").at("run").is_null());
}

TEST_F(ServeTest, AnOversizedLineEndsTheConversation) {
  LocalAgent agent(directory_);
  agent.send(hello());
  agent.send_raw(std::string(kMaxLine + 10, 'x'));
  EXPECT_EQ(agent.receive_until("reply").back().at("error").at("code"), "protocol");
  EXPECT_EQ(agent.wait_for_exit(), 0);
}

TEST_F(ServeTest, ARunIdCannotBeAPath) {
  LocalAgent agent(directory_);
  agent.send(hello());
  agent.send(run_request(1, "../../etc/x", R"([{"command": {"run": "true"}}])"));
  EXPECT_TRUE(agent.receive_until("reply").back().contains("error"));
  agent.send(to_json(Request{2, AttachRequest{"../../etc", 0}}));
  EXPECT_TRUE(agent.receive_until("reply").back().contains("error"));
}

Json error_in(const Json& reply) { return reply.contains("error") ? reply.at("error") : Json::object(); }

TEST_F(ServeTest, AHostWithoutARunSaysHowToStartOne) {
  LocalAgent agent(directory_);
  agent.send(hello());
  agent.send(to_json(Request{1, AttachRequest{"", 0}}));
  const Json none = error_in(agent.receive_until("reply").back());
  EXPECT_EQ(none.value("code", ""), "not_found");
  EXPECT_EQ(none.value("message", ""), "there was no run on this host yet");
  EXPECT_NE(none.value("hint", ""), "");
  agent.send(to_json(Request{2, AttachRequest{"20240601-101500-ab12", 0}}));
  const Json unknown = error_in(agent.receive_until("reply").back());
  EXPECT_EQ(unknown.value("code", ""), "not_found");
  EXPECT_EQ(unknown.value("message", ""), "there is no run 20240601-101500-ab12 on this host");
  EXPECT_EQ(unknown.value("hint", ""), "`gpustrap status HOST` names the last one");
  agent.send(to_json(Request{3, SecretsRequest{"20240601-101500-ab12", {{"token", "hunter2"}}}}));
  const Json late = error_in(agent.receive_until("reply").back());
  EXPECT_EQ(late.value("code", ""), "not_found");
  EXPECT_EQ(late.value("message", ""), "the run that these secrets are for is not in progress");
  EXPECT_THAT(late.value("hint", ""), HasSubstr("gpustrap status HOST"));
}

TEST_F(ServeTest, ANotebookThatNobodySetUpHasNoToken) {
  LocalAgent agent(directory_);
  agent.send(hello());
  agent.send(to_json(Request{1, TokenRequest{""}}));
  const Json none = error_in(agent.receive_until("reply").back());
  EXPECT_EQ(none.value("code", ""), "not_found");
  EXPECT_EQ(none.value("message", ""), "no run set up a notebook on this host");
  EXPECT_THAT(none.value("hint", ""), HasSubstr("gpustrap up jupyter HOST"));
  agent.send(to_json(Request{2, TokenRequest{"lab"}}));
  EXPECT_EQ(error_in(agent.receive_until("reply").back()).value("message", ""), "no run set up the notebook lab on this host");
}

TEST_F(ServeTest, AnotherProtocolIsNamedAndNotSpoken) {
  LocalAgent agent(directory_);
  agent.send(to_json(Hello{kProtocolVersion + 1, "gpustrap 9.9", {}}));
  const Json refused = error_in(agent.receive_until("reply").back());
  EXPECT_EQ(refused.value("code", ""), "protocol");
  EXPECT_EQ(refused.value("message", ""), "this agent speaks protocol " + std::to_string(kProtocolVersion) + ", gpustrap 9.9 speaks " +
                                              std::to_string(kProtocolVersion + 1));
  EXPECT_EQ(refused.value("hint", ""), "use the same release on both sides");
  EXPECT_EQ(agent.wait_for_exit(), 0);
}

}  // namespace
}  // namespace gpustrap
