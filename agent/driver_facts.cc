#include "agent/driver_facts.h"

#include "agent/base/text.h"

namespace gpustrap {
namespace {

std::string text_of(const Host& host, const std::string& path) {
  const Result<std::string> text = host.read(path);
  return text ? std::string(trim(*text)) : std::string();
}

/// The variable of the UEFI specification: four bytes of attributes, then 1 where Secure Boot is on.
bool secure_boot_is_on(const Host& host) {
  const Result<std::string> variable = host.read("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c");
  return variable && variable->size() == 5 && (*variable)[4] == 1;
}

}  // namespace

std::string driver_version_in(std::string_view text) {
  for (const std::string& word : words(first_line(text, 400))) {
    const bool version = word.find('.') != std::string::npos && word.find_first_not_of("0123456789.") == std::string::npos;
    if (version) return word;
  }
  return {};
}

DriverFacts gather_driver_facts(const Host& host) {
  DriverFacts facts;
  constexpr const char* kDevices = "/sys/bus/pci/devices";
  if (const Result<std::vector<std::string>> functions = host.list(kDevices)) {
    for (const std::string& address : *functions) {
      const std::string folder = std::string(kDevices) + "/" + address;
      // Class 0680 is a bridge of no other kind; NVIDIA's only ones are NVSwitches.
      if (text_of(host, folder + "/vendor") == "0x10de" && text_of(host, folder + "/class").starts_with("0x0680")) ++facts.nvswitches;
    }
  }
  facts.secure_boot = secure_boot_is_on(host);
  facts.loaded = driver_version_in(text_of(host, "/proc/driver/nvidia/version"));
  return facts;
}

CompatQuestion question_of(const Facts& facts, const DriverFacts& driver) {
  CompatQuestion question = question_of(facts);
  question.nvswitches = driver.nvswitches;
  question.secure_boot = driver.secure_boot;
  question.driver = driver.loaded;
  return question;
}

}  // namespace gpustrap
