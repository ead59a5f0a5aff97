#include <algorithm>
#include <chrono>
#include <functional>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/steps/apt_lock.h"
#include "agent/steps/kinds.h"

namespace gpustrap {
namespace {

constexpr auto kPause = std::chrono::seconds(1);

/// cloud-init writes this when its last stage has ended, well or badly.
constexpr std::string_view kCloudInitResult = "/run/cloud-init/result.json";
constexpr std::string_view kCloudInitRuns = "/run/cloud-init/status.json";

class WaitStep : public Step {
 public:
  explicit WaitStep(WaitSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const Result<std::string> missing = first_missing(host);
    if (!missing) return fail(missing.error());
    if (!missing->empty()) return StepState::unsatisfied(*missing);
    const Result<std::string> cloud_init = end_of_cloud_init(host);
    if (!cloud_init) return fail(cloud_init.error());
    return StepState::satisfied(describe(*cloud_init));
  }

  Result<void> apply(Host& host, StepLog& log) override {
    std::string told;
    for (std::chrono::seconds waited{0};; waited += kPause) {
      const Result<std::string> missing = first_missing(host);
      if (!missing) return fail(missing.error());
      if (missing->empty()) return {};  // how cloud-init ended is looked at behind this
      if (*missing != told) log.say("waiting: " + *missing);
      told = *missing;
      if (waited >= spec_.limit.time) {
        return fail(ErrorCode::timeout, fmt::format("{}, after {}", told, human_duration(spec_.limit.time)),
                    "raise the step's `limit`, or look at what it waits for");
      }
      host.pause(kPause);
    }
  }

 private:
  /// What is not there yet; empty where all is.
  [[nodiscard]] Result<std::string> first_missing(const Host& host) const {
    const auto there = [&](std::string_view path) {
      const Result<std::optional<FileInfo>> info = host.info(std::string(path));
      return info && info->has_value();
    };
    if (spec_.cloud_init && there(kCloudInitRuns) && !there(kCloudInitResult)) return std::string("cloud-init has not finished");
    if (spec_.apt) {
      const Result<std::optional<std::string>> holder = apt_lock_holder(host);
      if (!holder) return fail(holder.error());
      if (*holder) return **holder + " holds the locks of apt";
    }
    if (spec_.port && !host.port_answers(spec_.port->number)) return fmt::format("nothing listens on port {}", spec_.port->number);
    if (spec_.file) {
      const std::string path = host.expand(spec_.file->text);
      if (!there(path)) return path + " does not exist";
    }
    return std::string();
  }

  /// What there is to say of it. cloud-init's own exit 2 is "finished, with recoverable errors"; only 1 is a failure.
  [[nodiscard]] Result<std::string> end_of_cloud_init(const Host& host) const {
    if (!spec_.cloud_init) return std::string();
    const std::string done = "cloud-init is done";
    // Asking it starts a Python; a result without errors says the same.
    const Result<std::string> result = host.read(std::string(kCloudInitResult));
    if (!result || result->find("\"errors\": []") != std::string::npos) return done;
    const Result<CommandResult> status = host.look({{"cloud-init", "status", "--long"}, {}, "", "", std::chrono::seconds(30), {}});
    if (!status) return fail(status.error());
    if (status->exit_code == 2) return done + ", with errors that it has recovered from";
    if (status->exit_code == 0 || status->exit_code == 127) return done;
    return fail(ErrorCode::command, "cloud-init failed: " + first_line(strip_control(last_lines(status->out, 1))),
                "look at /var/log/cloud-init-output.log on the host; without `cloud_init: true` this step does not ask how it ended");
  }

  [[nodiscard]] std::string describe(const std::string& cloud_init) const {
    std::vector<std::string> parts;
    if (spec_.cloud_init) parts.push_back(cloud_init);
    if (spec_.apt) parts.emplace_back("apt is free");
    if (spec_.port) parts.push_back(fmt::format("port {} answers", spec_.port->number));
    if (spec_.file) parts.push_back(spec_.file->text + " exists");
    return join(parts, ", ");
  }

  WaitSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_wait_step(const StepSpec& spec) { return std::make_unique<WaitStep>(std::get<WaitSpec>(spec)); }

}  // namespace gpustrap
