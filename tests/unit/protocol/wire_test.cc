#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "agent/protocol/event.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/request.h"
#include "tests/support/folders.h"

namespace gpustrap {
namespace {

struct Example {
  std::string from, line;
};

/// The lines of the fenced blocks of PROTOCOL.md that are marked "json agent" or "json controller".
std::vector<Example> examples() {
  std::ifstream file(source_folder() + "/agent/protocol/PROTOCOL.md");
  std::vector<Example> found;
  std::string line, from;
  while (std::getline(file, line)) {
    if (line.starts_with("```json ")) {
      from = line.substr(8);
    } else if (line == "```") {
      from.clear();
    } else if (!from.empty()) {
      found.push_back({from, line});
    }
  }
  return found;
}

std::string written_again(const Example& example) {
  const auto document = parse_line(example.line);
  if (!document) return document.error().sentence();
  if (example.from == "agent") {
    const auto line = agent_line_from_json(*document);
    if (!line) return line.error().sentence();
    return std::visit([](const auto& body) { return to_line(to_json(body)); }, *line);
  }
  const auto line = controller_line_from_json(*document);
  if (!line) return line.error().sentence();
  if (const auto* hello = std::get_if<Hello>(&*line)) return to_line(to_json(*hello));
  if (const auto* request = std::get_if<Request>(&*line)) return to_line(to_json(*request));
  return to_line(to_json(Signal{Heartbeat{}}));
}

TEST(ProtocolDocument, EveryExampleIsReadAndWrittenAsItStands) {
  const auto all = examples();
  ASSERT_GE(all.size(), 25U);
  for (const Example& example : all) EXPECT_EQ(written_again(example), example.line + "\n");
}

TEST(ProtocolDocument, ShowsEveryEventRequestAndReply) {
  std::set<std::size_t> events, requests, agent_lines, controller_lines;
  for (const Example& example : examples()) {
    const auto document = *parse_line(example.line);
    if (example.from == "agent") {
      const auto line = *agent_line_from_json(document);
      agent_lines.insert(line.index());
      if (const auto* event = std::get_if<Event>(&line)) events.insert(event->body.index());
    } else {
      const auto line = *controller_line_from_json(document);
      controller_lines.insert(line.index());
      if (const auto* request = std::get_if<Request>(&line)) requests.insert(request->body.index());
    }
  }
  EXPECT_EQ(events.size(), std::variant_size_v<decltype(Event::body)> - 1) << "every event but the unknown one";
  EXPECT_EQ(requests.size(), std::variant_size_v<decltype(Request::body)>);
  EXPECT_EQ(agent_lines.size(), std::variant_size_v<AgentLine>);
  EXPECT_EQ(controller_lines.size(), std::variant_size_v<ControllerLine>);
}

TEST(Events, GoldenFilesComeBackUnchanged) {
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(source_folder() + "/tests/golden/events")) {
    if (entry.path().extension() != ".jsonl") continue;
    ++files;
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      const auto event = event_from_json(*parse_line(line));
      ASSERT_TRUE(event.has_value()) << entry.path() << ": " << event.error().sentence();
      EXPECT_EQ(to_line(to_json(*event)), line + "\n");
    }
  }
  EXPECT_GE(files, 2U);
}

TEST(Events, UnknownOnesAreCarried) {
  const auto event = event_from_json({{"event", "step_levitated"}, {"seq", 4}, {"time_ms", 5}, {"height", 3}});
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->seq, 4U);
  EXPECT_EQ(std::get<UnknownEvent>(event->body).type, "step_levitated");
  EXPECT_EQ(to_json(*event)["height"], 3);
}

/// Members that a reader may do without.
bool is_optional(const std::string& name) {
  return name == "error" || name == "hint" || name == "interrupted" || name == "incarnation" || name == "network" || name == "ahead" ||
         name == "left_out" || name == "forced" || name == "seconds" || name == "have" || name == "from";
}

