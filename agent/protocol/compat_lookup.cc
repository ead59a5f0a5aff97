#include "agent/protocol/compat_lookup.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

bool has(const StringList& list, std::string_view item) {
  return std::find(list.items.begin(), list.items.end(), item) != list.items.end();
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

/// The first row that `fits`, or nullptr.
template <class Row, class Fits> const Row* first_of(const std::vector<Row>& rows, Fits fits) {
  const auto found = std::find_if(rows.begin(), rows.end(), fits);
  return found == rows.end() ? nullptr : &*found;
}

}  // namespace

const GpuRow* find_gpu(const Compat& compat, const PciGpu& gpu) {
  const GpuRow* special = first_of(
      compat.gpus, [&](const GpuRow& row) { return has(row.ids, lower(gpu.device)) && has(row.subsystems, lower(gpu.subsystem)); });
  if (special != nullptr) return special;
  return first_of(compat.gpus, [&](const GpuRow& row) { return has(row.ids, lower(gpu.device)) && row.subsystems.items.empty(); });
}

std::vector<GpuKind> gpu_kinds(const Compat& compat, const std::vector<PciGpu>& gpus) {
  std::vector<GpuKind> kinds;
  for (const PciGpu& gpu : gpus) {
    const GpuRow* row = find_gpu(compat, gpu);
    if (row == nullptr) continue;
    const auto found = std::find_if(kinds.begin(), kinds.end(), [&](const GpuKind& kind) { return kind.row == row; });
    if (found != kinds.end())
      ++found->count;
    else
      kinds.push_back({row, 1});
  }
  return kinds;
}

const GpuRow* find_gpu_by_name(const Compat& compat, std::string_view name) {
  std::string wanted = lower(trim(name));
  if (wanted.starts_with("10de:")) wanted = wanted.substr(5);
  if (const GpuRow* row = find_gpu(compat, {"", wanted, "", ""})) return row;
  return first_of(compat.gpus, [&](const GpuRow& row) {
    const std::string whole = lower(row.name);
    return has(row.aliases, wanted) || whole == wanted || whole == "nvidia " + wanted || whole == "tesla " + wanted;
  });
}

PciGpu pci_example(const GpuRow& row) {
  return {"", row.ids.items.empty() ? "" : row.ids.items.front(), row.subsystems.items.empty() ? "" : row.subsystems.items.front(), ""};
}

std::vector<std::string> gpu_names(const Compat& compat) {
  std::vector<std::string> names;
  for (const GpuRow& row : compat.gpus) names.push_back(row.aliases.items.empty() ? row.name : row.aliases.items.front());
  return names;
}

const CudaRow* find_cuda(const Compat& compat, std::string_view version) {
  const std::vector<std::string> parts = split(version, '.');
  if (parts.size() < 2) return nullptr;
  return first_of(compat.cuda, [&](const CudaRow& row) { return row.version == parts[0] + "." + parts[1]; });
}

std::string minor_version_floor(const Compat& compat, const CudaRow& cuda) {
  const MajorRow* major = first_of(compat.majors, [&](const MajorRow& row) { return row.major == branch_of(cuda.version); });
  return major == nullptr ? "" : major->driver;
}

const DistributionRow* find_distribution(const Compat& compat, std::string_view os, std::string_view version) {
  return first_of(compat.distributions, [&](const DistributionRow& row) { return row.os == os && row.version == version; });
}

std::string first_cuda_of(const Compat& compat, const GpuRow& row) {
  const ArchitectureRow* found = first_of(compat.architectures, [&](const ArchitectureRow& one) { return one.compute == row.compute; });
  return found == nullptr ? "" : found->first_cuda;
}

std::string first_driver_of(const Compat& compat, const GpuRow& row) {
  if (!row.first_driver.empty()) return row.first_driver;
  const std::string first = first_cuda_of(compat, row);
  const CudaRow* cuda = first.empty() ? nullptr : find_cuda(compat, first);
  return cuda == nullptr ? "" : cuda->driver;
}

bool KnownDriver::reaches(std::string_view oldest) const {
  return compare_versions(text, whole_branch ? branch_of(oldest) : std::string(oldest)) >= 0;
}

std::string branch_of(std::string_view driver) { return std::string(driver.substr(0, driver.find('.'))); }

std::vector<std::string> picked_branches(const Compat& compat) {
  std::vector<const BranchRow*> picks;
  for (const BranchRow& row : compat.branches) {
    if (row.pick > 0) picks.push_back(&row);
  }
  std::sort(picks.begin(), picks.end(), [](const BranchRow* a, const BranchRow* b) { return a->pick < b->pick; });
  std::vector<std::string> branches;
  for (const BranchRow* row : picks) branches.push_back(row->branch);
  return branches;
}

std::vector<std::string> known_branches(const Compat& compat) {
  std::vector<std::string> branches;
  for (const BranchRow& row : compat.branches) branches.push_back(row.branch);
  for (const CudaRow& row : compat.cuda) branches.push_back(branch_of(row.driver));
  std::sort(branches.begin(), branches.end(), [](const auto& a, const auto& b) { return compare_versions(a, b) < 0; });
  branches.erase(std::unique(branches.begin(), branches.end()), branches.end());
  return branches;
}

std::string sm_name(std::string_view compute) {
  std::string name = "sm_";
  for (const char c : compute) name += c == '.' ? "" : std::string(1, c);
  return name;
}

std::string label_of(const GpuRow& row) { return fmt::format("{} ({})", row.name, sm_name(row.compute)); }

std::string memory_text(const GpuRow& row) { return row.memory.bytes == 0 ? "" : fmt::format("{} GB", row.memory.bytes / 1'000'000'000U); }

std::string filled_in(std::string text, const std::vector<std::pair<std::string, std::string>>& values) {
  for (const auto& [name, value] : values) {
    const std::string mark = "{" + name + "}";
    for (std::size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + value.size()))
      text.replace(at, mark.size(), value);
  }
  return text;
}

}  // namespace gpustrap
