#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/steps/host_restart.h"
#include "agent/steps/kinds.h"

namespace gpustrap {
namespace {

bool exists(const Host& host, const std::string& path) {
  const Result<std::optional<FileInfo>> info = host.info(path);
  return info && info->has_value();
}

/// Why the system wants a restart; empty where it does not.
std::string why_required(const Host& host) {
  if (exists(host, "/run/reboot-required")) {
    std::vector<std::string> packages;
    if (const Result<std::string> listed = host.read("/run/reboot-required.pkgs")) packages = words(*listed);
    std::sort(packages.begin(), packages.end());
    packages.erase(std::unique(packages.begin(), packages.end()), packages.end());
    return packages.empty() ? "the system asks for a restart" : fmt::format("the system asks for a restart ({})", join(packages, ", "));
  }
  const std::string newer = newer_kernel(host);
  return newer.empty() ? "" : fmt::format("kernel {} is installed, {} runs", newer, host.facts().kernel);
}

class RebootStep : public Step {
 public:
  explicit RebootStep(RebootSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const std::string required = why_required(host);
    const std::string asked_on = host.asked_on_boot();
    if (!asked_on.empty() && asked_on != host.facts().boot_id) {
      return StepState::satisfied(required.empty() ? "the host was restarted" : "the host was restarted, but " + required);
    }
    if (spec_.mode == RebootSpec::Mode::when_required && required.empty()) return StepState::satisfied("no restart is required");
    if (Result<void> can = can_restart(host); !can) return fail(std::move(can).error());
    return StepState::unsatisfied(required.empty() ? "a restart in every run is asked for" : required);
  }

  Result<void> apply(Host& host, StepLog& log) override {
    if (Result<void> quiet = expect_quiet(host, log, "a restart would end that", spec_.allow_disruption); !quiet) return quiet;
    RebootWish wish;
    wish.reason = why_required(host);
    if (wish.reason.empty()) wish.reason = "a restart in every run is asked for";
    wish.message = spec_.message.empty() ? "gpustrap restarts this host: " + wish.reason : spec_.message;
    wish.limit = spec_.limit.time;
    return host.reboot(std::move(wish));
  }

 private:
  RebootSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_reboot_step(const StepSpec& spec) { return std::make_unique<RebootStep>(std::get<RebootSpec>(spec)); }

}  // namespace gpustrap
