#include "agent/token.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "agent/protocol/json.h"
#include "agent/run_store.h"

namespace gpustrap {
namespace {

/// Opens with the rights of `user`; back to root's own afterwards.
UniqueFd open_as(const Identity& user, const std::string& path) {
  const bool switched = ::geteuid() == 0 && user.uid != 0 && ::setegid(user.gid) == 0 && ::seteuid(user.uid) == 0;
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  const int reason = errno;
  if (switched && (::seteuid(0) != 0 || ::setegid(0) != 0)) ::_exit(1);
  errno = reason;
  return file;
}

}  // namespace

std::string token_path(const std::string& home, std::string_view service) {
  return fmt::format("{}/.local/state/gpustrap/jupyter-{}.token", home, service);
}

std::vector<NotebookService> notebook_services(const AgentPaths& paths) {
  std::vector<NotebookService> services;
  for (const std::string& id : runs_newest_first(paths)) {
    const Result<RunDescription> run = read_run(paths, id);
    if (!run) continue;  // one that cannot be read hides none of the others
    for (const StepEntry& step : run->recipe.steps) {
      if (step.kind != StepKind::jupyter) continue;
      std::vector<FieldProblem> problems;
      const StepSpec spec = read_step_spec(step.kind, *step.spec, "", Placeholders::allowed, problems);
      const auto& jupyter = std::get<JupyterSpec>(spec);
      const bool known =
          std::any_of(services.begin(), services.end(), [&](const NotebookService& other) { return other.name == jupyter.name; });
      if (known) continue;
      std::string dir = jupyter.dir.text;
      if (dir.starts_with('~')) dir.replace(0, 1, run->login.home);
      services.push_back({jupyter.name, jupyter.port.number, jupyter.is_public, run->login, std::move(dir)});
    }
  }
  return services;
}

Result<Json> jupyter_token(const AgentPaths& paths, const Identity& login, const std::string& service) {
  std::optional<Error> unreadable;
  for (const NotebookService& notebook : notebook_services(paths)) {
    if (!service.empty() && notebook.name != service) continue;
    const std::string path = token_path(login.home, notebook.name);
    const UniqueFd file = open_as(login, path);
    if (!file.valid()) {
      if (!unreadable) unreadable = errno_error(errno, "reading " + path);
      continue;
    }
    Result<std::string> token = read_all(file.get(), 4096);
    if (!token) return fail(std::move(token).error().in("reading " + path));
    return Json{{"token", std::string(trim(*token))}, {"port", notebook.port}, {"service", notebook.name}, {"tls", notebook.is_public}};
  }
  if (unreadable) return fail(*std::move(unreadable));
  return fail(
      ErrorCode::not_found,
      service.empty() ? "no run set up a notebook on this host" : fmt::format("no run set up the notebook {} on this host", service),
      "run a recipe with one, for instance: gpustrap up jupyter HOST");
}

}  // namespace gpustrap
