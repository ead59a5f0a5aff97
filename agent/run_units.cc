#include "agent/run_units.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string_view>
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
               more.empty() ? "4" : "5",
               "PIDs",
               "au",
               fmt::format("{}", steps.size() + 1),
               fmt::format("{}", ::getpid())};
  for (const pid_t step : steps) call.argv.push_back(fmt::format("{}", step));
  for (const std::string& word : {std::string("Description"), std::string("s"), "gpustrap run " + run}) call.argv.push_back(word);
  for (const char* word : {"KillMode", "s", "mixed", "TimeoutStopUSec", "t", "600000000"}) call.argv.emplace_back(word);
  call.argv.insert(call.argv.end(), more.begin(), more.end());
  call.argv.emplace_back("0");
  call.timeout = std::chrono::seconds(5);
  return call;
}

}  // namespace

void leave_login_session(const std::string& run, const std::vector<pid_t>& steps) {
  if (::geteuid() != 0 || !path_exists("/run/systemd/system") || is_in_resume_service()) return;
  // From systemd 253 on a scope ends with the first of its processes that runs out of memory, unless told otherwise; before, it has no
  // such property, refuses the whole call for it, and goes on without being told.
  Result<SubprocessResult> called = run_subprocess(scope_call(run, steps, {"OOMPolicy", "s", "continue"}));
  if (called && called->exit_code != 0) called = run_subprocess(scope_call(run, steps, {}));
  if (!called)
    log_note("no scope: " + called.error().sentence());
  else if (called->exit_code != 0)
    log_note("no scope: " + first_line(called->err));
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
