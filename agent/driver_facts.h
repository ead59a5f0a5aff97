#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/host.h"
#include "agent/protocol/compat_resolver.h"
#include "agent/protocol/facts.h"

namespace gpustrap {

/// What decides about a driver beside the facts. Read where a step asks for it alone: every run gathers facts, few install a driver.
struct DriverFacts {
  std::uint64_t nvswitches = 0;  ///< NVSwitch functions on the PCI bus
  bool secure_boot = false;      ///< the firmware lets signed modules in alone
  std::string loaded;            ///< version of the driver that is loaded now; the facts are older than this run's own steps
};
/// Never fails: what cannot be read counts as not there.
[[nodiscard]] DriverFacts gather_driver_facts(const Host& host);
/// The resolver's question for a host; what is wanted there is left to say.
[[nodiscard]] CompatQuestion question_of(const Facts& facts, const DriverFacts& driver);

/// The version in /proc/driver/nvidia/version: "535.161.08" of "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.08  …" (the open
/// module says "… Open Kernel Module for x86_64  580.65.06  …"); empty where there is none.
[[nodiscard]] std::string driver_version_in(std::string_view text);

}  // namespace gpustrap
