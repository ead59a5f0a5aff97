#include "controller/doctor/diagnosis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/compat_loader.h"
#include "controller/doctor/evidence.h"
#include "controller/doctor/fix.h"
#include "controller/doctor/probe.h"
#include "tests/support/folders.h"
#include "tests/support/golden_file.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

/// When the samples were taken.
constexpr std::int64_t kNow = 1795330000;

const Compat& tables() {
  static const Compat compat = load_builtin_compat().value();
  return compat;
}

std::string sample_path(const std::string& id) { return source_folder() + "/tests/golden/doctor/" + id + ".txt"; }

/// Sizes and count as they should be, for a sample that was edited by hand.
std::string recounted(const std::string& text) {
  Evidence evidence;
  Section section;
  const auto put = [&] {
    if (!section.name.empty()) evidence.put(section);
  };
  for (const std::string& line : split(text, '\n')) {
    if (line.starts_with("@section ") || line.starts_with("@end ")) {
      if (!section.text.empty()) section.text.pop_back();  // the newline that ends the section
      put();
      const std::vector<std::string> parts = words(line);
      section = line.starts_with("@end ") ? Section{} : Section{parts.at(1), std::stoi(parts.at(2)), ""};
    } else {
      section.text += line + "\n";
    }
  }
  return evidence.write();
}

Evidence sample(const std::string& id) {
  std::string text = read_file(sample_path(id)).value_or("");
  if (std::getenv("GPUSTRAP_UPDATE_GOLDEN") != nullptr) {
    text = recounted(text);
    std::ofstream(sample_path(id)) << text;
  }
  Result<Evidence> evidence = Evidence::read(text);
  EXPECT_TRUE(evidence.has_value()) << id << ": " << (evidence ? "" : evidence.error().sentence())
                                    << "; GPUSTRAP_UPDATE_GOLDEN=1 counts a sample's bytes again";
  return evidence ? *std::move(evidence) : Evidence{};
}

/// The healthy host with what this sample has of its own.
Evidence healthy_but(const std::string& id) {
  Evidence evidence = sample("healthy");
  for (const Section& section : sample(id).sections()) evidence.put(section);
  return evidence;
}

std::vector<std::string> ids_of(const Diagnosis& diagnosis) {
  std::vector<std::string> ids;
  for (const Finding& one : diagnosis.findings) ids.emplace_back(one.of->id);
  return ids;
}

Diagnosis diagnosis_of(const Evidence& evidence) { return diagnose(examine(evidence, tables(), kNow)); }

TEST(Doctor, AHealthyHostIsSaidToBeInOneLine) {
  const Evidence evidence = sample("healthy");
  const Patient patient = examine(evidence, tables(), kNow);
  const Diagnosis diagnosis = diagnose(patient);
  EXPECT_THAT(ids_of(diagnosis), IsEmpty());
  EXPECT_THAT(diagnosis.unknown, IsEmpty());
  EXPECT_TRUE(diagnosis.is_healthy());
  const std::string text = diagnosis_text(diagnosis, patient, "gpu1", 0, true);
  EXPECT_THAT(text, HasSubstr("Healthy: "));
  EXPECT_THAT(text, HasSubstr("gpu1   Ubuntu 24.04.1 LTS, Tesla T4, driver 580.95.05"));
}

// tests/golden/doctor/ID.txt is what the probe said of a host that has it, where that differs from healthy.txt; findings.out is what
// people read of them all.
TEST(Doctor, EveryClassIsFoundInItsSampleAndNothingElseIs) {
  std::string all;
  for (const DoctorClass& one : doctor_classes()) {
    const std::string id(one.id);
    const Evidence evidence = healthy_but(id);
    const Patient patient = examine(evidence, tables(), kNow);
    const Diagnosis diagnosis = diagnose(patient);
    EXPECT_THAT(ids_of(diagnosis), ElementsAre(id));
    all += diagnosis_text(diagnosis, patient, "gpu1", 100, true) + "\n";
  }
  expect_golden("doctor/findings.out", all);
}

