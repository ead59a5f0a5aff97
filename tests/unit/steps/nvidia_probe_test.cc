#include <chrono>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/subprocess.h"
#include "agent/steps/nvidia_probe_script.h"

// The probe's Python, run for real against a library that stands in for the driver's: see support/stand_in_libcuda.cc.

namespace gpustrap {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kUuid = R"("uuid": "GPU-00112233-4455-6677-8899-aabbccddeeff")";

SubprocessResult probe(const std::string& fault, const std::string& library_folder = GPUSTRAP_STAND_IN_FOLDER) {
  Subprocess subprocess;
  subprocess.argv = {"python3", "-I", "-B", "-"};
  subprocess.env = {{"LD_LIBRARY_PATH", library_folder}, {"STAND_IN_CUDA", fault}};
  subprocess.input = std::string(kProbeScript);
  subprocess.timeout = std::chrono::minutes(1);
  Result<SubprocessResult> result = run_subprocess(subprocess);
  EXPECT_TRUE(result.has_value());
  EXPECT_EQ(result->err, "");
  return *std::move(result);
}

TEST(NvidiaProbeScript, SaysThatTheResultsAreRight) {
  const SubprocessResult result = probe("");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, HasSubstr(kUuid));
  EXPECT_THAT(result.out, HasSubstr(R"("right": true)"));
}

TEST(NvidiaProbeScript, OneWrongWordAmongAllIsFound) {
  for (const char* fault : {"wrong", "stray"}) {
    const SubprocessResult result = probe(fault);
    EXPECT_EQ(result.exit_code, 1) << fault;
    EXPECT_THAT(result.out, HasSubstr("its results are wrong")) << fault;
    EXPECT_THAT(result.out, Not(HasSubstr("right\": true"))) << fault;
  }
}

TEST(NvidiaProbeScript, NamesWhatCudaSays) {
  const SubprocessResult full = probe("memory");
  EXPECT_EQ(full.exit_code, 1);
  EXPECT_THAT(full.out, HasSubstr(kUuid));
  EXPECT_THAT(full.out, HasSubstr(R"("code": 2, "error": "out of memory", "during": "cuMemAlloc_v2")"));
  EXPECT_THAT(probe("fabric").out, HasSubstr(R"("code": 802, "error": "system not yet initialized", "during": "cuInit")"));
}

TEST(NvidiaProbeScript, SaysThatThereIsNoDriver) {
  const SubprocessResult result = probe("", "/nowhere");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out, HasSubstr(R"("error": "no libcuda")"));
}

}  // namespace
}  // namespace gpustrap
