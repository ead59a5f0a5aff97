#pragma once

#include <string>
#include <vector>

#include "controller/fleet_view.h"
#include "controller/json_printer.h"

namespace gpustrap {

/// For verbs that ask hosts something and print the answers themselves: only sentences for people, on stderr.
class FleetQuiet : public FleetView {
 public:
  FleetQuiet(std::vector<std::string> hosts, JsonPrinter::Write messages);

  void begin(std::size_t) override {}
  void activity(std::size_t, const Activity&) override {}
  void event(std::size_t, const Event&) override {}
  void progress(std::size_t, const Progress&) override {}
  void connection_lost(std::size_t, const Error&) override {}
  void connection_back(std::size_t) override {}
  void rewound(std::size_t, std::uint64_t, std::uint64_t) override {}
  void notice(std::size_t host, std::string_view sentence) override;
  void ended(std::size_t, const HostEnd&) override {}
  void announce(std::string_view sentence) override;
  void pause() override {}
  void resume() override {}
  void tick() override {}
  void summary(const std::vector<HostEnd>&, const std::vector<std::string>&) override {}

 private:
  std::vector<std::string> hosts_;
  JsonPrinter::Write messages_;
};

}  // namespace gpustrap
