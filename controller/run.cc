#include "controller/run.h"

#include <algorithm>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/event_line.h"
#include "agent/protocol/json.h"
#include "controller/run_log.h"

namespace gpustrap {
namespace {

using std::chrono::milliseconds;

/// Between two looks at the keyboard and two frames of the screen.
constexpr milliseconds kTick{100};
/// A question about a host that has nothing else to do.
constexpr milliseconds kAnswerLimit{30'000};
/// What a host has said already comes one thing right behind the other; a run that goes on pauses.
constexpr milliseconds kCaughtUp{1'000};
/// Before a question is asked again.
constexpr milliseconds kAskAgain{1'000};
/// A host that is about to restart may take its network down before sshd's last words: one heartbeat missed is enough to try again.
constexpr milliseconds kRebootSilence = kHeartbeat + milliseconds(3'000);
/// Most machines are back within this time, and somebody watches: no long pauses between attempts.
constexpr milliseconds kRebootIsShort{3 * 60'000};
/// A machine that reboots, checks its disks and starts sshd may take this long; the run on it does not need us.
constexpr milliseconds kComeBackLimit{15 * 60'000};
/// While no run is on the host yet, a person waits for nothing.
constexpr milliseconds kComeBackToStartLimit{2 * 60'000};

Result<void> check_run_id(const std::string& said) {
  if (is_run_id(said)) return {};
  return fail(ErrorCode::protocol, fmt::format("the agent calls its run `{}`", strip_control(first_line(said, 60))));
}

Error as_error(const ErrorText& text) { return {text.code, strip_control(text.message), strip_control(text.hint)}; }

}  // namespace

Result<void> RunClient::send(decltype(Request::body) body) {
  const Request request{++number_, std::move(body)};
  if (link_) return link_->send(request);
  Result<std::unique_ptr<AgentLink>> link = around_.start_agent(request);
  if (!link) return fail(std::move(link).error());
  link_ = *std::move(link);
  return {};
}

Result<RunResult> RunClient::run(RunRequest request, Stay stay) {
  run_ = request.run;
  request_ = request;
  if (Result<void> begun = begin(std::move(request)); !begun) return fail(std::move(begun).error());
  return follow(stay);
}

Result<std::vector<Event>> RunClient::rehearse(RunRequest request) {
  request.mode = RunMode::plan;
  rehearsal_.emplace();
  const Result<RunResult> result = run(std::move(request));
  std::vector<Event> events = *std::exchange(rehearsal_, std::nullopt);
  request_.reset();
  run_.clear();
  last_seq_ = incarnation_ = asked_ = 0;
  started_.reset();
  finished_.reset();
  confirmed_ = left_ = false;
  if (!result) return fail(result.error());
  if (!result->finished) return fail(ErrorCode::cancelled, "interrupted");
  return events;
}

Result<RunResult> RunClient::attach(std::string run, Stay stay) {
  run_ = run;
  if (Result<void> begun = begin(AttachRequest{std::move(run), 0, 0}); !begun) return fail(std::move(begun).error());
  return follow(stay);
}

bool RunClient::is_loss(const Error& error) const {
  return error.code() == ErrorCode::unreachable && around_.was_connected && around_.was_connected();
}

Result<void> RunClient::begin(decltype(Request::body) body) {
  Result<void> sent = send(std::move(body));
  if (!sent && is_loss(sent.error())) return come_back(sent.error());
  asked_ = number_;
  return sent;
}

Result<std::shared_ptr<const Json>> RunClient::ask(const decltype(Request::body)& body) {
  const milliseconds deadline = around_.now() + kAnswerLimit;
  while (true) {
    Result<std::shared_ptr<const Json>> answer = ask_once(body, deadline);
    if (answer || !is_loss(answer.error()) || around_.now() + kAskAgain >= deadline) return answer;
    link_.reset();  // every question may be asked twice
    around_.pause(kAskAgain);
  }
}

Result<std::shared_ptr<const Json>> RunClient::ask_once(decltype(Request::body) body, milliseconds deadline) {
  if (Result<void> sent = send(std::move(body)); !sent) return fail(std::move(sent).error());
  while (around_.now() < deadline) {
    Result<std::optional<AgentLine>> line = link_->receive(kTick);
    if (!line) return fail(std::move(line).error());
    around_.status.tick();
    if (around_.interrupt().has_value()) return fail(ErrorCode::cancelled, "interrupted");
    if (!line->has_value()) continue;
    const auto* reply = std::get_if<Reply>(&**line);
    if (reply == nullptr || (reply->number != number_ && reply->number != 0)) continue;
    if (reply->error) return fail(as_error(*reply->error));
    if (!reply->value) return fail(ErrorCode::protocol, "the agent's reply has no value", "`gpustrap doctor HOST` says more");
    return reply->value;
  }
  return fail(ErrorCode::timeout, fmt::format("the agent did not answer within {} s", kAnswerLimit.count() / 1000));
}

void RunClient::tell(decltype(Request::body) body) {
  if (link_) static_cast<void>(send(std::move(body)).has_value());  // without a link nobody waits there any more
}

Result<RunResult> RunClient::follow(Stay stay) {
  last_heard_ = around_.now();
  while (true) {
    look_for_interrupts();
    if (must_leave()) return result();
    Result<std::optional<AgentLine>> line = link_->receive(around_.beside ? std::min(kTick, around_.beside()) : kTick);
    if (line && line->has_value()) last_heard_ = around_.now();
    if (line && is_rebooting() && around_.now() - last_heard_ > kRebootSilence) line = fail(ErrorCode::unreachable, "the host went silent");
    if (!line) {
      if (line.error().code() != ErrorCode::unreachable) return fail(std::move(line).error());
      if (Result<void> back = come_back(line.error()); !back) return fail(std::move(back).error());
      continue;
    }
    if (line->has_value()) {
      Result<void> taken;
      last_event_ = around_.now();
      if (return_ && around_.now() - return_->connected >= kHeartbeat) return_.reset();
      if (const auto* event = std::get_if<Event>(&**line))
        taken = take(*event, link_->said());
      else if (const auto* reply = std::get_if<Reply>(&**line))
        taken = take(*reply);
      else if (const auto* signal = std::get_if<Signal>(&**line)) {
        if (const auto* progress = std::get_if<Progress>(&signal->body)) around_.status.progress(*progress);
      }
      if (!taken) return fail(std::move(taken).error());
      const bool handed = secrets_.empty() || (asked_ == 0 && handing_ == 0);
      if (finished_ || (stay == Stay::until_started && confirmed_ && handed)) return result();
    }
    if (stay == Stay::until_caught_up) {
      const bool all = newest_seq_ ? last_seq_ >= *newest_seq_ : !line->has_value() && around_.now() - last_event_ >= kCaughtUp;
      if (asked_ == 0 && confirmed_ && all) return result();
    } else if (!line->has_value()) {
      answer_waiting();
    }
    around_.status.tick();
  }
}

void RunClient::hand_over(const SecretValues& values) {
  for (const auto& [name, value] : values) secrets_[name] = value;
}

/// Only behind an answer of the agent's: whatever else may read what is sent before it must not have them.
void RunClient::send_secrets() {
  if (secrets_.empty() || !link_) return;  // without a link: on coming back
  if (send(SecretsRequest{run_, secrets_})) handing_ = number_;
}

/// All events so far are read, and a step still waits: for values that are known here, or that can be found.
void RunClient::answer_waiting() {
  if (finished_) return;
  std::vector<std::string> names;
  for (const auto& [step, secrets] : waiting_) {
    for (const std::string& name : secrets) {
      if (asked_for_.insert(name).second && !secrets_.contains(name)) names.push_back(name);
    }
  }
  if (!names.empty() && around_.secrets) {
    const SecretValues found = around_.secrets(names);
    hand_over(found);
    forgotten_ = forgotten_ || !found.empty();
  }
  if (std::exchange(forgotten_, false)) send_secrets();
}

RunResult RunClient::result() const {
  RunResult result;
  result.run = run_;
  result.started = started_;
  result.finished = finished_;
  result.leaving = mode_ != Mode::following;
  if (!finished_)
    result.exit = ExitCode::detached;
  else if (finished_->end == RunFinished::End::failed)
    result.exit = ExitCode::step_failed;
  else if (finished_->end == RunFinished::End::cancelled)
    result.exit = ExitCode::cancelled;
  return result;
}

// ---- Ctrl-C: the first leaves, a second within 3 s cancels, a third leaves a cancelled run to itself.

void RunClient::look_for_interrupts() {
  while (const std::optional<Interrupt> interrupt = around_.interrupt()) {
    using What = Interrupt::What;
    if (interrupt->what == What::cancel && !rehearsal_) {
      mode_ = Mode::cancelling;
      if (link_) static_cast<void>(send(CancelRequest{"Ctrl-C"}).has_value());  // else on coming back
    } else if (interrupt->what != What::ctrl_c || rehearsal_ || around_.ctrl_c == CtrlC::leaves || mode_ == Mode::cancelling) {
      left_ = true;
    } else if (mode_ == Mode::following) {
      // The way to a host that is away may take longer to try than a second Ctrl-C has time.
      mode_ = Mode::leaving;
      leaving_since_ = interrupt->at;
      around_.status.notice(must_leave() ? "Leaving; the run goes on on the host."
                                         : "Leaving; the run goes on on the host. Ctrl-C again within 3 s cancels it.");
    } else if (interrupt->at - leaving_since_ >= kSecondCtrlC) {
      left_ = true;
    } else {
      mode_ = Mode::cancelling;
      around_.status.notice("Cancelling after the current step; Ctrl-C again leaves at once.");
      if (link_) static_cast<void>(send(CancelRequest{"Ctrl-C"}).has_value());  // else on coming back
    }
  }
}

bool RunClient::must_leave() const { return left_ || (mode_ == Mode::leaving && around_.now() - leaving_since_ >= kSecondCtrlC); }

// ---- exactly once

Result<void> RunClient::take(const Event& event, std::string_view line) {
  if (event.seq <= last_seq_) return {};  // sent again after a lost connection
  if (event.seq != last_seq_ + 1) {
    return fail(ErrorCode::protocol, fmt::format("event {} of run {} came after event {}; some are missing", event.seq, run_, last_seq_),
                "`gpustrap attach HOST` replays the run from its start");
  }
  if (const auto* started = std::get_if<RunStarted>(&event.body)) {
    // What is kept of a run here lies under its id.
    if (Result<void> checked = check_run_id(started->run); !checked) return checked;
    if (!run_.empty() && started->run != run_) {
      return fail(ErrorCode::protocol, fmt::format("the agent was asked for run {} and tells of run {}", run_, started->run),
                  "look into /var/lib/gpustrap/runs there; `gpustrap remove HOST` clears it");
    }
    started_ = *started;
    run_ = started->run;
  }
  last_seq_ = event.seq;
  confirmed_ = true;
  return_.reset();
  if (const auto* finished = std::get_if<RunFinished>(&event.body)) finished_ = *finished;
  if (const auto* waiting = std::get_if<WaitingForSecret>(&event.body)) waiting_[waiting->step] = waiting->secrets;
  if (const auto* step = std::get_if<StepStarted>(&event.body)) waiting_.erase(step->step);
  if (const auto* runner = std::get_if<RunnerStarted>(&event.body)) {
    waiting_.clear();
    asked_for_.clear();
    forgotten_ = runner->incarnation > 1;
    incarnation_ = runner->incarnation;
    rebooting_since_.reset();
  }
  if (std::holds_alternative<Rebooting>(event.body)) rebooting_since_ = around_.now();
  if (std::holds_alternative<StepFinished>(event.body)) rebooting_since_.reset();  // it came to nothing
  if (rehearsal_) {
    rehearsal_->push_back(event);
    return {};
  }
  const std::string written = line.empty() ? to_line(event) : std::string();
  if (line.empty()) line = written;
  around_.log(event, line);
  around_.status.said(event, line);
  return {};
}

Result<void> RunClient::take(const Reply& reply) {
  if (reply.number == 0 && reply.error) return fail(as_error(*reply.error));
  if (reply.number == handing_) handing_ = 0;
  if (reply.number != asked_) {
    // The answer to a cancel: the run's end follows as events. A run that is over already says so too.
    if (reply.error && reply.error->code != ErrorCode::not_found) around_.status.notice(reply.error->message);
    return {};
  }
  asked_ = 0;
  if (reply.error && reply.error->code == ErrorCode::not_found && request_ && !confirmed_) {
    // The connection was lost before the agent had read the request.
    if (Result<void> sent = send(*request_); !sent) return {};
    asked_ = number_;
    return {};
  }
  if (reply.error) return fail(as_error(*reply.error));
  confirmed_ = true;  // a reply without an error has a value, of whatever type the host chose
  const auto run = reply.value->find("run");
  if (run != reply.value->end() && run->is_string()) {
    if (Result<void> checked = check_run_id(run->get<std::string>()); !checked) return checked;
    run_ = run->get<std::string>();
  }
  const auto last = reply.value->find("last");
  if (last != reply.value->end() && last->is_number_unsigned()) newest_seq_ = last->get<std::uint64_t>();
  take_rewound(*reply.value);
  send_secrets();
  const auto attached = reply.value->find("attached");
  if (attached != reply.value->end() && attached->is_boolean() && attached->get<bool>()) {
    around_.status.notice("This recipe is running there already; following that run.");
  }
  return {};
}

/// The host has lost events that were passed on already: its journal goes on behind `to`.
void RunClient::take_rewound(const Json& value) {
  const auto rewound = value.find("rewound");
  if (rewound == value.end() || !rewound->is_object()) return;
  const auto to = rewound->find("to");
  if (to == rewound->end() || !to->is_number_unsigned() || to->get<std::uint64_t>() >= last_seq_) return;
  around_.status.rewound(last_seq_, to->get<std::uint64_t>());
  last_seq_ = to->get<std::uint64_t>();
}

bool RunClient::is_rebooting() const { return rebooting_since_ && around_.now() - *rebooting_since_ < kRebootIsShort; }

Result<void> RunClient::come_back(const Error& why) {
  if (!return_) return_.emplace(Return{around_.now(), {}});
  const milliseconds limit = confirmed_ ? kComeBackLimit : kComeBackToStartLimit;
  const auto give_up = [&](const Error& last) {
    return fail(Error(last)
                    .in(fmt::format("coming back to the host for {} min", limit.count() / 60'000))
                    .with_hint(confirmed_ ? "the run does not need this connection: `gpustrap attach HOST` when the host answers again"
                                          : "the same command again starts anew, or follows the run if it has begun"));
  };
  const auto is_over = [&] { return around_.now() - return_->since >= limit; };
  // The host lets us in and its agent goes again, however often: that is no coming back.
  if (is_over()) return give_up(why);
  around_.status.connection_lost(why);
  bool refused = false;
  while (true) {
    const Haste haste = refused ? Haste::refused : is_rebooting() ? Haste::rebooting : Haste::none;
    const milliseconds until = around_.now() + return_->pauses.next(haste);
    while (around_.now() < until) {
      around_.pause(kTick);
      if (around_.beside) (void)around_.beside();
      around_.status.tick();
      look_for_interrupts();
      if (must_leave()) return {};
    }
    link_.reset();
    const Result<void> sent = send(AttachRequest{run_, last_seq_, incarnation_});
    if (sent) {
      asked_ = number_;
      last_heard_ = return_->connected = around_.now();
      around_.status.connection_back();
      if (mode_ == Mode::cancelling) static_cast<void>(send(CancelRequest{"Ctrl-C"}).has_value());
      return {};
    }
    if (sent.error().code() == ErrorCode::host_key) return fail(sent.error());
    refused = sent.error().code() == ErrorCode::authentication;
    if (is_over()) return give_up(sent.error());
  }
}

}  // namespace gpustrap
