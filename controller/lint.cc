#include "controller/lint.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "agent/protocol/secrets.h"
#include "controller/display_width.h"
#include "controller/lint_review.h"
#include "controller/lint_upstream.h"

namespace gpustrap {
namespace {

constexpr std::string_view kAllow = "lint: allow";
/// Longest source line that is shown.
constexpr std::size_t kLongestLine = 200;

/// A line for people, its places as they are in the file.
std::string shown_line(std::string line) {
  for (char& c : line) c = c == '\t' ? ' ' : c;
  line = strip_control(line);
  return line.size() <= kLongestLine ? line : cut_to_width(line, kLongestLine);
}

std::size_t indent_of(std::string_view line) { return std::min(line.find_first_not_of(' '), line.size()); }
bool is_blank_line(std::string_view line) { return trim(line).empty(); }
bool is_comment_line(std::string_view line) { return trim(line).starts_with('#'); }

/// `# lint: allow RULE reason` and the lines it is about.
struct Allow {
  SourcePlace place;
  std::string rule, reason;
  int first = 0, last = 0;
  bool used = false;
};

/// A comment on a line of its own is about what stands below it: the next line, and all that is indented deeper.
void set_range(Allow& allow, const std::vector<std::string>& lines, std::size_t index) {
  std::size_t first = index + 1;
  while (first < lines.size() && (is_blank_line(lines[first]) || is_comment_line(lines[first]))) ++first;
  if (first >= lines.size()) return;
  std::size_t last = first;
  for (std::size_t i = first + 1; i < lines.size() && (is_blank_line(lines[i]) || indent_of(lines[i]) > indent_of(lines[first])); ++i)
    last = i;
  allow.first = static_cast<int>(first) + 1;
  allow.last = static_cast<int>(last) + 1;
}

std::vector<Allow> allows_in(const std::string& label, const std::string& text) {
  std::vector<Allow> allows;
  const std::vector<std::string> lines = split(text, '\n');
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string& line = lines[i];
    for (std::size_t hash = line.find('#'); hash != std::string::npos; hash = line.find('#', hash + 1)) {
      if (hash > 0 && line[hash - 1] != ' ' && line[hash - 1] != '\t') continue;
      const std::string_view comment = trim(std::string_view(line).substr(hash + 1));
      if (!comment.starts_with(kAllow)) continue;
      const std::string_view rest = trim(comment.substr(kAllow.size()));
      const std::size_t end = std::min(rest.find_first_of(" \t:,"), rest.size());
      Allow allow;
      allow.place = {label, static_cast<int>(i) + 1, static_cast<int>(hash) + 1};
      allow.rule = rest.substr(0, end);
      allow.reason = trim(rest.substr(std::min(rest.find_first_not_of(" \t:,-", end), rest.size())));
      allow.first = allow.last = allow.place.line;
      if (is_comment_line(line)) set_range(allow, lines, i);
      allows.push_back(std::move(allow));
      break;
    }
  }
  return allows;
}

std::vector<std::string> rule_ids() {
  std::vector<std::string> ids;
  for (const LintRule& rule : lint_rules()) ids.emplace_back(rule.id);
  return ids;
}

}  // namespace

const Json* LintStep::field(std::string_view name) const {
  const auto found = fields.find(std::string(name));
  return found == fields.end() ? nullptr : &*found;
}

std::string LintStep::text(std::string_view name) const {
  const Json* value = field(name);
  if (value == nullptr || value->is_null() || value->is_structured()) return {};
  return value->is_string() ? value->get<std::string>() : value->dump();
}

std::vector<std::string> LintStep::texts(std::string_view name) const {
  const Json* value = field(name);
  std::vector<std::string> found;
  if (value == nullptr) return found;
  if (value->is_string()) return {value->get<std::string>()};
  if (!value->is_array()) return found;
  for (const Json& item : *value) found.push_back(item.is_string() ? item.get<std::string>() : item.dump());
  return found;
}

std::string LintStep::shell_text(std::string_view name) const {
  const Json* value = field(name);
  if (value == nullptr || !value->is_array()) return text(name);
  std::vector<std::string> quoted;
  for (const std::string& word : texts(name)) quoted.push_back(shell_quote(word));
  return join(quoted, " ");
}

std::string LintStep::place_of(std::string_view name) const { return shorthand ? kind_pointer : join_pointer(kind_pointer, name); }

