#include "agent/steps/host_restart.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

constexpr auto kLookLimit = std::chrono::seconds(10);
/// A driver that is asked for the first time initialises its GPUs: some seconds for each.
constexpr auto kDriverLimit = std::chrono::minutes(1);

/// Containers that are kept like machines: a restart inside of them starts them again. Others only end.
constexpr std::array<std::string_view, 3> kMachineContainers = {"systemd-nspawn", "lxc", "lxc-libvirt"};

/// NVIDIA's services and what draws screens have GPUs open and compute nothing of anybody's; names as far as the kernel keeps them.
constexpr std::array<std::string_view, 6> kGpuServices = {"nvidia-", "nv-fabricmanage", "nv-hostengine", "dcgm", "nvsm", "Xorg"};

bool exists(const Host& host, const std::string& path) {
  const Result<std::optional<FileInfo>> info = host.info(path);
  return info && info->has_value();
}

/// The container that cannot be told to do such a thing from inside: "this host is a container (docker)". Empty for a machine, and for one
/// that is kept like a machine.
std::string other_container(const Host& host) {
  if (!host.facts().container) return {};
  const Result<std::string> manager = host.read("/run/systemd/container");
  const std::string name = manager ? std::string(trim(*manager)) : "";
  if (std::find(kMachineContainers.begin(), kMachineContainers.end(), name) != kMachineContainers.end()) return {};
  return name.empty() ? "this host is a container" : fmt::format("this host is a container ({})", name);
}

}  // namespace

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

Result<void> can_restart(const Host& host) {
  const Facts& facts = host.facts();
  if (const std::string container = other_container(host); !container.empty()) {
    return fail(ErrorCode::unsupported, container + ", which a restart would only end",
                "restart it from outside, or leave the step out with `when`");
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

Result<void> can_power_off(const Host& host) {
  if (const std::string container = other_container(host); !container.empty()) {
    return fail(ErrorCode::unsupported, container + ", which cannot switch off the machine that is paid for",
                "stop it where it is rented, or leave the step out with `when: { container: false }`");
  }
  if (!host.facts().systemd) {
    return fail(ErrorCode::unsupported, "this host has no systemd, whose timers look whether it is idle",
                "stop it where it is rented, or leave the step out with `when: { systemd: true }`");
  }
  if (host.facts().boot_id.empty()) {
    return fail(ErrorCode::unsupported, "this host does not tell its boot id, so its boots could not be told apart",
                "look at /proc/sys/kernel/random/boot_id on the host");
  }
  return {};
}

Result<std::vector<std::string>> other_users(const Host& host) {
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

/// Who has a GPU's device open, but for NVIDIA's own services: "812 (python3)". Root alone can see that of others.
std::vector<std::string> holders_of_gpus(const Host& host) {
  constexpr std::string_view kDevice = "/dev/nvidia";
  const auto is_gpu = [&](const std::string& target) {
    return target.size() > kDevice.size() && target.starts_with(kDevice) &&
           target.find_first_not_of("0123456789", kDevice.size()) == std::string::npos;
  };
  std::vector<std::string> holders;
  const Result<std::vector<std::string>> entries = host.list("/proc");
  for (const std::string& pid : entries ? *entries : std::vector<std::string>()) {
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string folder = "/proc/" + pid;
    const Result<std::vector<std::string>> open = host.list(folder + "/fd");
    const bool has_gpu = open && std::any_of(open->begin(), open->end(), [&](const std::string& descriptor) {
                           const Result<std::string> target = host.read_link(folder + "/fd/" + descriptor);
                           return target && is_gpu(*target);
                         });
    if (!has_gpu) continue;
    const std::string name = strip_control(trim(host.read(folder + "/comm").value_or("")));
    const auto is_service = [&](std::string_view service) { return name.starts_with(service); };
    if (std::none_of(kGpuServices.begin(), kGpuServices.end(), is_service)) holders.push_back(fmt::format("{} ({})", pid, name));
  }
  return holders;
}

Result<std::vector<std::string>> programs_on_gpus(const Host& host) {
  const Command command{{"nvidia-smi", "--query-compute-apps=pid,process_name", "--format=csv,noheader"}, {}, "", "", kDriverLimit, {}};
  const Result<CommandResult> result = host.look(command);
  if (!result) return fail(result.error());
  // The driver does not answer new questions, for instance since its library was renewed below it; what computes may go on computing.
  if (result->exit_code != 0) return holders_of_gpus(host);
  std::vector<std::string> programs;
  for (const std::string& line : split(result->out, '\n')) {
    const std::size_t comma = line.find(',');
    if (comma == std::string::npos) continue;
    programs.push_back(strip_control(fmt::format("{} ({})", trim(line.substr(0, comma)), trim(line.substr(comma + 1)))));
  }
  return programs;
}

Result<void> expect_quiet(const Host& host, StepLog& log, std::string_view consequence, bool may_disrupt) {
  const Result<std::vector<std::string>> users = other_users(host);
  if (!users) return fail(users.error());
  const Result<std::vector<std::string>> programs = programs_on_gpus(host);
  if (!programs) return fail(programs.error());
  std::vector<std::string> who;
  if (!users->empty()) who.push_back(fmt::format("{} {} logged in", join(*users, ", "), users->size() == 1 ? "is" : "are"));
  if (!programs->empty())
    who.push_back(fmt::format("{} {} on the GPUs", join(*programs, ", "), programs->size() == 1 ? "computes" : "compute"));
  if (who.empty()) return {};
  if (!may_disrupt) {
    return fail(ErrorCode::busy, fmt::format("{}, and {}", join(who, "; "), consequence),
                "wait until they are done, or allow it: `allow_disruption: true` in the step, or `gpustrap up --allow-disruption`");
  }
  log.say(join(who, "; ") + "; going on all the same, as is allowed");
  return {};
}

}  // namespace gpustrap
