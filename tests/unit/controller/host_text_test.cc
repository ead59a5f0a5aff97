#include "controller/host_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gpustrap {
namespace {

using ::testing::ElementsAre;

Facts with(std::vector<PciGpu> gpus) {
  Facts facts;
  facts.gpus = std::move(gpus);
  return facts;
}

TEST(HostText, NamesGpusWithTheirMemory) {
  EXPECT_EQ(describe_gpus(with({})), "");
  EXPECT_EQ(describe_gpus(with({{"", "1eb8", "12a2", ""}})), "Tesla T4 16 GB");
  EXPECT_EQ(describe_gpus(with({{"", "20b2", "", ""}})), "NVIDIA A100-SXM4-80GB");
  EXPECT_EQ(describe_gpus(with({{"", "2330", "", ""}, {"", "2330", "", ""}})), "2 x NVIDIA H100 80GB HBM3");
  EXPECT_EQ(describe_gpus(with({{"", "2684", "", ""}})), "NVIDIA GPU (10de:2684)");
}

TEST(HostText, TellsAFractionOfAGpuFromAWholeOne) {
  EXPECT_EQ(describe_gpus(with({{"", "27b8", "16ca", ""}})), "NVIDIA L4 24 GB");
  EXPECT_EQ(describe_gpus(with({{"", "27b8", "1735", ""}})), "NVIDIA L4 fraction, 6 GB");
}

TEST(HostText, LeavesOutWhatIsNotKnown) {
  Facts facts = with({{"", "1eb8", "", ""}});
  facts.os = "ubuntu";
  facts.os_version = "24.04";
  EXPECT_THAT(describe_host(facts), ElementsAre("Ubuntu 24.04", "Tesla T4 16 GB"));
}

}  // namespace
}  // namespace gpustrap