LintReview::LintReview(const ReviewedRecipe& reviewed, const Compat& tables) : recipe(reviewed), compat(tables) {
  for (const auto& [label, text] : reviewed.texts) lines_[label] = split(text, '\n');
  if (!reviewed.document || !reviewed.document->is_object() || !reviewed.document->contains("steps")) return;
  const Json& list = (*reviewed.document)["steps"];
  if (!list.is_array()) return;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (!list[i].is_object()) continue;
    for (const auto& [name, value] : list[i].items()) {
      const auto kind = step_kind_from_name(name);
      if (!kind) continue;
      LintStep step;
      step.kind = *kind;
      step.step = &list[i];
      step.pointer = "/steps/" + std::to_string(i);
      step.kind_pointer = join_pointer(step.pointer, name);
      const std::string field = describe_step_kind(*kind).shorthand;
      step.shorthand = !value.is_object() && !value.is_null() && !field.empty();
      if (step.shorthand) step.fields[field] = value;
      if (value.is_object()) step.fields = value;
      steps.push_back(std::move(step));
      break;
    }
  }
}

std::string LintReview::line_at(const SourcePlace& place) const {
  const auto lines = lines_.find(place.file);
  if (lines == lines_.end() || place.line < 1 || static_cast<std::size_t>(place.line) > lines->second.size()) return {};
  return lines->second[static_cast<std::size_t>(place.line) - 1];
}

SourcePlace LintReview::locate(const std::string& pointer, std::string_view evidence) const {
  const SourcePlace place = recipe.places.at(pointer).value;
  evidence = evidence.substr(0, evidence.find('\n'));
  if (evidence.empty()) return place;
  const std::string first = line_at(place);
  SourcePlace found = place;
  std::size_t from = place.column > 0 ? static_cast<std::size_t>(place.column) - 1 : 0;
  constexpr int kLongestValue = 2000;  // lines
  for (int i = 0; i < kLongestValue; ++i, from = 0, ++found.line) {
    const std::string line = line_at(found);
    if (i > 0 && !is_blank_line(line) && indent_of(line) <= indent_of(first)) break;
    if (from > line.size()) continue;
    if (const std::size_t at = line.find(evidence, from); at != std::string::npos) {
      found.column = static_cast<int>(at) + 1;
      return found;
    }
  }
  return place;
}

void LintReview::add(std::string_view rule, const std::string& pointer, std::string_view evidence, std::string message,
                     std::optional<Severity> severity, std::string advice) {
  add_at(rule, locate(pointer, evidence), std::move(message), std::move(advice));
  if (severity) findings.back().severity = *severity;
}

void LintReview::add_secret(std::string_view rule, const std::string& pointer, const std::string& secret, std::string message) {
  add(rule, pointer, secret, std::move(message));
  hide(secret);
}

void LintReview::hide(const std::string& secret) {
  for (const std::string& line : split(secret, '\n')) {
    if (line.size() >= kShortestSecret) secrets_.insert(line);
  }
}

void LintReview::hide_secrets() {
  for (LintFinding& finding : findings) {
    for (const std::string& secret : secrets_) {
      for (std::string* text : {&finding.line, &finding.message}) {
        for (std::size_t at = text->find(secret); at != std::string::npos; at = text->find(secret, at + 3))
          text->replace(at, secret.size(), "***");
      }
    }
    // Written with escapes, or folded, it is not found as it is: better no line than the secret.
    if (finding.rule->id == "secret-in-text" && finding.line.find("***") == std::string::npos) finding.line.clear();
  }
}

void LintReview::add_at(std::string_view rule, SourcePlace place, std::string message, std::string advice) {
  LintFinding finding;
  finding.rule = find_lint_rule(rule);
  finding.severity = finding.rule->severity;
  finding.line = shown_line(line_at(place));
  finding.place = std::move(place);
  finding.message = strip_control(message);
  finding.advice = advice.empty() ? std::string(finding.rule->advice) : std::move(advice);
  findings.push_back(std::move(finding));
}

void LintReview::add_key(std::string_view rule, const std::string& pointer, std::string message, std::string advice) {
  add_at(rule, recipe.places.at(pointer).key, std::move(message), std::move(advice));
}

