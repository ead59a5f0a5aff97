#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

/// -1, 0, 1 by PEP 440: "1.0.dev1" < "1.0a2" < "1.0rc1" < "1.0" < "1.0.post1". A local part ("2.1.0+cu126") counts last.
[[nodiscard]] int compare_python_versions(std::string_view a, std::string_view b);

/// A requirement as pip takes it: `name`, `name[extra]>=1.2,<2`, `name @ URL`.
struct PythonRequirement {
  std::string name;      ///< normalised: lower case, runs of -_. as one -
  std::string text;      ///< as written
  std::string versions;  ///< ">=1.2,<2", empty for any
};
[[nodiscard]] std::string normalized_package_name(std::string_view name);
/// Errors (recipe): no name, or an environment marker (`; python_version < "3.11"`), which only pip can decide.
[[nodiscard]] Result<PythonRequirement> parse_python_requirement(std::string_view text);
/// Whether an installed version satisfies ">=1.2,<2", "==1.*", "~=2.1", "!=3"; an error (recipe) for an operator that is none.
[[nodiscard]] Result<bool> python_version_satisfies(std::string_view version, std::string_view versions);

}  // namespace gpustrap
