#include "agent/removal.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/file.h"
#include "agent/identity.h"
#include "agent/idle_guard.h"
#include "agent/protocol/json.h"
#include "agent/resume_unit.h"

namespace gpustrap {
namespace {

/// The folder of this very agent, where it is one of ours ("…/gpustrap/agent-<sha256>"); empty otherwise.
std::string agent_folder() {
  std::string self(PATH_MAX, '\0');
  const ssize_t length = ::readlink("/proc/self/exe", self.data(), self.size());
  self.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
  const std::string folder = parent_of(self);
  return folder.ends_with("/gpustrap") && self.substr(folder.size()).starts_with("/agent-") ? folder : std::string();
}

std::vector<std::string> existing(const std::vector<std::string>& paths) {
  std::vector<std::string> found;
  for (const std::string& path : paths) {
    if (!path.empty() && path_exists(path)) found.push_back(path);
  }
  return found;
}

/// In the home of the login user: what their steps fetched and remember, and what an agent without root keeps. The folder itself may hold
/// tokens of notebooks, which are not ours to take.
std::vector<std::string> owned_by_login(const Identity& login) {
  if (!login.home.starts_with('/')) return {};
  const std::string state = user_paths(login.home).state;
  return existing({login.home + "/.cache/gpustrap", state + "/archives", state + "/downloads", state + "/cache", state + "/runs",
                   state + "/run", state + "/run.lock", state + "/agent.log", login.home + "/.local/lib/gpustrap"});
}

/// Outside the home, the running agent's file last; nothing where the agent works without root. The state as a whole, but for the services
/// that recipes installed where there is no systemd: they run on.
std::vector<std::string> owned_by_system(const AgentPaths& paths, const Identity& login) {
  if (paths.state == user_paths(login.home).state) return {};
  std::vector<std::string> owned = {paths.runtime};
  const bool serves = path_exists(paths.services());
  if (!serves) owned.push_back(paths.state);
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(serves ? ::opendir(paths.state.c_str()) : nullptr, ::closedir);
  while (const dirent* entry = entries ? ::readdir(entries.get()) : nullptr) {
    const std::string_view name = entry->d_name;
    const std::string path = paths.state + "/" + entry->d_name;
    if (name != "." && name != ".." && path != paths.services()) owned.push_back(path);
  }
  owned.push_back(agent_folder());
  return existing(owned);
}

Result<void> remove_paths(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    if (Result<void> gone = remove_tree_at(AT_FDCWD, path); !gone) return gone;
  }
  return {};
}

/// With the user's own rights, so that a link planted in a home leads root nowhere.
Result<void> remove_as_login(const Identity& login, const std::vector<std::string>& paths) {
  if (paths.empty()) return {};
  const pid_t child = ::fork();
  if (child < 0) return fail(errno_error(errno, "starting the removal"));
  if (child == 0) {
    if (::geteuid() == 0 && !become(login)) ::_exit(1);
    if (!remove_paths(paths)) ::_exit(1);
    ::rmdir(user_paths(login.home).state.c_str());  // where nothing else is in it
    ::_exit(0);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  const std::vector<std::string> left = existing(paths);
  if (left.empty()) return {};
  return fail(ErrorCode::permission, login.name + " could not remove " + left.front(),
              "look at who owns it, remove it by hand, and run the same command again");
}

Json description(std::vector<std::string> system, const std::vector<std::string>& login, const std::vector<std::string>& units) {
  system.insert(system.begin(), login.begin(), login.end());
  return Json{{"paths", std::move(system)}, {"units", units}};
}

/// Units of gpustrap itself; what steps installed is the user's.
std::vector<std::string> own_units(const AgentPaths& paths) {
  std::vector<std::string> units;
  if (paths.state != system_paths().state) return units;
  if (ResumeUnit().is_there()) units.emplace_back(ResumeUnit::kName);
  if (idle_guard_is_there()) units.insert(units.end(), {kIdleTimer, kIdleService});
  return units;
}

}  // namespace

Json removal_list(const AgentPaths& paths, const Identity& login) {
  return description(owned_by_system(paths, login), owned_by_login(login), own_units(paths));
}

Result<Json> remove_all(const AgentPaths& paths, const Identity& login) {
  const std::vector<std::string> system = owned_by_system(paths, login);
  const std::vector<std::string> home = owned_by_login(login);
  const std::vector<std::string> units = own_units(paths);
  if (!units.empty()) {
    if (Result<void> gone = ResumeUnit().remove(); !gone) return fail(std::move(gone).error());
    if (Result<void> gone = idle_guard_is_there() ? remove_idle_guard(paths) : Result<void>(); !gone) return fail(std::move(gone).error());
  }
  if (Result<void> gone = remove_as_login(login, home); !gone) return fail(std::move(gone).error());
  if (Result<void> gone = remove_paths(system); !gone) return fail(std::move(gone).error());
  return description(system, home, units);
}

}  // namespace gpustrap
