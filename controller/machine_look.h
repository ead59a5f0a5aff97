#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/facts.h"

namespace gpustrap {

// What a host is and does just now, asked of its own programs: nothing of gpustrap's need be there, and nothing is written.

/// One GPU as nvidia-smi tells it; sizes in bytes.
struct GpuLook {
  std::string name;
  std::optional<std::uint64_t> memory_used, memory_total;  ///< none where it does not know
  std::optional<unsigned> utilisation;                     ///< percent
};
/// A file system that `/` or the login's home lies on.
struct DiskLook {
  std::string path;  ///< where it is mounted
  std::uint64_t free = 0, total = 0;
};
struct ServiceLook {
  std::string name;
  std::string state;                 ///< as `systemctl is-active` says: active, failed, inactive; empty where there is no systemd
  std::optional<bool> is_listening;  ///< on its port
};
struct MachineLook {
  Facts facts;  ///< as far as a shell can tell them
  std::array<double, 3> load{};
  std::uint64_t memory_available = 0;
  std::vector<DiskLook> disks;
  std::vector<GpuLook> gpus;
  std::string gpu_trouble;  ///< what nvidia-smi says in place of GPUs
  std::vector<ServiceLook> services;
  bool was_here = false;  ///< there are files of gpustrap's
  std::string idle;       ///< what the guard of `idle_stop` tells everybody, as it stands there; empty where there is none
};

/// The command that looks, for any login shell. `services`: names of units and their ports; those that are no plain names are left out.
[[nodiscard]] std::string look_text(const std::vector<std::pair<std::string, std::uint16_t>>& services);
/// What it prints, which is a host's word: numbers are bounded, names printable, lists short. What is not understood is passed over.
/// Error protocol where it is something else altogether.
[[nodiscard]] Result<MachineLook> read_look(std::string_view text);

}  // namespace gpustrap
