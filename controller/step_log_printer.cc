#include "controller/step_log_printer.h"

#include <unistd.h>

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
  StepLogPrinter(std::string step, bool json) : step_(std::move(step)), json_(json) {}

  void event(const Event& event) override {
    const std::string_view step = step_of(event);
    if (!step_.empty() && step != step_) return;
    if (json_) return print(STDOUT_FILENO, to_line(event));
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
  void ending(const Ending&) override {}
  void pause() override {}
  void tick() override {}

 private:
  void say(std::string_view step, std::string_view line) const {
    print(STDOUT_FILENO, (step_.empty() ? fmt::format("[{}] ", strip_control(step)) : "") + strip_control(line) + "\n");
  }

  std::string step_;
  bool json_;
};

}  // namespace

std::unique_ptr<Status> make_step_log_printer(const Options& options) {
  return std::make_unique<StepLogPrinter>(options.step, options.json);
}

}  // namespace gpustrap
