#include "agent/removal.h"

#include <fcntl.h>
#include <unistd.h>

#include <climits>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/file.h"
#include "agent/protocol/json.h"

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
    if (Result<void> gone = remove_tree_at(AT_FDCWD, path.get<std::string>()); !gone) return fail(std::move(gone).error());
  }
  return removed;
}

}  // namespace gpustrap
