#include "controller/fleet_quiet.h"

#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {

FleetQuiet::FleetQuiet(std::vector<std::string> hosts, JsonPrinter::Write messages)
    : hosts_(std::move(hosts)), messages_(std::move(messages)) {}

void FleetQuiet::notice(std::size_t host, std::string_view sentence) {
  messages_(fmt::format("gpustrap: {}{}\n", hosts_.size() > 1 ? strip_control(hosts_[host]) + ": " : "", strip_control(sentence)));
}

void FleetQuiet::announce(std::string_view sentence) { messages_(fmt::format("gpustrap: {}\n", strip_control(sentence))); }

}  // namespace gpustrap
