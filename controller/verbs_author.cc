#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "agent/base/file.h"
#include "controller/compat_loader.h"
#include "controller/console.h"
#include "controller/lint.h"
#include "controller/user_recipes.h"
#include "controller/verbs.h"

namespace gpustrap {
namespace {

VerbResult print(const std::string& text) {
  if (Result<void> written = write_all(STDOUT_FILENO, text); !written) return fail(std::move(written).error());
  return ExitCode::ok;
}

}  // namespace

VerbResult verb_recipe_lint(const Options& options) {
  const Result<Compat> compat = load_builtin_compat();
  if (!compat) return fail(compat.error());
  std::vector<LintReport> reports;
  for (const std::string& name : options.recipes) {
    Result<LintReport> report = lint_recipe(name, LoadOptions{recipe_sources(), options.vars}, *compat);
    if (!report) return fail(std::move(report).error());
    reports.push_back(*std::move(report));
  }
  const Console console = console_of(STDOUT_FILENO, ColourChoice::never);
  const VerbResult printed = print(options.format == "sarif"  ? lint_sarif(reports)
                                   : options.format == "json" ? lint_json(reports)
                                                              : lint_text(reports, console.person ? console.size().columns - 1 : 0));
  const bool is_clean = count_of(reports, Severity::error) + count_of(reports, Severity::warning) == 0;
  return printed && !is_clean ? VerbResult(ExitCode::step_failed) : printed;
}

}  // namespace gpustrap
