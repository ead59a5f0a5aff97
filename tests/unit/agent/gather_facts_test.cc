#include "agent/gather_facts.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace gpustrap {
namespace {

class GatherFactsTest : public ::testing::Test {
 protected:
  GatherFactsTest() {
    std::string name = ::testing::TempDir() + "factsXXXXXX";
    root_ = ::mkdtemp(name.data());
  }
  ~GatherFactsTest() override { std::filesystem::remove_all(root_); }

  void put(const std::string& path, const std::string& content) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << content;
  }
  void put_pci(const std::string& address, const std::string& vendor, const std::string& device_class, const std::string& device) {
    const std::string folder = "/sys/bus/pci/devices/" + address;
    put(folder + "/vendor", vendor + "\n");
    put(folder + "/class", device_class + "\n");
    put(folder + "/device", device + "\n");
    put(folder + "/subsystem_device", "0x12a2\n");
  }

  std::string root_;
};

TEST_F(GatherFactsTest, ReadsTheReleaseWithAndWithoutQuotes) {
  put("/etc/os-release", "PRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\nVERSION_ID=\"24.04\"\nID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n");
  const Facts facts = gather_facts(root_);
  EXPECT_EQ(facts.os, "ubuntu");
  EXPECT_EQ(facts.os_version, "24.04");
  EXPECT_EQ(facts.codename, "noble");
  EXPECT_EQ(facts.os_name, "Ubuntu 24.04.1 LTS");
}

TEST_F(GatherFactsTest, FindsGpusOnPciBeforeAnyDriverExistsAndNothingElseOfTheVendor) {
  put_pci("0000:00:1e.0", "0x10de", "0x030200", "0x1eb8");
  put_pci("0000:00:1f.0", "0x10de", "0x068000", "0x22a3");  // an NVSwitch
  put_pci("0000:00:1f.1", "0x10de", "0x040300", "0x10f8");  // the audio function of a card
  put_pci("0000:00:02.0", "0x1013", "0x030000", "0x00b8");  // another vendor's display
  const Facts facts = gather_facts(root_);
  ASSERT_EQ(facts.gpus.size(), 1U);
  EXPECT_EQ(facts.gpus[0].device, "1eb8");
  EXPECT_EQ(facts.gpus[0].driver, "");
  EXPECT_EQ(facts.driver, "");
}

TEST_F(GatherFactsTest, ReadsTheLoadedDriverOfBothKindsOfModule) {
  put("/proc/driver/nvidia/version",
      "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.08  Wed Feb 14 01:16:00 UTC 2024\nGCC version: 12\n");
  EXPECT_EQ(gather_facts(root_).driver, "535.161.08");
  put("/proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n");
  EXPECT_EQ(gather_facts(root_).driver, "580.65.06");
}

TEST_F(GatherFactsTest, KnowsAnEc2InstanceAndAContainer) {
  put("/sys/devices/virtual/dmi/id/sys_vendor", "Amazon EC2\n");
  put("/sys/devices/virtual/dmi/id/product_name", "g4dn.xlarge\n");
  put("/run/systemd/container", "systemd-nspawn\n");
  const Facts facts = gather_facts(root_);
  EXPECT_EQ(facts.cloud_type, "g4dn.xlarge");
  EXPECT_TRUE(facts.container);
  EXPECT_FALSE(facts.systemd);
}

TEST_F(GatherFactsTest, LeavesEmptyWhatIsNotThere) {
  const Facts facts = gather_facts(root_);
  EXPECT_EQ(facts.os, "");
  EXPECT_TRUE(facts.gpus.empty());
  EXPECT_GT(facts.cpus, 0U);
}

}  // namespace
}  // namespace gpustrap
