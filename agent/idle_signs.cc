#include "agent/idle_signs.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/run_store.h"
#include "agent/steps/apt_lock.h"
#include "agent/steps/host_restart.h"

namespace gpustrap {
namespace {

constexpr auto kLookLimit = std::chrono::seconds(10);
constexpr int kInit = 1;
constexpr unsigned kKernelThread = 0x00200000;  // PF_KTHREAD
constexpr std::size_t kLongestName = 60;
/// Consoles that somebody may sit at, beside the pseudo-terminals of ssh, tmux and notebooks.
constexpr std::array<const char*, 8> kConsoles = {"tty1", "tty2", "tty3", "tty4", "tty5", "tty6", "ttyS0", "hvc0"};

template <class Number> Number number(std::string_view text) {
  Number value{};
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::string short_name(std::string_view text) { return first_line(strip_control(to_utf8(text)), kLongestName); }

bool are_digits(std::string_view text) { return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos; }

/// uid → name, from /etc/passwd: a static program cannot ask the name services.
std::map<std::string, std::string> user_names(const Host& host) {
  std::map<std::string, std::string> names;
  const Result<std::string> users = host.read("/etc/passwd");
  for (const std::string& line : users ? split(*users, '\n') : std::vector<std::string>()) {
    const std::vector<std::string> fields = split(line, ':');
    if (fields.size() > 2) names.emplace(fields[2], fields[0]);
  }
  return names;
}

/// A terminal's access time is when a program last read what was typed there. What is only printed does not count.
void add_terminals(const Host& host, IdleSample& sample) {
  std::vector<std::string> names(kConsoles.begin(), kConsoles.end());
  if (const Result<std::vector<std::string>> listed = host.list("/dev/pts")) {
    for (const std::string& name : *listed) {
      if (are_digits(name)) names.push_back("pts/" + name);
    }
  }
  const std::map<std::string, std::string> users = user_names(host);
  for (const std::string& name : names) {
    const Result<std::optional<FileInfo>> info = host.info("/dev/" + name);
    if (!info || !*info) continue;
    const auto user = users.find(fmt::format("{}", (*info)->uid));
    const std::string who = user == users.end() ? fmt::format("uid {}", (*info)->uid) : user->second;
    sample.marks.push_back(
        {{UseSign::Of::typing, fmt::format("somebody types at {} ({})", name, short_name(who))}, fmt::format("{}", (*info)->atime_s)});
  }
}

void add_processes(const Host& host, int self, IdleSample& sample) {
  const Result<std::vector<std::string>> entries = host.list("/proc");
  for (const std::string& entry : entries ? *entries : std::vector<std::string>()) {
    if (!are_digits(entry)) continue;
    const Result<std::string> stat = host.read("/proc/" + entry + "/stat");
    if (!stat) continue;  // it has ended
    std::optional<ProcessTime> process = process_in(*stat);
    if (process && process->pid != self) sample.processes.push_back(*std::move(process));
  }
}

void add_inhibitors(const Host& host, IdleSample& sample) {
  if (!host.facts().systemd) return;
  const Command list{{"busctl", "--json=short", "call", "org.freedesktop.login1", "/org/freedesktop/login1",
                      "org.freedesktop.login1.Manager", "ListInhibitors"},
                     {},
                     "",
                     "",
                     kLookLimit,
                     {}};
  const Result<CommandResult> listed = host.look(list);
  if (!listed || listed->exit_code != 0) return;  // no logind, or one that is older than 2019
  for (UseSign& sign : inhibitors_in(listed->out)) sample.now.push_back(std::move(sign));
}

void add_gpus(const Host& host, IdleSample& sample) {
  if (host.facts().gpus.empty() && host.facts().driver.empty()) return;
  const std::vector<GpuUse> gpus = ask_gpu_use(host);
  const bool tells_all = !gpus.empty() && std::all_of(gpus.begin(), gpus.end(), [](const GpuUse& gpu) { return gpu.percent.has_value(); });
  const Result<std::vector<std::string>> programs = tells_all ? std::vector<std::string>() : programs_on_gpus(host);
  for (UseSign& sign : signs_of_gpus(gpus, programs ? *programs : std::vector<std::string>())) sample.now.push_back(std::move(sign));
}

/// Who computed how much between two samples, in ticks.
struct Computed {
  double all = 0, most = 0;
  std::string name;  ///< whose is the most
};
Computed computed_between(const IdleSample& before, const IdleSample& now) {
  std::map<int, const ProcessTime*> earlier;
  for (const ProcessTime& process : before.processes) earlier[process.pid] = &process;
  std::set<int> alive;
  const auto earlier_self = [&](const ProcessTime& process) -> const ProcessTime* {
    const auto found = earlier.find(process.pid);
    return found != earlier.end() && found->second->start == process.start ? found->second : nullptr;
  };
  for (const ProcessTime& process : now.processes) {
    if (earlier_self(process) != nullptr) alive.insert(process.pid);
  }
  // What a child that has ended had computed before is in its parent's account now, and is not new.
  std::map<int, std::uint64_t> inherited;
  for (const ProcessTime& process : before.processes) {
    if (alive.count(process.pid) == 0) inherited[process.parent] += process.own + process.children;
  }
  Computed computed;
  for (const ProcessTime& process : now.processes) {
    const ProcessTime* was = earlier_self(process);
    const auto grown = [](std::uint64_t value, std::uint64_t from) { return value > from ? static_cast<double>(value - from) : 0.0; };
    double ticks = grown(process.own, was == nullptr ? 0 : was->own);
    // Of init it is what services and this guard's earlier looks came to.
    if (process.pid != kInit)
      ticks += grown(process.children, (was == nullptr ? 0 : was->children) + (was == nullptr ? 0 : inherited[process.pid]));
    computed.all += ticks;
    if (ticks > computed.most) {
      computed.most = ticks;
      computed.name = fmt::format("{} ({})", process.name, process.pid);
    }
  }
  return computed;
}

}  // namespace

std::optional<ProcessTime> process_in(std::string_view stat) {
  const std::size_t open = stat.find('('), close = stat.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return std::nullopt;
  const std::vector<std::string> fields = words(stat.substr(close + 1));
  if (fields.size() < 20) return std::nullopt;
  ProcessTime process;
  process.pid = number<int>(stat.substr(0, open));
  process.parent = number<int>(fields[1]);
  if (process.pid <= 0 || (number<unsigned>(fields[6]) & kKernelThread) != 0) return std::nullopt;
  process.own = number<std::uint64_t>(fields[11]) + number<std::uint64_t>(fields[12]);
  process.children = number<std::uint64_t>(fields[13]) + number<std::uint64_t>(fields[14]);
  process.start = number<std::uint64_t>(fields[19]);
  process.name = short_name(stat.substr(open + 1, close - open - 1));
  return process;
}

std::vector<std::pair<std::string, std::uint64_t>> interfaces_in(std::string_view text) {
  std::vector<std::pair<std::string, std::uint64_t>> interfaces;
  for (const std::string& line : split(text, '\n')) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string name(trim(std::string_view(line).substr(0, colon)));
    const std::vector<std::string> counts = words(std::string_view(line).substr(colon + 1));
    if (name == "lo" || counts.size() < 9) continue;
    interfaces.emplace_back(short_name(name), number<std::uint64_t>(counts[0]) + number<std::uint64_t>(counts[8]));
  }
  return interfaces;
}

std::vector<UseSign> inhibitors_in(std::string_view text) {
  std::vector<UseSign> signs;
  const Result<Json> document = parse_line(trim(text));
  // {"type":"a(ssssuu)","data":[[["shutdown","apt","dpkg at work","block",0,812], …]]}
  if (!document || !document->is_object() || !document->contains("data")) return signs;
  const Json& data = document->at("data");
  if (!data.is_array() || data.empty() || !data[0].is_array()) return signs;
  for (const Json& one : data[0]) {
    const bool is_one =
        one.is_array() && one.size() >= 4 && std::all_of(one.begin(), one.begin() + 4, [](const Json& j) { return j.is_string(); });
    if (!is_one || one[3] != "block") continue;
    const std::vector<std::string> what = split(one[0].get<std::string>(), ':');
    if (std::find(what.begin(), what.end(), "shutdown") == what.end()) continue;
    signs.push_back({UseSign::Of::inhibitor, fmt::format("{} keeps the host from shutting down: {}", short_name(one[1].get<std::string>()),
                                                         short_name(one[2].get<std::string>()))});
  }
  return signs;
}

std::vector<UseSign> signs_of_gpus(const std::vector<GpuUse>& gpus, const std::vector<std::string>& programs) {
  std::vector<UseSign> signs;
  bool tells_all = !gpus.empty();
  for (const GpuUse& gpu : gpus) {
    tells_all = tells_all && gpu.percent.has_value();
    if (gpu.percent && *gpu.percent > kBusyGpuPercent)
      signs.push_back({UseSign::Of::gpu, fmt::format("GPU {} is {} % busy", short_name(gpu.index), *gpu.percent)});
  }
  // A GPU in slices (MIG) does not tell how busy it is, nor does a driver that answers nobody: then a program that has it counts, so that
  // no training is cut off.
  if (signs.empty() && !tells_all && !programs.empty())
    signs.push_back(
        {UseSign::Of::gpu, fmt::format("process {} has a GPU that does not tell how busy it is", short_name(programs.front()))});
  return signs;
}

std::vector<UseSign> signs_of_use(const IdleSample& before, const IdleSample& now, double ticks) {
  std::vector<UseSign> signs = now.now;
  if (before.boot != now.boot || now.at <= before.at) return signs;  // there is nothing to compare with
  const double elapsed = std::chrono::duration<double>(now.at - before.at).count();
  for (const UseMark& mark : now.marks) {
    const bool is_as_before = std::any_of(before.marks.begin(), before.marks.end(), [&](const UseMark& old) {
      return old.sign.of == mark.sign.of && old.sign.text == mark.sign.text && old.value == mark.value;
    });
    if (!is_as_before) signs.push_back(mark.sign);
  }
  const Computed computed = computed_between(before, now);
  if (computed.all > kBusyCore * ticks * elapsed) {
    signs.push_back(
        {UseSign::Of::cpu, fmt::format("{}{} {} {:.0f} % of a core", computed.name, computed.most < 0.8 * computed.all ? " and others" : "",
                                       computed.most < 0.8 * computed.all ? "use" : "uses", 100 * computed.all / ticks / elapsed)});
  }
  for (const auto& [name, bytes] : now.network) {
    const auto was = std::find_if(before.network.begin(), before.network.end(), [&](const auto& old) { return old.first == name; });
    if (was == before.network.end() || bytes <= was->second) continue;
    const double rate = static_cast<double>(bytes - was->second) / elapsed;
    if (rate > kBusyBytesPerSecond)
      signs.push_back({UseSign::Of::network, fmt::format("{} carries {}/s", name, human_bytes(static_cast<std::uint64_t>(rate)))});
  }
  return signs;
}

IdleSample take_sample(const Host& host, const AgentPaths& paths, int self) {
  IdleSample sample;
  sample.boot = host.facts().boot_id;
  if (const std::optional<RunLock::Holder> run = RunLock::holder(paths))
    sample.now.push_back({UseSign::Of::run, fmt::format("run {} of gpustrap is in progress", short_name(run->run))});
  if (const Result<std::optional<std::string>> holder = apt_lock_holder(host); holder && *holder)
    sample.now.push_back({UseSign::Of::packages, fmt::format("{} installs packages", short_name(**holder))});
  add_inhibitors(host, sample);
  add_gpus(host, sample);
  add_terminals(host, sample);
  // Last, and then at once: rates are by the time between.
  add_processes(host, self, sample);
  if (const Result<std::string> network = host.read("/proc/net/dev")) sample.network = interfaces_in(*network);
  sample.at = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch());
  return sample;
}

}  // namespace gpustrap