TEST(Doctor, SamplesAreOfClassesThatExist) {
  for (const auto& entry : std::filesystem::directory_iterator(source_folder() + "/tests/golden/doctor")) {
    const std::string name = entry.path().stem().string();
    if (entry.path().extension() != ".txt" || name == "healthy") continue;
    EXPECT_NE(find_doctor_class(name), nullptr) << name;
  }
}

TEST(Doctor, TheTableIsSound) {
  EXPECT_GE(doctor_classes().size(), 30U);
  std::vector<std::string_view> ids;
  for (const DoctorClass& one : doctor_classes()) {
    EXPECT_EQ(one.id.find_first_not_of("abcdefghijklmnopqrstuvwxyz-"), std::string_view::npos) << one.id;
    EXPECT_THAT(ids, Not(Contains(one.id)));
    ids.push_back(one.id);
    EXPECT_TRUE(one.summary.ends_with('.') && !one.advice.ends_with('.')) << one.id;
    for (const std::string& other : words(one.explains)) {
      EXPECT_NE(find_doctor_class(other), nullptr) << one.id << " explains " << other;
      EXPECT_NE(other, one.id);
    }
  }
}

TEST(Doctor, TheDocumentNamesEveryClass) {
  const std::string path = source_folder() + "/docs/doctor.md";
  constexpr std::string_view kMarker = "<!-- Everything below is made from controller/doctor/classes.cc; the test Doctor says how. -->\n\n";
  const std::string document = read_file(path).value_or("");
  const std::size_t marker = document.find(kMarker);
  ASSERT_NE(marker, std::string::npos) << path << " has lost its marker: " << kMarker;
  const std::string wanted = document.substr(0, marker + kMarker.size()) + doctor_reference();
  if (std::getenv("GPUSTRAP_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << wanted;
    return;
  }
  EXPECT_EQ(document, wanted) << "docs/doctor.md is stale; GPUSTRAP_UPDATE_GOLDEN=1 with --gtest_filter='Doctor.*' writes it again";
}

TEST(Doctor, FixesAreStepsThatARecipeTakes) {
  std::size_t with_steps = 0;
  for (const DoctorClass& one : doctor_classes()) {
    const Diagnosis diagnosis = diagnosis_of(healthy_but(std::string(one.id)));
    for (const Finding& finding : diagnosis.findings) {
      EXPECT_FALSE(finding.commands.empty()) << one.id << " says nothing of what to do";
      EXPECT_FALSE(finding.cause.ends_with('.')) << one.id;
      if (finding.steps.empty()) continue;
      ++with_steps;
      const Result<Recipe> recipe = fix_recipe({finding});
      EXPECT_TRUE(recipe.has_value()) << one.id << ": " << recipe.error().sentence();
    }
  }
  EXPECT_GE(with_steps, 20U);
}

TEST(Doctor, WhatCouldNotBeLookedAtIsUnknownAndNotFine) {
  Evidence evidence = sample("healthy");
  evidence.put({"login", 0, "uid 1000\nuser ubuntu\nhome /home/ubuntu\nrights none\n"});
  evidence.put({"kernel-log", 77, "the kernel's log cannot be read\n"});
  evidence.put({"listening", 124, ""});
  const Patient patient = examine(evidence, tables(), kNow);
  const Diagnosis diagnosis = diagnose(patient);
  std::vector<std::string> unknown;
  for (const Diagnosis::Unknown& one : diagnosis.unknown) unknown.emplace_back(one.of->id);
  EXPECT_THAT(unknown, testing::IsSupersetOf({"xid-hardware", "out-of-memory", "notebook-public"}));
  const std::string text = diagnosis_text(diagnosis, patient, "gpu1", 0, true);
  EXPECT_THAT(text, HasSubstr("Not known, since it needs root, and this login has no sudo without a password: "));
  EXPECT_THAT(text, HasSubstr("Not known, since it did not answer in time: "));
  EXPECT_LT(diagnosis.looked_at, diagnosis_of(sample("healthy")).looked_at);
}

TEST(Doctor, NothingIsFineWhereNothingWasSeen) {
  Evidence evidence;
  for (const Section& section : sample("healthy").sections()) evidence.put({section.name, Section::kNotPermitted, ""});
  const Diagnosis diagnosis = diagnosis_of(evidence);
  EXPECT_THAT(ids_of(diagnosis), IsEmpty());
  EXPECT_GE(diagnosis.unknown.size(), 10U);
}

TEST(Doctor, ACauseHidesWhatFollowsFromIt) {
  Evidence evidence = healthy_but("nouveau");
  evidence.put({"restart", 0, "required\n"});
  const Diagnosis diagnosis = diagnosis_of(evidence);
  ASSERT_THAT(ids_of(diagnosis), ElementsAre("nouveau"));
  std::vector<std::string> hidden;
  for (const DoctorClass* one : diagnosis.findings.front().hides) hidden.emplace_back(one->id);
  EXPECT_THAT(hidden, Contains("reboot-required"));
  EXPECT_THAT(hidden, Contains("driver-missing"));
}

TEST(Doctor, ErrorsComeBeforeWarningsAndCausesBeforeTheRest) {
  Evidence evidence = healthy_but("shm-small");
  for (const char* id : {"persistence-off", "notebook-open", "packages-held"}) {
    for (const Section& section : sample(id).sections()) evidence.put(section);
  }
  EXPECT_THAT(ids_of(diagnosis_of(evidence)), ElementsAre("notebook-open", "persistence-off", "shm-small", "packages-held"));
}

TEST(Doctor, AHostWithoutAGpuIsHealthy) {
  const Evidence evidence = healthy_but("no-gpu");
  const Patient patient = examine(evidence, tables(), kNow);
  const Diagnosis diagnosis = diagnose(patient);
  EXPECT_TRUE(diagnosis.is_healthy());
  EXPECT_FALSE(diagnosis.has_errors());
  const std::string text = diagnosis_text(diagnosis, patient, "gpu1", 0, true);
  EXPECT_THAT(text, HasSubstr("no NVIDIA GPU is on this machine's PCI bus"));
  EXPECT_THAT(text, HasSubstr("Healthy: "));
}

TEST(Doctor, TheDocumentOfProgramsHasAllOfIt) {
  const Evidence evidence = healthy_but("driver-mismatch");
  const Patient patient = examine(evidence, tables(), kNow);
  const Json document = Json::parse(diagnosis_json(diagnose(patient), patient, "gpu1"));
  EXPECT_EQ(document["doctor"], 1);
  EXPECT_EQ(document["errors"], 1);
  EXPECT_EQ(document["healthy"], false);
  EXPECT_EQ(document["findings"][0]["id"], "driver-mismatch");
  EXPECT_THAT(document["findings"][0]["explains"].get<std::vector<std::string>>(), Contains("reboot-required"));
  EXPECT_TRUE(document["findings"][0]["steps"][0].contains("reboot"));
}

TEST(Doctor, LinesFitTheTerminalButCommandsStayWhole) {
  const Evidence evidence = healthy_but("driver-sources-mixed");
  const Patient patient = examine(evidence, tables(), kNow);
  for (const std::string& line : split(diagnosis_text(diagnose(patient), patient, "gpu1", 79, false), '\n')) {
    EXPECT_TRUE(line.size() <= 79 || line.starts_with("      ")) << line;
    EXPECT_TRUE(std::all_of(line.begin(), line.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; })) << line;
  }
}

