#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gpustrap {

/// One function on the PCI bus, as sysfs shows it before any driver exists. All ids are hexadecimal without 0x, lower case.
struct PciFunction {
  std::string address;       ///< "0000:00:1e.0"
  std::string vendor;        ///< "10de" is NVIDIA
  std::string device;        ///< "1eb8"
  std::string device_class;  ///< "030200"
  std::string subsystem;     ///< subsystem device
  std::string driver;        ///< bound kernel driver, empty where none is
};
/// The functions of a vendor's devices below `root` (a test gives another one), by address; none where there is no PCI bus.
[[nodiscard]] std::vector<PciFunction> pci_functions(const std::string& root, std::string_view vendor);

}  // namespace gpustrap
