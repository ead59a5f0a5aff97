#pragma once

#include <string>

#include "agent/protocol/facts.h"

namespace gpustrap {

/// Reads what this host is from /etc, /proc and /sys below `root` (a test gives another one). Never fails: what cannot be read stays empty.
/// Starts no process.
[[nodiscard]] Facts gather_facts(const std::string& root = "");

}  // namespace gpustrap
