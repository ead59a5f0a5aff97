#pragma once

#include <map>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/host.h"

namespace gpustrap {

struct CondaPackage {
  std::string version, build;
};

/// The packages of a conda environment by name, from the names of its conda-meta/*.json: nothing is started, and none is read.
/// Empty where the folder is none.
[[nodiscard]] Result<std::map<std::string, CondaPackage>> conda_packages(const Host& host, const std::string& environment);

/// What stands where a conda is wanted. `cut`: an installation that did not come to its end; `foreign`: no conda at all.
enum class CondaPrefix { absent, empty, complete, cut, foreign };
[[nodiscard]] Result<CondaPrefix> look_at_conda_prefix(const Host& host, const std::string& prefix);

/// A note of what gpustrap has begun to do to a folder, for the run after one that was killed. It counts only for the very folder it
/// was written about (by inode): what somebody has put in its place since is not gpustrap's to clear away.
[[nodiscard]] std::string conda_work(const Host& host, const std::string& folder);  ///< "install", "update", "create"; or ""
/// The folder must exist.
[[nodiscard]] Result<void> begin_conda_work(Host& host, const std::string& folder, std::string_view doing);
[[nodiscard]] Result<void> end_conda_work(Host& host, const std::string& folder);

/// Removes everything in the folder, and the folder itself unless something is mounted there.
[[nodiscard]] Result<void> clear_folder(Host& host, const std::string& folder);

}  // namespace gpustrap
