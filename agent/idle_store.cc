#include "agent/idle_store.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/members.h"
#include "agent/protocol/money.h"

namespace gpustrap {
namespace {

constexpr auto kAskLimit = std::chrono::seconds(10);

std::int64_t count(seconds time) { return time.count(); }

/// An object to read members of; an empty one where the text is none.
Json object_in(std::string_view text) {
  Result<Json> document = parse_line(trim(text));
  return document ? *std::move(document) : Json::object();
}

seconds seconds_in(Members& members, const char* name) {
  std::int64_t value = 0;
  members.may(name, value);
  return seconds(std::max<std::int64_t>(value, 0));
}

const std::vector<std::string>& cause_names() {
  static const std::vector<std::string> names = {"idle", "budget"};
  return names;
}

const std::vector<std::string>& state_names() {
  static const std::vector<std::string> names = {"busy", "quiet", "kept", "warned", "stopping", "off"};
  return names;
}

std::int64_t wall_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string boot_id() { return std::string(trim(read_file("/proc/sys/kernel/random/boot_id").value_or(""))); }

seconds since_boot() { return std::chrono::duration_cast<seconds>(std::chrono::steady_clock::now().time_since_epoch()); }

double as_number(const Money& money) { return static_cast<double>(money.millionths) / 1e6; }

}  // namespace

std::string rules_text(const IdleRules& rules) {
  Json document = {{"warn_s", count(rules.warn)}};
  if (rules.after) document["after_s"] = count(*rules.after);
  if (rules.budget) {
    document["budget"] = money_text(rules.budget->limit);
    document["price"] = price_text(rules.budget->price);
    document["price_from"] = rules.budget->price_from;
  }
  return to_line(document);
}

std::optional<IdleRules> rules_in(std::string_view text) {
  const Json document = object_in(text);
  Members members(document, "the rules");
  IdleRules rules;
  if (document.contains("after_s")) rules.after = seconds_in(members, "after_s");
  rules.warn = seconds_in(members, "warn_s");
  std::string budget, price, from;
  members.may("budget", budget);
  members.may("price", price);
  members.may("price_from", from);
  const std::optional<Money> limit = parse_money(budget);
  const std::optional<HourlyPrice> hour = parse_price(price);
  if (limit && hour) rules.budget = IdleBudget{*limit, *hour, from};
  if (members.error() || (!rules.after && !rules.budget)) return std::nullopt;
  return rules;
}

std::string record_text(const IdleRecord& record) {
  const IdleMemory& memory = record.memory;
  Json document = {{"boot", memory.boot},           {"at_s", count(memory.at)},           {"active_s", count(memory.active)},
                   {"last_sign", memory.last_sign}, {"powered_s", count(memory.powered)}, {"most_spent_told", memory.most_spent_told},
                   {"notes", Json::array()}};
  if (memory.warned)
    document["warned"] = {{"cause", cause_names().at(static_cast<std::size_t>(memory.warned->cause))}, {"at_s", count(memory.warned->at)}};
  for (const IdleRecord::Note& note : record.notes)
    document["notes"].push_back({{"path", note.path}, {"uid", note.uid}, {"boot", note.boot}, {"spot", note.spot}});
  if (record.spot)
    document["spot"] = {{"action", record.spot->notice.action},
                        {"time", record.spot->notice.time},
                        {"seen_ms", record.spot->seen_ms},
                        {"boot", record.spot->boot}};
  if (record.last_stop) document["last_stop"] = {{"why", record.last_stop->why}, {"at_ms", record.last_stop->at_ms}};
  return to_line(document);
}

IdleRecord record_in(std::string_view text) {
  const Json document = object_in(text);
  IdleRecord record;
  Members members(document, "the record");
  members.may("boot", record.memory.boot);
  record.memory.at = seconds_in(members, "at_s");
  record.memory.active = seconds_in(members, "active_s");
  members.may("last_sign", record.memory.last_sign);
  record.memory.powered = seconds_in(members, "powered_s");
  members.may("most_spent_told", record.memory.most_spent_told);
  if (const Json* warned = members.find("warned", Members::Wanted::optional)) {
    Members of(*warned, "warned");
    IdleMemory::Warning warning;
    of.one_of("cause", cause_names(), warning.cause);
    warning.at = seconds_in(of, "at_s");
    if (!of.error()) record.memory.warned = warning;
  }
  members.each("notes", Members::Wanted::optional, [&](const Json& one) -> std::optional<Error> {
    Members of(one, "a note");
    IdleRecord::Note note;
    std::uint64_t uid = 0;
    of.must("path", note.path);
    of.must("uid", uid);
    of.must("boot", note.boot);
    of.must("spot", note.spot);
    note.uid = static_cast<std::uint32_t>(uid);
    if (!of.error()) record.notes.push_back(std::move(note));
    return of.error();
  });
  if (const Json* spot = members.find("spot", Members::Wanted::optional)) {
    Members of(*spot, "spot");
    IdleRecord::Spot seen;
    of.must("action", seen.notice.action);
    of.must("time", seen.notice.time);
    of.must("seen_ms", seen.seen_ms);
    of.must("boot", seen.boot);
    if (!of.error()) record.spot = std::move(seen);
  }
  if (const Json* stop = members.find("last_stop", Members::Wanted::optional)) {
    Members of(*stop, "last_stop");
    IdleRecord::Stop last;
    of.must("why", last.why);
    of.must("at_ms", last.at_ms);
    if (!of.error()) record.last_stop = std::move(last);
  }
  // Half a record would be worse than none: a time of one boot with another's id.
  if (members.error() || record.memory.boot.empty()) return IdleRecord{{}, std::move(record.notes), {}, {}};
  return record;
}

std::string keep_text(const Postponement& keep) {
  return to_line(Json{{"boot", keep.boot}, {"until_s", count(keep.until)}, {"until_ms", keep.until_ms}});
}

std::optional<Postponement> keep_in(std::string_view text) {
  const Json document = object_in(text);
  Members members(document, "keep");
  Postponement keep;
  members.must("boot", keep.boot);
  keep.until = seconds_in(members, "until_s");
  members.must("until_ms", keep.until_ms);
  return members.error() ? std::nullopt : std::optional<Postponement>(std::move(keep));
}

std::string sample_text(const IdleSample& sample) {
  Json document = {{"boot", sample.boot},
                   {"at_ms", sample.at.count()},
                   {"processes", Json::array()},
                   {"network", Json::object()},
                   {"marks", Json::array()}};
  for (const ProcessTime& one : sample.processes)
    document["processes"].push_back(Json::array({one.pid, one.parent, one.start, one.own, one.children}));
  for (const auto& [name, bytes] : sample.network) document["network"][name] = bytes;
  for (const UseMark& mark : sample.marks)
    document["marks"].push_back(Json::array({static_cast<int>(mark.sign.of), mark.sign.text, mark.value}));
  return to_line(document);
}

IdleSample sample_in(std::string_view text) {
  const Json document = object_in(text);
  IdleSample sample;
  Members members(document, "the sample");
  std::int64_t at = 0;
  members.may("boot", sample.boot);
  members.may("at_ms", at);
  sample.at = std::chrono::milliseconds(at);
  members.each("processes", Members::Wanted::optional, [&](const Json& one) -> std::optional<Error> {
    const bool is_row =
        one.is_array() && one.size() == 5 && std::all_of(one.begin(), one.end(), [](const Json& n) { return n.is_number_integer(); });
    if (is_row) sample.processes.push_back({one[0].get<int>(), one[1].get<int>(), one[2], one[3], one[4], {}});
    return std::nullopt;
  });
  if (const Json* network = members.find("network", Members::Wanted::optional); network != nullptr && network->is_object()) {
    for (const auto& [name, bytes] : network->items())
      if (bytes.is_number_unsigned()) sample.network.emplace_back(name, bytes.get<std::uint64_t>());
  }
  members.each("marks", Members::Wanted::optional, [&](const Json& one) -> std::optional<Error> {
    const bool is_row = one.is_array() && one.size() == 3 && one[0].is_number_integer() && one[1].is_string() && one[2].is_string();
    const int of = is_row ? one[0].get<int>() : -1;
    if (of >= 0 && of <= static_cast<int>(UseSign::Of::network))
      sample.marks.push_back({{static_cast<UseSign::Of>(of), one[1].get<std::string>()}, one[2].get<std::string>()});
    return std::nullopt;
  });
  if (members.error()) return {};
  return sample;
}

Json idle_status(const IdleRules& rules, const IdleRecord& record, const IdleMoment& moment, const IdleVerdict& verdict,
                 std::int64_t now_ms) {
  const IdleMemory& memory = record.memory;
  const auto or_null = [](const std::optional<seconds>& time) { return time ? Json(count(*time)) : Json(); };
  Json busy_with = Json::array();
  for (const UseSign& sign : moment.signs) busy_with.push_back(sign.text);
  Json status = {{"idle", 1},
                 {"at_ms", now_ms},
                 {"at_s", count(moment.at)},
                 {"state", state_names().at(static_cast<std::size_t>(verdict.is))},
                 {"busy_with", std::move(busy_with)},
                 {"last_use", memory.last_sign},
                 {"idle_for_s", or_null(verdict.idle)},
                 {"after_s", or_null(rules.after)},
                 {"warn_s", count(rules.warn)},
                 {"stops_in_s", or_null(verdict.stops_in)},
                 {"stops_for", verdict.stops_in ? Json(cause_names().at(static_cast<std::size_t>(verdict.cause))) : Json()},
                 {"kept_for_s", count(moment.kept)},
                 {"budget", nullptr},
                 {"spot", nullptr},
                 {"last_stop", nullptr}};
  if (rules.budget)
    status["budget"] = {{"currency", rules.budget->limit.currency},
                        {"limit", as_number(rules.budget->limit)},
                        {"spent", as_number(rules.budget->cost(memory.powered))},
                        {"per_hour", as_number(rules.budget->price.money)},
                        {"price_from", rules.budget->price_from},
                        {"powered_s", count(memory.powered)}};
  if (record.spot)
    status["spot"] = {{"action", record.spot->notice.action},
                      {"time", record.spot->notice.time},
                      {"seen_ms", record.spot->seen_ms},
                      {"this_boot", record.spot->boot == memory.boot}};
  if (record.last_stop) status["last_stop"] = {{"why", record.last_stop->why}, {"at_ms", record.last_stop->at_ms}};
  return status;
}

Result<Json> keep_host(const AgentPaths& paths, std::optional<std::uint64_t> wanted) {
  const IdleFiles files{paths};
  if (!path_exists(files.rules())) {
    if (::geteuid() != 0 && path_exists(system_paths().state))
      return fail(ErrorCode::permission, "only root may put off what stops this host", "add --ask-sudo-password");
    return fail(ErrorCode::not_found, "nothing stops this host when it is idle, so there is nothing to put off",
                "a step `idle_stop: { after: 30m }` in a recipe does; docs/idle.md");
  }
  if (wanted && *wanted == 0) {
    if (::unlink(files.keep().c_str()) != 0 && errno != ENOENT) return fail(errno_error(errno, "removing " + files.keep()));
  } else if (wanted) {
    const seconds time(*wanted);
    const Postponement keep{boot_id(), since_boot() + time, wall_ms() + std::chrono::milliseconds(time).count()};
    if (Result<void> wrote = write_file_atomically(files.keep(), keep_text(keep), 0600); !wrote) return fail(std::move(wrote).error());
  }
  if (wanted) {
    // A warning that was given is taken back at once, not at the next look.
    Subprocess look;
    look.argv = {"systemctl", "start", "--no-block", "gpustrap-idle.service"};
    look.timeout = kAskLimit;
    static_cast<void>(run_subprocess(look));
  }
  const seconds left = kept_for(keep_in(read_file(files.keep()).value_or("")), boot_id(), since_boot(), wall_ms());
  const bool holds = left != seconds(0);
  Json reply = {{"kept_for_s", count(left)}, {"until_ms", holds ? Json(wall_ms() + std::chrono::milliseconds(left).count()) : Json()}};
  if (const std::optional<IdleRules> rules = rules_in(read_file(files.rules()).value_or(""))) {
    reply["after_s"] = rules->after ? Json(count(*rules->after)) : Json();
    reply["budget"] = rules->budget ? Json(money_text(rules->budget->limit)) : Json();
  }
  return reply;
}

}  // namespace gpustrap
