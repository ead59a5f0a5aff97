#pragma once

#include <string>

namespace gpustrap {

/// The root of the sources. Compiled into one file alone, so that what a compiler cache has of the others fits every check-out.
[[nodiscard]] std::string source_folder();

}  // namespace gpustrap
