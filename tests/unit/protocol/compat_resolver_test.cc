#include "agent/protocol/compat_resolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/compat_lookup.h"
#include "controller/compat_loader.h"
#include "tests/support/folders.h"
#include "tests/support/golden_file.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const Compat& table() {
  static const Compat compat = load_builtin_compat().value();
  return compat;
}

std::vector<PciGpu> gpus(std::initializer_list<const char*> names) {
  std::vector<PciGpu> all;
  for (const char* name : names) {
    const GpuRow* row = find_gpu_by_name(table(), name);
    EXPECT_NE(row, nullptr) << name;
    if (row != nullptr) all.push_back(pci_example(*row));
  }
  return all;
}

CompatQuestion on_ubuntu(std::initializer_list<const char*> names, const std::string& cuda = "auto") {
  CompatQuestion question;
  question.gpus = gpus(names);
  question.os = "ubuntu";
  question.os_version = "24.04";
  question.cuda = cuda;
  return question;
}

std::string reason_or_refusal(const CompatQuestion& question) {
  const auto answer = resolve_compat(table(), question);
  return answer ? answer->reason : answer.error().sentence();
}

/// "gpus=t4,2x10de:abcd os=ubuntu:24.04 cuda=12.4 secure_boot": one line of tests/golden/compat/cases.txt.
CompatQuestion read_case(const std::string& line) {
  CompatQuestion question;
  for (const std::string& word : words(line)) {
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
    if (name == "gpus") {
      for (std::string gpu : split(value, ',')) {
        std::size_t count = 1;
        if (gpu.size() > 2 && gpu[1] == 'x' && gpu[0] >= '2' && gpu[0] <= '9')
          count = static_cast<std::size_t>(gpu[0] - '0'), gpu = gpu.substr(2);
        const GpuRow* row = find_gpu_by_name(table(), gpu);
        if (gpu != "none")
          question.gpus.insert(question.gpus.end(), count,
                               row != nullptr ? pci_example(*row) : PciGpu{"0000:00:1e.0", gpu.substr(5), "", ""});
      }
    } else if (name == "os") {
      question.os = value.substr(0, value.find(':'));
      question.os_version = value.find(':') == std::string::npos ? "" : value.substr(value.find(':') + 1);
    } else if (name == "arch") {
      question.arch = value;
    } else if (name == "cuda") {
      question.cuda = value == "none" ? "" : value;
    } else if (name == "branch") {
      question.branch = value;
    } else if (name == "driver") {
      question.driver = value;
    } else if (name == "switches") {
      question.nvswitches = std::stoull(value);
    } else if (name == "modules") {
      question.modules = value == "open" ? ModulesWish::open : ModulesWish::proprietary;
    } else if (name == "toolkit") {
      question.toolkit = value == "runfile" ? ToolkitFrom::runfile : ToolkitFrom::repository;
    } else if (name == "secure_boot") {
      question.secure_boot = true;
    } else if (name == "container") {
      question.container = true;
    } else {
      ADD_FAILURE() << "what is `" << word << "`?";
    }
  }
  return question;
}

std::string describe(const Result<CompatAnswer>& result) {
  if (!result) return fmt::format("    refused: {}\n    do: {}\n", result.error().sentence(), result.error().hint());
  std::string text = "    " + result->reason + "\n";
  for (const auto& source : result->driver.sources)
    text += fmt::format("    driver from {}: {}\n", source.from, join(source.packages, " "));
  if (!result->driver.at_least.empty()) text += fmt::format("    driver at least: {}\n", result->driver.at_least);
  if (!result->driver.fabric_packages.empty()) text += fmt::format("    fabric: {}\n", join(result->driver.fabric_packages, " "));
  if (result->cuda && !result->cuda->package.empty()) text += fmt::format("    toolkit: {}\n", result->cuda->package);
  if (result->cuda && !result->cuda->compat_package.empty())
    text += fmt::format("    forward compatibility: {}\n", result->cuda->compat_package);
  if (result->repository) text += fmt::format("    repository: {}\n", result->repository->url);
  for (const std::string& warning : result->warnings) text += fmt::format("    note: {}\n", warning);
  return text;
}

