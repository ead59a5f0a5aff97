#include "controller/doctor/looks.h"

#include <algorithm>
#include <cstdlib>
#include <optional>

#include <fmt/format.h>

#include "agent/base/text.h"

// Disks, memory, clock, restarts and services.

namespace gpustrap {
namespace {

constexpr std::uint64_t kKiB = 1024, kMiB = 1024 * kKiB, kGiB = 1024 * kMiB;

/// A line of `df -P`.
struct FileSystem {
  std::string device, at;
  std::uint64_t size = 0, free = 0;
  std::uint64_t used_percent = 0;
  std::string line;
};

std::vector<FileSystem> table_of(const Patient& p, std::string_view section) {
  std::vector<FileSystem> all;
  for (const std::string& line : p.evidence.lines(section)) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() < 6) continue;
    const auto size = number_of(parts[1]), free = number_of(parts[3]);
    if (!size || !free) continue;
    FileSystem one{parts[0], parts[5], *size, *free, number_of(parts[4]).value_or(0), line};
    all.push_back(std::move(one));
  }
  return all;
}

/// Where the file system is mounted that holds a path, as far as the table knows.
std::string mount_of(const std::vector<FileSystem>& table, std::string_view path) {
  std::string longest;
  for (const FileSystem& one : table) {
    const bool holds = one.at == "/" || path == one.at || (path.starts_with(one.at) && path[one.at.size()] == '/');
    if (holds && one.at.size() >= longest.size()) longest = one.at;
  }
  return longest;
}

bool is_ordinary(const FileSystem& one) { return one.at != "/dev/shm" && one.at != "/boot" && !one.at.starts_with("/snap"); }

std::uint64_t memory_value(const Patient& p, std::string_view key) { return number_of(p.evidence.value("memory", key)).value_or(0) * kKiB; }

}  // namespace

Verdict look_root_read_only(const Patient& p) {
  if (!p.evidence.was_seen("mounts")) return unseen(p, "mounts");
  std::vector<std::string> evidence,
      commands = {"sudo dmesg | grep -iE 'ext4|xfs|i/o error'   # a disk with errors is made read-only by the kernel"};
  for (const std::string& line : p.evidence.lines("mounts")) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() < 4 || (parts[1] != "/" && parts[1] != "/var" && parts[1] != "/usr" && parts[1] != "/home")) continue;
    if (parts[2] == "squashfs" || parts[2] == "iso9660" || parts[2] == "rootfs") continue;
    const std::vector<std::string> options = split(parts[3], ',');
    if (std::find(options.begin(), options.end(), "ro") == options.end()) continue;
    evidence.push_back(line);
    commands.push_back("sudo mount -o remount,rw " + parts[1] + "   # where there are none");
  }
  if (evidence.empty()) return fine();
  for (const std::string& line : p.kernel_log("remounting filesystem read-only")) evidence.push_back(line);
  return found(std::move(evidence), "a file system is mounted read-only: nothing can be installed or saved on it", std::move(commands));
}

Verdict look_disk_full(const Patient& p) {
  if (!p.evidence.was_seen("room")) return unseen(p, "room");
  std::vector<std::string> evidence, commands;
  std::vector<FileSystem> full;
  Severity severity = Severity::warning;
  const std::vector<FileSystem> table = table_of(p, "room");
  for (const FileSystem& one : table) {
    if (!is_ordinary(one)) continue;
    const std::uint64_t free = one.free * kKiB;
    if (one.used_percent < 95 && free >= 100 * kMiB) continue;
    if (free >= 5 * kGiB) continue;  // of a large disk 5 % are many packages
    if (free < 500 * kMiB || one.used_percent >= 99) severity = Severity::error;
    evidence.push_back(fmt::format("{}: {} % used, {} free", one.at, one.used_percent, human_size(free)));
    full.push_back(one);
  }
  if (evidence.empty()) return fine();
  const auto is_full = [&](std::string_view path) {
    const std::string at = mount_of(table, path);
    return std::any_of(full.begin(), full.end(), [&](const FileSystem& one) { return one.at == at; });
  };
  // What can be fetched again, where it lies on what is full.
  std::vector<std::string> cleaning;
  if (is_full("/var/cache")) cleaning.emplace_back("apt-get clean");
  if (is_full("/var/log")) cleaning.emplace_back("journalctl --vacuum-size=200M");
  for (const std::string& one : cleaning) commands.push_back("sudo " + one);
  for (const FileSystem& one : full) {
    commands.push_back(fmt::format("sudo du -xh --max-depth=2 {} | sort -h | tail -n 20   # what takes the room", shell_quote(one.at)));
    if (one.device == "tmpfs") commands.push_back(fmt::format("# {} is kept in memory: a restart empties it", one.at));
  }
  if (is_full(p.home.empty() ? "/home" : p.home)) commands.emplace_back("conda clean --all; pip cache purge   # where those are used");
  if (is_full("/var/lib/docker")) commands.emplace_back("docker image prune   # where that is used");
  Verdict verdict = found(
      std::move(evidence), severity == Severity::error ? "a disk is full: installing, logging and saving fail" : "a disk is nearly full",
      std::move(commands),
      cleaning.empty() ? std::vector<Json>{} : std::vector<Json>{step_of("clean", "command", {{"run", join(cleaning, "; ")}})});
  verdict.severity = severity;
  return verdict;
}

