#include "agent/host_power.h"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>
#include <utility>

#include "agent/base/file.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"

namespace gpustrap {
namespace {

constexpr auto kAskLimit = std::chrono::seconds(30);
constexpr auto kSyncLimit = std::chrono::seconds(20);

Result<SubprocessResult> systemctl(std::vector<std::string> words) {
  Subprocess call;
  call.argv = {"systemctl"};
  call.argv.insert(call.argv.end(), words.begin(), words.end());
  call.timeout = kAskLimit;
  return run_subprocess(call);
}

Result<void> ask_for(const std::string& verb, const std::string& message, std::vector<std::string> options = {}) {
  sync_disks();
  options.insert(options.end(), {"--message=" + message, verb});
  Result<SubprocessResult> asked = systemctl(std::move(options));
  // Releases before 226 have no --message, those before 248 no --check-inhibitors.
  if (asked && asked->exit_code != 0) asked = systemctl({verb});
  if (!asked) return fail(std::move(asked).error());
  if (asked->exit_code != 0) {
    return fail(ErrorCode::command, "systemctl " + verb + ": " + first_line(strip_control(last_lines(asked->err, 1))),
                "look at `systemctl list-jobs` and `systemd-inhibit --list` on the host");
  }
  return {};
}

}  // namespace

void sync_disks() {
  // In a process of its own: no signal ends one that waits for such a disk.
  const pid_t child = ::fork();
  if (child < 0) return ::sync();
  if (child == 0) {
    ::sync();
    ::_exit(0);
  }
  const auto deadline = std::chrono::steady_clock::now() + kSyncLimit;
  while (::waitpid(child, nullptr, WNOHANG) == 0 && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

bool host_is_shutting_down() {
  if (!path_exists("/run/systemd/system")) return false;
  const Result<SubprocessResult> state = systemctl({"is-system-running"});
  return state && trim(state->out) == "stopping";
}

Result<void> restart_host(const std::string& message) { return ask_for("reboot", message); }

Result<void> stop_host(const std::string& message) {
  // Whoever stops a host has looked who keeps it on. From 257 on systemd refuses root as well while somebody does.
  return ask_for("poweroff", message, {"--check-inhibitors=no"});
}

}  // namespace gpustrap