TEST(Doctor, OnlyWhatWasFoundAndCanBeRepairedIsRepaired) {
  Evidence evidence = healthy_but("driver-mismatch");
  for (const Section& section : sample("notebook-open").sections()) evidence.put(section);
  const Diagnosis diagnosis = diagnosis_of(evidence);
  const auto all = findings_to_fix(diagnosis, {});
  ASSERT_TRUE(all);
  ASSERT_EQ(all->size(), 1U);
  EXPECT_EQ(all->front().of->id, "driver-mismatch");
  EXPECT_THAT(findings_to_fix(diagnosis, {"notebook-open"}).error().why(), HasSubstr("is for a person to repair"));
  EXPECT_THAT(findings_to_fix(diagnosis, {"shm-small"}).error().why(), HasSubstr("was not found on this host"));
  EXPECT_THAT(findings_to_fix(diagnosis, {"reboot-required"}).error().why(), HasSubstr("follows from driver-mismatch"));
}

TEST(Doctor, WhatSeveralAskForIsDoneOnceAndARestartComesLast) {
  std::vector<Finding> findings;
  for (const char* id : {"driver-mismatch", "reboot-required", "driver-missing", "nouveau", "shm-small"})
    findings.push_back(diagnosis_of(healthy_but(id)).findings.front());
  const Result<Recipe> recipe = fix_recipe(findings);
  ASSERT_TRUE(recipe) << recipe.error().sentence();
  std::vector<std::string> ids;
  for (const StepEntry& step : recipe->steps) ids.push_back(step.id);
  EXPECT_THAT(ids, ElementsAre("driver-missing", "shm-small", "driver-mismatch"));
  EXPECT_EQ(recipe->steps.back().kind, StepKind::reboot);
}

