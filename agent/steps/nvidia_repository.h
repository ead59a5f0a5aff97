#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/protocol/compat_resolver.h"
#include "agent/protocol/fields.h"

namespace gpustrap {

/// Where NVIDIA's packages for a release come from, as a recipe may change it.
struct NvidiaRepository {
  RepositoryAnswer answer;
  std::string base;           ///< URL that all releases are below
  std::optional<Url> mirror;  ///< in place of `base`
  std::string fingerprint;    ///< in place of the answer's
  [[nodiscard]] std::string url() const;
};

/// Adds it to the host's sources, with the one key that it is trusted by, and above the distribution's own packages; does nothing where it
/// is in place. An error names the key where that is not the right one.
[[nodiscard]] Result<void> add_nvidia_repository(Host& host, StepLog& log, const NvidiaRepository& repository);

}  // namespace gpustrap