void for_each_text(const Json& value, const std::string& pointer,
                   const std::function<void(const std::string& text, const std::string& pointer)>& visit) {
  if (value.is_string()) return visit(value.get_ref<const std::string&>(), pointer);
  if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i) for_each_text(value[i], pointer + "/" + std::to_string(i), visit);
  } else if (value.is_object()) {
    for (const auto& [name, item] : value.items()) for_each_text(item, join_pointer(pointer, name), visit);
  }
}

std::size_t apply_allows(LintReview& review, bool asked_upstream) {
  std::size_t count = 0;
  for (const auto& [label, text] : review.recipe.texts) {
    std::vector<Allow> allows = allows_in(label, text);
    for (Allow& allow : allows) {
      if (find_lint_rule(allow.rule) == nullptr) {
        const std::string near = nearest_name(allow.rule, rule_ids());
        review.add_at("allow-unknown", allow.place,
                      allow.rule.empty() ? "`lint: allow` names no rule"
                                         : fmt::format("there is no rule {}{}", quote_value(allow.rule),
                                                       near.empty() ? "" : fmt::format("; did you mean `{}`?", near)));
        continue;
      }
      if (allow.reason.empty()) {
        review.add_at("allow-unexplained", allow.place, fmt::format("`lint: allow {}` has no reason behind it", allow.rule));
        continue;
      }
      const auto is_allowed = [&](const LintFinding& finding) {
        const bool hit = finding.rule->id == allow.rule && finding.rule->id != "recipe-error" && finding.place.file == label &&
                         finding.place.line >= allow.first && finding.place.line <= allow.last;
        allow.used = allow.used || hit;
        return hit;
      };
      const auto rest = std::remove_if(review.findings.begin(), review.findings.end(), is_allowed);
      count += static_cast<std::size_t>(review.findings.end() - rest);
      review.findings.erase(rest, review.findings.end());
      // What an include does depends on the vars it is given: nothing found here may be found for another recipe.
      if (!asked_upstream && allow.rule.starts_with("upstream-")) continue;
      if (!allow.used && label == review.recipe.source)
        review.add_at(
            "allow-unused", allow.place,
            fmt::format("`{}` finds nothing {}", allow.rule, allow.first == allow.place.line ? "in this line" : "in what stands below"));
    }
  }
  return count;
}

Result<LintReport> lint_recipe(const std::string& name_or_path, const LoadOptions& options, const Compat& compat,
                               const UpstreamOptions* upstream) {
  LoadOptions open = options;
  open.open_vars = true;
  open.names_for_hosts = true;
  Result<ReviewedRecipe> reviewed = review_recipe(name_or_path, open);
  if (!reviewed) return fail(std::move(reviewed).error());
  LintReview review(*reviewed, compat);
  for (const SourceProblem& problem : reviewed->problems) review.add_at("recipe-error", problem.place, problem.message);
  lint_steps(review);
  lint_commands(review);
  lint_logins(review);
  lint_secrets(review);
  lint_files(review);
  lint_units(review);
  lint_users(review);
  lint_texts(review);
  lint_whole(review);
  if (upstream != nullptr) lint_upstream(review, *upstream);
  LintReport report;
  report.source = reviewed->source;
  const auto order = [](const LintFinding& one) { return std::tie(one.place, one.rule->id, one.message); };
  std::stable_sort(review.findings.begin(), review.findings.end(), [&](const auto& a, const auto& b) { return order(a) < order(b); });
  const auto same =
      std::unique(review.findings.begin(), review.findings.end(), [&](const auto& a, const auto& b) { return order(a) == order(b); });
  review.findings.erase(same, review.findings.end());
  // One secret is one finding, by its name where it has one.
  const auto again = std::unique(review.findings.begin(), review.findings.end(), [](const auto& a, const auto& b) {
    return a.rule->id == "secret-in-text" && a.rule == b.rule && a.place == b.place;
  });
  review.findings.erase(again, review.findings.end());
  report.allowed = apply_allows(review, upstream != nullptr);
  review.hide_secrets();
  std::stable_sort(review.findings.begin(), review.findings.end(), [&](const auto& a, const auto& b) { return order(a) < order(b); });
  report.findings = std::move(review.findings);
  return report;
}

std::size_t count_of(const std::vector<LintReport>& reports, Severity severity) {
  std::size_t count = 0;
  for (const LintReport& report : reports) {
    count += static_cast<std::size_t>(std::count_if(report.findings.begin(), report.findings.end(),
                                                    [&](const LintFinding& finding) { return finding.severity == severity; }));
  }
  return count;
}

}  // namespace gpustrap
