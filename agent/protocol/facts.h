#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/json_fwd.h"

namespace gpustrap {

/// One NVIDIA PCI function of display class (0300 or 0302), seen in sysfs before any driver exists.
struct PciGpu {
  std::string address;    ///< "0000:00:1e.0"
  std::string device;     ///< four hex digits, "1eb8"
  std::string subsystem;  ///< four hex digits of the subsystem device
  std::string driver;     ///< bound kernel driver ("nvidia", "nouveau"), empty where none
};

/// Read-only truths about a host, gathered by the agent at the start of every run.
struct Facts {
  std::string hostname;
  std::string os;          ///< ID of os-release: "ubuntu"
  std::string os_version;  ///< VERSION_ID: "24.04"; empty for a rolling or testing release
  std::string os_name;     ///< PRETTY_NAME
  std::string codename;    ///< VERSION_CODENAME
  std::string arch;        ///< uname -m: "x86_64", "aarch64"
  std::string kernel;
  std::string boot_id;
  std::uint64_t uptime_s = 0;
  std::uint64_t cpus = 0;
  std::uint64_t memory = 0;     ///< bytes
  std::uint64_t disk_free = 0;  ///< bytes free to root on /
  bool systemd = false;         ///< systemd is PID 1
  bool container = false;
  std::string cloud_type;  ///< instance type from DMI ("g4dn.xlarge") or empty
  std::vector<PciGpu> gpus;
  std::string driver;  ///< loaded NVIDIA driver version or empty
};

[[nodiscard]] Json to_json(const Facts& facts);
/// Missing members keep their defaults; a wrong type is an error (protocol).
[[nodiscard]] Result<Facts> facts_from_json(const Json& document);
/// Value of "gpu.count", "os", "memory"…, the part behind `facts.`; nullopt for a name that does not exist.
[[nodiscard]] std::optional<Json> fact(const Facts& facts, std::string_view name);
/// All names that fact() knows, for error messages and documentation.
[[nodiscard]] const std::vector<std::string>& fact_names();

/// -1, 0, 1 for dotted version numbers compared part by part: "22.04" < "24.04", "9" < "12".
[[nodiscard]] int compare_versions(std::string_view a, std::string_view b);
/// `condition` is ">=22.04", ">= 22.04", "<24", "==12", or a bare version that must be equal.
/// An error (recipe) for anything else.
[[nodiscard]] Result<bool> version_matches(std::string_view version, std::string_view condition);

}  // namespace gpustrap
