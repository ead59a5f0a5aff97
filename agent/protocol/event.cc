#include "agent/protocol/event.h"

#include <utility>

#include <fmt/format.h>

#include "agent/base/sha256.h"
#include "agent/protocol/field_types.h"
#include "agent/protocol/json.h"
#include "agent/protocol/members.h"
#include "agent/protocol/wire.h"

namespace gpustrap {
namespace {

template <class... Cases> struct Overloaded : Cases... { using Cases::operator()...; };
template <class... Cases> Overloaded(Cases...) -> Overloaded<Cases...>;

const std::vector<std::string>& outcome_names() {
  static const std::vector<std::string> names = {"unchanged", "changed", "would_change", "unknown", "failed", "skipped"};
  return names;
}

const std::vector<std::string>& end_names() {
  static const std::vector<std::string> names = {"ok", "failed", "cancelled"};
  return names;
}

Json head(const Event& event, const char* type) { return {{"event", type}, {"seq", event.seq}, {"time_ms", event.time_ms}}; }

// One reader for each type of event; the caller asks `members` for what went wrong.

RunStarted read_run_started(Members& members) {
  RunStarted body;
  members.must("run", body.run);
  members.must("recipe", body.recipe);
  members.must("digest", body.digest);
  members.must("agent", body.agent);
  members.one_of("mode", run_mode_names(), body.mode);
  members.must("login", body.login);
  read_network(members, body.network);
  if (const Json* facts = members.find("facts", Members::Wanted::required)) {
    auto read = facts_from_json(*facts);
    if (read) {
      body.facts = *std::move(read);
    } else {
      members.fail_with(std::move(read).error());
    }
  }
  members.each("steps", Members::Wanted::required, [&](const Json& item) {
    StepTitle title;
    Members of_step(item, "a step of run_started");
    of_step.must("id", title.id);
    of_step.must("kind", title.kind);
    of_step.must("name", title.name);
    if (item.contains("needs")) of_step.may("needs", title.needs.emplace());
    of_step.may("uses", title.uses);
    body.steps.push_back(std::move(title));
    return of_step.error();
  });
  return body;
}

RunnerStarted read_runner_started(Members& members) {
  RunnerStarted body;
  members.must("incarnation", body.incarnation);
  members.must("after", body.after);
  members.must("pid", body.pid);
  members.must("boot_id", body.boot_id);
  members.may("interrupted", body.interrupted);
  return body;
}

Rebooting read_rebooting(Members& members) {
  Rebooting body;
  members.must("step", body.step);
  members.must("reason", body.reason);
  members.must("boot_id", body.boot_id);
  members.must("number", body.number);
  return body;
}

WaitingForSecret read_waiting_for_secret(Members& members) {
  WaitingForSecret body;
  members.must("step", body.step);
  members.must("secrets", body.secrets);
  return body;
}

StepChecked read_step_checked(Members& members) {
  StepChecked body;
  members.must("step", body.step);
  members.must("satisfied", body.satisfied);
  members.must("reason", body.reason);
  return body;
}

StepOutput read_step_output(Members& members) {
  StepOutput body;
  members.must("step", body.step);
  members.must("stream", body.stream);
  members.must("text", body.text);
  return body;
}

StepTruncated read_step_truncated(Members& members) {
  StepTruncated body;
  members.must("step", body.step);
  members.must("kept", body.kept);
  return body;
}

Downloaded read_downloaded(Members& members) {
  Downloaded body;
  members.must("step", body.step);
  members.must("url", body.url);
  members.must("bytes", body.bytes);
  members.must("elapsed_ms", body.elapsed);
  members.may("ahead", body.ahead);
  return body;
}

StepRetry read_step_retry(Members& members) {
  StepRetry body;
  members.must("step", body.step);
  members.must("attempt", body.attempt);
  body.error = read_error_text(members, Members::Wanted::required).value_or(ErrorText());
  members.must("wait_ms", body.wait);
  return body;
}

StepFinished read_step_finished(Members& members) {
  StepFinished body;
  members.must("step", body.step);
  members.one_of("outcome", outcome_names(), body.outcome);
  members.must("reason", body.reason);
  members.must("elapsed_ms", body.elapsed);
  body.error = read_error_text(members, Members::Wanted::optional);
  return body;
}

RunFinished read_run_finished(Members& members) {
  RunFinished body;
  members.one_of("end", end_names(), body.end);
  members.must("unchanged", body.unchanged);
  members.must("changed", body.changed);
  members.must("would_change", body.would_change);
  members.must("unknown", body.unknown);
  members.must("failed", body.failed);
  members.must("skipped", body.skipped);
  members.must("elapsed_ms", body.elapsed);
  members.must("notes", body.notes);
  return body;
}

decltype(Event::body) read_body(const std::string& type, Members& members, const Json& document) {
  if (type == "run_started") return read_run_started(members);
  if (type == "runner_started") return read_runner_started(members);
  if (type == "step_checked") return read_step_checked(members);
  if (type == "step_output") return read_step_output(members);
  if (type == "step_truncated") return read_step_truncated(members);
  if (type == "downloaded") return read_downloaded(members);
  if (type == "step_retry") return read_step_retry(members);
  if (type == "step_finished") return read_step_finished(members);
  if (type == "rebooting") return read_rebooting(members);
  if (type == "waiting_for_secret") return read_waiting_for_secret(members);
  if (type == "run_finished") return read_run_finished(members);
  if (type == "step_started") {
    StepStarted body;
    members.must("step", body.step);
    return body;
  }
  if (type == "file_wanted") {
    FileWanted body;
    members.must("step", body.step);
    members.must("sha256", body.sha256);
    members.may("have", body.have);
    if (!members.error() && !is_sha256(body.sha256))
      members.fail_with(Error(ErrorCode::protocol, "`sha256` is not a digest: " + quote_value(body.sha256)));
    return body;
  }
  if (type == "cancel_requested") {
    CancelRequested body;
    members.must("by", body.by);
    return body;
  }
  return UnknownEvent{type, document.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

}  // namespace

std::string_view outcome_name(Outcome outcome) { return outcome_names().at(static_cast<std::size_t>(outcome)); }

const std::vector<std::string>& run_mode_names() {
  static const std::vector<std::string> names = {"apply", "plan"};
  return names;
}

ErrorText error_text(const Error& error) { return {error.code(), error.sentence(), error.hint()}; }

Json to_json(const ErrorText& error) {
  Json document = {{"code", error_code_name(error.code)}, {"message", error.message}};
  if (!error.hint.empty()) document["hint"] = error.hint;
  return document;
}

std::optional<ErrorText> read_error_text(Members& members, Members::Wanted wanted) {
  const Json* found = members.find("error", wanted);
  if (found == nullptr) return std::nullopt;
  Members of_error(*found, "an error");
  ErrorText error;
  std::string code;
  of_error.must("code", code);
  of_error.must("message", error.message);
  of_error.may("hint", error.hint);
  if (of_error.error()) members.fail_with(*of_error.error());
  error.code = error_code_from_name(code);
  return error;
}

Json to_json(const Event& event) {
  return std::visit(Overloaded{
                        [&](const RunStarted& body) {
                          Json document = head(event, "run_started");
                          document["run"] = body.run;
                          document["recipe"] = body.recipe;
                          document["digest"] = body.digest;
                          document["agent"] = body.agent;
                          document["mode"] = run_mode_names().at(static_cast<std::size_t>(body.mode));
                          document["login"] = body.login;
                          write_network(body.network, document);
                          document["facts"] = to_json(body.facts);
                          document["steps"] = Json::array();
                          for (const StepTitle& step : body.steps) {
                            document["steps"].push_back({{"id", step.id}, {"kind", step.kind}, {"name", step.name}});
                            if (step.needs) document["steps"].back()["needs"] = *step.needs;
                            if (!step.uses.empty()) document["steps"].back()["uses"] = step.uses;
                          }
                          return document;
                        },
                        [&](const RunnerStarted& body) {
                          Json document = head(event, "runner_started");
                          document["incarnation"] = body.incarnation;
                          document["after"] = body.after;
                          document["pid"] = body.pid;
                          document["boot_id"] = body.boot_id;
                          if (!body.interrupted.empty()) document["interrupted"] = body.interrupted;
                          return document;
                        },
                        [&](const Rebooting& body) {
                          Json document = head(event, "rebooting");
                          document["step"] = body.step;
                          document["reason"] = body.reason;
                          document["boot_id"] = body.boot_id;
                          document["number"] = body.number;
                          return document;
                        },
                        [&](const WaitingForSecret& body) {
                          Json document = head(event, "waiting_for_secret");
                          document["step"] = body.step;
                          document["secrets"] = body.secrets;
                          return document;
                        },
                        [&](const FileWanted& body) {
                          Json document = head(event, "file_wanted");
                          document["step"] = body.step;
                          document["sha256"] = body.sha256;
                          if (body.have > 0) document["have"] = body.have;
                          return document;
                        },
                        [&](const StepStarted& body) {
                          Json document = head(event, "step_started");
                          document["step"] = body.step;
                          return document;
                        },
                        [&](const StepChecked& body) {
                          Json document = head(event, "step_checked");
                          document["step"] = body.step;
                          document["satisfied"] = body.satisfied;
                          document["reason"] = body.reason;
                          return document;
                        },
                        [&](const StepOutput& body) {
                          Json document = head(event, "step_output");
                          document["step"] = body.step;
                          document["stream"] = body.stream;
                          document["text"] = body.text;
                          return document;
                        },
                        [&](const StepTruncated& body) {
                          Json document = head(event, "step_truncated");
                          document["step"] = body.step;
                          document["kept"] = body.kept;
                          return document;
                        },
                        [&](const Downloaded& body) {
                          Json document = head(event, "downloaded");
                          document["step"] = body.step;
                          document["url"] = body.url;
                          document["bytes"] = body.bytes;
                          document["elapsed_ms"] = body.elapsed.count();
                          if (body.ahead) document["ahead"] = true;
                          return document;
                        },
                        [&](const StepRetry& body) {
                          Json document = head(event, "step_retry");
                          document["step"] = body.step;
                          document["attempt"] = body.attempt;
                          document["error"] = to_json(body.error);
                          document["wait_ms"] = body.wait.count();
                          return document;
                        },
                        [&](const StepFinished& body) {
                          Json document = head(event, "step_finished");
                          document["step"] = body.step;
                          document["outcome"] = outcome_name(body.outcome);
                          document["reason"] = body.reason;
                          document["elapsed_ms"] = body.elapsed.count();
                          if (body.error) document["error"] = to_json(*body.error);
                          return document;
                        },
                        [&](const CancelRequested& body) {
                          Json document = head(event, "cancel_requested");
                          document["by"] = body.by;
                          return document;
                        },
                        [&](const RunFinished& body) {
                          Json document = head(event, "run_finished");
                          document["end"] = end_names().at(static_cast<std::size_t>(body.end));
                          document["unchanged"] = body.unchanged;
                          document["changed"] = body.changed;
                          document["would_change"] = body.would_change;
                          document["unknown"] = body.unknown;
                          document["failed"] = body.failed;
                          document["skipped"] = body.skipped;
                          document["elapsed_ms"] = body.elapsed.count();
                          document["notes"] = body.notes;
                          return document;
                        },
                        [&](const UnknownEvent& body) {
                          Json document = Json::parse(body.line, nullptr, /*allow_exceptions=*/false);
                          return document.is_object() ? document : head(event, body.type.c_str());
                        },
                    },
                    event.body);
}

Result<Event> event_from_json(const Json& document) {
  Event event;
  std::string type;
  Members members(document, "an event");
  members.must("event", type);
  members.must("seq", event.seq);
  members.must("time_ms", event.time_ms);
  if (members.error()) return fail(*members.error());
  Members of_body(document, type);
  event.body = read_body(type, of_body, document);
  if (of_body.error()) return fail(*of_body.error());
  return event;
}

Json to_json(const Signal& signal) {
  return std::visit(Overloaded{[](const Heartbeat&) {
                                 return Json{{"signal", "heartbeat"}};
                               },
                               [](const Progress& body) {
                                 return Json{{"signal", "progress"}, {"step", body.step},   {"text", body.text},
                                             {"done", body.done},    {"total", body.total}, {"bytes_per_s", body.bytes_per_s}};
                               }},
                    signal.body);
}

Result<std::optional<Signal>> signal_from_json(const Json& document) {
  std::string type;
  Members members(document, "a signal");
  members.must("signal", type);
  if (members.error()) return fail(*members.error());
  if (type == "heartbeat") return Signal{Heartbeat{}};
  if (type != "progress") return std::nullopt;
  Progress body;
  Members of_body(document, type);
  of_body.must("step", body.step);
  of_body.must("text", body.text);
  of_body.must("done", body.done);
  of_body.must("total", body.total);
  of_body.must("bytes_per_s", body.bytes_per_s);
  if (of_body.error()) return fail(*of_body.error());
  return Signal{std::move(body)};
}

}  // namespace gpustrap
