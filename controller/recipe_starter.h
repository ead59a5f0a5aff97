#pragma once

#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace gpustrap {

/// controller/starter.yaml as it was built in; NAME stands for the recipe's name.
[[nodiscard]] std::string_view starter_text();

/// A recipe to begin with, named after `path`.
[[nodiscard]] std::string starter_recipe(const std::string& path);

/// Makes a new file. An error (usage) where anything has that name: what stands there is never overwritten.
[[nodiscard]] Result<void> write_new_file(const std::string& path, std::string_view content);

}  // namespace gpustrap