Verdict look_inodes_full(const Patient& p) {
  if (!p.evidence.was_seen("inodes")) return unseen(p, "inodes");
  std::vector<std::string> evidence, commands;
  for (const FileSystem& one : table_of(p, "inodes")) {
    if (one.size == 0 || (one.used_percent < 98 && one.free > 2000)) continue;
    evidence.push_back(
        fmt::format("{}: {} of {} inodes used, {} free", one.at, one.size - std::min(one.free, one.size), one.size, one.free));
    commands.push_back(
        fmt::format("sudo du --inodes -x --max-depth=3 {} | sort -n | tail -n 20   # where the many files are", shell_quote(one.at)));
  }
  if (evidence.empty()) return fine();
  commands.emplace_back("# remove them, or give the data a file system of its own (mkfs.ext4 -N, xfs)");
  return found(std::move(evidence), "a file system has no more inodes: no new file can be made on it, however much room is left",
               std::move(commands));
}

Verdict look_boot_full(const Patient& p) {
  if (!p.evidence.was_seen("room")) return unseen(p, "room");
  for (const FileSystem& one : table_of(p, "room")) {
    if (one.at != "/boot" || one.free * kKiB >= 100 * kMiB) continue;
    return found({fmt::format("/boot: {} % used, {} free", one.used_percent, human_size(one.free * kKiB))},
                 "/boot is full: the next kernel, and the driver's part of its initramfs, cannot be written",
                 {"sudo apt-get autoremove   # removes old kernels; read first what else it names"});
  }
  return fine();
}

Verdict look_disk_errors(const Patient& p) {
  if (p.facts.container) return irrelevant();
  if (!p.evidence.was_seen("kernel-log")) return unseen(p, "kernel-log");
  std::vector<std::string> lines = p.kernel_log("I/O error");
  std::erase_if(lines, [](const std::string& line) { return contains(line, "sr0") || contains(line, "fd0") || contains(line, "loop"); });
  if (lines.empty()) return fine();
  return found(std::move(lines), "the kernel reports errors of a disk: files on it may be lost",
               {"# save what matters elsewhere first",
                "sudo smartctl -a /dev/sda   # or nvme smart-log; of a rented disk the provider has to know"});
}

Verdict look_out_of_memory(const Patient& p) {
  if (p.facts.container) {
    const std::string events = p.evidence.text("memory");
    const std::size_t at = events.find("oom_kill ");
    const auto kills = at == std::string::npos ? std::nullopt : number_of(events.substr(at + 9, events.find('\n', at) - at - 9));
    if (!kills) return irrelevant();
    if (*kills == 0) return fine();
    return found({fmt::format("oom_kill {}", *kills)}, "programs were ended because the container's memory ran out",
                 {"# give the container more memory, or load less at once (batch size, num_workers)"});
  }
  if (!p.evidence.was_seen("kernel-log")) return unseen(p, "kernel-log");
  std::vector<std::string> lines = p.kernel_log("out of memory: killed");
  if (lines.empty()) lines = p.kernel_log("oom-kill:");
  if (lines.empty()) return fine();
  if (lines.size() > 6) lines.erase(lines.begin(), lines.end() - 6);
  return found(std::move(lines),
               fmt::format("the kernel has ended programs because memory ran out ({} in all)", human_size(p.facts.memory)),
               {"# load less at once (batch size, num_workers), take a larger instance, or add swap:",
                "sudo fallocate -l 16G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile"});
}

