#include "controller/machine_look.h"

#include <algorithm>
#include <charconv>
#include <system_error>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/host_shell.h"
#include "controller/login_shell.h"

namespace gpustrap {
namespace {

constexpr std::string_view kBegin = "gpustrap-look 1";
/// More of anything is no machine.
constexpr std::size_t kMost = 64, kLongestName = 100, kLongestIdle = 16U << 10U;
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 60U;

/// Printable, short, and one line.
std::string name_of(std::string_view text) { return strip_control(first_line(to_utf8(trim(text)), kLongestName)); }

std::optional<std::uint64_t> number(std::string_view text, std::uint64_t unit = 1) {
  std::uint64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || value > kMostBytes / unit) return std::nullopt;
  return value * unit;
}

/// "1.25": never negative, and no more than a million million.
std::optional<double> decimal(std::string_view text) {
  const std::size_t point = std::min(text.find('.'), text.size());
  const std::optional<std::uint64_t> whole = number(text.substr(0, point));
  if (!whole || *whole > 1'000'000'000'000) return std::nullopt;
  const std::string_view digits = text.substr(std::min(point + 1, text.size())).substr(0, 9);
  if (digits.empty()) return static_cast<double>(*whole);
  const std::optional<std::uint64_t> part = number(digits);
  if (!part) return std::nullopt;
  double value = static_cast<double>(*part);
  for (std::size_t i = 0; i < digits.size(); ++i) value /= 10;
  return static_cast<double>(*whole) + value;
}

bool is_plain_unit(std::string_view name) {
  constexpr std::string_view kMay = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-@";
  return !name.empty() && name.size() <= 64 && name.front() != '-' && name.find_first_not_of(kMay) == std::string_view::npos;
}

/// A line's value may be in quotes, as in os-release.
std::string unquoted(std::string_view text) {
  if (text.size() >= 2 && (text.front() == '"' || text.front() == '\'') && text.back() == text.front())
    text = text.substr(1, text.size() - 2);
  return name_of(text);
}

void take_os(MachineLook& look, std::string_view line) {
  const std::size_t equals = line.find('=');
  if (equals == std::string_view::npos) return;
  const std::string value = unquoted(line.substr(equals + 1));
  const std::string_view name = line.substr(0, equals);
  if (name == "ID") look.facts.os = value;
  if (name == "VERSION_ID") look.facts.os_version = value;
  if (name == "PRETTY_NAME") look.facts.os_name = value;
}

void take_disk(MachineLook& look, const std::vector<std::string>& words) {
  if (words.size() < 3 || look.disks.size() >= kMost) return;
  const std::optional<std::uint64_t> total = number(words[0], 1024), free = number(words[1], 1024);
  if (!total || !free) return;
  DiskLook disk{name_of(join({words.begin() + 2, words.end()}, " ")), std::min(*free, *total), *total};
  const auto is_same = [&](const DiskLook& other) { return other.path == disk.path; };
  if (std::none_of(look.disks.begin(), look.disks.end(), is_same)) look.disks.push_back(std::move(disk));
}

/// "0, Tesla T4, 1234, 15360, 45, 535.161.08"; a value that the driver does not tell is "[N/A]".
void take_gpu(MachineLook& look, std::string_view line) {
  std::vector<std::string> parts = split(line, ',');
  for (std::string& part : parts) part = std::string(trim(part));
  if (parts.size() != 6 || !number(parts[0])) {
    if (look.gpu_trouble.empty()) look.gpu_trouble = name_of(line);
    return;
  }
  if (look.gpus.size() >= kMost) return;
  GpuLook gpu{name_of(parts[1]), number(parts[2], 1U << 20U), number(parts[3], 1U << 20U), std::nullopt};
  if (const auto percent = number(parts[4]); percent && *percent <= 100) gpu.utilisation = static_cast<unsigned>(*percent);
  look.gpus.push_back(std::move(gpu));
  if (look.facts.driver.empty()) look.facts.driver = name_of(parts[5]);
}

/// The version is the first word that is numbers with dots: "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.08  Mon …".
void take_driver(MachineLook& look, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    if (word.find('.') == std::string::npos || word.find_first_not_of("0123456789.") != std::string::npos) continue;
    look.facts.driver = name_of(word);
    return;
  }
}

void take_pci(MachineLook& look, const std::vector<std::string>& words) {
  if (words.size() < 2 || look.facts.gpus.size() >= kMost) return;
  PciGpu gpu;
  gpu.address = name_of(words[0]);
  gpu.device = name_of(words[1].starts_with("0x") ? words[1].substr(2) : words[1]);
  if (words.size() > 2) gpu.driver = name_of(words[2]);
  look.facts.gpus.push_back(std::move(gpu));
}

ServiceLook& service(MachineLook& look, const std::string& name) {
  const auto known = std::find_if(look.services.begin(), look.services.end(), [&](const ServiceLook& one) { return one.name == name; });
  if (known != look.services.end()) return *known;
  return look.services.emplace_back(ServiceLook{name, "", std::nullopt});
}

void take_service(MachineLook& look, const std::vector<std::string>& words) {
  if (words.size() != 3 || look.services.size() >= kMost) return;
  ServiceLook& one = service(look, name_of(words[1]));
  if (words[0] == "state") one.state = name_of(words[2]);
  if (words[0] == "port") one.is_listening = words[2] == "open";
}

