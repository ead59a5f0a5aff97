#include "agent/protocol/request.h"

#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "agent/protocol/json.h"
#include "agent/protocol/members.h"
#include "agent/protocol/wire.h"

namespace gpustrap {
namespace {

template <class... Cases> struct Overloaded : Cases... { using Cases::operator()...; };
template <class... Cases> Overloaded(Cases...) -> Overloaded<Cases...>;

const std::vector<std::string>& verbs() {
  static const std::vector<std::string> names = {"run", "attach", "status", "cancel", "token", "secrets", "share", "remove", "keep"};
  return names;
}

const std::vector<std::string>& share_names() {
  static const std::vector<std::string> names = {"give", "take", "none"};
  return names;
}

}  // namespace

void read_choice(Members& members, StepChoice& choice) {
  members.must("tags", choice.tags);
  members.may("left_out", choice.left_out);
  members.may("forced", choice.forced);
}

void write_choice(const StepChoice& choice, Json& document) {
  document["tags"] = choice.tags;
  if (!choice.left_out.empty()) document["left_out"] = choice.left_out;
  if (!choice.forced.empty()) document["forced"] = choice.forced;
}

namespace {

RunRequest read_run(Members& members) {
  RunRequest body;
  members.must("run", body.run);
  // The id names a folder on the host.
  if (!members.error() && !is_plain_id(body.run))
    members.fail_with(Error(ErrorCode::protocol, "`run` is not a run's id: " + quote_value(body.run)));
  members.one_of("mode", run_mode_names(), body.mode);
  members.may("shares", body.shares);
  members.may("same_as", body.same_as);
  if (!body.same_as.empty()) return body;
  read_choice(members, body.choice);
  read_network(members, body.network);
  if (const Json* recipe = members.find("recipe", Members::Wanted::required)) {
    std::vector<FieldProblem> problems;
    body.recipe = read_recipe(*recipe, Placeholders::allowed, problems);
    if (!problems.empty()) { members.fail_with(Error(ErrorCode::recipe, fmt::format("{}: {}", problems[0].pointer, problems[0].message))); }
  }
  return body;
}

/// What is wrong here is said without quoting anything.
SecretsRequest read_secrets(Members& members) {
  SecretsRequest body;
  members.must("run", body.run);
  const Json* values = members.find("values", Members::Wanted::required);
  if (values == nullptr) return body;
  if (!values->is_object()) {
    members.fail_with(Error(ErrorCode::protocol, "`values` of the request secrets is not an object"));
    return body;
  }
  for (const auto& [name, value] : values->items()) {
    if (is_secret_name(name) && value.is_string())
      body.values[name] = value.get<std::string>();
    else
      members.fail_with(Error(ErrorCode::protocol, "`values` of the request secrets has a member that is no secret"));
  }
  return body;
}

decltype(Request::body) read_body(const std::string& verb, Members& members) {
  if (verb == "run") return read_run(members);
  if (verb == "attach") {
    AttachRequest body;
    members.must("run", body.run);
    members.must("after", body.after);
    members.may("incarnation", body.incarnation);
    if (!body.run.empty() && !is_plain_id(body.run))
      members.fail_with(Error(ErrorCode::protocol, "`run` is not a run's id: " + quote_value(body.run)));
    return body;
  }
  if (verb == "status") return StatusRequest{};
  if (verb == "cancel") {
    CancelRequest body;
    members.must("by", body.by);
    members.may("now", body.now);
    return body;
  }
  if (verb == "token") {
    TokenRequest body;
    members.must("service", body.service);
    return body;
  }
  if (verb == "secrets") return read_secrets(members);
  if (verb == "share") {
    ShareRequest body;
    members.one_of("how", share_names(), body.how);
    if (body.how == ShareRequest::How::none) return body;
    members.must("sha256", body.sha256);
    members.may("from", body.from);
    return body;
  }
  if (verb == "remove") {
    RemoveRequest body;
    members.must("preview", body.preview);
    return body;
  }
  if (verb == "keep") {
    KeepRequest body;
    std::uint64_t seconds = 0;
    if (members.find("seconds", Members::Wanted::optional) == nullptr) return body;
    members.must("seconds", seconds);
    if (seconds > kLongestKeep) members.fail_with(Error(ErrorCode::protocol, "`seconds` of the request keep is more than 30 days"));
    body.seconds = seconds;
    return body;
  }
  members.fail_with(Error(ErrorCode::protocol,
                          fmt::format("the verb {} is unknown here; known are {}", quote_value(verb), join(verbs(), ", ")),
                          "the agent on the host may be older than this gpustrap"));
  return StatusRequest{};
}

Result<Reply> reply_from_json(const Json& document) {
  Reply reply;
  Members members(document, "a reply");
  members.must("reply", reply.number);
  reply.error = read_error_text(members, Members::Wanted::optional);
  if (const Json* value = members.find("value", Members::Wanted::optional)) reply.value = std::make_shared<const Json>(*value);
  if (members.error()) return fail(*members.error());
  if (reply.value && !reply.value->is_object()) return fail(ErrorCode::protocol, "a reply's `value` is an object");
  if ((reply.value != nullptr) == reply.error.has_value()) { return fail(ErrorCode::protocol, "a reply has either `value` or `error`"); }
  return reply;
}

Error unknown_line(const Json& document) {
  return {ErrorCode::protocol, "a line that begins neither hello, event, signal, reply nor request: " + quote_value(document)};
}

template <class Line, class T> Result<Line> as_line(Result<T> read) {
  if (!read) return fail(std::move(read).error());
  return Result<Line>(tl::in_place, *std::move(read));
}

}  // namespace

Json to_json(const Hello& hello) { return {{"hello", hello.protocol}, {"program", hello.program}, {"features", hello.features}}; }

Result<Hello> hello_from_json(const Json& document) {
  Hello hello;
  Members members(document, "hello");
  members.must("hello", hello.protocol);
  members.must("program", hello.program);
  members.must("features", hello.features);
  if (members.error()) return fail(*members.error());
  return hello;
}

Json to_json(const Request& request) {
  Json document = {{"request", request.number}};
  std::visit(Overloaded{
                 [&](const RunRequest& body) {
                   document["verb"] = "run";
                   document["run"] = body.run;
                   document["mode"] = run_mode_names().at(static_cast<std::size_t>(body.mode));
                   if (body.shares) document["shares"] = true;
                   if (!body.same_as.empty()) {
                     document["same_as"] = body.same_as;
                     return;
                   }
                   write_choice(body.choice, document);
                   write_network(body.network, document);
                   document["recipe"] = write_recipe(body.recipe);
                 },
                 [&](const AttachRequest& body) {
                   document["verb"] = "attach";
                   document["run"] = body.run;
                   document["after"] = body.after;
                   if (body.incarnation > 0) document["incarnation"] = body.incarnation;
                 },
                 [&](const StatusRequest&) { document["verb"] = "status"; },
                 [&](const CancelRequest& body) {
                   document["verb"] = "cancel";
                   document["by"] = body.by;
                   if (body.now) document["now"] = true;
                 },
                 [&](const TokenRequest& body) {
                   document["verb"] = "token";
                   document["service"] = body.service;
                 },
                 [&](const SecretsRequest& body) {
                   document["verb"] = "secrets";
                   document["run"] = body.run;
                   document["values"] = body.values;
                 },
                 [&](const ShareRequest& body) {
                   document["verb"] = "share";
                   document["how"] = share_names().at(static_cast<std::size_t>(body.how));
                   if (!body.sha256.empty()) document["sha256"] = body.sha256;
                   if (body.from > 0) document["from"] = body.from;
                 },
                 [&](const RemoveRequest& body) {
                   document["verb"] = "remove";
                   document["preview"] = body.preview;
                 },
                 [&](const KeepRequest& body) {
                   document["verb"] = "keep";
                   if (body.seconds) document["seconds"] = *body.seconds;
                 },
             },
             request.body);
  return document;
}

std::string digest_of(const RunRequest& request) {
  RunRequest same = request;
  same.run.clear();
  same.same_as.clear();
  same.shares = false;
  return sha256_hex(to_json(Request{0, std::move(same)}).dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::optional<Request> public_form(const Request& request) {
  if (std::holds_alternative<SecretsRequest>(request.body)) return std::nullopt;
  const auto* run = std::get_if<RunRequest>(&request.body);
  if (run == nullptr) return request;
  RunRequest brief;
  brief.run = run->run;
  brief.mode = run->mode;
  brief.shares = run->shares;
  brief.same_as = digest_of(*run);
  return Request{request.number, std::move(brief)};
}

std::string as_word(std::string_view lines) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string word;
  for (const unsigned char byte : lines) word += {kDigits[byte >> 4U], kDigits[byte & 15U]};
  return word;
}

std::string lines_of_word(std::string_view word) {
  std::string lines;
  if (word.size() % 2 != 0) return {};
  for (std::size_t i = 0; i < word.size(); i += 2) {
    unsigned char byte = 0;
    const char* end = word.data() + i + 2;
    if (std::from_chars(word.data() + i, end, byte, 16).ptr != end) return {};
    lines += static_cast<char>(byte);
  }
  return lines;
}

Result<Request> request_from_json(const Json& document) {
  Request request;
  std::string verb;
  Members members(document, "a request");
  members.must("request", request.number);
  members.must("verb", verb);
  if (members.error()) return fail(*members.error());
  Members of_body(document, "the request " + first_line(strip_control(verb), 40));
  request.body = read_body(verb, of_body);
  if (of_body.error()) return fail(*of_body.error());
  return request;
}

Json to_json(const Reply& reply) {
  Json document = {{"reply", reply.number}};
  if (reply.error) {
    document["error"] = to_json(*reply.error);
  } else {
    document["value"] = reply.value ? *reply.value : Json::object();
  }
  return document;
}

Result<AgentLine> agent_line_from_json(const Json& document) {
  if (document.is_object()) {
    if (document.contains("event")) return as_line<AgentLine>(event_from_json(document));
    if (document.contains("hello")) return as_line<AgentLine>(hello_from_json(document));
    if (document.contains("reply")) return as_line<AgentLine>(reply_from_json(document));
    if (document.contains("signal")) {
      auto signal = signal_from_json(document);
      if (!signal) return fail(std::move(signal).error());
      // An unknown signal says no less than a heartbeat: the agent is alive.
      return AgentLine(*signal ? **std::move(signal) : Signal{Heartbeat{}});
    }
  }
  return fail(unknown_line(document));
}

Result<ControllerLine> controller_line_from_json(const Json& document) {
  if (document.is_object()) {
    if (document.contains("request")) return as_line<ControllerLine>(request_from_json(document));
    if (document.contains("hello")) return as_line<ControllerLine>(hello_from_json(document));
    if (document.contains("signal")) {
      auto signal = signal_from_json(document);
      if (!signal) return fail(std::move(signal).error());
      return ControllerLine(Heartbeat{});
    }
  }
  return fail(unknown_line(document));
}

}  // namespace gpustrap
