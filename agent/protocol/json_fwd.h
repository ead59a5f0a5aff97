#pragma once

#include <nlohmann/json_fwd.hpp>

namespace gpustrap {

/// Keeps the order of keys, so that a recipe, an event and its digest read as they were written.
using Json = nlohmann::ordered_json;

}  // namespace gpustrap
