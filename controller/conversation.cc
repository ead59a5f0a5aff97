#include "controller/conversation.h"

#include <unistd.h>

#include <chrono>
#include <thread>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "controller/console.h"
#include "controller/json_printer.h"
#include "controller/secret_input.h"
#include "controller/status_printer.h"

namespace gpustrap {
namespace {

std::chrono::milliseconds steady_now() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch());
}

JsonPrinter::Write writer(int descriptor) {
  return [descriptor](std::string_view text) { static_cast<void>(write_all(descriptor, text).has_value()); };
}

}  // namespace

std::unique_ptr<Status> make_status(const Options& options, const std::string& recipe) {
  if (options.json) return std::make_unique<JsonPrinter>(writer(STDOUT_FILENO), writer(STDERR_FILENO));
  return std::make_unique<StatusPrinter>(console_of(STDOUT_FILENO, options.colour), StatusPrinter::Title{recipe, options.destination()},
                                         options.detail);
}

std::unique_ptr<Status> make_silent_status() {
  return std::make_unique<JsonPrinter>([](std::string_view) {}, writer(STDERR_FILENO));
}

Conversation::Conversation(const Options& options, Rights rights, std::unique_ptr<Status> status, CtrlC ctrl_c)
    : status_(std::move(status)),
      destination_(options.destination()),
      access_(options, rights, *status_),
      client_(RunSurroundings{
          [this](const Request& first) {
            Result<std::unique_ptr<AgentLink>> link = access_.start_agent(first);
            if (link && !interrupts_) interrupts_.emplace();
            // While the host begins, there is time to put older runs away.
            const bool begins = std::holds_alternative<RunRequest>(first.body) || std::holds_alternative<AttachRequest>(first.body);
            if (link && begins) {
              if (const Result<std::string> state = state_directory()) RunLog::forget_oldest(*state);
            }
            return link;
          },
          *status_, [this](const Event& event, std::string_view line) { log(event, line); }, [this] { return interrupt(); }, steady_now,
          [](std::chrono::milliseconds time) { std::this_thread::sleep_for(time); }, [this] { return access_.was_connected(); }, ctrl_c,
          [this, &options](const std::vector<std::string>& names) {
            const std::optional<RunStarted>& run = client_.started();
            return secrets_waited_for(names, run ? run->recipe : "", options, *status_);
          }}) {}

void Conversation::log(const Event& event, std::string_view line) {
  if (const auto* started = std::get_if<RunStarted>(&event.body); started != nullptr && !log_tried_) {
    log_tried_ = true;
    const std::optional<SshTarget>& target = access_.target();
    const std::string host = target ? target->user + "@" + target->given : destination_;
    Result<RunLog> log = state_directory().and_then(
        [&](const std::string& state) { return RunLog::create(state, started->run, host, RunLog::Forget::nothing); });
    if (log) {
      log_.emplace(*std::move(log));
    } else {
      status_->notice("This run is not logged on this machine: " + log.error().sentence());
    }
  }
  if (log_) log_->event(event, line);
}

}  // namespace gpustrap
