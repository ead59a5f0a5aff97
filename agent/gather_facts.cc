#include "agent/gather_facts.h"

#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/driver_facts.h"
#include "agent/pci_functions.h"

namespace gpustrap {
namespace {

std::string text_of(const std::string& path) {
  const Result<std::string> content = read_file(path, 1U << 20U);
  return content ? std::string(trim(*content)) : std::string();
}

/// Value of `key` in os-release, unquoted.
std::string os_release_value(const std::string& text, std::string_view key) {
  for (const std::string& line : split(text, '\n')) {
    if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != '=') continue;
    std::string_view value = trim(std::string_view(line).substr(key.size() + 1));
    if (value.size() >= 2 && (value.front() == '"' || value.front() == '\'') && value.back() == value.front()) {
      value = value.substr(1, value.size() - 2);
    }
    return std::string(value);
  }
  return {};
}

std::vector<PciGpu> gpus_on_pci(const std::string& root) {
  std::vector<PciGpu> gpus;
  for (const PciFunction& function : pci_functions(root, "10de")) {
    // Class 0300 is a VGA controller, 0302 a 3D controller; NVSwitches (0680) and audio functions are neither.
    const bool display = function.device_class.starts_with("0300") || function.device_class.starts_with("0302");
    if (display) gpus.push_back({function.address, function.device, function.subsystem, function.driver});
  }
  return gpus;
}

}  // namespace

Facts gather_facts(const std::string& root) {
  Facts facts;
  utsname system{};
  if (::uname(&system) == 0) {
    facts.hostname = system.nodename;
    facts.arch = system.machine;
    facts.kernel = system.release;
  }
  std::string os_release = text_of(root + "/etc/os-release");
  if (os_release.empty()) os_release = text_of(root + "/usr/lib/os-release");
  facts.os = os_release_value(os_release, "ID");
  facts.os_version = os_release_value(os_release, "VERSION_ID");
  facts.os_name = os_release_value(os_release, "PRETTY_NAME");
  facts.codename = os_release_value(os_release, "VERSION_CODENAME");
  facts.boot_id = text_of(root + "/proc/sys/kernel/random/boot_id");
  facts.uptime_s = std::strtoull(text_of(root + "/proc/uptime").c_str(), nullptr, 10);
  facts.cpus = static_cast<std::uint64_t>(std::max(::sysconf(_SC_NPROCESSORS_ONLN), 0L));
  for (const std::string& line : split(text_of(root + "/proc/meminfo"), '\n')) {
    if (line.starts_with("MemTotal:")) facts.memory = std::strtoull(line.c_str() + 9, nullptr, 10) * 1024;
  }
  struct statvfs disk {};
  if (::statvfs((root + "/").c_str(), &disk) == 0) { facts.disk_free = static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize; }
  facts.systemd = path_exists(root + "/run/systemd/system");
  facts.container =
      path_exists(root + "/run/systemd/container") || path_exists(root + "/.dockerenv") || path_exists(root + "/run/.containerenv");
  if (text_of(root + "/sys/devices/virtual/dmi/id/sys_vendor") == "Amazon EC2") {
    facts.cloud_type = text_of(root + "/sys/devices/virtual/dmi/id/product_name");
  }
  facts.gpus = gpus_on_pci(root);
  facts.driver = driver_version_in(text_of(root + "/proc/driver/nvidia/version"));
  return facts;
}

}  // namespace gpustrap
