#include "controller/step_log_printer.h"

#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/event_line.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

/// What a run has said already comes one thing right behind the other; once it pauses, its last lines are known.
constexpr auto kCaughtUp = std::chrono::seconds(1);

void print(int descriptor, std::string_view text) { static_cast<void>(write_all(descriptor, text).has_value()); }

/// The step that an event is about; empty for those of the run.
std::string_view step_of(const Event& event) {
  return std::visit(
      [](const auto& body) -> std::string_view {
        if constexpr (requires { body.step; })
          return body.step;
        else
          return {};
      },
      event.body);
}

class StepLogPrinter : public Status {
 public:
  StepLogPrinter(std::string step, bool json, std::size_t tail) : step_(std::move(step)), json_(json), tail_(tail) {}

  void event(const Event& event) override {
    last_event_ = Clock::now();
    const std::string_view step = step_of(event);
    if (!step_.empty() && step != step_) return;
    if (json_) return keep_or_print(to_line(event));
    if (const auto* output = std::get_if<StepOutput>(&event.body)) {
      std::string_view text = output->text;
      if (text.ends_with('\n')) text.remove_suffix(1);
      for (const std::string& line : split(text, '\n')) say(step, line);
    } else if (const auto* finished = std::get_if<StepFinished>(&event.body)) {
      const std::string& why = finished->error ? finished->error->message : finished->reason;
      say(step, fmt::format("-- {}: {} ({})", outcome_name(finished->outcome), first_line(why), human_duration(finished->elapsed)));
    }
  }
  void notice(std::string_view sentence) override { print(STDERR_FILENO, fmt::format("gpustrap: {}\n", strip_control(sentence))); }
  void activity(const Activity&) override {}
  void progress(const Progress&) override {}
  void connection_lost(const Error& why) override { notice("connection lost: " + why.why()); }
  void connection_back() override { notice("connected again"); }
  void rewound(std::uint64_t seen, std::uint64_t to) override {
    notice(fmt::format("the host lost its last {} events when it went down", seen - to));
  }
  void ending(const Ending&) override { flush(); }
  void pause() override {}
  void tick() override {
    if (last_event_ && Clock::now() - *last_event_ >= kCaughtUp) flush();
  }

 private:
  void keep_or_print(std::string line) {
    if (tail_ == 0) return print(STDOUT_FILENO, line);
    kept_.push_back(std::move(line));
    if (kept_.size() > tail_) kept_.pop_front();
  }
  /// From here on everything is printed as it comes.
  void flush() {
    tail_ = 0;
    std::string text;
    for (const std::string& line : kept_) text += line;
    kept_.clear();
    if (!text.empty()) print(STDOUT_FILENO, text);
  }
  void say(std::string_view step, std::string_view line) {
    keep_or_print((step_.empty() ? fmt::format("[{}] ", strip_control(step)) : "") + strip_control(line) + "\n");
  }

  std::string step_;
  bool json_;
  std::size_t tail_;  ///< of the last lines, while all there are is not known; 0: print everything
  std::deque<std::string> kept_;
  std::optional<Clock::time_point> last_event_;
};

}  // namespace

std::unique_ptr<Status> make_step_log_printer(const Options& options) {
  return std::make_unique<StepLogPrinter>(options.step, options.json, options.tail);
}

}  // namespace gpustrap
