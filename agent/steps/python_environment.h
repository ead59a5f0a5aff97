#pragma once

#include <map>
#include <optional>
#include <string>

#include "agent/base/result.h"
#include "agent/host.h"

namespace gpustrap {

/// What can be seen of a virtual environment, or one of conda, without starting Python.
struct PythonEnvironment {
  std::string path;
  std::string version;      ///< "3.11.2", from pyvenv.cfg or conda's records
  std::string interpreter;  ///< path/bin/python
  bool system_site_packages = false;
};
/// nullopt where there is none at `path`; an error where the one there is broken (its interpreter is gone), with what to do.
[[nodiscard]] Result<std::optional<PythonEnvironment>> find_python_environment(const Host& host, const std::string& path);

/// Installed packages by normalised name, from the metadata folders of its site-packages.
[[nodiscard]] Result<std::map<std::string, std::string>> installed_python_packages(const Host& host, const PythonEnvironment& environment);

}  // namespace gpustrap
