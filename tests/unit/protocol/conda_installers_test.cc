#include <string>

#include <gtest/gtest.h>

#include "agent/protocol/conda_installers.h"

namespace gpustrap {
namespace {

TEST(CondaInstallers, EveryDistributionHasADigestForBothArchitectures) {
  for (const CondaDistribution distribution : {CondaDistribution::miniforge, CondaDistribution::miniconda, CondaDistribution::anaconda}) {
    const std::string_view version = pinned_conda_version(distribution);
    EXPECT_TRUE(is_pinned_conda_version(distribution, version));
    std::string before;
    for (const char* arch : {"x86_64", "aarch64"}) {
      const std::string digest(pinned_conda_digest(distribution, version, arch));
      EXPECT_EQ(digest.size(), 64U) << version << arch;
      EXPECT_EQ(digest.find_first_not_of("0123456789abcdef"), std::string::npos);
      EXPECT_NE(digest, before) << "two files cannot have one digest";
      before = digest;
    }
  }
  EXPECT_TRUE(pinned_conda_digest(CondaDistribution::miniforge, "26.3.2-3", "riscv64").empty());
  EXPECT_TRUE(pinned_conda_digest(CondaDistribution::miniconda, "26.3.2-3", "x86_64").empty());
  EXPECT_FALSE(is_pinned_conda_version(CondaDistribution::anaconda, "5.0.1"));
}

TEST(CondaInstallers, AreNamedAndServedAsTheirPublishersDo) {
  EXPECT_EQ(conda_installer_url(CondaDistribution::miniforge, "26.3.2-3", "aarch64"),
            "https://github.com/conda-forge/miniforge/releases/download/26.3.2-3/Miniforge3-26.3.2-3-Linux-aarch64.sh");
  EXPECT_EQ(conda_installer_url(CondaDistribution::miniconda, "py313_26.5.3-1", "x86_64"),
            "https://repo.anaconda.com/miniconda/Miniconda3-py313_26.5.3-1-Linux-x86_64.sh");
  EXPECT_EQ(conda_installer_url(CondaDistribution::anaconda, "5.0.1", "x86_64"),
            "https://repo.anaconda.com/archive/Anaconda3-5.0.1-Linux-x86_64.sh");
}

TEST(CondaInstallers, SayWhichPartOfTheirVersionCanBeCompared) {
  EXPECT_EQ(comparable_conda_version("py313_26.5.3-1"), "26.5.3");
  EXPECT_EQ(comparable_conda_version("26.3.2-3"), "26.3.2");
  EXPECT_EQ(comparable_conda_version("2025.12-2"), "2025.12");
  EXPECT_EQ(comparable_conda_version("5.0.1"), "5.0.1");
}

}  // namespace
}  // namespace gpustrap