Verdict look_shm_small(const Patient& p) {
  for (const char* section : {"room", "memory"}) {
    if (!p.evidence.was_seen(section)) return unseen(p, section);
  }
  for (const FileSystem& one : table_of(p, "room")) {
    if (one.at != "/dev/shm") continue;
    const std::uint64_t size = one.size * kKiB;
    // The kernel gives it half the memory; a container engine 64 MB.
    if (size >= 1 * kGiB || (p.facts.memory > 0 && size * 4 >= p.facts.memory)) return fine();
    return found(
        {fmt::format("/dev/shm: {} in all, of {} of memory", human_size(size), human_size(p.facts.memory))},
        "/dev/shm is small: data loaders with several workers and NCCL fail with a bus error or `no space left`",
        p.facts.container ? std::vector<std::string>{"# start the container with --shm-size=8g, or --ipc=host"}
                          : std::vector<std::string>{"sudo mount -o remount,size=50% /dev/shm",
                                                     "# and the size that /etc/fstab says for it, where it does"},
        p.may_mount ? std::vector<Json>{step_of("shm", "command", {{"run", "mount -o remount,size=50% /dev/shm"}})} : std::vector<Json>{});
  }
  return irrelevant();
}

Verdict look_swap(const Patient& p) {
  const std::uint64_t total = memory_value(p, "MemTotal:");
  if (total == 0) return unseen(p, "memory");
  if (p.facts.container) return irrelevant();
  const std::uint64_t swap = memory_value(p, "SwapTotal:"), swap_free = memory_value(p, "SwapFree:"),
                      available = memory_value(p, "MemAvailable:");
  if (swap > 0 && swap_free * 10 < swap && available * 10 < total)
    return found({fmt::format("swap: {} of {} used; memory: {} of {} available", human_size(swap - swap_free), human_size(swap),
                              human_size(available), human_size(total))},
                 "memory and swap are nearly used up: the host crawls, and programs will be ended",
                 {"ps -eo pid,user,rss,args --sort=-rss | head   # who has it"});
  if (swap == 0 && available * 20 < total)
    return found({fmt::format("memory: {} of {} available; no swap", human_size(available), human_size(total))},
                 "memory is nearly used up, and there is no swap: the next program that wants some ends one",
                 {"ps -eo pid,user,rss,args --sort=-rss | head   # who has it",
                  "sudo fallocate -l 16G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile"});
  return fine();
}

// Two clocks that differ do not say which is wrong. A server that was asked does; where none was reached, the one that the network keeps is
// believed, and where both are kept or neither is, nobody is accused.
Verdict look_clock(const Patient& p) {
  if (!p.clock || p.now == 0) return unseen(p, "system");
  constexpr std::int64_t kOff = 60;
  const std::int64_t skew = *p.clock - p.now;
  if (std::abs(skew) < kOff) return fine();
  const std::string& said = p.evidence.text("timedatectl");
  const ClockKept kept = contains(said, "NTPSynchronized=yes")  ? ClockKept::yes
                         : contains(said, "NTPSynchronized=no") ? ClockKept::no
                                                                : ClockKept::unknown;
  const auto words_of = [](ClockKept one) { return one == ClockKept::yes ? "yes" : one == ClockKept::no ? "no" : "not known"; };
  std::vector<std::string> evidence = {
      fmt::format("the host's clock is {} {} this machine's", human_duration(std::chrono::seconds(std::abs(skew))),
                  skew > 0 ? "before" : "behind"),
      fmt::format("kept by the network: the host's {}, this machine's {}", words_of(kept), words_of(p.own_clock))};
  bool host_is_wrong = kept != ClockKept::yes && p.own_clock == ClockKept::yes;
  bool own_is_wrong = kept == ClockKept::yes && p.own_clock != ClockKept::yes;
  if (p.third_clock) {
    const std::int64_t host_off = std::abs(*p.clock - *p.third_clock), own_off = std::abs(p.now - *p.third_clock);
    host_is_wrong = host_off >= kOff && host_off > own_off;
    own_is_wrong = own_off >= kOff && own_off > host_off;
    evidence.push_back("a server says: " + p.evidence.value("third-clock", "date"));
  }
  const std::vector<std::string> on_the_host = {"sudo timedatectl set-ntp true",
                                                "timedatectl timesync-status || chronyc tracking   # whether it has found a server"};
  if (own_is_wrong) {
    Verdict verdict =
        found(std::move(evidence), "the clock of this machine, where you sit, is wrong, not the host's",
              {"# here, not on the host: let the network set the clock (timedatectl set-ntp true; macOS: sudo sntp -sS time.apple.com)"});
    verdict.severity = Severity::warning;
    return verdict;
  }
  if (!host_is_wrong) {
    Verdict verdict = found(std::move(evidence), "the host's clock and this machine's differ, and nothing tells which is right",
                            {"date -u   # on both, beside a clock that you trust", on_the_host[0] + "   # where it is the host's"});
    verdict.severity = Severity::warning;
    return verdict;
  }
  Verdict verdict =
      found(std::move(evidence), "the host's clock is wrong: certificates, package lists and signed requests are refused", on_the_host,
            p.facts.container
                ? std::vector<Json>{}
                : std::vector<Json>{step_of("clock", "command",
                                            {{"run", "timedatectl set-ntp true"}, {"unless", "timedatectl show -p NTP | grep -q yes"}})});
  if (std::abs(skew) < 300) verdict.severity = Severity::warning;
  return verdict;
}

