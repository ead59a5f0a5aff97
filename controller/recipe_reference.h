#pragma once

#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/protocol/step_spec.h"

namespace gpustrap {

/// Markdown of all kinds, the common fields, `when` and the facts, made from the specs themselves. The part of docs/recipes.md below its
/// marker; a test compares them.
[[nodiscard]] std::string recipe_reference();

/// What `recipe explain KIND` prints: one kind as plain text. An unknown kind is an error (usage) with the nearest.
[[nodiscard]] Result<std::string> explain_kind(const std::string& name);
/// The same for programs: one line of JSON (docs/json.md).
[[nodiscard]] std::string kind_json(StepKind kind);

/// A step of that kind as a recipe has it, indented like an item of `steps`.
[[nodiscard]] std::string_view example_of_kind(StepKind kind);

}  // namespace gpustrap
