#include "controller/doctor/diagnosis.h"

#include <algorithm>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/line.h"
#include "controller/complaint.h"
#include "controller/display_width.h"
#include "controller/host_text.h"

namespace gpustrap {
namespace {

std::string plural(std::size_t count, std::string_view word) { return fmt::format("{} {}{}", count, word, count == 1 ? "" : "s"); }

void add_prose(std::string& text, const std::string& line, std::size_t columns, std::string_view indent) {
  const std::vector<std::string> lines = columns == 0 ? std::vector<std::string>{line} : wrap_to_width(line, columns, indent);
  for (const std::string& one : lines) text += one + "\n";
}

/// Commands stay whole whatever the width, so that they can be copied; remarks are broken.
void add_command(std::string& text, const std::string& command, std::size_t columns) {
  if (command.starts_with("# ") && command.find("gpustrap ") == std::string::npos)
    add_prose(text, "      " + command, columns, "      # ");
  else
    text += "      " + command + "\n";
}

std::size_t count_of(const Diagnosis& diagnosis, Severity severity) {
  return static_cast<std::size_t>(
      std::count_if(diagnosis.findings.begin(), diagnosis.findings.end(), [&](const Finding& one) { return one.severity == severity; }));
}

std::string described(const Patient& patient) {
  std::vector<std::string> parts;
  if (!patient.facts.os_name.empty()) parts.push_back(patient.facts.os_name);
  const std::string gpus = describe_gpus(patient.facts);
  std::string answering;
  if (!patient.answering.empty())
    answering = patient.answering.size() == 1 ? patient.answering.front().name
                                              : fmt::format("{} × {}", patient.answering.size(), patient.answering.front().name);
  if (!answering.empty() || !gpus.empty()) parts.push_back(answering.empty() ? gpus : answering);
  if (!patient.facts.driver.empty()) parts.push_back("driver " + patient.facts.driver);
  return join(parts, ", ");
}

std::string subjects_of(const std::vector<DoctorClass>& classes) {
  std::vector<std::string> names;
  for (const DoctorClass& one : classes) {
    if (std::find(names.begin(), names.end(), one.subject) == names.end()) names.emplace_back(one.subject);
  }
  return join(names, ", ");
}

std::string ascii(std::string text) {
  for (const auto& [from, to] : {std::pair<std::string_view, std::string_view>{"×", "x"}, {"…", "..."}, {"°", ""}, {"→", "->"}}) {
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) text.replace(at, from.size(), to);
  }
  return text;
}

}  // namespace

std::string diagnosis_text(const Diagnosis& diagnosis, const Patient& patient, const std::string& host, std::size_t columns, bool unicode) {
  std::string text;
  const std::string what = described(patient);
  add_prose(text, fmt::format("{}{}", strip_control(host), what.empty() ? "" : "   " + what), columns, "  ");
  for (const Finding& one : diagnosis.findings) {
    text += "\n";
    add_prose(text, fmt::format("{}: {} [{}]", severity_name(one.severity), one.cause, one.of->id), columns, "    ");
    for (const std::string& line : one.evidence) add_prose(text, "    | " + line, columns, "    |   ");
    if (!one.commands.empty()) text += one.severity == Severity::note ? "    what can be done:\n" : "    what to do:\n";
    for (const std::string& command : one.commands) add_command(text, with_host(command, host), columns);
    if (!one.steps.empty()) text += fmt::format("    or, from your own machine:\n      gpustrap doctor {} --fix {}\n", host, one.of->id);
    if (!one.hides.empty()) {
      std::vector<std::string> ids;
      for (const DoctorClass* hidden : one.hides) ids.emplace_back(hidden->id);
      add_prose(text, "    explains as well: " + join(ids, ", "), columns, "      ");
    }
  }
  text += "\n";
  if (!diagnosis.unknown.empty()) {
    std::map<std::string, std::vector<std::string>> by_reason;
    for (const Diagnosis::Unknown& one : diagnosis.unknown) by_reason[one.why].emplace_back(one.of->id);
    for (const auto& [why, ids] : by_reason) add_prose(text, fmt::format("Not known, since {}: {}", why, join(ids, ", ")), columns, "  ");
  }
  if (diagnosis.is_healthy()) {
    add_prose(text,
              fmt::format("Healthy: {} looked at ({}), and nothing is wrong.", plural(diagnosis.looked_at, "possible fault"),
                          subjects_of(doctor_classes())),
              columns, "  ");
  } else {
    std::vector<std::string> counts;
    for (const Severity severity : {Severity::error, Severity::warning, Severity::note}) {
      if (const std::size_t count = count_of(diagnosis, severity); count > 0) counts.push_back(plural(count, severity_name(severity)));
    }
    const auto fixable =
        std::count_if(diagnosis.findings.begin(), diagnosis.findings.end(), [](const Finding& one) { return !one.steps.empty(); });
    add_prose(text, fmt::format("{}; {} looked at.", join(counts, ", "), plural(diagnosis.looked_at, "possible fault")), columns, "  ");
    if (fixable > 1) text += fmt::format("{} of them can be repaired by a run:\n  gpustrap doctor {} --fix\n", fixable, host);
  }
  return unicode ? text : ascii(std::move(text));
}

