#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/steps/nvidia_query.h"

namespace gpustrap {

/// Why nvidia-smi does not answer as it should, and what to do about it. It goes by the exit code first, then by what the kernel,
/// the PCI bus and the module files of this host show; the cause is a sentence, the hint a command where there is one.
[[nodiscard]] Error diagnose_nvidia_smi(const Host& host, const SmiAnswer& answer);

/// Why fewer GPUs answer than are wanted.
[[nodiscard]] Error diagnose_missing_gpus(const Host& host, const SmiAnswer& answer, std::int64_t wanted);

/// A line in which the driver reports a fault: "NVRM: Xid (PCI:0000:00:1e): 79, …".
struct Xid {
  int number = 0;
  std::string line;
};
/// All that the kernel has logged since boot, oldest first; empty as well where the log may not be read.
[[nodiscard]] std::vector<Xid> logged_xids(const Host& host);
/// "GPU has fallen off the bus" for 79; empty for one that says nothing about the hardware.
[[nodiscard]] std::string xid_meaning(int number);

}  // namespace gpustrap