void take(MachineLook& look, std::string_view key, std::string_view rest) {
  const std::vector<std::string> all = words(rest);
  const std::string first = all.empty() ? "" : all[0];
  if (key == "arch") look.facts.arch = name_of(first);
  if (key == "kernel") look.facts.kernel = name_of(first);
  if (key == "hostname") look.facts.hostname = name_of(first);
  if (key == "os-release") take_os(look, rest);
  if (key == "uptime") look.facts.uptime_s = static_cast<std::uint64_t>(decimal(first).value_or(0));
  if (key == "cpus") look.facts.cpus = std::min<std::uint64_t>(number(first).value_or(0), 100'000);
  if (key == "load") {
    for (std::size_t i = 0; i < look.load.size() && i < all.size(); ++i) look.load[i] = decimal(all[i]).value_or(0);
  }
  if (key == "memory" && all.size() >= 2) {
    if (all[0] == "MemTotal:") look.facts.memory = number(all[1], 1024).value_or(0);
    if (all[0] == "MemAvailable:") look.memory_available = number(all[1], 1024).value_or(0);
  }
  if (key == "disk") take_disk(look, all);
  if (key == "nvrm") take_driver(look, all);
  if (key == "pci") take_pci(look, all);
  if (key == "gpu") take_gpu(look, rest);
  if (key == "service") take_service(look, all);
  if (key == "was-here") look.was_here = true;
  if (key == "idle" && rest.size() <= kLongestIdle) look.idle = std::string(rest);
}

}  // namespace

std::string look_text(const std::vector<std::pair<std::string, std::uint16_t>>& services) {
  // nvidia-smi comes last: on a sick GPU it hangs.
  std::string text = fmt::format(
      "{}exec 2>$nu; LC_ALL=C; export LC_ALL; cd /; echo; echo "
      "{}; echo arch $(uname -m); echo "
      "kernel $(uname -r); "
      "echo hostname $(uname -n); while read -r l; do case $l in ID=*|VERSION_ID=*|PRETTY_NAME=*) echo os-release \"$l\";; esac; done "
      "</etc/os-release; read -r u r </proc/uptime; echo uptime $u; read -r l </proc/loadavg; echo load $l; "
      "while read -r k v r; do case $k in MemTotal:|MemAvailable:) echo memory $k $v;; esac; done </proc/meminfo; "
      "echo cpus $(nproc 2>$nu || grep -c ^processor /proc/cpuinfo); "
      "for d in / \"$HOME\"; do df -kP \"$d\" 2>$nu | while read -r f t u a c m; do echo disk $t $a \"$m\"; done; done; "
      "for f in /usr/local/lib/gpustrap/agent-* \"$HOME\"/.local/lib/gpustrap/agent-*; do test -e \"$f\" && echo was-here; done; "
      "test -d /var/lib/gpustrap && echo was-here; "
      "test -r /run/gpustrap/idle.json && read -r l </run/gpustrap/idle.json && echo idle \"$l\"; "
      "for d in /sys/bus/pci/devices/*; do v=; read -r v <$d/vendor; test \"$v\" = 0x10de || continue; read -r c <$d/class; "
      "case $c in 0x0300*|0x0302*) read -r i <$d/device; n=$(readlink $d/driver); echo pci ${{d##*/}} $i ${{n##*/}};; esac; done; "
      "test -r /proc/driver/nvidia/version && read -r l </proc/driver/nvidia/version && echo nvrm \"$l\"; ",
      kHostShell, kBegin);
  for (const auto& [name, port] : services) {
    if (!is_plain_unit(name)) continue;
    text += fmt::format("command -v systemctl >$nu 2>&1 && echo service state {0} $(systemctl is-active {0}.service 2>$nu); ", name);
    // In the tables of the kernel: a local end with that port that listens (0A).
    if (port != 0) {
      text += fmt::format(
          "p=closed; cat /proc/net/tcp /proc/net/tcp6 2>$nu | grep -q -i \":{:04X} [0-9A-F]*:0000 0A \" && p=open; "
          "echo service port {} $p; ",
          port, name);
    }
  }
  return text +
         "if command -v nvidia-smi >$nu 2>&1; then t=; command -v timeout >$nu 2>&1 && t=\"timeout 8\"; "
         "$t nvidia-smi --query-gpu=index,name,memory.used,memory.total,utilization.gpu,driver_version --format=csv,noheader,nounits 2>&1 "
         "| head -n 64 | while read -r l; do echo gpu \"$l\"; done; fi; echo end'";
}

Result<MachineLook> read_look(std::string_view text) {
  MachineLook look;
  bool has_begun = false;
  for (const std::string& line : split(text, '\n')) {
    if (!has_begun) {  // a profile's chatter
      has_begun = trim(line) == kBegin;
      continue;
    }
    const std::size_t space = line.find(' ');
    take(look, std::string_view(line).substr(0, space), space == std::string::npos ? "" : std::string_view(line).substr(space + 1));
  }
  if (!has_begun) { return fail(login_shell_error(ShellFault::ended, std::nullopt, text)); }
  for (const DiskLook& disk : look.disks) {
    if (disk.path == "/") look.facts.disk_free = disk.free;
  }
  return look;
}

}  // namespace gpustrap
