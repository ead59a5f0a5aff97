#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/protocol/compat.h"
#include "agent/protocol/facts.h"

// Finding rows in the tables of compat.h. All pointers are into `compat`.

namespace gpustrap {

/// The row of a PCI function; nullptr where its device, or its device with this subsystem, is in no row.
[[nodiscard]] const GpuRow* find_gpu(const Compat& compat, const PciGpu& gpu);
/// The GPUs of a machine by their rows, in order, with how many there are of each. GPUs that are in no row are left out.
struct GpuKind {
  const GpuRow* row;
  std::int64_t count;
};
[[nodiscard]] std::vector<GpuKind> gpu_kinds(const Compat& compat, const std::vector<PciGpu>& gpus);
/// The row of a name that people use: "t4", "Tesla T4", "1eb8", "10de:1eb8"; in any case of letters. nullptr where there is none.
[[nodiscard]] const GpuRow* find_gpu_by_name(const Compat& compat, std::string_view name);
/// What a machine with this GPU shows on its PCI bus.
[[nodiscard]] PciGpu pci_example(const GpuRow& row);
/// The names that people may use, one a row.
[[nodiscard]] std::vector<std::string> gpu_names(const Compat& compat);

/// The row of "12.4" (its updates too: "12.4.1"); nullptr where there is none.
[[nodiscard]] const CudaRow* find_cuda(const Compat& compat, std::string_view version);
/// Oldest driver on which all of this CUDA works, by its minor-version compatibility; empty where its major version has none.
[[nodiscard]] std::string minor_version_floor(const Compat& compat, const CudaRow& cuda);
/// The release's row; nullptr where NVIDIA's repository does not serve it.
[[nodiscard]] const DistributionRow* find_distribution(const Compat& compat, std::string_view os, std::string_view version);

/// First CUDA that knows this GPU; empty where every CUDA of the table does.
[[nodiscard]] std::string first_cuda_of(const Compat& compat, const GpuRow& row);
/// Oldest driver that knows this GPU; empty where every driver of the table does.
[[nodiscard]] std::string first_driver_of(const Compat& compat, const GpuRow& row);

/// A driver as far as it is known: a version that is loaded, or a branch of which the newest version would be installed.
struct KnownDriver {
  std::string text;
  bool whole_branch = false;
  /// Whether it is `oldest` or newer; a branch is, where any of its versions is.
  [[nodiscard]] bool reaches(std::string_view oldest) const;
  [[nodiscard]] std::string name() const { return whole_branch ? "driver branch " + text : "driver " + text; }
};

/// "580" of "580.65.06".
[[nodiscard]] std::string branch_of(std::string_view driver);
/// The branches that are taken where nobody names one, best first.
[[nodiscard]] std::vector<std::string> picked_branches(const Compat& compat);
/// All numbers of driver branches that the tables name, oldest first.
[[nodiscard]] std::vector<std::string> known_branches(const Compat& compat);
/// "sm_75" of "7.5".
[[nodiscard]] std::string sm_name(std::string_view compute);
/// "Tesla T4 (sm_75)".
[[nodiscard]] std::string label_of(const GpuRow& row);
/// "16 GB"; empty where the memory is not known.
[[nodiscard]] std::string memory_text(const GpuRow& row);
/// `text` with {branch} and the like filled in.
[[nodiscard]] std::string filled_in(std::string text, const std::vector<std::pair<std::string, std::string>>& values);

}  // namespace gpustrap
