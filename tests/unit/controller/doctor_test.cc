#include "controller/doctor/diagnosis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/compat_loader.h"
#include "controller/doctor/evidence.h"
#include "controller/doctor/fix.h"
#include "controller/doctor/probe.h"
#include "controller/login_shell.h"
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

/// What is found on the healthy host with this section in the place of its own.
std::vector<Finding> findings_with(const std::string& section, const std::string& text) {
  Evidence evidence = sample("healthy");
  evidence.put({section, 0, text});
  return diagnosis_of(evidence).findings;
}

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

/// The healthy host with a clock that is `off` seconds from the controller's.
Diagnosis with_clocks(std::int64_t off, const std::string& synchronised, ClockKept own, std::optional<std::int64_t> third = std::nullopt) {
  Evidence evidence = sample("healthy");
  Section system = *evidence.find("system");
  const std::size_t at = system.text.find("clock ");
  system.text.replace(at, system.text.find('\n', at) - at, fmt::format("clock {}", kNow + off));
  evidence.put(system);
  evidence.put({"timedatectl", 0, "NTPSynchronized=" + synchronised + "\n"});
  if (third) {
    const std::time_t time = kNow + *third;
    std::tm parts{};
    char text[64] = "";
    ::gmtime_r(&time, &parts);
    static_cast<void>(std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts));
    evidence.put({"third-clock", 0, fmt::format("date mirror.example {}\n", text)});
  }
  return diagnose(examine(evidence, tables(), kNow, own));
}

std::string cause_of(const Diagnosis& diagnosis) { return diagnosis.findings.empty() ? "" : diagnosis.findings[0].cause; }

TEST(Doctor, AWrongClockIsTheOneThatAThirdSays) {
  EXPECT_EQ(cause_of(with_clocks(30, "no", ClockKept::unknown)), "");
  EXPECT_THAT(cause_of(with_clocks(-3600, "no", ClockKept::unknown, 2)), HasSubstr("the host's clock is wrong"));
  EXPECT_THAT(cause_of(with_clocks(-3600, "no", ClockKept::unknown, -3600)), HasSubstr("clock of this machine, where you sit, is wrong"));
  // A server's word is stronger than what either says of itself.
  EXPECT_THAT(cause_of(with_clocks(3600, "yes", ClockKept::no, 0)), HasSubstr("the host's clock is wrong"));
}

TEST(Doctor, WithoutAThirdClockTheOneThatIsKeptIsBelieved) {
  EXPECT_THAT(cause_of(with_clocks(3600, "no", ClockKept::yes)), HasSubstr("the host's clock is wrong"));
  const Diagnosis own = with_clocks(3600, "yes", ClockKept::no);
  EXPECT_THAT(cause_of(own), HasSubstr("clock of this machine"));
  EXPECT_EQ(own.findings[0].severity, Severity::warning);
  EXPECT_THAT(own.findings[0].steps, IsEmpty());
  EXPECT_THAT(cause_of(with_clocks(3600, "no", ClockKept::no)), HasSubstr("nothing tells which is right"));
  EXPECT_THAT(cause_of(with_clocks(3600, "yes", ClockKept::yes)), HasSubstr("nothing tells which is right"));
}

TEST(Doctor, AContainerThatMayNotMountIsStartedAnew) {
  Evidence evidence = healthy_but("shm-small");
  EXPECT_THAT(diagnosis_of(evidence).findings[0].steps, Not(IsEmpty()));
  Section system = *evidence.find("system");
  system.text.replace(system.text.find("container no"), 12, "container yes\ncapabilities 00000000a80425fb");
  evidence.put(system);
  const Diagnosis diagnosis = diagnosis_of(evidence);
  const auto shm =
      std::find_if(diagnosis.findings.begin(), diagnosis.findings.end(), [](const Finding& one) { return one.of->id == "shm-small"; });
  ASSERT_NE(shm, diagnosis.findings.end());
  EXPECT_THAT(shm->commands, ElementsAre(HasSubstr("--shm-size=8g")));
  EXPECT_THAT(shm->steps, IsEmpty());
}

/// A host of Amazon's with dnf in the place of apt.
Evidence amazon() {
  Evidence evidence = sample("healthy");
  Section system = *evidence.find("system");
  for (const auto& [from, to] : {std::pair("ID=ubuntu", "ID=amzn"), std::pair("VERSION_ID=\"24.04\"", "VERSION_ID=\"2023\""),
                                 std::pair("Ubuntu 24.04.1 LTS", "Amazon Linux 2023.6.20241212")})
    system.text.replace(system.text.find(from), std::string_view(from).size(), to);
  evidence.put(system);
  for (const char* apt : {"apt-sources", "apt-check", "packages", "unattended"}) evidence.put({apt, Section::kAbsent, "not found\n"});
  for (const char* apt : {"apt-keys", "apt-errors", "apt-locks", "apt-lists"}) evidence.put({apt, 0, ""});
  evidence.put({"rpm", 0, "has nvidia-driver.x86_64 580.95.05-1.amzn2023\n"});
  return evidence;
}