TEST(DoctorEvidence, AGreetingBeforeItIsSkipped) {
  const auto evidence = Evidence::read("Welcome!\n\ngpustrap-probe 1\n@section a 0 2\nhi\n@section b 127 0\n\n@end 2\n");
  ASSERT_TRUE(evidence) << evidence.error().sentence();
  EXPECT_EQ(evidence->text("a"), "hi");
  EXPECT_TRUE(evidence->was_seen("a"));
  EXPECT_FALSE(evidence->was_seen("b"));
  EXPECT_FALSE(evidence->was_seen("c"));
}

TEST(DoctorEvidence, WhatIsNotWholeIsRefusedWithItsPlace) {
  const auto why = [](const std::string& said) { return Evidence::read(said).error().why(); };
  EXPECT_THAT(why(""), HasSubstr("it said nothing"));
  EXPECT_THAT(why("This account is not available.\n"), HasSubstr("This account is not available."));
  EXPECT_THAT(why("gpustrap-probe 1\n@section a 0 2\nhi\n"), HasSubstr("breaks off behind section a"));
  EXPECT_THAT(why("gpustrap-probe 1\n@section a 0 50\nhi\n@end 1\n"), HasSubstr("is not as long as it says"));
  EXPECT_THAT(why("gpustrap-probe 1\n@section a 0 99999999999999999999\nhi\n@end 1\n"), HasSubstr("behind its beginning stands"));
  EXPECT_THAT(why("gpustrap-probe 1\n@section a 0 2\nhi\n@section a 0 2\nhi\n@end 2\n"), HasSubstr("section a comes twice"));
  EXPECT_THAT(why("gpustrap-probe 1\n@section A/b 0 2\nhi\n@end 1\n"), HasSubstr("stands `@section A/b 0 2`"));
  EXPECT_THAT(why("gpustrap-probe 1\n@section a 0 2\nhi\n@end 2\n"), HasSubstr("sections are missing"));
  EXPECT_THAT(why(std::string((1U << 20U) + 1, 'x')), HasSubstr("longer than 1 MiB"));
}

TEST(DoctorEvidence, AHostsControlCharactersReachNobody) {
  const std::string evil = "a\x1b[2J\x1b]0;x\x07\rb\xff";
  const auto evidence = Evidence::read(fmt::format("gpustrap-probe 1\n@section a 0 {}\n{}\n@end 1\n", evil.size(), evil));
  ASSERT_TRUE(evidence);
  EXPECT_EQ(evidence->text("a").find_first_of("\x1b\x07\r"), std::string::npos);
  EXPECT_TRUE(is_utf8(evidence->text("a")));
}

TEST(DoctorEvidence, WhatIsWrittenIsReadBack) {
  const Evidence healthy = sample("healthy");
  EXPECT_EQ(Evidence::read(healthy.write())->write(), healthy.write());
}

TEST(DoctorProbe, TheScriptAsksEverySectionThatTheSamplesHave) {
  const std::string script(probe_script());
  for (const Section& section : sample("healthy").sections()) {
    EXPECT_THAT(script, testing::AnyOf(HasSubstr("sec " + section.name + " "), HasSubstr("cmd " + section.name + " "))) << section.name;
  }
  EXPECT_LT(script.size(), 60000U) << "a variable of the shell's has to hold it";
}

}  // namespace
}  // namespace gpustrap
