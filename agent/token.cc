#include "agent/token.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

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

Result<Json> jupyter_token(const AgentPaths& paths, const Identity& login, const std::string& service) {
  const std::optional<std::string> newest = newest_run(paths);
  if (!newest) return fail(ErrorCode::not_found, "there was no run on this host yet");
  const Result<RunDescription> run = load_run(paths, *newest);
  if (!run) return fail(run.error());
  for (const StepEntry& step : run->recipe.steps) {
    if (step.kind != StepKind::jupyter) continue;
    std::vector<FieldProblem> problems;
    const StepSpec spec = read_step_spec(step.kind, *step.spec, "", Placeholders::allowed, problems);
    const auto& jupyter = std::get<JupyterSpec>(spec);
    if (!service.empty() && jupyter.name != service) continue;
    const std::string path = token_path(login.home, jupyter.name);
    const UniqueFd file = open_as(login, path);
    if (!file.valid()) return fail(errno_error(errno, "reading " + path));
    Result<std::string> token = read_all(file.get(), 4096);
    if (!token) return fail(std::move(token).error().in("reading " + path));
    return Json{{"token", std::string(trim(*token))}, {"port", jupyter.port.number}, {"service", jupyter.name}};
  }
  return fail(ErrorCode::not_found, fmt::format("the last run ({}) has no jupyter step", run->recipe.name), "run a recipe with one, for instance `gpustrap up jupyter HOST`");
}

}  // namespace gpustrap
