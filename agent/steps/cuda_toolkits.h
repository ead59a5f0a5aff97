#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"

// The toolkits below /usr/local, and which of them is the default: /usr/local/cuda leads there, by itself or through Debian's alternatives.

namespace gpustrap {

/// "/usr/local/cuda-12.4".
[[nodiscard]] std::string toolkit_folder(const std::string& version);
/// Versions ("12.4") of the toolkits that have a compiler, oldest first.
[[nodiscard]] Result<std::vector<std::string>> installed_toolkits(const Host& host);
/// The version that /usr/local/cuda leads to; empty where it leads to none. Error unsafe where a folder of its own stands there.
[[nodiscard]] Result<std::string> default_toolkit(const Host& host);
/// Makes /usr/local/cuda lead to this version, as the distribution's packages do where they have registered it.
[[nodiscard]] Result<void> set_default_toolkit(Host& host, StepLog& log, const std::string& version);
/// What the compiler says it is: "12.4" of "release 12.4, V12.4.131"; an error where it does not run.
[[nodiscard]] Result<std::string> compiler_version(const Host& host, const std::string& version);

}  // namespace gpustrap
