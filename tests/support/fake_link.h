#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "controller/agent_link.h"

namespace gpustrap {

/// A scripted agent: what it says, in order, and what it was asked. Time is the test's.
class FakeLink : public AgentLink {
 public:
  /// One thing that receive() does: a line, an error, silence (nullopt), or something to do first.
  using Say = std::variant<AgentLine, Error, std::nullopt_t, std::function<void()>>;

  struct Record {
    std::vector<Request> requests;
  };

  FakeLink(std::vector<Say> script, Record& record) : script_(script.begin(), script.end()), record_(record) {}

  Result<void> send(const Request& request) override {
    record_.requests.push_back(request);
    return {};
  }
  Result<std::optional<AgentLine>> receive(std::chrono::milliseconds) override {
    if (script_.empty()) return fail(ErrorCode::unreachable, "the script is over");
    Say next = std::move(script_.front());
    script_.pop_front();
    if (auto* line = std::get_if<AgentLine>(&next)) return std::optional<AgentLine>(std::move(*line));
    if (auto* error = std::get_if<Error>(&next)) return fail(std::move(*error));
    if (auto* act = std::get_if<std::function<void()>>(&next)) (*act)();
    return std::optional<AgentLine>();
  }
  [[nodiscard]] int descriptor() const override { return -1; }

 private:
  std::deque<Say> script_;
  Record& record_;
};

}  // namespace gpustrap
