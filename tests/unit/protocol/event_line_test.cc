#include "agent/protocol/event_line.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "agent/protocol/json.h"
#include "agent/protocol/line.h"

namespace gpustrap {
namespace {

Event output_of(std::string text, std::string step = "train", std::string stream = "out") {
  return {7, 1717236900000, StepOutput{std::move(step), std::move(stream), std::move(text)}};
}

std::vector<std::string> texts() {
  std::vector<std::string> texts = {"",
                                    "epoch 1\nepoch 2\n",
                                    "\"quoted\" and \\ back\n",
                                    "Fortschritt: 50 % \xE2\x96\x88\xE2\x96\x88 \xF0\x9F\x9A\x80\n",
                                    "bad \xFF\xC3 bytes \xED\xA0\x80\n",
                                    "cut \xE2\x96",
                                    "\x7F\xC2\x9B"};
  std::string all;
  for (int c = 0; c < 256; ++c) {
    all += static_cast<char>(c);
    texts.emplace_back(1, static_cast<char>(c));
  }
  texts.push_back(all);
  texts.push_back(std::string(70'000, 'x') + "\x01" + std::string(3, '\n'));
  return texts;
}

TEST(EventLine, IsWrittenAsTheDocumentIs) {
  for (const std::string& text : texts()) {
    for (const Event& event : {output_of(text), output_of("x", text), output_of("x", "train", text)})
      EXPECT_EQ(to_line(event), to_line(to_json(event))) << text;
  }
  const Event other{3, 1, StepFinished{"train", Outcome::changed, "done", std::chrono::milliseconds{5}, std::nullopt}};
  EXPECT_EQ(to_line(other), to_line(to_json(other)));
  Event early = output_of("x");
  early.time_ms = -1;
  EXPECT_EQ(to_line(early), to_line(to_json(early)));
}

TEST(EventLine, IsReadAsTheDocumentIs) {
  for (const std::string& text : texts()) {
    std::string line = to_line(output_of(text));
    line.pop_back();
    const Result<AgentLine> quick = agent_line_from(line);
    ASSERT_TRUE(quick.has_value()) << line;
    const Result<AgentLine> slow = agent_line_from_json(*parse_line(line));
    EXPECT_EQ(to_line(std::get<Event>(*quick)), to_line(std::get<Event>(*slow)));
    EXPECT_EQ(std::get<StepOutput>(std::get<Event>(*quick).body).text, std::get<StepOutput>(std::get<Event>(*slow).body).text);
  }
}

TEST(EventLine, WrittenByAnotherHandIsUnderstoodOrRefusedAsEver) {
  const std::vector<std::string> lines = {
      R"({"event":"step_output","seq":1,"time_ms":2,"step":"a","stream":"out","text":"\u0041\/\u00e4"})",
      R"({"event":"step_output","seq":1,"time_ms":2,"step":"a","stream":"out","text":"x","more":1})",
      R"({ "event": "step_output", "seq": 1, "time_ms": 2, "step": "a", "stream": "out", "text": "x" })",
      R"({"event":"step_output","seq":1,"time_ms":2,"text":"x","stream":"out","step":"a"})",
      R"({"event":"step_output","seq":1,"time_ms":0,"step":"a","stream":"out","text":"x"} )",
      R"({"event":"step_output","seq":01,"time_ms":2,"step":"a","stream":"out","text":"x"})",
      R"({"event":"step_output","seq":-1,"time_ms":2,"step":"a","stream":"out","text":"x"})",
      R"({"event":"step_output","seq":99999999999999999999,"time_ms":2,"step":"a","stream":"out","text":"x"})",
      R"({"event":"step_output","seq":,"time_ms":2,"step":"a","stream":"out","text":"x"})",
      R"({"event":"step_output","seq":1,"time_ms":2,"step":"a","stream":"out","text":"x)",
      R"({"event":"step_output","seq":1,"time_ms":2,"step":"a","stream":"out","text":"x\)",
      R"({"event":"step_output","seq":1,"time_ms":2,"step":"a","stream":"out","text":"x\q"})",
      "{\"event\":\"step_output\",\"seq\":1,\"time_ms\":2,\"step\":\"a\",\"stream\":\"out\",\"text\":\"a\tb\"}",
      "{\"event\":\"step_output\",\"seq\":1,\"time_ms\":2,\"step\":\"a\",\"stream\":\"out\",\"text\":\"\xFF\"}",
      R"({"event":"step_output","seq":)",
      R"({"signal":"heartbeat"})",
      "",
  };
  for (const std::string& line : lines) {
    const Result<AgentLine> quick = agent_line_from(line);
    const Result<Json> document = parse_line(line);
    const Result<AgentLine> slow = document ? agent_line_from_json(*document) : Result<AgentLine>(fail(document.error()));
    ASSERT_EQ(quick.has_value(), slow.has_value()) << line;
    if (!quick) {
      EXPECT_EQ(quick.error().sentence(), slow.error().sentence());
    } else if (const auto* event = std::get_if<Event>(&*quick)) {
      EXPECT_EQ(to_line(*event), to_line(std::get<Event>(*slow))) << line;
    }
  }
}

}  // namespace
}  // namespace gpustrap