TEST(Events, EveryMemberMissingOrOfAnotherTypeIsAnError) {
  for (const Example& example : examples()) {
    const Json whole = *parse_line(example.line);
    if (example.from != "agent" || !whole.contains("event")) continue;
    for (const auto& [name, value] : whole.items()) {
      Json without = whole;
      without.erase(name);
      if (!is_optional(name)) { EXPECT_FALSE(event_from_json(without).has_value()) << example.line << " without " << name; }
      Json other = whole;
      other[name] = value.is_boolean() ? Json(7) : Json(true);
      const auto read = event_from_json(other);
      ASSERT_FALSE(read.has_value()) << example.line << " with " << name << ": true";
      EXPECT_EQ(read.error().code(), ErrorCode::protocol);
    }
  }
}

TEST(Events, AFileIsWantedByItsDigestAlone) {
  Json document{{"event", "file_wanted"}, {"seq", 1}, {"time_ms", 1}, {"step", "a"}, {"sha256", std::string(64, 'a')}};
  ASSERT_TRUE(event_from_json(document).has_value());
  for (const std::string& wrong : {std::string(), std::string(63, 'a'), std::string(65, 'a'), std::string(64, 'A'), std::string(64, '/')}) {
    document["sha256"] = wrong;
    const auto read = event_from_json(document);
    ASSERT_FALSE(read.has_value()) << wrong;
    EXPECT_EQ(read.error().code(), ErrorCode::protocol);
  }
}

TEST(Requests, EveryMemberMissingIsAnError) {
  for (const Example& example : examples()) {
    const Json whole = *parse_line(example.line);
    if (example.from != "controller" || !whole.contains("request")) continue;
    for (const auto& [name, value] : whole.items()) {
      Json without = whole;
      without.erase(name);
      if (!is_optional(name)) { EXPECT_FALSE(request_from_json(without).has_value()) << example.line << " without " << name; }
    }
  }
}

TEST(Requests, InPublicSayNothingOfARecipeAndNoSecret) {
  std::vector<FieldProblem> problems;
  RunRequest run;
  run.run = "r1";
  run.choice = {{"private"}, {"private"}, {"private"}};
  run.network.proxy = "http://me:private@proxy.example.org";
  run.recipe =
      read_recipe(Json{{"name", "private"}, {"steps", Json::parse(R"([{"id": "a", "file": {"path": "/private", "content": "private"}}])")}},
                  Placeholders::allowed, problems);
  ASSERT_TRUE(problems.empty());
  const std::optional<Request> brief = public_form(Request{3, run});
  ASSERT_TRUE(brief.has_value());
  const Json document = to_json(*brief);
  EXPECT_EQ(document.dump().find("private"), std::string::npos);
  EXPECT_EQ(document.at("same_as"), digest_of(run));
  EXPECT_EQ(document.at("run"), "r1");

  RunRequest again = run;
  again.run = "r2";
  EXPECT_EQ(digest_of(again), digest_of(run));
  again.mode = RunMode::plan;
  EXPECT_NE(digest_of(again), digest_of(run));

  EXPECT_FALSE(public_form(Request{1, SecretsRequest{"r1", {{"token", "private"}}}}).has_value());
}

