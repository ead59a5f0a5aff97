#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/protocol/conda_requirement.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

CondaRequirement read(const char* text) {
  Result<CondaRequirement> requirement = parse_conda_requirement(text);
  EXPECT_TRUE(requirement.has_value()) << text;
  return requirement ? *requirement : CondaRequirement{};
}

TEST(CondaRequirement, IsReadAsCondaReadsIt) {
  EXPECT_EQ(read("numpy").name, "numpy");
  EXPECT_THAT(read("numpy").versions, IsEmpty());
  EXPECT_EQ(read("conda-forge::python_abi").name, "python_abi");
  EXPECT_EQ(read("https://mirror.example.org/conda-forge::zlib>1").name, "zlib");
  // One "=" is a beginning, two are that version and no other.
  EXPECT_THAT(read("python=3.11").versions, ElementsAre("==3.11.*"));
  EXPECT_THAT(read("python=3.11.*").versions, ElementsAre("==3.11.*"));
  EXPECT_THAT(read("python==3.11.2").versions, ElementsAre("==3.11.2"));
  EXPECT_THAT(read("numpy>=1.20,<2").versions, ElementsAre(">=1.20,<2"));
  EXPECT_THAT(read("numpy=1.26|1.24").versions, ElementsAre("==1.26.*", "==1.24.*"));
  EXPECT_THAT(read("cuda-version!=12.7.*").versions, ElementsAre("!=12.7.*"));
  EXPECT_EQ(read("pytorch=2.1=*cuda12*").build, "*cuda12*");
  EXPECT_THAT(read("pytorch==2.1.0=py311_0").versions, ElementsAre("==2.1.0"));
}

TEST(CondaRequirement, RefusesWhatItCannotCompare) {
  for (const char* text : {"", "-c", "--yes", "numpy 1.2", "numpy[version='>=1']", "Numpy>", "numpy=", "numpy>=1,", "numpy=1 | =2", "::x",
                           "numpy=1=2=3", "numpy;rm", "../x", "numpy>=1.*"}) {
    EXPECT_FALSE(parse_conda_requirement(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace gpustrap
