#include "controller/host_text.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "agent/protocol/compat_lookup.h"
#include "controller/compat_loader.h"

namespace gpustrap {
namespace {

/// The name of a GPU before any driver is there to ask. Memory is added where the name does not tell it.
std::string gpu_name(const PciGpu& gpu) {
  static const Result<Compat> compat = load_builtin_compat();
  const GpuRow* row = compat ? find_gpu(*compat, gpu) : nullptr;
  if (row == nullptr) return fmt::format("NVIDIA GPU (10de:{})", gpu.device);
  const std::string memory = memory_text(*row);
  return memory.empty() || row->name.find("GB") != std::string::npos ? row->name : row->name + " " + memory;
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
