#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/compat.h"
#include "agent/protocol/compat_resolver.h"
#include "agent/protocol/facts.h"
#include "controller/recipe_loader.h"

namespace gpustrap {

/// A machine that nobody has rented yet, as far as somebody said what it is.
struct ImaginedMachine {
  bool gpus_known = false, os_known = false;
  Facts facts;
  std::string cuda, branch;  ///< what is wanted there instead of what the recipe says; empty: as the recipe says
};
/// From `--gpu t4 --gpu 8xh100`, or `--gpu none`, `--os ubuntu:24.04`, `--arch aarch64`. Errors are `usage`, with the names there are.
[[nodiscard]] Result<ImaginedMachine> imagine_machine(const Compat& compat, const std::vector<std::string>& gpus, const std::string& os,
                                                      const std::string& arch);

struct Explanation {
  std::string text;
  std::string document;     ///< the same for programs: one line of JSON (docs/json.md)
  bool would_fail = false;  ///< a `require` or a GPU makes it impossible there
};
/// What a recipe would do there, step by step, with the reasons for driver, CUDA and builds of frameworks. Lines are broken at `columns`;
/// 0 leaves them whole.
[[nodiscard]] Explanation explain_recipe(const LoadedRecipe& recipe, const Compat& compat, const ImaginedMachine& machine,
                                         std::size_t columns);

}  // namespace gpustrap
