#include "controller/idle_status.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

constexpr std::size_t kLongest = 200;
/// A guard looks each minute; one that has not looked for so long has come to grief.
constexpr std::uint64_t kSilent = 300;
constexpr double kMostMoney = 1e12;

std::string text_in(const Json& object, const char* name) {
  const auto member = object.find(name);
  return member != object.end() && member->is_string() ? strip_control(first_line(member->get<std::string>(), kLongest)) : "";
}
std::optional<std::uint64_t> number_in(const Json& object, const char* name) {
  const auto member = object.find(name);
  const bool is_one = member != object.end() && member->is_number_integer() && *member >= 0 && *member < (std::int64_t{1} << 50U);
  return is_one ? std::optional(member->get<std::uint64_t>()) : std::nullopt;
}
double money_in(const Json& object, const char* name) {
  const auto member = object.find(name);
  const double value = member != object.end() && member->is_number() ? member->get<double>() : 0;
  return std::isfinite(value) && std::abs(value) < kMostMoney ? value : 0;
}
const Json* object_in(const Json& object, const char* name) {
  const auto member = object.find(name);
  return member != object.end() && member->is_object() ? &*member : nullptr;
}

std::string time_text(std::uint64_t seconds) { return human_duration(std::chrono::seconds(seconds)); }

/// What is left of a time that was told `age` ago.
std::uint64_t since(std::uint64_t seconds, std::uint64_t age) { return seconds > age ? seconds - age : 0; }

std::string state_text(const IdleStatus& status) {
  const std::string idle = status.idle_for_s ? "nothing done for " + time_text(*status.idle_for_s + status.age_s) : "nothing is done";
  const std::string stops = status.stops_in_s ? time_text(since(*status.stops_in_s, status.age_s)) : "";
  if (status.state == "busy")
    return (status.busy_with.empty() ? "busy" : status.busy_with) +
           (status.after_s ? fmt::format("; stops {} after the last use", time_text(*status.after_s)) : "");
  if (status.state == "kept") return fmt::format("kept on for {}; {}", time_text(since(status.kept_for_s, status.age_s)), idle);
  if (status.state == "stopping") return "stops now";
  if (status.state == "warned")
    return fmt::format("{}; stops in {}{}", idle, stops, status.stops_for == "budget" ? ", at work or not" : "");
  if (status.state == "quiet") return stops.empty() || status.stops_for == "budget" ? idle : fmt::format("{}; stops in {}", idle, stops);
  return idle + "; only the budget stops it";
}

}  // namespace

std::optional<IdleStatus> read_idle_status(std::string_view text, std::uint64_t uptime_s) {
  const Json document = Json::parse(text, nullptr, false);
  if (!document.is_object() || number_in(document, "idle") != 1) return std::nullopt;
  IdleStatus status;
  status.state = text_in(document, "state");
  if (const auto busy = document.find("busy_with"); busy != document.end() && busy->is_array() && !busy->empty() && (*busy)[0].is_string())
    status.busy_with = strip_control(first_line((*busy)[0].get<std::string>(), kLongest));
  status.last_use = text_in(document, "last_use");
  status.idle_for_s = number_in(document, "idle_for_s");
  status.after_s = number_in(document, "after_s");
  status.stops_in_s = number_in(document, "stops_in_s");
  status.stops_for = text_in(document, "stops_for");
  status.kept_for_s = number_in(document, "kept_for_s").value_or(0);
  status.at_ms = static_cast<std::int64_t>(number_in(document, "at_ms").value_or(0));
  const std::uint64_t at_s = number_in(document, "at_s").value_or(uptime_s);
  status.age_s = uptime_s > at_s ? uptime_s - at_s : 0;
  if (const Json* budget = object_in(document, "budget"))
    status.budget = IdleStatus::Budget{text_in(*budget, "currency"), text_in(*budget, "price_from"), money_in(*budget, "limit"),
                                       money_in(*budget, "spent"), money_in(*budget, "per_hour")};
  if (const Json* spot = object_in(document, "spot"))
    status.spot =
        IdleStatus::Spot{text_in(*spot, "action"), text_in(*spot, "time"),
                         static_cast<std::int64_t>(number_in(*spot, "seen_ms").value_or(0)), spot->value("this_boot", Json()) == true};
  if (const Json* stop = object_in(document, "last_stop"))
    status.last_stop = IdleStatus::Stop{text_in(*stop, "why"), static_cast<std::int64_t>(number_in(*stop, "at_ms").value_or(0))};
  return status;
}

