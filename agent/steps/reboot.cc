#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/steps/kinds.h"

namespace gpustrap {
namespace {

constexpr auto kLookLimit = std::chrono::seconds(10);

/// Containers that are kept like machines: a restart inside of them starts them again. Others only end.
constexpr std::array<std::string_view, 3> kMachineContainers = {"systemd-nspawn", "lxc", "lxc-libvirt"};

/// "6.8.0-1008-aws" is 6, 8, 0, 1008 and its flavour aws.
struct KernelName {
  std::vector<std::uint64_t> numbers;
  std::string flavour;
};

KernelName kernel_name(const std::string& release) {
  KernelName name;
  const char* at = release.data();
  const char* const end = at + release.size();
  while (at != end) {
    std::uint64_t number = 0;
    const auto [rest, error] = std::from_chars(at, end, number);
    if (error != std::errc()) break;
    name.numbers.push_back(number);
    at = rest;
    if (at == end || (*at != '.' && *at != '-')) break;
    ++at;
  }
  name.flavour = std::string(at, end);
  return name;
}

bool exists(const Host& host, const std::string& path) {
  const Result<std::optional<FileInfo>> info = host.info(path);
  return info && info->has_value();
}

/// A kernel of the running one's flavour that is newer and can be booted; empty where there is none.
std::string newer_kernel(const Host& host) {
  if (host.facts().container) return {};  // its kernel is another machine's
  const KernelName running = kernel_name(host.facts().kernel);
  const Result<std::vector<std::string>> installed = host.list("/lib/modules");
  if (!installed || running.numbers.empty()) return {};
  std::string newest;
  std::vector<std::uint64_t> newest_numbers = running.numbers;
  for (const std::string& release : *installed) {
    const KernelName name = kernel_name(release);
    if (name.flavour != running.flavour || name.numbers <= newest_numbers) continue;
    if (!exists(host, "/boot/vmlinuz-" + release) && !exists(host, "/lib/modules/" + release + "/vmlinuz")) continue;
    newest = release;
    newest_numbers = name.numbers;
  }
  return newest;
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

/// Whether this host comes back from a restart, and takes up the run.
Result<void> can_restart(const Host& host) {
  const Facts& facts = host.facts();
  if (facts.container) {
    const Result<std::string> manager = host.read("/run/systemd/container");
    const std::string name = manager ? std::string(trim(*manager)) : "";
    if (std::find(kMachineContainers.begin(), kMachineContainers.end(), name) == kMachineContainers.end()) {
      return fail(ErrorCode::unsupported,
                  fmt::format("this host is a container{}, which a restart would only end", name.empty() ? "" : " (" + name + ")"),
                  "restart it from outside, or leave the step out with `when`");
    }
  }
  if (!facts.systemd) {
    return fail(ErrorCode::unsupported, "this host has no systemd, so nothing would take up the run after a restart",
                "restart it by hand, and run the same command again");
  }
  if (facts.boot_id.empty()) {
    return fail(ErrorCode::unsupported, "this host does not tell its boot id, so a restart could not be told from none",
                "look at /proc/sys/kernel/random/boot_id on the host");
  }
  return {};
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
    const Result<std::vector<std::string>> others = other_users(host);
    if (!others) return fail(others.error());
    if (!others->empty()) {
      const std::string who = fmt::format("{} {} logged in", join(*others, ", "), others->size() == 1 ? "is" : "are");
      if (!spec_.allow_disruption) {
        return fail(ErrorCode::busy, who + ", and a restart would end their work",
                    "ask them to log out, or put `allow_disruption: true` into the step");
      }
      log.say(who + "; restarting all the same, as the step allows");
    }
    RebootWish wish;
    wish.reason = why_required(host);
    if (wish.reason.empty()) wish.reason = "a restart in every run is asked for";
    wish.message = spec_.message.empty() ? "gpustrap restarts this host: " + wish.reason : spec_.message;
    wish.limit = spec_.limit.time;
    return host.reboot(std::move(wish));
  }

 private:
  /// People at work here who are not the run's own login: names, each once.
  [[nodiscard]] static Result<std::vector<std::string>> other_users(const Host& host) {
    const Command list{{"loginctl", "list-sessions", "--no-legend", "--no-pager"}, {{"LC_ALL", "C"}}, "", "", kLookLimit, {}};
    const Result<CommandResult> sessions = host.look(list);
    if (!sessions) return fail(sessions.error());
    // Without logind nobody keeps sessions.
    if (sessions->exit_code != 0) return std::vector<std::string>();
    std::vector<std::string> names;
    for (const std::string& line : split(sessions->out, '\n')) {
      const std::vector<std::string> fields = words(line);
      if (fields.size() < 3 || fields[2] == host.login().name) continue;
      const Command show{{"loginctl", "show-session", fields[0], "-p", "Class", "-p", "State"}, {{"LC_ALL", "C"}}, "", "", kLookLimit, {}};
      const Result<CommandResult> shown = host.look(show);
      if (!shown) return fail(shown.error());
      const std::vector<std::string> properties = split(shown->out, '\n');
      const auto has = [&](std::string_view property) {
        return std::find(properties.begin(), properties.end(), property) != properties.end();
      };
      // Cron jobs, greeters and the per-user manager are sessions too.
      if (has("Class=user") && !has("State=closing")) names.push_back(fields[2]);
    }
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    return names;
  }

  RebootSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_reboot_step(const StepSpec& spec) { return std::make_unique<RebootStep>(std::get<RebootSpec>(spec)); }

}  // namespace gpustrap