TEST(Requests, AreOneWordForEveryShell) {
  const std::string lines = "{\"request\":1,\"verb\":\"status\"}\n\xff";
  const std::string word = as_word(lines);
  EXPECT_EQ(word.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(lines_of_word(word), lines);
  for (const char* wrong : {"7", "7x", "zz", "-1", "+a"}) EXPECT_EQ(lines_of_word(wrong), "") << wrong;
}

TEST(Requests, AnUnknownVerbIsNamed) {
  const auto request = request_from_json({{"request", 9}, {"verb", "dance"}});
  ASSERT_FALSE(request.has_value());
  EXPECT_EQ(request.error().code(), ErrorCode::protocol);
  EXPECT_EQ(request.error().why(),
            "the verb `dance` is unknown here; known are run, attach, status, cancel, token, secrets, share, remove, keep");
}

TEST(Requests, WhatIsNoSecretIsRefusedAndNotQuoted) {
  const auto why = [](const Json& values) {
    const auto request = request_from_json({{"request", 6}, {"verb", "secrets"}, {"run", "r1"}, {"values", values}});
    if (request.has_value()) return std::string("taken");
    EXPECT_EQ(request.error().code(), ErrorCode::protocol);
    return request.error().why();
  };
  EXPECT_EQ(why({{"token", "hunter2"}}), "taken");
  EXPECT_EQ(why("hunter2"), "`values` of the request secrets is not an object");
  EXPECT_EQ(why({{"token", 7}}), "`values` of the request secrets has a member that is no secret");
  EXPECT_EQ(why({{"no name", "hunter2"}}), "`values` of the request secrets has a member that is no secret");
}

TEST(Requests, NoHostIsKeptForEver) {
  const auto kept = [](std::uint64_t seconds) { return request_from_json({{"request", 7}, {"verb", "keep"}, {"seconds", seconds}}); };
  EXPECT_TRUE(kept(kLongestKeep).has_value());
  const auto refused = kept(kLongestKeep + 1);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), ErrorCode::protocol);
  EXPECT_EQ(refused.error().why(), "`seconds` of the request keep is more than 30 days");
}

TEST(Requests, ARunIdCannotLeaveItsFolder) {
  for (const char* run : {"../../etc", "", ".", "a/b", "-rf"}) {
    const Json document = {{"request", 1},    {"verb", "run"},         {"run", run},
                           {"mode", "apply"}, {"tags", Json::array()}, {"recipe", {{"name", "r"}, {"steps", {{{"command", "true"}}}}}}};
    EXPECT_FALSE(request_from_json(document).has_value()) << run;
  }
}

TEST(Requests, ARecipeThatIsWrongIsAnErrorOfTheRecipe) {
  const Json document = {{"request", 1},    {"verb", "run"},         {"run", "r1"},
                         {"mode", "apply"}, {"tags", Json::array()}, {"recipe", {{"name", "r"}, {"steps", {{{"comand", "true"}}}}}}};
  const auto request = request_from_json(document);
  ASSERT_FALSE(request.has_value());
  EXPECT_EQ(request.error().code(), ErrorCode::recipe);
}

TEST(Replies, HaveEitherValueOrError) {
  EXPECT_FALSE(agent_line_from_json({{"reply", 1}}).has_value());
  EXPECT_FALSE(agent_line_from_json({{"reply", 1}, {"value", "all is well"}}).has_value());
  EXPECT_FALSE(agent_line_from_json({{"reply", 1}, {"value", Json::array()}}).has_value());
  EXPECT_TRUE(agent_line_from_json({{"reply", 1}, {"value", Json::object()}}).has_value());
  EXPECT_FALSE(agent_line_from_json({{"reply", 1}, {"value", Json::object()}, {"error", {{"code", "io"}, {"message", "m"}}}}).has_value());
  EXPECT_FALSE(agent_line_from_json({{"reply", -1}, {"value", Json::object()}}).has_value());
  const auto line = agent_line_from_json({{"reply", 1}, {"error", {{"code", "from_the_future"}, {"message", "m"}}}});
  ASSERT_TRUE(line.has_value());
  EXPECT_EQ(std::get<Reply>(*line).error->code, ErrorCode::internal);
}

TEST(Lines, AreToldApart) {
  EXPECT_FALSE(agent_line_from_json({{"request", 1}, {"verb", "status"}}).has_value());
  EXPECT_FALSE(controller_line_from_json({{"event", "step_started"}}).has_value());
  EXPECT_FALSE(agent_line_from_json(Json::array()).has_value());
  EXPECT_TRUE(std::holds_alternative<Signal>(*agent_line_from_json({{"signal", "aurora"}})));
}

}  // namespace
}  // namespace gpustrap
