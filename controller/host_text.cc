#include "controller/host_text.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace gpustrap {
namespace {

struct GpuModel {
  std::string_view device, name;
};

// Display names by PCI device id, for the screen only: before a driver is there nothing else knows them.
constexpr std::array kGpuModels = {
    GpuModel{"118a", "GRID K520 4 GB"},     GpuModel{"102d", "Tesla K80 12 GB"},    GpuModel{"13f2", "Tesla M60 8 GB"},
    GpuModel{"1db1", "Tesla V100 16 GB"},   GpuModel{"1db5", "Tesla V100 32 GB"},   GpuModel{"1eb8", "Tesla T4 16 GB"},
    GpuModel{"2237", "NVIDIA A10G 24 GB"},  GpuModel{"1eb4", "NVIDIA T4G 16 GB"},   GpuModel{"27b8", "NVIDIA L4 24 GB"},
    GpuModel{"26b9", "NVIDIA L40S 48 GB"},  GpuModel{"2c3a", "RTX PRO 4500 32 GB"}, GpuModel{"2bb5", "RTX PRO 6000 96 GB"},
    GpuModel{"20b0", "NVIDIA A100 40 GB"},  GpuModel{"20b2", "NVIDIA A100 80 GB"},  GpuModel{"2330", "NVIDIA H100 80 GB"},
    GpuModel{"2335", "NVIDIA H200 141 GB"}, GpuModel{"2901", "NVIDIA B200"},        GpuModel{"3182", "NVIDIA B300"},
    GpuModel{"2941", "NVIDIA GB200"},       GpuModel{"31c2", "NVIDIA GB300"},
};

std::string gpu_name(const PciGpu& gpu) {
  const auto* const model = std::find_if(kGpuModels.begin(), kGpuModels.end(), [&](const GpuModel& m) { return m.device == gpu.device; });
  return model == kGpuModels.end() ? fmt::format("NVIDIA GPU (10de:{})", gpu.device) : std::string(model->name);
}

std::string os_text(const Facts& facts) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kNames = {
      {{"ubuntu", "Ubuntu"}, {"debian", "Debian"}, {"amzn", "Amazon Linux"}}};
  for (const auto& [id, name] : kNames) {
    if (facts.os == id && !facts.os_version.empty()) return fmt::format("{} {}", name, facts.os_version);
  }
  return facts.os_name.empty() ? facts.os : facts.os_name;
}

}  // namespace

std::string describe_gpus(const Facts& facts) {
  if (facts.gpus.empty()) return "";
  const std::string name = gpu_name(facts.gpus.front());
  const bool all_alike =
      std::all_of(facts.gpus.begin(), facts.gpus.end(), [&](const PciGpu& gpu) { return gpu.device == facts.gpus.front().device; });
  if (facts.gpus.size() == 1) return name;
  return all_alike ? fmt::format("{} x {}", facts.gpus.size(), name) : fmt::format("{} and {} other GPUs", name, facts.gpus.size() - 1);
}

std::vector<std::string> describe_host(const Facts& facts) {
  std::vector<std::string> parts;
  for (std::string part : {os_text(facts), describe_gpus(facts), facts.cloud_type}) {
    if (!part.empty()) parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace gpustrap
