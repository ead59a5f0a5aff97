#include "controller/recipe_reference.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/facts.h"
#include "agent/protocol/recipe.h"
#include "agent/protocol/step_spec.h"

namespace gpustrap {
namespace {

std::string in_table(std::string text) {
  for (std::size_t at = text.find('|'); at != std::string::npos; at = text.find('|', at + 2)) text.insert(at, 1, '\\');
  return text;
}

std::string table(const std::vector<FieldDoc>& fields) {
  std::string text = "| field | value | default | |\n|---|---|---|---|\n";
  for (const FieldDoc& field : fields) {
    const std::string fallback = field.presence == Presence::required ? "**required**"
                                 : field.default_text.empty()         ? ""
                                                                      : "`" + field.default_text + "`";
    text += fmt::format("| `{}` | {} | {} | {} |\n", field.name, in_table(field.expected), fallback, in_table(field.help));
  }
  return text;
}

std::string identity_text(StepKind kind) {
  StepEntry entry;
  entry.kind = kind;
  return default_identity(entry);
}

/// Who runs a kind where the step does not say, as far as the kind alone decides it.
std::string runs_as(StepKind kind) {
  switch (kind) {
    case StepKind::file:
    case StepKind::block:
    case StepKind::directory:
    case StepKind::symlink: return "root; the login user where the path begins with `~`";
    case StepKind::download:
    case StepKind::archive: return "root; the login user where `to` begins with `~`";
    case StepKind::environment: return "the login user; root with `scope: system`";
    case StepKind::wait: return "the login user; root with `apt: true`";
    case StepKind::jupyter: return "root, to write its unit; the server itself is the login user's, and so is `~`";
    default: return identity_text(kind) == "login" ? "the login user" : "root";
  }
}

}  // namespace

std::string recipe_reference() {
  std::string text = "## Fields of every step\n\nBeside its one kind a step may have:\n\n" + table(describe_common_fields());
  text += "\n### when\n\nA mapping; the step is skipped where one of its members does not hold.\n\n" + table(describe_condition());
  text += "\n## Facts\n\n`${{ facts.NAME }}` in the fields of a kind and in `env`:\n";
  for (const std::string& name : fact_names()) text += fmt::format("{}`{}`", &name == &fact_names().front() ? "" : ", ", name);
  text += ".\n\n## Kinds\n";
  for (const std::string& name : step_kind_names()) {
    const StepKind kind = *step_kind_from_name(name);
    const StepKindDoc doc = describe_step_kind(kind);
    text += fmt::format("\n### {}\n\n{} Runs as {}.\n", doc.name, doc.help, runs_as(kind));
    if (!doc.shorthand.empty()) text += fmt::format("`{}: VALUE` is short for `{}: {{{}: VALUE}}`.\n", doc.name, doc.name, doc.shorthand);
    text += "\n" + table(doc.fields);
  }
  return text;
}

Result<std::string> explain_kind(const std::string& name) {
  const auto kind = step_kind_from_name(name);
  if (!kind) {
    const std::string nearest = nearest_name(name, step_kind_names());
    return fail(
        ErrorCode::usage,
        fmt::format("there is no kind `{}`{}", strip_control(name), nearest.empty() ? "" : fmt::format("; did you mean `{}`?", nearest)),
        "kinds: " + join(step_kind_names(), ", "));
  }
  const StepKindDoc doc = describe_step_kind(*kind);
  std::string text = fmt::format("{}: {}\nRuns as {}.\n", doc.name, doc.help, runs_as(*kind));
  if (!doc.shorthand.empty()) text += fmt::format("`{}: VALUE` is short for `{}: {{{}: VALUE}}`.\n", doc.name, doc.name, doc.shorthand);
  std::size_t width = 0;
  for (const FieldDoc& field : doc.fields) width = std::max(width, field.name.size());
  for (const FieldDoc& field : doc.fields) {
    const std::string extra = field.presence == Presence::required ? ", required"
                              : field.default_text.empty()         ? ""
                                                                   : ", default " + field.default_text;
    text += fmt::format("\n  {:<{}}  {}\n  {:<{}}  {}{}\n", field.name, width, field.help, "", width, field.expected, extra);
  }
  return text;
}

}  // namespace gpustrap
