#pragma once

#include <string>

#include "agent/host.h"
#include "agent/steps/python_environment.h"

namespace gpustrap {

// pip before 25.1 begins a cut download anew, and before 24.1 shows none of it to a program. Debian 12 and Ubuntu 24.04 have such pips.

/// The version of pip in a virtual environment, after it was brought to one that resumes downloads, where `version` does not. What comes in
/// the way is said and no error: the old pip works. An environment of conda keeps the pip that conda has installed.
[[nodiscard]] std::string with_resuming_pip(Host& host, StepLog& log, const std::string& folder, const PythonEnvironment& environment,
                                            const std::string& version);

/// Adds to `pip install` what this version of pip has for downloads: going on where one was cut, and progress, which goes to `log`.
void add_download_options(const std::string& version, Command& install, StepLog& log);

}  // namespace gpustrap
