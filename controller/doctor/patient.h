#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/protocol/compat.h"
#include "agent/protocol/compat_lookup.h"
#include "agent/protocol/facts.h"
#include "controller/doctor/evidence.h"

namespace gpustrap {

/// One line of nvidia-smi's answer.
struct SmiGpu {
  std::string index, name, address, driver, memory, persistence, compute_mode;
};

/// An installed package, as dpkg has it.
struct InstalledPackage {
  std::string state;  ///< "ii", "hi", "iF"
  std::string name, version;
};

/// Whether the network keeps a clock.
enum class ClockKept { yes, no, unknown };

/// A host as the evidence shows it: what several looks ask for, read once.
struct Patient {
  const Evidence& evidence;
  const Compat& compat;
  std::int64_t now = 0;  ///< seconds since 1970 by the controller's clock, when the probe began

  Facts facts{};  ///< system, kernel, GPUs, loaded driver
  std::size_t nvswitches = 0;
  bool is_root = false;  ///< whether the probe had root's rights
  bool wsl = false;
  std::string user{}, home{};
  std::optional<std::int64_t> clock{};        ///< of the host
  std::optional<std::int64_t> third_clock{};  ///< what a server said of the time, where the two differ
  ClockKept own_clock = ClockKept::unknown;   ///< this machine's
  bool may_mount = true;                      ///< whether root has CAP_SYS_ADMIN there, as far as is known
  bool nvidia_loaded = false, nouveau_loaded = false;
  bool loaded_is_open = false;
  std::string module_version{}, module_licence{};  ///< on the disk, for the running kernel; empty where there is none
  std::vector<std::string> other_kernels{};        ///< that have the module
  std::vector<SmiGpu> answering{};
  std::vector<InstalledPackage> packages{};
  /// Of the sections that this was read from, those that every conclusion rests on, and those of the GPU and its driver: unanswered.
  std::vector<std::string> doubts{}, gpu_doubts{};

  [[nodiscard]] bool has_gpu() const { return !facts.gpus.empty(); }
  /// Whether there is a driver that can be asked: module, or from outside.
  [[nodiscard]] std::vector<std::string> kernel_log(std::string_view what) const;
  [[nodiscard]] const InstalledPackage* package(std::string_view name) const;
  /// Whether a package with that prefix is installed.
  [[nodiscard]] const InstalledPackage* package_like(std::string_view prefix) const;
  /// "linux-image-aws" of "6.8.0-1021-aws": what kernels of this flavour are called.
  [[nodiscard]] std::string kernel_flavour() const;
};

[[nodiscard]] Patient examine(const Evidence& evidence, const Compat& compat, std::int64_t now, ClockKept own_clock = ClockKept::unknown);

/// Lines of `lines` that contain `what`, in any case of letters.
[[nodiscard]] std::vector<std::string> matching(const std::vector<std::string>& lines, std::string_view what);
[[nodiscard]] bool contains(std::string_view text, std::string_view what);
/// The first dotted number in `text` that stands by itself: "580.95.05"; empty where there is none.
[[nodiscard]] std::string version_in(std::string_view text);
[[nodiscard]] std::optional<std::uint64_t> number_of(std::string_view text);

}  // namespace gpustrap
