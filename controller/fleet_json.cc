#include "controller/fleet_json.h"

#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/event_line.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"

namespace gpustrap {

FleetJson::FleetJson(std::vector<std::string> hosts, JsonPrinter::Write events, JsonPrinter::Write messages)
    : hosts_(std::move(hosts)), events_(std::move(events)), messages_(std::move(messages)) {}

void FleetJson::say(std::size_t host, std::string_view sentence) {
  if (!over_) messages_(fmt::format("gpustrap: {}: {}\n", hosts_[host], strip_control(sentence)));
}

void FleetJson::event(std::size_t host, const Event& event) {
  if (over_) return;
  // The line is put together around the event's own, which is long: no copy of its parts.
  const std::string line = to_line(event);
  events_(fmt::format("{{\"host\":{},{}", Json(hosts_[host]).dump(), std::string_view(line).substr(1)));
}

void FleetJson::connection_lost(std::size_t host, const Error& why) { say(host, "connection lost: " + why.why()); }

void FleetJson::connection_back(std::size_t host) { say(host, "connected again"); }

void FleetJson::rewound(std::size_t host, std::uint64_t seen, std::uint64_t to) {
  if (over_) return;
  events_(to_line(Json{{"host", hosts_[host]}, {"rewound", {{"to", to}}}}));
  say(host, fmt::format("the host lost the events {} to {} when it went down; others follow in their place", to + 1, seen));
}

void FleetJson::notice(std::size_t host, std::string_view sentence) { say(host, sentence); }

void FleetJson::ended(std::size_t host, const HostEnd& end) {
  if (over_) return;
  Json line = {{"host", hosts_[host]},
               {"ended", {{"exit", static_cast<int>(end.exit)}, {"begun", end.begun}, {"elapsed_ms", end.elapsed.count()}}}};
  Json& ended = line["ended"];
  if (!end.run.empty()) ended["run"] = end.run;
  if (!end.why.empty()) ended["why"] = to_utf8(strip_control(end.why));
  if (!end.hint.empty()) ended["hint"] = to_utf8(strip_control(end.hint));
  if (!end.log.empty()) ended["log"] = end.log;
  events_(to_line(line));
}

void FleetJson::announce(std::string_view sentence) {
  if (!over_) messages_(fmt::format("gpustrap: {}\n", strip_control(sentence)));
}

void FleetJson::summary(const std::vector<HostEnd>& /*ends*/, const std::vector<std::string>& next) {
  for (const std::string& line : next) announce(line);
  over_ = true;
}

}  // namespace gpustrap
