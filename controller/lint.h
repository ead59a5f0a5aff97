#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/compat.h"
#include "controller/recipe_loader.h"

namespace gpustrap {

enum class Severity { note, warning, error };
[[nodiscard]] std::string_view severity_name(Severity severity);

/// One thing that lint looks for. The id is for ever: recipes name it in their ignores.
struct LintRule {
  std::string_view id;
  Severity severity;         ///< of what it finds, where the finding itself says nothing else
  std::string_view summary;  ///< what is found
  std::string_view why;      ///< what it leads to
  std::string_view advice;   ///< what to write instead
};
/// All rules, in the order of docs/lint.md.
[[nodiscard]] const std::vector<LintRule>& lint_rules();
/// nullptr for an id that no rule has.
[[nodiscard]] const LintRule* find_lint_rule(std::string_view id);

struct LintFinding {
  const LintRule* rule = nullptr;
  Severity severity = Severity::warning;
  SourcePlace place;
  std::string message;  ///< the evidence: what stands there and what it means
  std::string advice;   ///< what to do
  std::string line;     ///< the source line; a secret in it is hidden
};

struct LintReport {
  std::string source;                 ///< the file, or "built-in/jupyter.yaml"
  std::vector<LintFinding> findings;  ///< by place
  std::size_t allowed = 0;            ///< findings that the recipe says are right
};

struct UpstreamOptions;

/// Looks at a recipe and at the files it includes; with `upstream`, also asks the servers that it names. The error is that of a recipe that
/// is not there; one that does not load is a finding.
[[nodiscard]] Result<LintReport> lint_recipe(const std::string& name_or_path, const LoadOptions& options, const Compat& compat,
                                             const UpstreamOptions* upstream = nullptr);

[[nodiscard]] std::size_t count_of(const std::vector<LintReport>& reports, Severity severity);

// lint_output.cc: the three forms. All of them end with a newline.

/// For people and editors: "d2l.yaml:12:5: warning: … [rule]", the line, what to do. Lines of prose are broken at `columns`, 0 leaves them.
[[nodiscard]] std::string lint_text(const std::vector<LintReport>& reports, std::size_t columns);
/// One document: docs/lint.md describes it.
[[nodiscard]] std::string lint_json(const std::vector<LintReport>& reports);
/// SARIF 2.1.0, as code scanning services take it.
[[nodiscard]] std::string lint_sarif(const std::vector<LintReport>& reports);
/// Markdown of all rules: the part of docs/lint.md below its marker.
[[nodiscard]] std::string lint_reference();

}  // namespace gpustrap
