#include "agent/driver_facts.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/fake_host.h"

namespace gpustrap {
namespace {

void put_pci(FakeHost& host, const std::string& address, const std::string& vendor, const std::string& device_class) {
  host.put("/sys/bus/pci/devices/" + address + "/vendor", vendor + "\n");
  host.put("/sys/bus/pci/devices/" + address + "/class", device_class + "\n");
}

void put_secure_boot(FakeHost& host, char value) {
  host.put("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", std::string("\x06\0\0\0", 4) + value);
}

TEST(DriverFacts, CountSwitchesOfTheVendorAlone) {
  FakeHost host;
  put_pci(host, "0000:00:1a.0", "0x10de", "0x068000");
  put_pci(host, "0000:00:1b.0", "0x10de", "0x068000");
  put_pci(host, "0000:00:1e.0", "0x10de", "0x030200");  // a GPU
  put_pci(host, "0000:00:01.0", "0x8086", "0x068000");  // another vendor's bridge
  EXPECT_EQ(gather_driver_facts(host).nvswitches, 2U);
}

TEST(DriverFacts, ReadWhetherSecureBootIsOn) {
  FakeHost host;
  EXPECT_FALSE(gather_driver_facts(host).secure_boot);  // no UEFI at all
  put_secure_boot(host, 0);
  EXPECT_FALSE(gather_driver_facts(host).secure_boot);
  put_secure_boot(host, 1);
  EXPECT_TRUE(gather_driver_facts(host).secure_boot);
}

TEST(DriverFacts, ReadTheLoadedVersionOfBothModules) {
  FakeHost host;
  EXPECT_EQ(gather_driver_facts(host).loaded, "");
  host.put("/proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.08  Sat Feb 17 22:55:48 UTC 2024\n");
  EXPECT_EQ(gather_driver_facts(host).loaded, "535.161.08");
  host.put("/proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n");
  EXPECT_EQ(gather_driver_facts(host).loaded, "580.65.06");
}

TEST(DriverFacts, BecomeAQuestion) {
  Facts facts;
  facts.os = "ubuntu";
  facts.gpus = {{"0000:00:1e.0", "1eb8", "12a2", ""}};
  const CompatQuestion question = question_of(facts, {6, true, "580.65.06"});
  EXPECT_EQ(question.gpus.size(), 1U);
  EXPECT_EQ(question.nvswitches, 6U);
  EXPECT_TRUE(question.secure_boot);
  EXPECT_EQ(question.driver, "580.65.06");
  EXPECT_EQ(question.cuda, "auto");
}

}  // namespace
}  // namespace gpustrap
