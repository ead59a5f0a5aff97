#pragma once

#include <string>

namespace gpustrap {

/// JSON Schema (draft 7, which editors know) of recipes, made from the specs of all kinds: what may stand where, with the reference's
/// words for hovering. It knows a file by itself: ids, `needs`, includes and what is behind `${{ … }}` are the loader's to check.
[[nodiscard]] std::string recipe_schema();

}  // namespace gpustrap
