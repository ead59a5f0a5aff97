#pragma once

#include <cstdint>
#include <string>

#include "agent/protocol/compat_resolver.h"
#include "agent/protocol/facts.h"

namespace gpustrap {

/// What decides about a driver beside the facts. Read where a step asks for it alone: every run gathers facts, few install a driver.
struct DriverFacts {
  std::uint64_t nvswitches = 0;  ///< NVSwitch functions on the PCI bus
  bool secure_boot = false;      ///< the firmware lets signed modules in alone
};
/// Looks below `root` (a test gives another one). Never fails: what cannot be read counts as not there.
[[nodiscard]] DriverFacts gather_driver_facts(const std::string& root = "");
/// The resolver's question for a host; what is wanted there is left to say.
[[nodiscard]] CompatQuestion question_of(const Facts& facts, const DriverFacts& driver);

}  // namespace gpustrap
