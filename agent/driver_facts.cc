#include "agent/driver_facts.h"

#include "agent/base/file.h"
#include "agent/pci_functions.h"

namespace gpustrap {
namespace {

/// The variable of the UEFI specification: four bytes of attributes, then 1 where Secure Boot is on.
bool secure_boot_is_on(const std::string& root) {
  const auto variable = read_file(root + "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", 64);
  return variable && variable->size() == 5 && (*variable)[4] == 1;
}

}  // namespace

DriverFacts gather_driver_facts(const std::string& root) {
  DriverFacts facts;
  for (const PciFunction& function : pci_functions(root)) {
    // Class 0680 is a bridge of no other kind; NVIDIA's only ones are NVSwitches.
    if (function.vendor == "10de" && function.device_class.starts_with("0680")) ++facts.nvswitches;
  }
  facts.secure_boot = secure_boot_is_on(root);
  return facts;
}

CompatQuestion question_of(const Facts& facts, const DriverFacts& driver) {
  CompatQuestion question = question_of(facts);
  question.nvswitches = driver.nvswitches;
  question.secure_boot = driver.secure_boot;
  return question;
}

}  // namespace gpustrap