Verdict look_reboot_required(const Patient& p) {
  if (p.facts.container) return irrelevant();
  std::vector<std::string> evidence;
  for (const std::string& line : p.evidence.lines("restart")) {
    if (line == "required") evidence.emplace_back("/run/reboot-required is there");
    if (line.starts_with("package ")) evidence.push_back("asked for by " + line.substr(8));
  }
  const std::string expected = [&] {
    for (const std::string& line : p.evidence.lines("kernel-restart")) {
      if (line.starts_with("NEEDRESTART-KSTA: ") && (line.ends_with(" 3") || line.ends_with(" 2"))) return line;
    }
    return std::string();
  }();
  if (!expected.empty()) evidence.push_back(expected + " (a newer kernel is installed)");
  if (evidence.empty()) return fine();
  return found(std::move(evidence), "the system waits for a restart: a kernel or library that was upgraded is not the one that runs",
               {"sudo reboot"}, reboot_steps());
}

Verdict look_tmp(const Patient& p) {
  if (!p.evidence.was_seen("folders")) return unseen(p, "folders");
  std::vector<std::string> evidence;
  std::string folder;
  for (const std::string& line : p.evidence.lines("folders")) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() < 3 || (parts.back() != "/tmp" && parts.back() != "/var/tmp")) continue;
    if (parts[0].starts_with("drwxrwxrwt") && parts[2] == "0") continue;
    evidence.push_back(line);
    folder = parts.back();
  }
  if (evidence.empty()) return fine();
  return found(std::move(evidence),
               fmt::format("{} is not a folder where everybody may write: apt, editors and notebooks fail in odd ways", folder),
               {"sudo chown root:root " + folder, "sudo chmod 1777 " + folder},
               {step_of("tmp", "directory", {{"path", folder}, {"mode", "1777"}, {"owner", "root"}, {"group", "root"}})});
}

Verdict look_noexec(const Patient& p) {
  if (!p.evidence.was_seen("mounts")) return unseen(p, "mounts");
  std::vector<std::string> evidence, folders;
  for (const std::string& line : p.evidence.lines("mounts")) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() < 4 || (parts[1] != "/tmp" && parts[1] != "/home")) continue;
    const std::vector<std::string> options = split(parts[3], ',');
    if (std::find(options.begin(), options.end(), "noexec") == options.end()) continue;
    evidence.push_back(line);
    folders.push_back(parts[1]);
  }
  if (evidence.empty()) return fine();
  std::vector<std::string> commands;
  std::vector<Json> steps;
  for (const std::string& folder : folders) {
    commands.push_back("sudo mount -o remount,exec " + folder + "   # until the next restart; /etc/fstab or tmp.mount says it for good");
    if (p.may_mount)
      steps.push_back(
          step_of(folder == "/tmp" ? "tmp" : "home", "command",
                  {{"run", "mount -o remount,exec " + folder}, {"unless", "! findmnt -no OPTIONS " + folder + " | grep -qw noexec"}}));
  }
  if (folders[0] == "/tmp") commands.push_back("# or leave it so, and give installers another place: TMPDIR=/var/tmp sh cuda_….run");
  return found(std::move(evidence),
               fmt::format("nothing may be run from {}: runfile installers, DKMS and packages that build themselves fail with `Permission "
                           "denied`",
                           join(folders, " and ")),
               std::move(commands), std::move(steps));
}

Verdict look_foreign_files(const Patient& p) {
  if (p.user == "root" || !p.evidence.was_seen("folders")) return irrelevant();
  std::vector<std::string> evidence, paths;
  for (const std::string& line : p.evidence.lines("folders")) {
    if (!line.starts_with("foreign ")) continue;
    const std::string path = line.substr(8);
    evidence.push_back(path + " belongs to somebody else");
    // What is in a folder that is named goes with it.
    const bool is_named = std::any_of(paths.begin(), paths.end(), [&](const std::string& one) { return path.starts_with(one + "/"); });
    if (!is_named) paths.push_back(path);
  }
  std::string quoted;
  for (const std::string& path : paths) quoted += " " + shell_quote(path);
  if (evidence.empty()) return fine();
  return found(
      std::move(evidence),
      fmt::format("files in the home of {} belong to another user, mostly because of sudo: pip, conda and Jupyter cannot write them",
                  p.user),
      {fmt::format("sudo chown -R {0}:{1}   # those that are meant to be {0}'s", shell_quote(p.user), quoted)});
}

