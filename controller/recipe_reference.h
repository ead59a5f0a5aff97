#pragma once

#include <string>

#include "agent/base/result.h"

namespace gpustrap {

/// Markdown of all kinds, the common fields, `when` and the facts, made from the specs themselves. The part of docs/recipes.md below its
/// marker; a test compares them.
[[nodiscard]] std::string recipe_reference();

/// What `recipe explain KIND` prints: one kind as plain text. An unknown kind is an error (usage) with the nearest.
[[nodiscard]] Result<std::string> explain_kind(const std::string& name);

}  // namespace gpustrap