std::string diagnosis_json(const Diagnosis& diagnosis, const Patient& patient, const std::string& host) {
  Json findings = Json::array();
  for (const Finding& one : diagnosis.findings) {
    Json hides = Json::array();
    for (const DoctorClass* hidden : one.hides) hides.push_back(hidden->id);
    Json commands = Json::array();
    for (const std::string& command : one.commands) commands.push_back(with_host(command, host));
    findings.push_back({{"id", one.of->id},
                        {"severity", severity_name(one.severity)},
                        {"subject", one.of->subject},
                        {"cause", one.cause},
                        {"evidence", one.evidence},
                        {"commands", std::move(commands)},
                        {"steps", one.steps},
                        {"explains", std::move(hides)}});
  }
  Json unknown = Json::array();
  for (const Diagnosis::Unknown& one : diagnosis.unknown) unknown.push_back({{"id", one.of->id}, {"why", one.why}});
  const Json document = {{"doctor", 1},
                         {"host", host},
                         {"system", patient.facts.os_name},
                         {"kernel", patient.facts.kernel},
                         {"gpus", patient.facts.gpus.size()},
                         {"driver", patient.facts.driver},
                         {"rights", patient.is_root ? "root" : "login"},
                         {"healthy", diagnosis.is_healthy()},
                         {"errors", count_of(diagnosis, Severity::error)},
                         {"warnings", count_of(diagnosis, Severity::warning)},
                         {"notes", count_of(diagnosis, Severity::note)},
                         {"looked_at", diagnosis.looked_at},
                         {"findings", std::move(findings)},
                         {"unknown", std::move(unknown)}};
  return to_line(document);
}

std::string doctor_class_list(std::size_t columns) {
  std::size_t longest = 0;
  for (const DoctorClass& one : doctor_classes()) longest = std::max(longest, one.id.size());
  std::string text;
  for (const DoctorClass& one : doctor_classes()) {
    const std::string indent(longest + 11, ' ');
    add_prose(text, fmt::format("{:<{}}  {:<7}  {}", one.id, longest, severity_name(one.severity), one.summary), columns, indent);
  }
  return text;
}

std::string doctor_class_json() {
  Json classes = Json::array();
  for (const DoctorClass& one : doctor_classes()) {
    classes.push_back({{"id", one.id},
                       {"severity", severity_name(one.severity)},
                       {"subject", one.subject},
                       {"summary", one.summary},
                       {"advice", one.advice},
                       {"explains", words(one.explains)}});
  }
  return to_line({{"doctor", 1}, {"classes", std::move(classes)}});
}

std::string doctor_reference() {
  std::string text;
  for (const DoctorClass& one : doctor_classes()) {
    text += fmt::format("### {}\n\n{}, {}: {}\n\nWhat to do: {}.\n\n", one.id, severity_name(one.severity), one.subject, one.summary,
                        one.advice);
    const std::vector<std::string> explains = words(one.explains);
    if (!explains.empty()) text += fmt::format("Where it is found, these are not shown beside it: {}.\n\n", join(explains, ", "));
  }
  text.pop_back();
  return text;
}

}  // namespace gpustrap
