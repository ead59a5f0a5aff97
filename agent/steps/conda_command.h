#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"

namespace gpustrap {

/// Runs PREFIX/bin/conda with these arguments, --json among them. What it fetches is shown as progress, the packages that it put
/// in and took out as lines. A channel that does not answer is asked again twice: what had come is kept by conda itself.
/// Errors say what conda said: network, not_found (a package or channel), no_space, recipe (what excludes each other, terms that
/// nobody has accepted), permission, command.
[[nodiscard]] Result<void> run_conda(Host& host, StepLog& log, const std::string& prefix, const std::vector<std::string>& arguments);

/// The error in the JSON that conda ended with, turned into why and what to do; `said` is its standard error.
[[nodiscard]] Error conda_error(const std::string& json, const std::string& said);

}  // namespace gpustrap
