#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/display_width.h"
#include "controller/lint.h"

namespace gpustrap {
namespace {

std::string plural(std::size_t count, std::string_view word) { return fmt::format("{} {}{}", count, word, count == 1 ? "" : "s"); }

std::string counts_of(const std::vector<LintReport>& reports) {
  std::vector<std::string> parts;
  for (const Severity severity : {Severity::error, Severity::warning, Severity::note}) {
    if (const std::size_t count = count_of(reports, severity); count > 0) parts.push_back(plural(count, severity_name(severity)));
  }
  return parts.empty() ? "clean" : join(parts, ", ");
}

void add_prose(std::string& text, const std::string& line, std::size_t columns, std::string_view indent) {
  const std::vector<std::string> lines = columns == 0 ? std::vector<std::string>{line} : wrap_to_width(line, columns, indent);
  for (const std::string& one : lines) text += one + "\n";
}

std::string place_text(const SourcePlace& place) {
  return place.line == 0 ? place.file : fmt::format("{}:{}:{}", place.file, place.line, place.column);
}

/// Column in characters: places count bytes.
int column_in_characters(const LintFinding& finding) {
  const std::string_view before = std::string_view(finding.line).substr(0, static_cast<std::size_t>(std::max(finding.place.column - 1, 0)));
  const auto later = std::count_if(before.begin(), before.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; });
  return std::max(finding.place.column - static_cast<int>(later), 1);
}

/// A path as a URI: relative ones stay relative, so that they mean the repository they are in.
std::string uri_of(std::string_view path) {
  while (path.starts_with("./")) path.remove_prefix(2);
  std::string uri = path.starts_with('/') ? "file://" : "";
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~/").find(c) != std::string_view::npos;
    uri += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return uri;
}

Json rule_for_sarif(const LintRule& rule) {
  Json one = {{"id", rule.id}, {"name", rule.id}};
  one["shortDescription"]["text"] = rule.summary;
  one["fullDescription"]["text"] = fmt::format("{} {}", rule.summary, rule.why);
  one["help"]["text"] = fmt::format("{} Instead: {}.", rule.why, rule.advice);
  one["defaultConfiguration"]["level"] = severity_name(rule.severity);
  return one;
}

}  // namespace

std::string lint_text(const std::vector<LintReport>& reports, std::size_t columns) {
  std::string text;
  for (const LintReport& report : reports) {
    for (const LintFinding& finding : report.findings) {
      // One line whatever the width: editors and `grep` read it.
      text += fmt::format("{}: {}: {} [{}]\n", strip_control(place_text(finding.place)), severity_name(finding.severity), finding.message,
                          finding.rule->id);
      if (!trim(finding.line).empty()) {
        const std::string number = std::to_string(finding.place.line);
        const std::size_t begin = std::min(finding.line.find_first_not_of(' '), finding.line.size());
        const std::size_t column = static_cast<std::size_t>(std::max(finding.place.column - 1, 0));
        std::string before = column >= begin ? finding.line.substr(begin, column - begin) : "";
        const std::string gutter(number.size(), ' ');
        const std::string line = finding.line.substr(begin);
        text += fmt::format("  {} | {}\n", number,
                            columns == 0 ? line : cut_to_width(line, std::max<std::size_t>(columns, 20) - number.size() - 5));
        if (column <= finding.line.size()) text += fmt::format("  {} | {}^\n", gutter, std::string(display_width(before), ' '));
      }
      // A recipe error says itself what was expected.
      if (finding.rule->id != "recipe-error") add_prose(text, "    " + finding.advice, columns, "    ");
    }
  }
  for (const LintReport& report : reports) {
    text += fmt::format("{}: {}{}\n", strip_control(report.source), counts_of({report}),
                        report.allowed == 0 ? "" : fmt::format(" ({} allowed, with reasons)", report.allowed));
  }
  if (reports.size() > 1) text += fmt::format("{}: {}\n", plural(reports.size(), "recipe"), counts_of(reports));
  return text;
}

std::string lint_json(const std::vector<LintReport>& reports) {
  Json recipes = Json::array();
  for (const LintReport& report : reports) {
    Json findings = Json::array();
    for (const LintFinding& finding : report.findings) {
      findings.push_back({{"rule", finding.rule->id},
                          {"severity", severity_name(finding.severity)},
                          {"file", finding.place.file},
                          {"line", finding.place.line},
                          {"column", finding.place.column},
                          {"message", finding.message},
                          {"advice", finding.advice},
                          {"source", finding.line}});
    }
    recipes.push_back({{"recipe", report.source}, {"findings", std::move(findings)}, {"allowed", report.allowed}});
  }
  const Json document = {{"format", "gpustrap-lint"},
                         {"version", 1},
                         {"recipes", std::move(recipes)},
                         {"errors", count_of(reports, Severity::error)},
                         {"warnings", count_of(reports, Severity::warning)},
                         {"notes", count_of(reports, Severity::note)}};
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string lint_sarif(const std::vector<LintReport>& reports) {
  Json rules = Json::array();
  std::map<std::string_view, std::size_t> index;
  for (const LintRule& rule : lint_rules()) {
    index[rule.id] = rules.size();
    rules.push_back(rule_for_sarif(rule));
  }
  Json results = Json::array();
  std::map<std::string, std::size_t> seen;
  std::set<std::string> reported;  // an included file of several recipes is looked at with each of them
  for (const LintReport& report : reports) {
    for (const LintFinding& finding : report.findings) {
      if (!reported.insert(fmt::format("{}\n{}\n{}", place_text(finding.place), finding.rule->id, finding.message)).second) continue;
      // What stays the same when lines are added above: the rule, the file and the line's own text, and how often that came before.
      const std::string same = fmt::format("{}\n{}\n{}", finding.rule->id, finding.place.file, trim(finding.line));
      const std::string fingerprint = fmt::format("{}:{}", sha256_hex(same).substr(0, 16), ++seen[same]);
      Json place = Json::object();
      place["physicalLocation"]["artifactLocation"]["uri"] = uri_of(finding.place.file);
      place["physicalLocation"]["region"]["startLine"] = std::max(finding.place.line, 1);
      place["physicalLocation"]["region"]["startColumn"] = column_in_characters(finding);
      Json result = Json::object();
      result["ruleId"] = finding.rule->id;
      result["ruleIndex"] = index.at(finding.rule->id);
      result["level"] = severity_name(finding.severity);
      result["message"]["text"] = fmt::format("{}. {}.", finding.message, finding.advice);
      result["locations"].push_back(std::move(place));
      result["partialFingerprints"]["primaryLocationLineHash"] = fingerprint;
      results.push_back(std::move(result));
    }
  }
  Json run = Json::object();
  run["tool"]["driver"] = {{"name", "gpustrap"}, {"semanticVersion", GPUSTRAP_VERSION}};
  run["tool"]["driver"]["rules"] = std::move(rules);
  run["columnKind"] = "unicodeCodePoints";
  run["results"] = std::move(results);
  Json document = {{"$schema", "https://json.schemastore.org/sarif-2.1.0.json"}, {"version", "2.1.0"}};
  document["runs"].push_back(std::move(run));
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string lint_reference() {
  std::string text;
  for (const LintRule& rule : lint_rules())
    text +=
        fmt::format("### {}\n\n{}: {} {}\n\nInstead: {}.\n\n", rule.id, severity_name(rule.severity), rule.summary, rule.why, rule.advice);
  text.pop_back();
  return text;
}

}  // namespace gpustrap
