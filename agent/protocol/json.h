#pragma once

// Only .cc files include this; headers name the type by <nlohmann/json_fwd.hpp> through json_fwd.h.
#include <nlohmann/json.hpp>

#include "agent/protocol/json_fwd.h"