TEST(Doctor, AHostWithDnfIsHealthyAndIsToldOfDnf) {
  EXPECT_THAT(ids_of(diagnosis_of(amazon())), IsEmpty());
  Evidence full = amazon();
  for (const Section& section : sample("disk-full").sections()) full.put(section);
  const Diagnosis diagnosis = diagnosis_of(full);
  EXPECT_THAT(ids_of(diagnosis), ElementsAre("disk-full"));
  EXPECT_THAT(diagnosis.findings[0].commands, Contains("sudo dnf clean all"));
  EXPECT_THAT(diagnosis.findings[0].steps[0].dump(), HasSubstr("dnf clean all; journalctl"));
}

TEST(Doctor, ARepositoryOfAnotherReleaseIsFoundOnRpmHostsToo) {
  Evidence evidence = amazon();
  const auto with = [&](const std::string& folder) {
    evidence.put({"rpm-sources", 0,
                  "/etc/yum.repos.d/cuda.repo:baseurl=https://developer.download.nvidia.com/compute/cuda/repos/" + folder + "/x86_64\n"});
    return ids_of(diagnosis_of(evidence));
  };
  EXPECT_THAT(with("amzn2023"), IsEmpty());
  EXPECT_THAT(with("rhel9"), ElementsAre("repository-release"));
}

