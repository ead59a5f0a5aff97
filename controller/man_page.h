#pragma once

#include <string>

namespace gpustrap {

/// gpustrap(1): every verb with its options, in the man(7) macros. Made of what the command line is declared to take.
[[nodiscard]] std::string man_page();

}  // namespace gpustrap