/// Questions at the margin, answers below each; read against NVIDIA's release notes by a person.
TEST(CompatResolver, AnswersTheCasesAsReviewed) {
  std::string text;
  std::size_t cases = 0;
  bool after_comment = false;
  for (const std::string& line : split(read_file(source_folder() + "/tests/golden/compat/cases.txt").value_or(""), '\n')) {
    if (line.starts_with("    ") || line.empty()) continue;
    text += (text.empty() || after_comment ? "" : "\n") + line + "\n";
    after_comment = line[0] == '#';
    if (after_comment) continue;
    text += describe(resolve_compat(table(), read_case(line)));
    ++cases;
  }
  EXPECT_GE(cases, 60U);
  expect_golden("compat/cases.txt", text);
}

TEST(CompatResolver, SaysTheSentencesOfTheDesign) {
  EXPECT_EQ(reason_or_refusal(on_ubuntu({"k80"}, "12.4")),
            "CUDA 12.4 cannot run on Tesla K80 (sm_37): the last is 11.8 with driver branch 470");
  EXPECT_THAT(
      reason_or_refusal(on_ubuntu({"t4"})),
      HasSubstr("Tesla T4 (sm_75): driver branch 580, open modules; CUDA 13.0 is the newest that driver branch 580 runs by itself"));
}

TEST(CompatResolver, RefusesWhatDoesNotExistByName) {
  const auto missing = resolve_compat(table(), on_ubuntu({"t4"}, "12.7"));
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code(), ErrorCode::recipe);
  EXPECT_EQ(missing.error().sentence(), "there is no CUDA 12.7");
  EXPECT_EQ(missing.error().hint(), "the nearest are 12.6 and 12.8");
  EXPECT_EQ(reason_or_refusal(on_ubuntu({"t4"}, "newest")), "`newest` is not a version of CUDA: expected auto, 12 or 12.4");
}

TEST(CompatResolver, ChoosesNothingForAGpuItDoesNotKnow) {
  CompatQuestion question = on_ubuntu({});
  question.gpus = {{"0000:00:1e.0", "2684", "", ""}};
  EXPECT_EQ(reason_or_refusal(question), "the GPU 10de:2684 at 0000:00:1e.0 is not one that gpustrap knows, so it cannot choose a driver");
  question.branch = "580";
  const auto taken = resolve_compat(table(), question);
  ASSERT_TRUE(taken.has_value()) << taken.error().sentence();
  EXPECT_EQ(taken->driver.branch, "580");
  EXPECT_THAT(taken->warnings, ::testing::Contains(HasSubstr("nothing is checked against it")));
}

TEST(CompatResolver, RefusesNoGpuAndAFractionOfOne) {
  EXPECT_EQ(reason_or_refusal(on_ubuntu({})), "no NVIDIA GPU is on the PCI bus");
  CompatQuestion question = on_ubuntu({});
  question.gpus = {{"0000:31:00.0", "27b8", "1735", ""}};
  EXPECT_THAT(reason_or_refusal(question), HasSubstr("NVIDIA L4 fraction, 6 GB (sm_89): runs with AWS's own GRID driver alone"));
  question.gpus[0].subsystem = "16ca";
  EXPECT_THAT(reason_or_refusal(question), HasSubstr("NVIDIA L4 (sm_89): driver branch 580, open modules"));
}

TEST(CompatResolver, ServesAllGpusOfAHostOrSaysWhichTwoExcludeEachOther) {
  EXPECT_THAT(reason_or_refusal(on_ubuntu({"v100", "t4"})), HasSubstr("Tesla V100-SXM2-16GB (sm_70) and Tesla T4 (sm_75): driver branch "
                                                                      "580, proprietary modules; CUDA 12.9 is the last for Tesla V100"));
  EXPECT_EQ(reason_or_refusal(on_ubuntu({"k80", "l4"})),
            "no driver serves both Tesla K80 (sm_37) (the last branch is 470) and NVIDIA L4 (sm_89) (the first is 525.85)");
  EXPECT_EQ(
      reason_or_refusal(on_ubuntu({"v100", "b200"})),
      "no driver serves both Tesla V100-SXM2-16GB (sm_70) (proprietary kernel modules alone) and NVIDIA B200 (sm_100) (open ones alone)");
}

