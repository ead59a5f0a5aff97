#include "agent/protocol/facts.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/members.h"

namespace gpustrap {
namespace {

/// A version part as number and the text behind it: "04" is {"4", ""}, "1ubuntu2" is {"1", "ubuntu2"}.
std::pair<std::string_view, std::string_view> number_and_rest(std::string_view part) {
  const std::size_t digits = std::min(part.find_first_not_of("0123456789"), part.size());
  std::string_view number = part.substr(0, digits);
  number.remove_prefix(std::min(number.find_first_not_of('0'), number.size()));
  return {number, part.substr(digits)};
}

int compare_parts(std::string_view a, std::string_view b) {
  const auto [a_number, a_rest] = number_and_rest(a);
  const auto [b_number, b_rest] = number_and_rest(b);
  if (a_number.size() != b_number.size()) return a_number.size() < b_number.size() ? -1 : 1;
  const int numbers = a_number.compare(b_number);
  const int order = numbers != 0 ? numbers : a_rest.compare(b_rest);
  return order < 0 ? -1 : (order > 0 ? 1 : 0);
}

}  // namespace

Json to_json(const Facts& facts) {
  Json gpus = Json::array();
  for (const PciGpu& gpu : facts.gpus) {
    gpus.push_back({{"address", gpu.address}, {"device", gpu.device}, {"subsystem", gpu.subsystem}, {"driver", gpu.driver}});
  }
  return {{"hostname", facts.hostname},     {"os", facts.os},
          {"os_version", facts.os_version}, {"os_name", facts.os_name},
          {"codename", facts.codename},     {"arch", facts.arch},
          {"kernel", facts.kernel},         {"boot_id", facts.boot_id},
          {"uptime_s", facts.uptime_s},     {"cpus", facts.cpus},
          {"memory", facts.memory},         {"disk_free", facts.disk_free},
          {"systemd", facts.systemd},       {"container", facts.container},
          {"cloud_type", facts.cloud_type}, {"gpus", std::move(gpus)},
          {"driver", facts.driver}};
}

Result<Facts> facts_from_json(const Json& document) {
  Facts facts;
  Members members(document, "facts");
  members.may("hostname", facts.hostname);
  members.may("os", facts.os);
  members.may("os_version", facts.os_version);
  members.may("os_name", facts.os_name);
  members.may("codename", facts.codename);
  members.may("arch", facts.arch);
  members.may("kernel", facts.kernel);
  members.may("boot_id", facts.boot_id);
  members.may("uptime_s", facts.uptime_s);
  members.may("cpus", facts.cpus);
  members.may("memory", facts.memory);
  members.may("disk_free", facts.disk_free);
  members.may("systemd", facts.systemd);
  members.may("container", facts.container);
  members.may("cloud_type", facts.cloud_type);
  members.may("driver", facts.driver);
  members.each("gpus", Members::Wanted::optional, [&](const Json& item) {
    PciGpu gpu;
    Members of_gpu(item, "a GPU of facts");
    of_gpu.may("address", gpu.address);
    of_gpu.may("device", gpu.device);
    of_gpu.may("subsystem", gpu.subsystem);
    of_gpu.may("driver", gpu.driver);
    facts.gpus.push_back(std::move(gpu));
    return of_gpu.error();
  });
  if (members.error()) return fail(*members.error());
  return facts;
}

std::optional<Json> fact(const Facts& facts, std::string_view name) {
  if (name == "gpu.count") return Json(facts.gpus.size());
  if (name == "gpu.present") return Json(!facts.gpus.empty());
  const auto& names = fact_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) return std::nullopt;
  return to_json(facts).at(std::string(name));
}

const std::vector<std::string>& fact_names() {
  static const std::vector<std::string> names = {"hostname", "os",        "os_version", "os_name", "codename",  "arch",
                                                 "kernel",   "boot_id",   "uptime_s",   "cpus",    "memory",    "disk_free",
                                                 "systemd",  "container", "cloud_type", "driver",  "gpu.count", "gpu.present"};
  return names;
}

int compare_versions(std::string_view a, std::string_view b) {
  const std::vector<std::string> a_parts = split(a, '.');
  const std::vector<std::string> b_parts = split(b, '.');
  for (std::size_t i = 0; i < std::max(a_parts.size(), b_parts.size()); ++i) {
    const int order = compare_parts(i < a_parts.size() ? a_parts[i] : "", i < b_parts.size() ? b_parts[i] : "");
    if (order != 0) return order;
  }
  return 0;
}

Result<bool> version_matches(std::string_view version, std::string_view condition) {
  std::string_view wanted = trim(condition);
  std::string_view comparison = "==";
  for (const std::string_view candidate : {">=", "<=", "==", ">", "<"}) {
    if (wanted.substr(0, candidate.size()) != candidate) continue;
    comparison = candidate;
    wanted = trim(wanted.substr(candidate.size()));
    break;
  }
  const bool is_version =
      !wanted.empty() && std::isdigit(static_cast<unsigned char>(wanted[0])) != 0 &&
      wanted.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.+-~_") == std::string_view::npos;
  if (!is_version)
    return fail(ErrorCode::recipe, fmt::format("`{}` is not a comparison such as >=22.04", first_line(strip_control(condition), 60)));
  // Rolling and testing releases have no number; they are newer than any release that has one.
  const int order = version.empty() ? 1 : compare_versions(version, wanted);
  if (comparison == ">=") return order >= 0;
  if (comparison == "<=") return order <= 0;
  if (comparison == ">") return order > 0;
  if (comparison == "<") return order < 0;
  return order == 0;
}

}  // namespace gpustrap
