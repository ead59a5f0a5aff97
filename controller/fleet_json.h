#pragma once

#include <string>
#include <vector>

#include "controller/fleet_view.h"
#include "controller/json_printer.h"

namespace gpustrap {

/// --json of many hosts: each event with the `host` that it comes from, and one line with the end of each host. What is neither goes to
/// stderr.
class FleetJson : public FleetView {
 public:
  FleetJson(std::vector<std::string> hosts, JsonPrinter::Write events, JsonPrinter::Write messages);

  void begin(std::size_t) override {}
  void activity(std::size_t, const Activity&) override {}
  void event(std::size_t host, const Event& event) override;
  void progress(std::size_t, const Progress&) override {}
  void connection_lost(std::size_t host, const Error& why) override;
  void connection_back(std::size_t host) override;
  void rewound(std::size_t host, std::uint64_t seen, std::uint64_t to) override;
  void notice(std::size_t host, std::string_view sentence) override;
  void ended(std::size_t host, const HostEnd& end) override;
  void announce(std::string_view sentence) override;
  void pause() override {}
  void resume() override {}
  void tick() override {}
  void summary(const std::vector<HostEnd>& ends, const std::vector<std::string>& next) override;

 private:
  void say(std::size_t host, std::string_view sentence);

  std::vector<std::string> hosts_;
  JsonPrinter::Write events_, messages_;
  bool over_ = false;
};

}  // namespace gpustrap
