#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gpustrap {

/// The overview: `gpustrap --help`.
[[nodiscard]] std::string_view overview_help();
/// The lines shown under "Examples" of one verb ("up", "recipe lint"); never empty for a verb that exists.
[[nodiscard]] std::string examples_of(std::string_view verb);
/// All verbs, in the order of the overview.
[[nodiscard]] const std::vector<std::string>& verb_names();

}  // namespace gpustrap
