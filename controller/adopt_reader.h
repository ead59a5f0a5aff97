#pragma once

#include <string>
#include <string_view>

#include "controller/adopt_state.h"

namespace gpustrap {

/// Goes through a script from its first line: what is understood becomes typed steps of `state`, everything else a `command` in its place.
/// `marks` names the folder of the files that say that a command has been done.
void read_script(std::string_view script, const std::string& marks, AdoptState& state);

}  // namespace gpustrap