std::vector<std::pair<std::string, std::string>> idle_lines(const IdleStatus& status) {
  std::vector<std::pair<std::string, std::string>> lines;
  lines.emplace_back("idle", state_text(status));
  if (status.age_s > kSilent)
    lines.emplace_back(
        "", fmt::format("its guard has not looked for {}; on the host: systemctl status gpustrap-idle.timer", time_text(status.age_s)));
  if (status.budget)
    lines.emplace_back("budget",
                       fmt::format("{:.2f} of {:.2f} {} spent, at {} {}/h ({})", status.budget->spent, status.budget->limit,
                                   status.budget->currency, status.budget->per_hour, status.budget->currency, status.budget->price_from));
  if (status.spot)
    lines.emplace_back("spot", status.spot->action.empty() ? fmt::format("AWS advised at {} to move away", status.spot->time)
                               : status.spot->this_boot
                                   ? fmt::format("AWS takes it back at {} ({})", status.spot->time, status.spot->action)
                                   : fmt::format("AWS took it back at {} ({})", status.spot->time, status.spot->action));
  if (status.last_stop) lines.emplace_back("stopped", "last time because " + status.last_stop->why);
  return lines;
}

std::string idle_word(const IdleStatus& status) {
  if (status.state == "busy" || !status.idle_for_s) return "busy";
  if (status.state == "stopping") return "stops now";
  if (status.state == "kept") return "kept " + time_text(since(status.kept_for_s, status.age_s));
  if (status.state == "warned" && status.stops_in_s) return "stops in " + time_text(since(*status.stops_in_s, status.age_s));
  return time_text(*status.idle_for_s + status.age_s);
}

Json idle_document(const IdleStatus& status) {
  const auto or_null = [](const auto& value) { return value ? Json(*value) : Json(); };
  Json document = {{"state", status.state},
                   {"busy_with", status.busy_with},
                   {"last_use", status.last_use},
                   {"idle_for_s", or_null(status.idle_for_s)},
                   {"after_s", or_null(status.after_s)},
                   {"stops_in_s", or_null(status.stops_in_s)},
                   {"stops_for", status.stops_for},
                   {"kept_for_s", status.kept_for_s},
                   {"at_ms", status.at_ms},
                   {"age_s", status.age_s},
                   {"budget", nullptr},
                   {"spot", nullptr},
                   {"last_stop", nullptr}};
  if (status.budget)
    document["budget"] = {{"currency", status.budget->currency},
                          {"limit", status.budget->limit},
                          {"spent", status.budget->spent},
                          {"per_hour", status.budget->per_hour},
                          {"price_from", status.budget->price_from}};
  if (status.spot)
    document["spot"] = {{"action", status.spot->action},
                        {"time", status.spot->time},
                        {"seen_ms", status.spot->seen_ms},
                        {"this_boot", status.spot->this_boot}};
  if (status.last_stop) document["last_stop"] = {{"why", status.last_stop->why}, {"at_ms", status.last_stop->at_ms}};
  return document;
}

std::string keep_text(const std::string& destination, const Json& reply) {
  const std::uint64_t kept = number_in(reply, "kept_for_s").value_or(0);
  const std::optional<std::uint64_t> after = number_in(reply, "after_s");
  const std::string budget = text_in(reply, "budget");
  std::string text;
  if (kept == 0)
    text = fmt::format("The stop of {} is not put off{}.\n", destination,
                       after ? fmt::format(": it stops after {} without use", time_text(*after)) : "");
  else
    text = fmt::format("{} stays on for {}, whatever is done there.\n", destination, time_text(kept));
  if (!budget.empty())
    text += fmt::format("Its budget of {} still stops it: a larger `budget` in the recipe, run again, puts that off.\n", budget);
  return text;
}

Json keep_document(const std::string& destination, const Json& reply) {
  const auto until = reply.find("until_ms");
  return {{"keep", 1},
          {"host", destination},
          {"kept_for_s", number_in(reply, "kept_for_s").value_or(0)},
          {"until_ms", until != reply.end() && until->is_number_integer() ? *until : Json()}};
}

}  // namespace gpustrap