TEST(CompatResolver, KeepsADriverThatServesAndReplacesOneThatDoesNot) {
  CompatQuestion question = on_ubuntu({"t4"});
  question.driver = "595.91.07";
  EXPECT_THAT(reason_or_refusal(question),
              HasSubstr("driver 595.91.07 is loaded and stays; CUDA 13.2 is the newest that driver 595.91.07 runs by itself"));
  question.driver = "470.82.01";
  question.cuda = "12.4";
  EXPECT_THAT(reason_or_refusal(question),
              HasSubstr("driver branch 580, open modules, in place of driver 470.82.01; CUDA 12.4 runs on it"));
  question.branch = "470";
  const auto forward = resolve_compat(table(), question);
  ASSERT_TRUE(forward.has_value());
  EXPECT_EQ(forward->cuda->compat_package, "cuda-compat-12-4");
}

TEST(CompatResolver, NeverChangesTheDriverOfAContainer) {
  CompatQuestion question = on_ubuntu({"t4"}, "12.4");
  question.container = true;
  EXPECT_THAT(reason_or_refusal(question),
              HasSubstr("a container has its driver from outside, and none is loaded; CUDA 12.4 needs 525 or newer there"));
  question.driver = "535.54.03";
  const auto answer = resolve_compat(table(), question);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->driver.how, DriverAnswer::How::outside);
  EXPECT_EQ(answer->cuda->runs, CudaAnswer::Runs::minor_version);
  EXPECT_THAT(answer->driver.sources, IsEmpty());
  question.branch = "580";
  EXPECT_THAT(reason_or_refusal(question), HasSubstr("535.54.03 is loaded outside this container"));
}

TEST(CompatResolver, TakesSignedModulesAloneWhereSecureBootIsOn) {
  CompatQuestion question = on_ubuntu({"t4"});
  question.secure_boot = true;
  const auto answer = resolve_compat(table(), question);
  ASSERT_TRUE(answer.has_value());
  ASSERT_EQ(answer->driver.sources.size(), 1U);
  EXPECT_EQ(answer->driver.sources[0].from, "ubuntu");
  question.os = "debian";
  question.os_version = "12";
  EXPECT_THAT(reason_or_refusal(question), HasSubstr("Secure Boot is on, and debian 12 has no signed driver modules"));
}

TEST(CompatResolver, WantsTheFabricManagerWhereSwitchesJoinTheGpus) {
  CompatQuestion question = on_ubuntu({"h100", "h100", "h100", "h100", "h100", "h100", "h100", "h100"});
  EXPECT_THAT(resolve_compat(table(), question)->driver.fabric_packages, ElementsAre("nvidia-fabricmanager"));
  question.nvswitches = 0;  // looked, and there is none
  EXPECT_THAT(resolve_compat(table(), question)->driver.fabric_packages, IsEmpty());
  question = on_ubuntu({"h100"});
  question.nvswitches = 4;
  question.branch = "535";
  question.cuda = "12.2";
  EXPECT_THAT(resolve_compat(table(), question)->driver.fabric_packages, ElementsAre("nvidia-fabricmanager-535"));
  question = on_ubuntu({"b200", "b200", "b200", "b200", "b200", "b200", "b200", "b200"});
  question.nvswitches = 0;  // these are not on the PCI bus
  EXPECT_THAT(resolve_compat(table(), question)->driver.fabric_packages, ElementsAre("nvidia-fabricmanager", "nvlsm"));
}

TEST(CompatFrameworks, ChooseABuildOrSayThatNoneRuns) {
  const auto build = [](const CompatQuestion& question, const std::string& driver) {
    const auto answer = resolve_framework(table(), "torch", question, driver);
    return answer ? answer->value_or("unknown") : answer.error().sentence();
  };
  EXPECT_EQ(build(on_ubuntu({"t4"}), "580"), "torch 2.14: its build cu132 brings CUDA 13.2 along");
  EXPECT_EQ(build(on_ubuntu({"v100"}), "580"), "torch 2.14: its build cu126 brings CUDA 12.6 along; pip takes another build by itself");
  EXPECT_EQ(build(on_ubuntu({"t4"}), "535.54.03"), "torch 2.14: its build cu126 brings CUDA 12.6 along; pip takes another build by itself");
  CompatQuestion arm = on_ubuntu({"t4g"});
  arm.arch = "aarch64";
  EXPECT_EQ(build(arm, "580"),
            "no build of torch 2.14 for aarch64 runs on NVIDIA T4G (sm_75): cu132 is for sm_80 to sm_120; cu130 is for sm_80 to sm_120");
  EXPECT_FALSE(resolve_framework(table(), "numpy", on_ubuntu({"t4"}), "580")->has_value());
}

}  // namespace
}  // namespace gpustrap
