#include "agent/run_units.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
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

std::string own_scope() { return fmt::format("gpustrap-run-{}.scope", ::getpid()); }

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

/// Where the kernel lists the processes of this runner's scope; empty where it has none.
std::string scope_processes() {
  const Result<std::string> groups = read_file("/proc/self/cgroup");
  for (const std::string& line : split(groups.value_or(""), '\n')) {
    if (!line.ends_with("/" + own_scope())) continue;
    const std::string path = line.substr(line.find('/')) + "/cgroup.procs";
    for (const std::string_view tree : {"/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"}) {
      if (path_exists(std::string(tree) + path)) return std::string(tree) + path;
    }
  }
  return {};
}

/// `more`: one property, as name, type and value, or none.
Subprocess scope_call(const std::string& run, const std::vector<pid_t>& steps, const std::vector<std::string>& more) {
  Subprocess call;
  // Named by the process: the scope of a runner that died may be kept up by what its steps left behind.
  call.argv = {"busctl",
               "call",
               "--quiet",
               "org.freedesktop.systemd1",
               "/org/freedesktop/systemd1",
               "org.freedesktop.systemd1.Manager",
               "StartTransientUnit",
               "ssa(sv)a(sa(sv))",
               own_scope(),
               "replace",
               more.empty() ? "6" : "7",
               "PIDs",
               "au",
               fmt::format("{}", steps.size() + 1),
               fmt::format("{}", ::getpid())};
  for (const pid_t step : steps) call.argv.push_back(fmt::format("{}", step));
  for (const std::string& word : {std::string("Description"), std::string("s"), "gpustrap run " + run}) call.argv.push_back(word);
  // A scope has no main process that could be told alone to end. So all of them are told by a signal that means nothing to any but the
  // runner, and the runner sees to the rest: dpkg must not be hurried. The disks stay mounted until it is done.
  for (const std::string& word : {std::string("KillSignal"), std::string("i"), fmt::format("{}", kLeaveSignal)}) call.argv.push_back(word);
  for (const char* word : {"KillMode", "s", "control-group", "TimeoutStopUSec", "t", "600000000", "After", "as", "1", "local-fs.target"})
    call.argv.emplace_back(word);
  call.argv.insert(call.argv.end(), more.begin(), more.end());
  call.argv.emplace_back("0");
  call.timeout = std::chrono::seconds(5);
  return call;
}

}  // namespace

void leave_login_session(const std::string& run, const std::vector<pid_t>& steps) {
  if (::geteuid() != 0 || !path_exists("/run/systemd/system") || is_in_resume_service()) return;
  // From systemd 251 on a scope ends with the first of its processes that runs out of memory, unless told otherwise; before, it has no
  // such property, refuses the whole call for it, and goes on without being told.
  Result<SubprocessResult> called = run_subprocess(scope_call(run, steps, {"OOMPolicy", "s", "continue"}));
  if (called && called->exit_code != 0) called = run_subprocess(scope_call(run, steps, {}));
  if (!called)
    log_note("no scope: " + called.error().sentence());
  else if (called->exit_code != 0)
    log_note("no scope: " + first_line(called->err));
  else
    await_move(steps);
}

void end_leftovers() {
  const std::string list = scope_processes();
  if (list.empty()) return;
  for (const int number : {SIGTERM, SIGKILL}) {
    const auto deadline = std::chrono::steady_clock::now() + kLeftoverGrace;
    for (bool told = false; std::chrono::steady_clock::now() < deadline; told = true) {
      bool any = false;
      for (const std::string& word : words(read_file(list).value_or(""))) {
        const pid_t pid = std::atoi(word.c_str());
        if (pid <= 1 || pid == ::getpid()) continue;
        any = true;
        if (!told) ::kill(pid, number);
      }
      if (!any) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
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
