#include "agent/pci_functions.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>

#include "agent/base/file.h"
#include "agent/base/text.h"

namespace gpustrap {
namespace {

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> handle(::opendir(directory.c_str()), ::closedir);
  if (!handle) return names;
  while (const dirent* entry = ::readdir(handle.get())) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// "0x10de" -> "10de".
std::string hex_of(const std::string& path) {
  const std::string content = read_file(path, 4096).value_or("");
  const std::string_view text = trim(content);
  return std::string(text.starts_with("0x") ? text.substr(2) : text);
}

std::string name_behind(const std::string& link) {
  std::array<char, 256> target{};
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  if (length <= 0) return {};
  const std::string path(target.data(), static_cast<std::size_t>(length));
  return path.substr(path.rfind('/') + 1);
}

}  // namespace

std::vector<PciFunction> pci_functions(const std::string& root, std::string_view vendor) {
  std::vector<PciFunction> functions;
  const std::string devices = root + "/sys/bus/pci/devices";
  for (const std::string& address : names_in(devices)) {
    const std::string device = devices + "/" + address;
    if (hex_of(device + "/vendor") != vendor) continue;  // a host has dozens, and each file is a system call or four
    functions.push_back({address, std::string(vendor), hex_of(device + "/device"), hex_of(device + "/class"),
                         hex_of(device + "/subsystem_device"), name_behind(device + "/driver")});
  }
  return functions;
}

}  // namespace gpustrap
