#include "agent/driver_facts.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace gpustrap {
namespace {

class DriverFactsTest : public ::testing::Test {
 protected:
  DriverFactsTest() {
    std::string name = ::testing::TempDir() + "driverfactsXXXXXX";
    root_ = ::mkdtemp(name.data());
  }
  ~DriverFactsTest() override { std::filesystem::remove_all(root_); }

  void put(const std::string& path, const std::string& content) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path, std::ios::binary) << content;
  }
  void put_pci(const std::string& address, const std::string& vendor, const std::string& device_class) {
    put("/sys/bus/pci/devices/" + address + "/vendor", vendor + "\n");
    put("/sys/bus/pci/devices/" + address + "/class", device_class + "\n");
  }
  void put_secure_boot(char value) {
    put("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", std::string("\x06\0\0\0", 4) + value);
  }

  std::string root_;
};

TEST_F(DriverFactsTest, CountsSwitchesOfTheVendorAlone) {
  put_pci("0000:00:1a.0", "0x10de", "0x068000");
  put_pci("0000:00:1b.0", "0x10de", "0x068000");
  put_pci("0000:00:1e.0", "0x10de", "0x030200");  // a GPU
  put_pci("0000:00:01.0", "0x8086", "0x068000");  // another vendor's bridge
  EXPECT_EQ(gather_driver_facts(root_).nvswitches, 2U);
}

TEST_F(DriverFactsTest, ReadsWhetherSecureBootIsOn) {
  EXPECT_FALSE(gather_driver_facts(root_).secure_boot);  // no UEFI at all
  put_secure_boot(0);
  EXPECT_FALSE(gather_driver_facts(root_).secure_boot);
  put_secure_boot(1);
  EXPECT_TRUE(gather_driver_facts(root_).secure_boot);
}

TEST_F(DriverFactsTest, BecomeAQuestion) {
  Facts facts;
  facts.os = "ubuntu";
  facts.gpus = {{"0000:00:1e.0", "1eb8", "12a2", ""}};
  const CompatQuestion question = question_of(facts, {6, true});
  EXPECT_EQ(question.gpus.size(), 1U);
  EXPECT_EQ(question.nvswitches, 6U);
  EXPECT_TRUE(question.secure_boot);
  EXPECT_EQ(question.cuda, "auto");
}

}  // namespace
}  // namespace gpustrap
