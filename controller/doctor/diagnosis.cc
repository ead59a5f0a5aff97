#include "controller/doctor/diagnosis.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/doctor/looks.h"

namespace gpustrap {

Verdict fine() { return {}; }

Verdict irrelevant() {
  Verdict verdict;
  verdict.state = Verdict::State::irrelevant;
  return verdict;
}

Verdict unseen(const Patient& p, std::string_view section) {
  Verdict verdict;
  verdict.state = Verdict::State::unknown;
  const Section* one = p.evidence.find(section);
  const bool has_rights = p.is_root;
  if (one == nullptr)
    verdict.why = fmt::format("the host said nothing of {}", section);
  else if (one->status == Section::kUnanswered)
    verdict.why = first_line(one->text, 80).empty() ? "the host could not be asked" : first_line(one->text, 80);
  else if (one->status == Section::kLate || one->status == 137)
    verdict.why = "it did not answer in time";
  else if (one->status == Section::kAbsent)
    verdict.why = first_line(one->text, 80).empty() ? "the program for it is not there" : first_line(one->text, 80);
  else if (!has_rights)
    verdict.why = "it needs root, and this login has no sudo without a password";
  else
    verdict.why = first_line(one->text, 80).empty() ? "it could not be read" : first_line(one->text, 80);
  return verdict;
}

Verdict found(std::vector<std::string> evidence, std::string cause, std::vector<std::string> commands, std::vector<Json> steps) {
  constexpr std::size_t kMost = 6, kLongest = 300;
  Verdict verdict;
  verdict.state = Verdict::State::found;
  std::vector<std::string> once;
  for (std::string& line : evidence) {
    if (std::find(once.begin(), once.end(), line) == once.end()) once.push_back(std::move(line));
  }
  evidence = std::move(once);
  if (evidence.size() > kMost) evidence.resize(kMost);
  for (std::string& line : evidence) line = first_line(line, kLongest);
  verdict.finding.evidence = std::move(evidence);
  verdict.finding.cause = std::move(cause);
  verdict.finding.commands = std::move(commands);
  verdict.finding.steps = std::move(steps);
  return verdict;
}

Json step_of(const char* id, const char* kind, Json spec) { return Json{{"id", id}, {kind, std::move(spec)}, {"as", "root"}}; }

std::vector<Json> driver_steps() { return {step_of("driver", "nvidia_driver", Json::object())}; }

std::vector<Json> reboot_steps() { return {step_of("restart", "reboot", {{"mode", "always"}})}; }

bool Diagnosis::has_errors() const {
  return std::any_of(findings.begin(), findings.end(), [](const Finding& one) { return one.severity == Severity::error; });
}

bool Diagnosis::is_healthy() const {
  return std::all_of(findings.begin(), findings.end(), [](const Finding& one) { return one.severity == Severity::note; });
}

namespace {

/// What is said for apt in the words of dnf, where that is what the host has.
void say_for_dnf(Finding& finding) {
  constexpr std::pair<std::string_view, std::string_view> kWords[] = {
      {"apt-get clean", "dnf clean all"},       {"apt-get autoremove", "dnf remove --oldinstallonly"},
      {"apt-get install -y", "dnf install -y"}, {"apt-get install", "dnf install"},
      {"apt-get update", "dnf makecache"},      {"linux-headers-$(uname -r)", "kernel-devel-$(uname -r) kernel-headers-$(uname -r)"},
      {"apt-get remove", "dnf remove"},         {"apt-get purge", "dnf remove"},
      {"apt-mark hold", "dnf versionlock add"}, {"dpkg -S", "rpm -qf"},
  };
  for (const auto& [ours, theirs] : kWords) {
    for (std::string& command : finding.commands) {
      for (std::size_t at = command.find(ours); at != std::string::npos; at = command.find(ours, at + theirs.size()))
        command.replace(at, ours.size(), theirs);
    }
    for (Json& step : finding.steps) {
      if (!step.contains("command") || !step["command"].contains("run")) continue;
      auto run = step["command"]["run"].get<std::string>();
      if (const std::size_t at = run.find(ours); at != std::string::npos) step["command"]["run"] = run.replace(at, ours.size(), theirs);
    }
  }
  std::erase_if(finding.steps, [](const Json& step) { return step.contains("apt"); });
}

bool has_only_dnf(const Patient& patient) {
  const Section* rpm = patient.evidence.find("rpm");
  const Section* apt = patient.evidence.find("apt-sources");
  return rpm != nullptr && rpm->status != Section::kAbsent && (apt == nullptr || apt->status == Section::kAbsent);
}

/// Takes back what a look concludes from questions that were not answered. An nvidia-smi that hangs is an answer.
Verdict judged(const DoctorClass& one, const Patient& patient) {
  if (one.rests_on_nothing) return one.look(patient);
  (void)patient.evidence.take_doubts();
  Verdict verdict = one.look(patient);
  std::vector<std::string> doubts = patient.evidence.take_doubts();
  std::erase_if(doubts, [&](const std::string& name) {
    const Section* section = patient.evidence.find(name);
    return name.starts_with("smi") && section != nullptr && section->status != Section::kUnanswered;
  });
  if (one.subject == "gpu" || one.subject == "driver" || one.subject == "cuda")
    doubts.insert(doubts.end(), patient.gpu_doubts.begin(), patient.gpu_doubts.end());
  doubts.insert(doubts.end(), patient.doubts.begin(), patient.doubts.end());
  const bool is_conclusion = verdict.state == Verdict::State::found || verdict.state == Verdict::State::fine;
  return is_conclusion && !doubts.empty() ? unseen(patient, doubts.front()) : verdict;
}

}  // namespace

Diagnosis diagnose(const Patient& patient) {
  Diagnosis diagnosis;
  std::vector<Finding> all;
  for (const DoctorClass& one : doctor_classes()) {
    Verdict verdict = judged(one, patient);
    if (verdict.state == Verdict::State::unknown) diagnosis.unknown.push_back({&one, verdict.why});
    if (verdict.state == Verdict::State::fine || verdict.state == Verdict::State::found) ++diagnosis.looked_at;
    if (verdict.state != Verdict::State::found) continue;
    verdict.finding.of = &one;
    verdict.finding.severity = verdict.severity.value_or(one.severity);
    if (has_only_dnf(patient)) say_for_dnf(verdict.finding);
    all.push_back(std::move(verdict.finding));
  }
  std::vector<const DoctorClass*> hidden;
  for (Finding& cause : all) {
    if (std::find(hidden.begin(), hidden.end(), cause.of) != hidden.end()) continue;
    const std::vector<std::string> explained = words(cause.of->explains);
    for (const Finding& other : all) {
      if (&other == &cause || std::find(explained.begin(), explained.end(), other.of->id) == explained.end()) continue;
      if (std::find(hidden.begin(), hidden.end(), other.of) != hidden.end()) continue;
      hidden.push_back(other.of);
      cause.hides.push_back(other.of);
    }
  }
  std::erase_if(all, [&](const Finding& one) { return std::find(hidden.begin(), hidden.end(), one.of) != hidden.end(); });
  std::stable_sort(all.begin(), all.end(), [](const Finding& a, const Finding& b) { return a.severity > b.severity; });
  diagnosis.findings = std::move(all);
  return diagnosis;
}

}  // namespace gpustrap
