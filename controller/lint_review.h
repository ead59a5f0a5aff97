#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/protocol/json.h"
#include "agent/protocol/step_spec.h"
#include "controller/lint.h"

// What the files lint_*.cc share: a recipe as the rules see it, and the findings.

namespace gpustrap {

/// One step: its kind's fields by name, a shorthand written out.
struct LintStep {
  StepKind kind = StepKind::command;
  const Json* step = nullptr;  ///< all of it
  Json fields = Json::object();
  std::string pointer;       ///< of the step: "/steps/3"
  std::string kind_pointer;  ///< of its kind: "/steps/3/apt"
  bool shorthand = false;

  [[nodiscard]] const Json* field(std::string_view name) const;
  /// The text of a field; empty where it has none.
  [[nodiscard]] std::string text(std::string_view name) const;
  /// The texts of a field that is one or a list of them.
  [[nodiscard]] std::vector<std::string> texts(std::string_view name) const;
  /// A command's text; of a list of arguments, them as a shell would be told.
  [[nodiscard]] std::string shell_text(std::string_view name) const;
  /// Where a field stands.
  [[nodiscard]] std::string place_of(std::string_view name) const;
};

class LintReview {
 public:
  LintReview(const ReviewedRecipe& recipe, const Compat& compat);

  const ReviewedRecipe& recipe;
  const Compat& compat;
  std::vector<LintStep> steps;
  std::vector<LintFinding> findings;

  /// A finding about the value at `pointer`; at `evidence` in it, where that is found in the file. `severity`: another than the rule's.
  void add(std::string_view rule, const std::string& pointer, std::string_view evidence, std::string message,
           std::optional<Severity> severity = std::nullopt, std::string advice = {});
  /// The same where the evidence must not be shown.
  void add_secret(std::string_view rule, const std::string& pointer, const std::string& secret, std::string message);
  /// A finding about a place in a file.
  void add_at(std::string_view rule, SourcePlace place, std::string message, std::string advice = {});
  /// About the key of `pointer`, not its value.
  void add_key(std::string_view rule, const std::string& pointer, std::string message, std::string advice = {});
  [[nodiscard]] std::string line_at(const SourcePlace& place) const;
  /// What no finding may show. hide_secrets() takes it out of all of them.
  void hide(const std::string& secret);
  void hide_secrets();

 private:
  std::map<std::string, std::vector<std::string>> lines_;
  std::set<std::string> secrets_;
  [[nodiscard]] SourcePlace locate(const std::string& pointer, std::string_view evidence) const;
};

/// Every text below `value`, with its pointer.
void for_each_text(const Json& value, const std::string& pointer,
                   const std::function<void(const std::string& text, const std::string& pointer)>& visit);

/// Lines that go to a file which logins read: PATH and LD_LIBRARY_PATH in them.
void look_at_login_text(LintReview& review, const std::string& text, const std::string& file, const std::string& pointer);

// Each looks for its own rules and adds what it finds.
void lint_steps(LintReview& review);     // lint_steps.cc: fields of the kinds
void lint_commands(LintReview& review);  // lint_commands.cc: what shell texts do
void lint_logins(LintReview& review);    // lint_logins.cc: what every login gets
void lint_secrets(LintReview& review);   // lint_secrets.cc: secrets in plain text
void lint_files(LintReview& review);     // lint_files.cc: files that two steps want, scripts that are one line
void lint_units(LintReview& review);     // lint_units.cc: the texts of systemd's units
void lint_users(LintReview& review);     // lint_users.cc: whom steps run as
void lint_texts(LintReview& review);     // lint_texts.cc: what stands in texts of any kind: credentials, old systems, retired GPUs
void lint_whole(LintReview& review);     // lint_texts.cc: the recipe as a whole
/// Takes out the findings that `# lint: allow RULE reason` is about, and adds those about such comments. Returns how many were allowed.
/// Where no server was asked, what is allowed of their answers is not called unused.
std::size_t apply_allows(LintReview& review, bool asked_upstream);

}  // namespace gpustrap
