#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/steps/step.h"

namespace gpustrap {

/// A package that comes as a file of its own.
struct WantedDeb {
  std::vector<std::string> urls;  ///< the first, then its mirrors; empty where `path` is given
  std::string path;               ///< absolute, on the host
  std::string sha256;             ///< always with `urls`
  std::string package, version;   ///< what it holds, where the recipe says so
};

struct DebName {
  std::string package, version;
};

/// What the file holds: as the recipe says, as the file on the host says, or as remembered from its installation. Nullopt where
/// that is not known before it is fetched.
[[nodiscard]] Result<std::optional<DebName>> name_of_deb(const Host& host, const WantedDeb& wanted);

/// Satisfied where that package is installed at that version, or a newer one: its repository may have upgraded it since.
[[nodiscard]] Result<StepState> check_deb(const Host& host, const WantedDeb& wanted);

/// What install_deb() would fetch.
[[nodiscard]] std::optional<FetchRequest> deb_download(const Host& host, const WantedDeb& wanted);

/// Fetches it, checks it, and installs it with what it depends on. Remembers what it holds.
[[nodiscard]] Result<DebName> install_deb(Host& host, StepLog& log, const WantedDeb& wanted);

}  // namespace gpustrap
