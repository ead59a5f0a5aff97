#include "agent/removal.h"

#include <unistd.h>

#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "agent/base/file.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

/// The folder of this very agent, where it is one of ours ("…/gpustrap/agent-<sha256>"); empty otherwise.
std::string agent_folder() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const bool ours = !error && self.filename().string().starts_with("agent-") && self.parent_path().filename() == "gpustrap";
  return ours ? self.parent_path().string() : std::string();
}

std::vector<std::string> owned_paths(const AgentPaths& paths) {
  std::vector<std::string> owned;
  for (const std::string& path : {paths.runtime, paths.state, agent_folder()}) {
    if (!path.empty() && path_exists(path)) owned.push_back(path);
  }
  return owned;
}

}  // namespace

Json removal_list(const AgentPaths& paths) {
  return Json{{"paths", owned_paths(paths)}, {"units", Json::array()}};
}

Result<Json> remove_all(const AgentPaths& paths) {
  Json removed = removal_list(paths);
  for (const Json& path : removed["paths"]) {
    std::error_code error;
    std::filesystem::remove_all(path.get<std::string>(), error);
    if (error) return fail(errno_error(error.value(), "removing " + path.get<std::string>()));
  }
  return removed;
}

}  // namespace gpustrap
