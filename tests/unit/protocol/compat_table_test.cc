#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "agent/protocol/compat_lookup.h"
#include "agent/protocol/compat_resolver.h"
#include "agent/protocol/facts.h"
#include "controller/compat_loader.h"
#include "tests/support/golden_file.h"

// Every GPU of recipes/compat.yaml against every CUDA. What is right was written by hand from NVIDIA's release notes, not taken from the
// resolver: an empty limit means that there is none within the table.

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

struct Expected {
  const char *alias, *id, *compute, *first_cuda, *last_cuda, *branch, *modules, *auto_cuda;
};

constexpr Expected kExpected[] = {
    {"k520", "118a", "3.0", "", "10.2", "470", "proprietary", "10.2"},
    {"k80", "102d", "3.7", "", "11.8", "470", "proprietary", "11.4"},
    {"m60", "13f2", "5.2", "", "12.9", "580", "proprietary", "12.9"},
    {"v100", "1db1", "7.0", "9.0", "12.9", "580", "proprietary", "12.9"},
    {"v100-32gb", "1db5", "7.0", "9.0", "12.9", "580", "proprietary", "12.9"},
    {"t4", "1eb8", "7.5", "10.0", "", "580", "open", "13.0"},
    {"a10g", "2237", "8.6", "11.1", "", "580", "open", "13.0"},
    {"t4g", "1eb4", "7.5", "10.0", "", "580", "open", "13.0"},
    {"l4", "27b8", "8.9", "11.8", "", "580", "open", "13.0"},
    {"l40s", "26b9", "8.9", "11.8", "", "580", "open", "13.0"},
    {"rtx-pro-4500", "2c3a", "12.0", "12.8", "", "595", "open", "13.2"},
    {"rtx-pro-6000", "2bb5", "12.0", "12.8", "", "580", "open", "13.0"},
    {"a100", "20b0", "8.0", "11.0", "", "580", "open", "13.0"},
    {"a100-80gb", "20b2", "8.0", "11.0", "", "580", "open", "13.0"},
    {"h100", "2330", "9.0", "11.8", "", "580", "open", "13.0"},
    {"h200", "2335", "9.0", "11.8", "", "580", "open", "13.0"},
    {"b200", "2901", "10.0", "12.8", "", "580", "open", "13.0"},
    {"b300", "3182", "10.3", "12.9", "", "580", "open", "13.0"},
    {"gb200", "2941", "10.0", "12.8", "", "580", "open", "13.0"},
    {"gb300", "31c2", "10.3", "12.9", "", "580", "open", "13.0"},
};

/// Oldest driver of each CUDA, once more: a slip in the table must not agree with itself.
constexpr std::pair<const char*, int> kDriverOfCuda[] = {
    {"8.0", 375},  {"9.0", 384},  {"9.1", 390},  {"9.2", 396},  {"10.0", 410}, {"10.1", 418}, {"10.2", 440}, {"11.0", 450},
    {"11.1", 455}, {"11.2", 460}, {"11.3", 465}, {"11.4", 470}, {"11.5", 495}, {"11.6", 510}, {"11.7", 515}, {"11.8", 520},
    {"12.0", 525}, {"12.1", 530}, {"12.2", 535}, {"12.3", 545}, {"12.4", 550}, {"12.5", 555}, {"12.6", 560}, {"12.8", 570},
    {"12.9", 575}, {"13.0", 580}, {"13.1", 590}, {"13.2", 595}, {"13.3", 610}, {"13.4", 615}, {"13.5", 620},
};

const Compat& table() {
  static const Compat compat = load_builtin_compat().value();
  return compat;
}

Result<CompatAnswer> ask(const GpuRow& row, const std::string& cuda) {
  CompatQuestion question;
  question.gpus = {pci_example(row)};
  question.arch = row.arch.empty() ? "x86_64" : row.arch;
  question.cuda = cuda;
  return resolve_compat(table(), question);
}

TEST(CompatTable, KnowsTheGpusThatAreExpectedAndFractionsOfOne) {
  std::size_t fractions = 0;
  for (const GpuRow& row : table().gpus) fractions += row.refuse.empty() ? 0 : 1;
  EXPECT_EQ(table().gpus.size(), std::size(kExpected) + fractions);
  EXPECT_EQ(fractions, 3U);
  EXPECT_EQ(table().cuda.size(), std::size(kDriverOfCuda));
}

class EveryGpu : public ::testing::TestWithParam<Expected> {};

TEST_P(EveryGpu, RunsEveryCudaOfItsRangeAndRefusesTheOthersWithTheLimit) {
  const Expected& expected = GetParam();
  const GpuRow* row = find_gpu_by_name(table(), expected.id);
  ASSERT_NE(row, nullptr);
  ASSERT_EQ(row, find_gpu_by_name(table(), expected.alias));
  EXPECT_EQ(row->compute, expected.compute);
  const auto automatic = ask(*row, "auto");
  ASSERT_TRUE(automatic.has_value()) << automatic.error().sentence();
  EXPECT_EQ(automatic->driver.branch, expected.branch);
  EXPECT_EQ(automatic->driver.open, std::string(expected.modules) == "open");
  EXPECT_EQ(automatic->cuda->version, expected.auto_cuda);
  EXPECT_EQ(automatic->cuda->runs, CudaAnswer::Runs::natively);

  for (const auto& [cuda, oldest] : kDriverOfCuda) {
    SCOPED_TRACE(fmt::format("{} and CUDA {}", row->name, cuda));
    const auto answer = ask(*row, cuda);
    const bool too_old = expected.first_cuda[0] != '\0' && compare_versions(cuda, expected.first_cuda) < 0;
    const bool too_new = expected.last_cuda[0] != '\0' && compare_versions(expected.last_cuda, cuda) < 0;
    ASSERT_EQ(answer.has_value(), !too_old && !too_new) << (answer ? answer->reason : answer.error().sentence());
    if (too_new) {
      EXPECT_EQ(answer.error().why(), fmt::format("CUDA {} cannot run on {}: the last is {} with driver branch {}", cuda, label_of(*row),
                                                  expected.last_cuda, expected.branch));
    } else if (too_old) {
      EXPECT_EQ(answer.error().why(), fmt::format("CUDA {} cannot run on {}: the first is {}", cuda, label_of(*row), expected.first_cuda));
    } else {
      EXPECT_EQ(answer->driver.branch, expected.branch);
      EXPECT_EQ(answer->cuda->version, cuda);
      EXPECT_EQ(answer->cuda->runs == CudaAnswer::Runs::natively, std::stoi(expected.branch) >= oldest);
      EXPECT_THAT(answer->reason, HasSubstr(fmt::format("CUDA {} runs on it", cuda)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Gpus, EveryGpu, ::testing::ValuesIn(kExpected), [](const auto& gpu) {
  std::string name = gpu.param.alias;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

/// The sentences themselves, for a person to read.
TEST(CompatTable, SaysWhyForEveryPair) {
  std::string text;
  for (const GpuRow& row : table().gpus) {
    text += fmt::format("{}\n", row.name);
    std::vector<std::string> versions = {"auto"};
    for (const CudaRow& cuda : table().cuda) versions.push_back(cuda.version);
    for (const std::string& version : versions) {
      const auto answer = ask(row, version);
      text += fmt::format("  {:<5} {}\n", version, answer ? answer->reason : "refused: " + answer.error().sentence());
    }
  }
  expect_golden("compat/every_gpu_every_cuda.txt", text);
}

}  // namespace
}  // namespace gpustrap
