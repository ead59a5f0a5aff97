#pragma once

#include <string>
#include <vector>

#include "agent/protocol/facts.h"
#include "agent/protocol/step_spec.h"

namespace gpustrap {

/// What a `require` asks for and this machine's facts do not have: "this is Debian 12, ubuntu >= 22.04 wanted". Free disk space is not
/// among the facts that count: it changes while a recipe runs.
[[nodiscard]] std::vector<std::string> unmet_demands(const RequireSpec& spec, const Facts& facts);

}  // namespace gpustrap
