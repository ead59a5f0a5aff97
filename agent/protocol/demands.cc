#include "agent/protocol/demands.h"

#include <algorithm>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

/// "ubuntu >= 22.04" or "debian" against the host's release.
bool release_matches(const std::string& wanted, const Facts& facts) {
  const std::vector<std::string> parts = words(wanted);
  if (parts.empty() || parts[0] != facts.os) return false;
  if (parts.size() == 1) return true;
  std::string condition;
  for (std::size_t i = 1; i < parts.size(); ++i) condition += parts[i];
  return version_matches(facts.os_version, condition).value_or(false);
}

}  // namespace

std::vector<std::string> unmet_demands(const RequireSpec& spec, const Facts& facts) {
  std::vector<std::string> unmet;
  const auto any = [](const StringList& list, auto&& fits) {
    return list.items.empty() || std::any_of(list.items.begin(), list.items.end(), fits);
  };
  if (!any(spec.os, [&](const std::string& os) { return release_matches(os, facts); })) {
    unmet.push_back(fmt::format("this is {}, {} wanted", facts.os_name.empty() ? facts.os + " " + facts.os_version : facts.os_name,
                                join(spec.os.items, " or ")));
  }
  if (!any(spec.arch, [&](const std::string& arch) { return arch == facts.arch; })) {
    unmet.push_back(fmt::format("this is {}, {} wanted", facts.arch, join(spec.arch.items, " or ")));
  }
  if (spec.memory && facts.memory < spec.memory->bytes) {
    unmet.push_back(fmt::format("{} of memory, {} wanted", human_size(facts.memory), human_size(spec.memory->bytes)));
  }
  if (spec.cpus && facts.cpus < static_cast<std::uint64_t>(std::max<std::int64_t>(*spec.cpus, 0))) {
    unmet.push_back(fmt::format("{} processors, {} wanted", facts.cpus, *spec.cpus));
  }
  if (spec.gpu && *spec.gpu && facts.gpus.empty()) unmet.emplace_back("no NVIDIA GPU is on the PCI bus");
  if (spec.gpu && !*spec.gpu && !facts.gpus.empty()) unmet.emplace_back("an NVIDIA GPU is on the PCI bus, and none is wanted");
  if (spec.systemd && *spec.systemd != facts.systemd) {
    unmet.emplace_back(facts.systemd ? "systemd runs here, and is not wanted" : "systemd is not PID 1 here");
  }
  return unmet;
}

}  // namespace gpustrap
