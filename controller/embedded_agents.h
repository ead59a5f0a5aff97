#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

/// A static agent for one architecture, as it travels.
struct EmbeddedAgent {
  std::string arch;    ///< as `uname -m` says it
  std::string digest;  ///< sha256 of the executable
  std::string_view gzipped;
};

/// The agents inside this program. Empty in a build that was configured without them.
[[nodiscard]] const std::vector<EmbeddedAgent>& embedded_agents();

/// What packaging/pack.sh had packed.
[[nodiscard]] Result<std::string> gunzip(std::string_view bytes);

}  // namespace gpustrap