Verdict look_sudo_broken(const Patient& p) {
  if (p.evidence.value("login", "rights") == "root") return irrelevant();
  std::vector<std::string> evidence;
  for (const std::string& line : p.evidence.lines("login")) {
    if (!line.starts_with("sudo-said ")) continue;
    for (const char* what : {"parse error", "syntax error", "world writable", "is owned by uid", "must be owned by uid 0", "setuid root",
                             "effective uid is not 0", "no valid sudoers", "cannot be run"}) {
      if (contains(line, what)) {
        evidence.push_back(line.substr(10));
        break;
      }
    }
  }
  if (evidence.empty()) return fine();
  // "/etc/sudoers.d/x:1:5: syntax error", ">>> /etc/sudoers.d/x: syntax error near line 1 <<<"
  std::string file;
  for (const std::string& line : evidence) {
    const std::size_t at = line.find("/etc/sudoers");
    if (at == std::string::npos || !(contains(line, "syntax error") || contains(line, "parse error"))) continue;
    file = line.substr(at, line.find_first_of(": ", at) - at);
    break;
  }
  const bool is_extra = file.starts_with("/etc/sudoers.d/");
  if (p.evidence.value("login", "rights") == "sudo") {
    const std::string quoted = shell_quote(file);
    std::vector<std::string> commands = {file.empty() ? "sudo visudo -c   # names the line"
                                                      : "sudo visudo -f " + quoted + "   # correct the line"};
    if (is_extra) commands.push_back(fmt::format("sudo mv {} /root/   # or do without that file", quoted));
    Verdict verdict =
        found(std::move(evidence), "a file of sudo's has a mistake: newer versions leave that file out, older ones refuse everybody",
              std::move(commands));
    verdict.severity = Severity::warning;
    return verdict;
  }
  if (!file.empty()) {
    const std::string quoted = shell_quote(file);
    std::vector<std::string> commands = {"# as root, since sudo refuses: by `pkexec`, `su -`, or the provider's console:"};
    if (is_extra) commands.push_back(fmt::format("pkexec mv {} /root/   # without that file sudo works again", quoted));
    commands.push_back(fmt::format("pkexec visudo -f {}   # or correct the line", quoted));
    commands.emplace_back("# no root by any way: attach the disk to another machine and move the file there");
    return found(std::move(evidence), fmt::format("sudo refuses everybody, because {} has a mistake", file), std::move(commands));
  }
  return found(std::move(evidence), "sudo does not work: its file, or sudo itself, has been broken",
               {"# as root, by the provider's console or `su -`:", "visudo -c   # names the line",
                "chown root:root /usr/bin/sudo /etc/sudoers && chmod 4755 /usr/bin/sudo && chmod 440 /etc/sudoers"});
}

Verdict look_service_failed(const Patient& p) {
  if (!p.evidence.was_seen("units")) return irrelevant();
  std::vector<std::string> evidence;
  std::string unit;
  for (const std::string& line : p.evidence.lines("units")) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() < 2 || parts[0] != "failed") continue;
    for (const char* ours :
         {"nvidia", "docker", "containerd", "jupyter", "gpustrap", "cloud-", "apt-daily", "unattended", "dcgm", "slurm"}) {
      if (!contains(parts[1], ours)) continue;
      unit = parts[1];
      evidence.push_back(line.substr(7));
      break;
    }
  }
  if (evidence.empty()) return fine();
  return found(std::move(evidence), fmt::format("the service {} has failed", unit),
               {"journalctl -b -n 40 -u " + shell_quote(unit), "sudo systemctl restart " + shell_quote(unit)});
}

Verdict look_first_boot(const Patient& p) {
  const Section* state = p.evidence.find("cloud-init");
  if (state == nullptr || state->status == Section::kAbsent) return irrelevant();
  if (contains(state->text, "status: running"))
    return found({first_line(state->text), fmt::format("up for {}", human_duration(std::chrono::seconds(p.facts.uptime_s)))},
                 "the first boot's work (cloud-init) is not over: packages and users may still change", {"cloud-init status --wait"});
  if (contains(state->text, "status: error"))
    return found(p.evidence.lines("cloud-init"),
                 "the first boot's work (cloud-init) has failed: what the instance was to be given may be missing",
                 {"cloud-init status --long", "sudo tail -n 40 /var/log/cloud-init-output.log"});
  return fine();
}

}  // namespace gpustrap
