#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

/// A package as `conda install` takes it on its command line: `name`, `name=1.2`, `name==1.2.3`, `name>=1,<2`, `name=1.2=*cuda*`,
/// `channel::name`.
struct CondaRequirement {
  std::string name;
  std::string text;  ///< as written
  /// Any of these, each a list of conditions as pip writes them: "==1.2.*" for =1.2, which means 1.2 and everything that begins with it.
  /// Empty: any version.
  std::vector<std::string> versions;
  std::string build;  ///< a pattern with *; empty for any
};

/// Error (recipe) for what is none: an option, a name with capital letters, the brackets of [version=…], which only conda understands.
[[nodiscard]] Result<CondaRequirement> parse_conda_requirement(std::string_view text);

}  // namespace gpustrap
