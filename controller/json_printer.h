#pragma once

#include <functional>
#include <string_view>

#include "controller/status.h"

namespace gpustrap {

/// --json: stdout is the event stream, as PROTOCOL.md describes it, and nothing else. What is no event goes to stderr.
class JsonPrinter : public Status {
 public:
  using Write = std::function<void(std::string_view)>;
  JsonPrinter(Write events, Write messages);

  void activity(const Activity&) override {}
  void event(const Event& event) override;
  void said(const Event&, std::string_view line) override { events_(line); }
  void progress(const Progress&) override {}
  void connection_lost(const Error& why) override;
  void connection_back() override;
  void rewound(std::uint64_t seen, std::uint64_t to) override;
  void notice(std::string_view sentence) override;
  void ending(const Ending& ending) override;
  void pause() override {}
  void tick() override {}

 private:
  Write events_;
  Write messages_;
};

}  // namespace gpustrap