TEST(Doctor, TensorflowFindsItsLibrariesWhereverTheyAre) {
  Evidence evidence = healthy_but("framework-libraries");
  EXPECT_THAT(ids_of(diagnosis_of(evidence)), ElementsAre("framework-libraries"));
  Section python = *evidence.find("python");
  const std::string before = python.text;
  python.text += "\n/home/ubuntu/tf: nvidia_cudnn_cu12-8.9.7.29.dist-info";
  evidence.put(python);
  EXPECT_THAT(ids_of(diagnosis_of(evidence)), IsEmpty());
  python.text = before + "\n/home/ubuntu/tf: lib/libcudnn";
  evidence.put(python);
  EXPECT_THAT(ids_of(diagnosis_of(evidence)), IsEmpty());
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

// Where a question was not asked, or not to its end, nothing that its answer lacks is a fault.
TEST(Doctor, WhatWasNotAnsweredIsNoEvidenceOfAnything) {
  std::vector<std::string> samples = {"healthy"};
  for (const DoctorClass& one : doctor_classes()) samples.emplace_back(one.id);
  for (const std::string& id : samples) {
    const Evidence whole = id == "healthy" ? sample(id) : healthy_but(id);
    const Diagnosis before = diagnosis_of(whole);
    std::vector<std::string> known = ids_of(before);
    for (const Finding& one : before.findings) {
      for (const DoctorClass* hidden : one.hides) known.emplace_back(hidden->id);
    }
    // All sections of the healthy host; of the others those that tell them from it.
    const Evidence own = sample(id);
    for (const Section& section : own.sections()) {
      if (section.name == "login-shell") continue;  // of the controller's making
      const std::string half = section.text.substr(0, section.text.size() / 2);
      for (const Section& instead : {Section{section.name, Section::kUnanswered, ""}, Section{section.name, Section::kUnanswered, half},
                                     Section{section.name, Section::kLate, ""}, Section{section.name, 137, half},
                                     Section{section.name, Section::kUnanswered, "sh: 1: Cannot fork\n"}}) {
        if (section.name.starts_with("smi") && instead.status != Section::kUnanswered) continue;  // one that hangs is a finding
        Evidence evidence = whole;
        evidence.put(instead);
        for (const std::string& found : ids_of(diagnosis_of(evidence)))
          EXPECT_THAT(known, Contains(found)) << id << " without " << section.name << ", status " << instead.status;
      }
    }
  }
}

// An answer that is empty is no answer where what is missing in it would be a fault.
TEST(Doctor, OfAHealthyHostAnEmptyAnswerAccusesNothing) {
  const Evidence healthy = sample("healthy");
  for (const Section& section : healthy.sections()) {
    for (const char* text : {"", "\n", "bash: warning: setlocale: LC_ALL: cannot change locale (de_DE.UTF-8)\n"}) {
      Evidence evidence = healthy;
      evidence.put({section.name, 0, text});
      std::vector<std::string> found = ids_of(diagnosis_of(evidence));
      EXPECT_THAT(found, IsEmpty()) << section.name << ": `" << text << "`";
    }
  }
}

TEST(Doctor, AShellThatCannotStartProgramsIsAllThatIsFound) {
  const std::string limits = "uid 1000\nlimit processes 5 5 processes\nset /etc/security/limits.d/a.conf:1:ubuntu - nproc 5\n";
  const std::string begun = fmt::format("gpustrap-probe 1\n@section limits 0 {}\n{}\n", limits.size(), limits);
  const std::string fails = "fails processes \n";
  for (const auto& [said, complaints] : {std::pair(begun + fmt::format("@section programs 0 {}\n{}\n@end 2\n", fails.size(), fails),
                                                   std::string("dash: 123: eval: Cannot fork\n")),
                                         std::pair(begun, std::string("sh: 1: Cannot fork\n")),
                                         std::pair(begun + "@section programs 0 40\nfai", std::string("sh: 9: Cannot fork"))}) {
    const Result<Evidence> evidence = evidence_at_end(said, complaints);
    ASSERT_TRUE(evidence) << evidence.error().sentence();
    const Diagnosis diagnosis = diagnosis_of(*evidence);
    ASSERT_THAT(ids_of(diagnosis), ElementsAre("process-limit"));
    EXPECT_THAT(diagnosis.findings[0].evidence, Contains("/etc/security/limits.d/a.conf:1:ubuntu - nproc 5"));
    EXPECT_THAT(diagnosis.findings[0].commands, Contains("sudo sed -i.bak '1s/^/# /' /etc/security/limits.d/a.conf"));
    EXPECT_THAT(diagnosis.findings[0].steps, IsEmpty());
    for (const Diagnosis::Unknown& one : diagnosis.unknown) EXPECT_EQ(one.why, "the host cannot start programs as it should") << one.of->id;
  }
  EXPECT_THAT(ids_of(diagnosis_of(evidence_at_end("", "sh: 1: Cannot fork\n").value())), ElementsAre("process-limit"));
  EXPECT_FALSE(evidence_at_end(begun, "")) << "what broke off for another reason stays an error";
  const Evidence broken = evidence_at_end(begun + "@section programs 0 31\nfails sed sh: 1: sed: not found\n@end 2\n", "").value();
  EXPECT_THAT(ids_of(diagnosis_of(broken)), ElementsAre("process-limit", "programs-broken"));
}

TEST(Doctor, RootsProcessesAreNotCounted) {
  EXPECT_THAT(findings_with("limits", "uid 0\nlimit processes 5 5 processes\n"), IsEmpty());
  EXPECT_EQ(findings_with("limits", "uid 0\nlimit open files 64 64 files\n").size(), 1U);
  EXPECT_THAT(findings_with("limits", "uid 1000\nlimit processes unlimited unlimited processes\n"), IsEmpty());
}

TEST(Doctor, SourcesAreOfTheSystemsOwnRelease) {
  const auto with = [](const std::string& lines) { return findings_with("apt-sources", lines + "looked\n"); };
  const std::string own = "/etc/apt/sources.list:deb http://archive.ubuntu.com/ubuntu noble main\n";
  for (const char* line :
       {"deb http://archive.ubuntu.com/ubuntu noble-security main", "deb http://deb.debian.org/debian sid main",
        "deb https://download.docker.com/linux/ubuntu jammy stable", "deb http://ppa.launchpadcontent.net/a/ppa/ubuntu jammy main",
        "deb [signed-by=/etc/apt/keyrings/x.gpg] https://x.example/ubuntu jammy main", "deb http://x.example/ubuntu ./"})
    EXPECT_THAT(with(own + "/etc/apt/sources.list.d/x.list:" + line + "\n"), IsEmpty()) << line;
  const std::vector<Finding> misspelt = with("/etc/apt/sources.list:deb http://archive.ubuntu.com/ubuntu nobel main\n");
  ASSERT_EQ(misspelt.size(), 1U);
  EXPECT_EQ(misspelt[0].commands[0], "sudo sed -i.bak 's/\\bnobel\\b/noble/g' /etc/apt/sources.list");
  EXPECT_THAT(misspelt[0].steps, Not(IsEmpty()));
  const std::vector<Finding> other = with("/etc/apt/sources.list:deb [arch=amd64] http://archive.ubuntu.com/ubuntu jammy main\n");
  ASSERT_EQ(other.size(), 1U);
  EXPECT_EQ(other[0].severity, Severity::error);
  EXPECT_THAT(other[0].steps, IsEmpty()) << "an upgrade may be under way";
  const std::vector<Finding> beside = with(own + "/etc/apt/sources.list.d/x.list:deb http://archive.ubuntu.com/ubuntu jammy main\n");
  ASSERT_EQ(beside.size(), 1U);
  EXPECT_EQ(beside[0].severity, Severity::warning);
  EXPECT_THAT(with("/etc/apt/sources.list:deb http://archive.ubuntu.com/ubuntu $(reboot) main\n"), IsEmpty());
}

TEST(Doctor, AResolvConfThatLeadsNowhereIsLedSomewhere) {
  const std::string names = "does-not-resolve mirror.example\nown-name ip-10-0-0-7 yes\n";
  const auto with = [&](const std::string& lines) { return findings_with("names", lines + names).at(0); };
  const Finding stub = with("dangling ../run/systemd/resolve/stub-resolv.conf\nhas-resolved\n");
  EXPECT_EQ(stub.evidence.front(), "/etc/resolv.conf is a link to ../run/systemd/resolve/stub-resolv.conf, which is not there");
  EXPECT_THAT(stub.commands.front(), testing::StartsWith("sudo systemctl enable --now systemd-resolved"));
  const Finding other = with("dangling /nowhere\ncould-be /run/NetworkManager/resolv.conf\n");
  EXPECT_THAT(other.commands, ElementsAre("sudo ln -sfn /run/NetworkManager/resolv.conf /etc/resolv.conf"));
  EXPECT_THAT(other.steps, Not(IsEmpty()));
  EXPECT_THAT(with("no-resolv-conf\n").commands.back(), HasSubstr("echo nameserver ADDRESS"));
}

TEST(Doctor, AProxyThatIsSilentIsTakenOutOfItsVeryFile) {
  Evidence evidence = healthy_but("proxy-silent");
  evidence.put(
      {"environment", 0,
       "/etc/environment:3:http_proxy=http://10.0.0.9:3128\n/etc/apt/apt.conf.d/90proxy:1:Acquire::http::Proxy \"http://10.0.0.9:3128\";\n"
       "/etc/profile.d/x.sh:2:export https_proxy=http://10.0.0.8:1\n"});
  EXPECT_THAT(diagnosis_of(evidence).findings.at(0).commands,
              ElementsAre("sudo sed -i.bak '3s/^/#/' /etc/environment", "sudo sed -i.bak '1s|^|// |' /etc/apt/apt.conf.d/90proxy",
                          testing::StartsWith("# or correct it there")));
}

TEST(Doctor, ASudoersFileWithAMistakeIsMovedAwayByAnotherWay) {
  const std::vector<std::string> commands = diagnosis_of(healthy_but("sudo-broken")).findings.at(0).commands;
  EXPECT_THAT(commands, Contains(testing::StartsWith("pkexec mv /etc/sudoers.d/lab /root/")));
  EXPECT_THAT(commands, Contains(testing::StartsWith("pkexec visudo -f /etc/sudoers.d/lab")));
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

TEST(Doctor, OnlyALineThatEmptiesItHidesTheGpus) {
  const std::string at = "/home/ubuntu/.bashrc:7:";
  for (const char* line :
       {"unset CUDA_VISIBLE_DEVICES", "[ -z \"$CUDA_VISIBLE_DEVICES\" ] && echo none", "echo \"$CUDA_VISIBLE_DEVICES\"",
        "if [ \"$CUDA_VISIBLE_DEVICES\" = \"\" ]; then", "[ x$CUDA_VISIBLE_DEVICES= ]", "export CUDA_VISIBLE_DEVICES=0,1",
        "export NOT_CUDA_VISIBLE_DEVICES=", "alias cpu='CUDA_VISIBLE_DEVICES= python'", "export CUDA_VISIBLE_DEVICES",
        "FOO=1 CUDA_VISIBLE_DEVICES= python train.py", "echo CUDA_VISIBLE_DEVICES=", "export CUDA_VISIBLE_DEVICES= CUDA_VISIBLE_DEVICES=0"})
    EXPECT_THAT(findings_with("login-files", at + line), IsEmpty()) << line;
  for (const char* line : {"export CUDA_VISIBLE_DEVICES=", "CUDA_VISIBLE_DEVICES=-1", "  export CUDA_VISIBLE_DEVICES=\"\"",
                           "true;CUDA_VISIBLE_DEVICES=''", "export CUDA_VISIBLE_DEVICES=NoDevFiles", "export FOO=1 CUDA_VISIBLE_DEVICES=",
                           "FOO='a' CUDA_VISIBLE_DEVICES=-1 BAR=2", "[ -n \"$DISPLAY\" ] && export CUDA_VISIBLE_DEVICES= # none"}) {
    const std::vector<Finding> findings = findings_with("login-files", at + line);
    ASSERT_EQ(findings.size(), 1U) << line;
    EXPECT_EQ(findings.front().of->id, "visible-devices");
  }
}

TEST(Doctor, ALineIsTakenOutSoThatTheLoginStillWorks) {
  const auto first_command = [](const char* section, const char* line) {
    const std::vector<Finding> findings = findings_with(section, line);
    return findings.empty() || findings.front().commands.empty() ? "" : findings.front().commands.front();
  };
  EXPECT_EQ(first_command("login-files", "/home/ubuntu/.bashrc:12:  export CUDA_VISIBLE_DEVICES="),
            "sed -i.bak '12s/^/: #/' /home/ubuntu/.bashrc");
  EXPECT_EQ(first_command("environment", "/etc/profile.d/gpu.sh:3:export CUDA_VISIBLE_DEVICES=-1"),
            "sudo sed -i.bak '3s/^/: #/' /etc/profile.d/gpu.sh");
  EXPECT_EQ(first_command("environment", "/etc/environment:2:CUDA_VISIBLE_DEVICES=\"\""), "sudo sed -i.bak '2s/^/#/' /etc/environment");
  EXPECT_EQ(first_command("environment", "/etc/environment:2:LD_LIBRARY_PATH=/usr/local/cuda/lib64"),
            "sudo sed -i.bak '2s/^/#/' /etc/environment");
}

TEST(Doctor, AnExpiredKeyBesideAGoodOneIsNoTrouble) {
  const auto key = [](const std::string& id, const char* lifetime) {
    return fmt::format(
        ":public key packet:\n\tversion 4, algo 1, created 1700000000, expires 0\n\tkeyid: {0}\n"
        ":user ID packet: \"A publisher\"\n:signature packet: algo 1, keyid {0}\n"
        "\tversion 4, created 1700000000, md5len 0, sigclass 0x13\n{1}",
        id, lifetime);
  };
  const std::string expired = key("1111111111111111", "\thashed subpkt 9 len 4 (key expires after 0y1d0h0m)\n");
  const std::string good = key("2222222222222222", "");
  EXPECT_THAT(findings_with("apt-keys", "file /usr/share/keyrings/one.gpg\n" + expired + good), IsEmpty());
  EXPECT_EQ(findings_with("apt-keys", "file /usr/share/keyrings/one.gpg\n" + expired + "file /usr/share/keyrings/two.gpg\n" + good).size(),
            1U);
  EXPECT_EQ(findings_with("apt-keys", "file /etc/apt/trusted.gpg\n" + expired + good).size(), 1U);
}

TEST(Doctor, AnOldSettingIsNoTroubleForANotebookThatWasGivenAToken) {
  Evidence evidence = healthy_but("notebook-open");
  evidence.put({"jupyter", 0, "/home/ubuntu/.jupyter/jupyter_server_config.py:14:c.IdentityProvider.token = ''"});
  for (const char* words : {"--ServerApp.token=***", "--ServerApp.token ***"}) {
    evidence.put({"notebooks", 0, fmt::format("2311 /opt/conda/bin/jupyter-lab --ip=0.0.0.0 {} --ServerApp.port=8888", words)});
    EXPECT_THAT(ids_of(diagnosis_of(evidence)), Not(Contains("notebook-open"))) << words;
  }
  evidence.put({"notebooks", 0, "2311 /opt/conda/bin/jupyter-lab --ip=0.0.0.0 --ServerApp.port=8888"});
  EXPECT_THAT(ids_of(diagnosis_of(evidence)), Contains("notebook-open"));
}

TEST(Doctor, NoRepairTakesMoreThanItsFindingNames) {
  const Diagnosis boot = diagnosis_of(healthy_but("boot-full"));
  ASSERT_EQ(boot.findings.size(), 1U);
  EXPECT_THAT(boot.findings.front().steps, IsEmpty()) << "autoremove takes whatever nobody asked for";
  const std::vector<Finding> foreign = findings_with("folders", sample("healthy").text("folders") +
                                                                    "\nforeign /home/ubuntu/.cache\nforeign /home/ubuntu/.cache/pip\n"
                                                                    "foreign /home/ubuntu/of root");
  ASSERT_EQ(foreign.size(), 1U);
  EXPECT_THAT(foreign.front().commands.front(), testing::StartsWith("sudo chown -R ubuntu: /home/ubuntu/.cache '/home/ubuntu/of root' "));
}

TEST(Doctor, AShellThatRunsNoCommandIsAllThatIsFound) {
  const Evidence evidence = evidence_of_no_shell(shell_fault_text(ShellFault::ended, 0, ""));
  const Patient patient = examine(evidence, tables(), kNow);
  const Diagnosis diagnosis = diagnose(patient);
  ASSERT_THAT(ids_of(diagnosis), ElementsAre("login-files-break-commands"));
  EXPECT_THAT(diagnosis.findings[0].evidence, ElementsAre("the login shell ended (exit 0) before it came to the command"));
  EXPECT_THAT(diagnosis.findings[0].commands, Contains(HasSubstr("~/.bashrc")));
  EXPECT_TRUE(diagnosis.has_errors());
  EXPECT_GE(diagnosis.unknown.size(), 20U);
  for (const Diagnosis::Unknown& one : diagnosis.unknown) EXPECT_EQ(one.why, "the login shell runs no command") << one.of->id;
  EXPECT_TRUE(Json::accept(diagnosis_json(diagnosis, patient, "gpu1")));
}

TEST(Doctor, ALineThatLosesPathIsToldFromOneThatKeepsIt) {
  const auto commands_with = [](const std::string& shell, const std::string& lines) {
    Evidence evidence = healthy_but("login-files-break-commands");
    Section login = *evidence.find("login");
    login.text.replace(login.text.find("/bin/bash"), 9, shell);
    evidence.put(login);
    evidence.put({"login-path", 0, lines});
    return diagnosis_of(evidence).findings.at(0).commands;
  };
  // PAM knows no variables.
  EXPECT_THAT(commands_with("/bin/bash", "/etc/environment:3:PATH=\"$PATH:/opt/bin\"\n")[0],
              testing::StartsWith("/usr/bin/sudo /bin/sed -i.bak '3s|\\bPATH=\"\\?|&/usr/local/sbin:"));
  EXPECT_EQ(commands_with("/bin/bash", "/home/ubuntu/.bashrc:7:export PATH=\"/opt/bin\"\n")[0],
            "/bin/sed -i.bak '7s|\\bPATH=\"\\?|&$PATH:|' /home/ubuntu/.bashrc");
  for (const char* line : {"/home/ubuntu/.bashrc:7:export PATH=/opt/bin:${PATH}\n", "/home/ubuntu/.zshenv:7:PATH=/opt/bin\n"})
    EXPECT_THAT(commands_with("/bin/bash", line)[0], testing::StartsWith("# ")) << line;
  EXPECT_THAT(commands_with("/usr/bin/zsh", "/home/ubuntu/.zshenv:7:PATH=/opt/bin\n")[0], HasSubstr(".zshenv"));
}

TEST(Doctor, WhatMakesRoomIsForTheDiskThatIsNamed) {
  const auto with_room = [](const std::string& room) {
    const std::vector<Finding> findings = findings_with("room", room);
    EXPECT_EQ(findings.size(), 1U) << room;
    return findings.empty() ? Finding{} : findings.front();
  };
  const std::string root = "/dev/root 101430960 30211112 71203464 30% /\n";
  const Finding tmp = with_room(root + "tmpfs 1024000 1024000 0 100% /tmp\n");
  EXPECT_THAT(tmp.commands, ElementsAre(HasSubstr("du -xh --max-depth=2 /tmp "), HasSubstr("/tmp is kept in memory")));
  EXPECT_THAT(tmp.steps, IsEmpty()) << "--fix would repair nothing";
  const Finding opt = with_room(root + "/dev/sdb1 1024000 1024000 0 100% /opt\n");
  EXPECT_THAT(opt.commands, ElementsAre(HasSubstr("du -xh --max-depth=2 /opt ")));
  const Finding home = with_room(root + "/dev/sdb1 1024000 1024000 0 100% /home\n");
  EXPECT_THAT(home.commands, ElementsAre(HasSubstr(" /home "), HasSubstr("pip cache purge")));
  const Finding log = with_room(root + "/dev/sdb1 1024000 1024000 0 100% /var/log\n");
  EXPECT_EQ(log.steps.at(0)["command"]["run"], "journalctl --vacuum-size=200M");
  const Finding var = with_room(root + "/dev/sdb1 1024000 1024000 0 100% /var\n");
  EXPECT_EQ(var.steps.at(0)["command"]["run"], "apt-get clean; journalctl --vacuum-size=200M");
  EXPECT_THAT(var.commands, Contains(HasSubstr("docker image prune")));
  // A name that only begins so holds nothing of it.
  EXPECT_THAT(with_room(root + "/dev/sdb1 1024000 1024000 0 100% /va\n").steps, IsEmpty());
  const std::vector<Finding> inodes = findings_with("inodes", "/dev/sdb1 1000 1000 0 100% /opt\n");
  ASSERT_EQ(inodes.size(), 1U);
  EXPECT_THAT(inodes[0].commands[0], HasSubstr("--max-depth=3 /opt "));
}

TEST(Doctor, SshdSaysItselfWhetherItForwards) {
  for (const char* said : {"allowtcpforwarding yes\ndisableforwarding no", "allowtcpforwarding local\ndisableforwarding no",
                           "allowtcpforwarding yes\ndisableforwarding no\n/etc/ssh/sshd_config:99:AllowTcpForwarding no"})
    EXPECT_THAT(findings_with("forwarding", said), IsEmpty()) << said;
  for (const char* said : {"allowtcpforwarding no\ndisableforwarding no", "allowtcpforwarding remote\ndisableforwarding no",
                           "allowtcpforwarding yes\ndisableforwarding yes"})
    EXPECT_EQ(findings_with("forwarding", said).size(), 1U) << said;
}

TEST(Doctor, SourcesOfAReleaseAreThoseThatTheHostKnows) {
  Evidence evidence = healthy_but("apt-no-sources");
  const std::string repair = diagnosis_of(evidence).findings.at(0).steps.at(0).dump();
  EXPECT_THAT(repair, AllOf(HasSubstr("cloud-init single --name apt_configure"), HasSubstr("/usr/share/doc/apt/examples")));
  Section system = *evidence.find("system");
  system.text.replace(system.text.find("VERSION_CODENAME=noble"), 22, "VERSION_CODENAME=a;reboot");
  evidence.put(system);
  EXPECT_EQ(diagnosis_of(evidence).findings.at(0).steps.at(0).dump(), repair) << "a name from a host becomes part of no command";
}

TEST(Doctor, AServerOfNamesThatNobodyAsksIsNotAccused) {
  const std::string names = "does-not-resolve mirror.example\nown-name ip-10-0-0-7 yes\n/etc/resolv.conf:1:nameserver 10.0.0.2\n";
  for (const char* hosts : {"files dns", "files resolve [!UNAVAIL=return]"})
    EXPECT_EQ(findings_with("names", names + "/etc/nsswitch.conf:12:hosts: " + hosts).at(0).of->id, "names") << hosts;
  EXPECT_EQ(findings_with("names", names + "/etc/nsswitch.conf:12:hosts: files mymachines").at(0).of->id, "nsswitch");
}

TEST(Doctor, ASlowLoginIsAWarning) {
  Evidence evidence = sample("healthy");
  evidence.put({"login-shell", 0, "took 12\n"});
  const Diagnosis diagnosis = diagnosis_of(evidence);
  ASSERT_THAT(ids_of(diagnosis), ElementsAre("login-files-break-commands"));
  EXPECT_EQ(diagnosis.findings[0].severity, Severity::warning);
}

TEST(DoctorEvidence, AGreetingBeforeItIsSkipped) {
  const auto evidence = Evidence::read("Welcome!\n\ngpustrap-probe 1\n@section a 0 2\nhi\n@section b 127 0\n\n@end 2\n");
  ASSERT_TRUE(evidence) << evidence.error().sentence();
  EXPECT_EQ(evidence->text("a"), "hi");
  EXPECT_TRUE(evidence->was_seen("a"));
  EXPECT_FALSE(evidence->was_seen("b"));
  EXPECT_FALSE(evidence->was_seen("c"));
}

TEST(DoctorEvidence, WhatTheLoaderSaysIsNotWhatTheProgramSays) {
  const std::string noise = "ERROR: ld.so: object '/gone.so' from /etc/ld.so.preload cannot be preloaded (cannot open): ignored.";
  for (const auto& [text, wanted] : {std::pair(noise + "\nup\n" + noise, std::string("up\n")), std::pair(noise, std::string()),
                                     std::pair("a\n" + noise + "\nb", std::string("a\nb"))})
    EXPECT_EQ(Evidence::read(fmt::format("gpustrap-probe 1\n@section a 0 {}\n{}\n@end 1\n", text.size(), text))->text("a"), wanted);
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

TEST(DoctorEvidence, OfAHostThatHangsWhatCameIsKeptAndTheRestIsLate) {
  const std::string whole = healthy_but("shm-small").write();
  const std::size_t cut = whole.find("@section units");
  ASSERT_NE(cut, std::string::npos);
  for (const std::size_t length : {cut, cut + 9, whole.find('\n', cut) + 20}) {
    const Result<Evidence> evidence = evidence_so_far(whole.substr(0, length));
    ASSERT_TRUE(evidence) << evidence.error().sentence();
    EXPECT_TRUE(evidence->was_seen("apt-sources"));
    ASSERT_NE(evidence->find("units"), nullptr);
    EXPECT_EQ(evidence->find("units")->status, Section::kLate);
    EXPECT_FALSE(evidence->was_seen("room"));
    const Diagnosis diagnosis = diagnosis_of(*evidence);
    EXPECT_THAT(ids_of(diagnosis), IsEmpty()) << "what was not seen is not found";
    EXPECT_GE(diagnosis.unknown.size(), 5U) << "nor is it fine";
  }
  EXPECT_FALSE(evidence_so_far("gpustrap-probe 1\n@section A/b 0 2\nhi\n"));
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
    if (section.name == "login-shell") continue;  // what the controller saw before
    EXPECT_THAT(script, testing::AnyOf(HasSubstr("sec " + section.name + " "), HasSubstr("cmd " + section.name + " "))) << section.name;
  }
  EXPECT_LT(script.size(), 60000U) << "a variable of the shell's has to hold it";
}

/// A function of the script's, and what stands before it that it needs.
std::string probe_function(const std::string& begin) {
  const std::string script(probe_script());
  const std::size_t at = script.find("\n" + begin);
  EXPECT_NE(at, std::string::npos) << begin;
  return at == std::string::npos ? "" : script.substr(at + 1, script.find("\n}\n", at) - at + 2);
}

std::string said_by(const std::vector<std::string>& argv, const std::string& input) {
  Subprocess run;
  run.argv = argv;
  run.input = input;
  run.timeout = std::chrono::seconds(30);
  const Result<SubprocessResult> result = run_subprocess(run);
  EXPECT_TRUE(result && result->exit_code == 0 && !result->timed_out) << (result ? result->err : result.error().sentence());
  return result ? result->out : "";
}

TEST(DoctorProbe, AQuestionThatDidNotComeToItsEndIsNotAnswered) {
  const std::string script(probe_script());
  const std::string frame = "count=0\n" + probe_function("deep()") + "again() { IFS= read -r a_line && echo \"$a_line\"; }\n" +
                            probe_function("answer()") + probe_function("sec()") + probe_function("plain_sec()");
  const auto said = [&](const char* shell, const std::string& question) {
    return said_by({shell, "-c", frame + "\n" + question + "\nsec it 40 question"}, "");
  };
  for (const char* shell : {"dash", "bash"}) {
    EXPECT_EQ(said(shell, "question() { echo yes; return 3; }"), "@section it 3 4\nyes\n\n");
    EXPECT_EQ(said(shell, "question() { echo 'me@:7 '; }"), "@section it 0 7\nme@:7 \n\n");
    // What a shell does that cannot fork: it ends there.
    EXPECT_EQ(said(shell, "question() { echo half; exit 2; }"), "@section it 125 4\nhalf\n");
    EXPECT_EQ(said(shell, "question() { echo yes; }\ndeep() { return 2; }"), "@section it 125 4\nyes\n\n");
    EXPECT_EQ(said(shell, "question() { echo yes; }\ntr() { return 1; }"), "@section it 125 0\n\n");
    EXPECT_EQ(
        said(shell,
             "question() { i=0; while [ $i -lt 30 ]; do echo \"ERROR: ld.so: object '/gone.so' $i\"; i=$((i + 1)); done; echo end; }"),
        "@section it 0 4\nend\n\n");
    EXPECT_EQ(said(shell, "question() { i=0; while [ $i -lt 30 ]; do echo line; i=$((i + 1)); done; return 124; }"),
              "@section it 124 40\nline\nline\nline\nline\nline\nline\nline\nline\n\n");
  }
}

TEST(DoctorProbe, AProgramThatDoesNotAnswerAsItMustIsNamed) {
  const std::string script(probe_script());
  const std::size_t begin = script.find("\nnl='"), end = script.find("\n# ---- as who logged in");
  ASSERT_NE(end, std::string::npos);
  const std::string frame =
      probe_function("deep()") + "again() { IFS= read -r a_line && echo \"$a_line\"; }\n" + script.substr(begin, end - begin) + "\n";
  for (const char* shell : {"dash", "bash"}) {
    EXPECT_EQ(said_by({shell, "-c", frame + "programs; printf %s \"$said\""}, ""), "");
    EXPECT_THAT(said_by({shell, "-c", frame + "sort() { echo sort: broken; }\nprograms; printf %s \"$said\""}, ""),
                "fails sort sort: broken\n");
    EXPECT_THAT(said_by({shell, "-c", frame + "PATH=/nowhere; programs; printf %s \"$said\""}, ""), HasSubstr("fails grep "));
    EXPECT_EQ(said_by({shell, "-c", frame + "again() { exit 2; }\nprograms; printf %s \"$said\""}, ""), "fails processes \n");
    EXPECT_THAT(said_by({shell, "-c", frame + "limits; printf %s \"$said\""}, ""),
                AllOf(HasSubstr("uid "), HasSubstr("limit open files ")));
  }
}

TEST(DoctorProbe, SecretsDoNotLeaveTheHost) {
  const std::string text = probe_function("secrets=") + "masked";
  const std::vector<std::pair<std::string, std::string>> lines = {
      {"http_proxy=me:geh@eim@proxy:3128", "http_proxy=***@proxy:3128"},
      {"https_proxy=\"https://me:geheim@proxy:3128\"", "https_proxy=\"https://***@proxy:3128\""},
      {"Acquire::http::Proxy \"me:geheim@proxy:3128\";", "Acquire::http::Proxy \"***@proxy:3128\";"},
      {"deb https://me:geheim@host/ubuntu noble main", "deb https://***@host/ubuntu noble main"},
      {"  - https://conda.anaconda.org/t/me-geheim-1/lab", "  - https://conda.anaconda.org/t/***/lab"},
      {"c.ServerApp.password = ''", "c.ServerApp.password = ''"},
      {"c.IdentityProvider.token = u'geheim'", "c.IdentityProvider.token = u'***'"},
      {"c.ServerApp.password = passwd(\"it's geheim\")", "c.ServerApp.password = passwd(\"***\")"},
      {R"({"token": "it\"s geheim", "ip": "0.0.0.0"})", R"({"token": "***", "ip": "0.0.0.0"})"},
      {R"("password": "geheim, and cut)", R"("password": "***")"},
      {"jupyter-lab --ServerApp.token geheim --ip=0.0.0.0", "jupyter-lab --ServerApp.token *** --ip=0.0.0.0"},
      {"jupyter-lab --IdentityProvider.token=geheim", "jupyter-lab --IdentityProvider.token=***"},
      {"jupyter-lab --ServerApp.token= --ip=0.0.0.0", "jupyter-lab --ServerApp.token= --ip=0.0.0.0"},
      {"jupyter-lab --ServerApp.token  labs", "jupyter-lab --ServerApp.token  labs"},
      {"HF_TOKEN=geheim OPENAI_API_KEY=geheim secret=geheim Password=geheim", "HF_TOKEN=*** OPENAI_API_KEY=*** secret=*** Password=***"},
      {"export TOKEN=\"geheim and more\"", "export TOKEN=\"***\""},
      {"c.ServerApp.password_required = True", "c.ServerApp.password_required = True"},
  };
  std::string given, wanted;
  for (const auto& [line, masked] : lines) {
    given += line + "\n";
    wanted += masked + "\n";
  }
  for (const char* shell : {"sh", "bash"}) EXPECT_EQ(said_by({shell, "-c", text}, given), wanted) << shell;
}

TEST(DoctorProbe, ABrokenNullDeviceHidesNoProgram) {
  const std::string script(probe_script());
  EXPECT_EQ(script.find("/dev/null 2>"), std::string::npos);
  EXPECT_EQ(script.find("2>/dev/null"), std::string::npos) << "a redirection that fails keeps the command from running: 2>\"$null\"";
  EXPECT_EQ(script.find("</dev/null"), std::string::npos);
}

TEST(DoctorProbe, ItsCommandNeedsNoPath) {
  for (const char* path : {"/usr/local/cuda/bin", ""}) {
    Subprocess run;
    run.argv = {"/bin/sh", "-c", std::string(probe_command())};
    run.env = {{"PATH", path}};
    run.input = "secret\necho \"$word-$PATH\"\n";
    run.timeout = std::chrono::seconds(30);
    const Result<SubprocessResult> result = run_subprocess(run);
    ASSERT_TRUE(result.has_value());
    EXPECT_EQ(result->out, fmt::format("gpustrap-asks\nsecret-{}\n", path));
    EXPECT_EQ(result->err, "");
  }
}

TEST(DoctorProbe, AnNvidiaSmiThatNothingEndsHoldsNothingUp) {
  // `bound 20` is one that cannot end it.
  const std::string stubs =
      "have() { return 0; }\nsmi_hangs=\nnothing_to_load() { return 0; }\n"
      "bound() { if [ \"$1\" = 20 ]; then shift; \"$@\"; else shift; timeout -k 1 1 \"$@\"; fi; }\n";
  const std::string call = "\nout=$(smi -L </dev/null 2>&1; echo \"@$?\"); echo \"$out\"";
  const auto said = [&](const char* shell, const std::string& program) {
    return said_by({shell, "-c", stubs + "nvidia-smi() { " + program + "; }\n" + probe_function("smi()") + call}, "");
  };
  // bash alone takes such a name for a function.
  EXPECT_EQ(said("bash", "echo GPU 0; echo odd >&2; return 18"), "GPU 0\nodd\n@18\n");
  EXPECT_EQ(said("bash", "echo 'a@b'; return 0"), "a@b\n@0\n");
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(said("bash", "echo begun; exec sleep 20"), "begun@124\n");
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(15));
}

}  // namespace
}  // namespace gpustrap
