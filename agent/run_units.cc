#include "agent/run_units.h"

#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"
#include "agent/log.h"
#include "agent/resume_unit.h"

namespace gpustrap {
namespace {

/// Reading all units anew takes seconds on a busy host.
constexpr auto kReloadLimit = std::chrono::seconds(60);
constexpr auto kMoveLimit = std::chrono::seconds(5);
/// What a step has left running in the background has so long to end after SIGTERM, and again after SIGKILL.
constexpr auto kLeftoverGrace = std::chrono::seconds(2);

constexpr std::string_view kScopePrefix = "gpustrap-run-";

/// Named by the process: the scope of a runner that died may be kept up by what its steps left behind.
std::string own_scope() { return fmt::format("{}{}.scope", kScopePrefix, ::getpid()); }

Result<SubprocessResult> systemctl(std::vector<std::string> words) {
  Subprocess call;
  call.argv = {"systemctl"};
  call.argv.insert(call.argv.end(), words.begin(), words.end());
  call.timeout = kReloadLimit;
  return run_subprocess(call);
}

/// Whether systemd started this process at boot: it is in a service of its own already.
bool is_in_resume_service() {
  const Result<std::string> groups = read_file("/proc/self/cgroup");
  return groups && groups->find(ResumeUnit::kName) != std::string::npos;
}

bool is_in_scope(const std::string& process) {
  const Result<std::string> groups = read_file("/proc/" + process + "/cgroup");
  return !groups || groups->find("/" + own_scope()) != std::string::npos;  // without groups: it has ended
}

/// systemd answers before it moves. What a step starts in between would stay in the login's session, and end with it.
void await_move(const std::vector<pid_t>& steps) {
  const auto deadline = std::chrono::steady_clock::now() + kMoveLimit;
  const auto moved = [](pid_t step) { return is_in_scope(fmt::format("{}", step)); };
  while (!is_in_scope("self") || !std::all_of(steps.begin(), steps.end(), moved)) {
    if (std::chrono::steady_clock::now() > deadline) return log_note("no scope: systemd did not move the run into it");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

/// Whatever is in the units of runs, beside this runner: `name` is one of them, or empty for all.
std::vector<pid_t> others_in_units(const std::string& name) {
  std::vector<pid_t> others;
  for (const char* slice : {"/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/systemd/system.slice", "/sys/fs/cgroup/unified/system.slice"}) {
    const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(slice), ::closedir);
    for (const dirent* entry = folder ? ::readdir(folder.get()) : nullptr; entry != nullptr; entry = ::readdir(folder.get())) {
      const std::string found = entry->d_name;
      const bool is_a_run = found.starts_with(kScopePrefix) || found == ResumeUnit::kName;
      if (name.empty() ? !is_a_run : found != name) continue;
      for (const std::string& word : words(read_file(fmt::format("{}/{}/cgroup.procs", slice, found)).value_or(""))) {
        const pid_t pid = std::atoi(word.c_str());
        if (pid > 1 && pid != ::getpid()) others.push_back(pid);
      }
    }
  }
  return others;
}

/// `properties`: of each its name, type and value.
Subprocess scope_call(const std::string& name, const std::string& description, const std::vector<pid_t>& processes,
                      const std::vector<std::vector<std::string>>& properties) {
  Subprocess call;
  call.argv = {"busctl",
               "call",
               "--quiet",
               "org.freedesktop.systemd1",
               "/org/freedesktop/systemd1",
               "org.freedesktop.systemd1.Manager",
               "StartTransientUnit",
               "ssa(sv)a(sa(sv))",
               name,
               "replace",
               fmt::format("{}", properties.size() + 2),
               "Description",
               "s",
               description,
               "PIDs",
               "au",
               fmt::format("{}", processes.size())};
  for (const pid_t process : processes) call.argv.push_back(fmt::format("{}", process));
  for (const auto& property : properties) call.argv.insert(call.argv.end(), property.begin(), property.end());
  call.argv.emplace_back("0");
  call.timeout = std::chrono::seconds(5);
  return call;
}

}  // namespace

void leave_login_session(const std::string& run, const std::vector<pid_t>& steps) {
  if (::geteuid() != 0 || !path_exists("/run/systemd/system") || is_in_resume_service()) return;
  std::vector<pid_t> processes = steps;
  processes.push_back(::getpid());
  // A scope has no main process that could be told alone to end. So all of them are told by a signal that means nothing to any but the
  // runner, and the runner sees to the rest: dpkg must not be hurried. The disks stay mounted until it is done.
  std::vector<std::vector<std::string>> properties = {{"KillMode", "s", "control-group"},
                                                      {"KillSignal", "i", fmt::format("{}", kLeaveSignal)},
                                                      {"TimeoutStopUSec", "t", "600000000"},
                                                      {"After", "as", "1", "local-fs.target"},
                                                      {"OOMPolicy", "s", "continue"}};
  const auto start = [&] { return run_subprocess(scope_call(own_scope(), "gpustrap run " + run, processes, properties)); };
  Result<SubprocessResult> called = start();
  // From systemd 251 on a scope ends with the first of its processes that runs out of memory, unless told otherwise; before, it has no
  // such property, refuses the whole call for it, and goes on without being told.
  properties.pop_back();
  if (called && called->exit_code != 0) called = start();
  if (!called)
    log_note("no scope: " + called.error().sentence());
  else if (called->exit_code != 0)
    log_note("no scope: " + first_line(called->err));
  else
    await_move(steps);
}

void end_leftovers() {
  for (const int number : {SIGTERM, SIGKILL}) {
    std::vector<pid_t> others = others_in_units(own_scope());
    for (const pid_t pid : others) ::kill(pid, number);
    const auto deadline = std::chrono::steady_clock::now() + kLeftoverGrace;
    for (; !others.empty() && std::chrono::steady_clock::now() < deadline; others = others_in_units(own_scope()))
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

void release_leftovers() {
  const std::vector<pid_t> others = ::geteuid() == 0 ? others_in_units("") : std::vector<pid_t>();
  if (others.empty()) return;
  const Result<SubprocessResult> called =
      run_subprocess(scope_call(fmt::format("gpustrap-left-{}.scope", ::getpid()), "left running by a run of gpustrap", others, {}));
  if (!called || called->exit_code != 0) log_note("what steps have left running stays in the scope of its run");
}

void forget_run_units() {
  if (::geteuid() != 0 || !path_exists("/run/systemd/system")) return;
  const std::string kScopes = "gpustrap-run-*.scope";
  const Result<SubprocessResult> known = systemctl({"list-units", "--all", "--no-legend", "--plain", ResumeUnit::kName, kScopes});
  if (!known || known->exit_code != 0) return;
  const std::vector<std::string> lines = split(known->out, '\n');
  const bool any = std::any_of(lines.begin(), lines.end(),
                               [](const std::string& line) { return !trim(line).empty() && line.find(own_scope()) == std::string::npos; });
  if (!any) return;
  for (std::vector<std::string> asked : {std::vector<std::string>{"daemon-reload"}, {"reset-failed", ResumeUnit::kName, kScopes}}) {
    const Result<SubprocessResult> done = systemctl(asked);
    // A unit that it has just forgotten by itself is not loaded any more.
    if (!done) log_note("systemctl " + asked.front() + ": " + done.error().sentence());
  }
}

}  // namespace gpustrap
