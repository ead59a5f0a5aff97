#pragma once

#include <string>

#include "agent/base/result.h"
#include "agent/protocol/recipe.h"
#include "controller/options.h"

namespace gpustrap {

// The step `idle_stop` by options of the command line, for recipes that do not have it, or not as it is wanted today.

[[nodiscard]] inline bool wants_guard(const GuardWish& wish) { return !wish.idle_stop.empty() || !wish.budget.empty(); }

/// Whether the step takes what the options say. Error usage, which names the option.
[[nodiscard]] Result<void> check_guard(const GuardWish& wish);

/// Has a recipe stop its host as wished: a step of its own kind takes what is said over what it says; without one it is added, and needs
/// no other step: a run that fails leaves no machine on for ever.
void add_guard(Recipe& recipe, const GuardWish& wish);

/// As the user would type it again, with a blank before; empty where nothing is wished.
[[nodiscard]] std::string words_of(const GuardWish& wish);

/// "stops by itself after 30m without use, and once its hours have cost 5 USD"; empty where nothing is wished.
[[nodiscard]] std::string guard_text(const GuardWish& wish);

}  // namespace gpustrap
