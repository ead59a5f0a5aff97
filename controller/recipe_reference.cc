#include "controller/recipe_reference.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/facts.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
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

struct KindExample {
  StepKind kind;
  std::string_view step;
};
constexpr KindExample kExamples[] = {
    {StepKind::require, "  - require: { os: [ubuntu >= 22.04, debian >= 12], disk_free: 15GiB, gpu: true }\n"},
    {StepKind::wait, "  - wait: { cloud_init: true, apt: true }\n"},
    {StepKind::apt, "  - apt: [git, python3-venv]\n"},
    {StepKind::download,
     "  - download:\n      url: https://example.org/model-1.0.bin\n      to: ~/models/\n"
     "      sha256: 0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0\n"},
    {StepKind::archive,
     "  - archive:\n      url: https://example.org/course-1.0.zip\n      to: ~/course\n"
     "      sha256: 0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0\n"},
    {StepKind::file, "  - file:\n      path: /etc/motd\n      content: |\n        This is a machine of the lab.\n"},
    {StepKind::block, "  - block:\n      path: ~/.tmux.conf\n      marker: lab\n      content: set -g mouse on\n"},
    {StepKind::directory, "  - directory: ~/notebooks\n"},
    {StepKind::symlink, "  - symlink: { path: ~/data, target: /mnt/data }\n"},
    {StepKind::environment, "  - environment:\n      EDITOR: vim\n      PATH: { prepend: ~/tools/bin }\n"},
    {StepKind::command, "  - command:\n      run: make install\n      chdir: ~/tool\n      creates: ~/tool/installed\n"},
    {StepKind::service,
     "  - service:\n      name: dashboard\n      port: 8000\n      unit: |\n        [Service]\n        User=nobody\n"
     "        ExecStart=/usr/bin/python3 -m http.server 8000 --bind 127.0.0.1\n        [Install]\n        WantedBy=multi-user.target\n"},
    {StepKind::venv, "  - venv: ~/env\n"},
    {StepKind::pip, "  - pip: { venv: ~/env, packages: [torch, \"numpy>=1.26\"] }\n"},
    {StepKind::nvidia_smi, "  - nvidia_smi: { min_gpus: 1, min_memory: 16GiB, probe: true }\n"},
    {StepKind::jupyter, "  - jupyter: { venv: ~/env, dir: ~/notebooks, port: 8888 }\n"},
    {StepKind::git, "  - git: { url: https://git.example.org/course.git, to: ~/course, ref: v1.2 }\n"},
    {StepKind::deb,
     "  - deb:\n      url: https://example.org/viewer_2.1-1_amd64.deb\n"
     "      sha256: 0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0\n"},
    {StepKind::apt_repository,
     "  - apt_repository:\n      name: example\n      url: https://packages.example.org/debian\n      suites: \"${{ facts.codename }}\"\n"
     "      components: main\n      key: https://packages.example.org/key.asc\n"
     "      sha256: 0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0\n"},
    {StepKind::reboot, "  - reboot: when_required\n"},
    {StepKind::conda, "  - conda: miniforge\n"},
    {StepKind::conda_env, "  - conda_env: { name: course, python: \"3.11\", packages: [numpy, pip] }\n"},
    {StepKind::nvidia_driver, "  - nvidia_driver: auto\n"},
    {StepKind::cuda, "  - cuda: \"12.9\"\n"},
    {StepKind::idle_stop, "  - idle_stop: { after: 30m, budget: 5 USD }\n"},
};
constexpr bool examples_follow_enum() {
  for (std::size_t i = 0; i < std::size(kExamples); ++i) {
    if (static_cast<std::size_t>(kExamples[i].kind) != i) return false;
  }
  return std::size(kExamples) == kStepKindCount;
}
static_assert(examples_follow_enum(), "an example for each StepKind, in the order of the enum");

}  // namespace

std::string_view example_of_kind(StepKind kind) { return kExamples[static_cast<std::size_t>(kind)].step; }

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
    text += fmt::format("\n```yaml\nsteps:\n{}```\n", example_of_kind(kind));
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
  text += fmt::format("\nFor instance:\n\nsteps:\n{}", example_of_kind(*kind));
  return text;
}

std::string kind_json(StepKind kind) {
  const StepKindDoc doc = describe_step_kind(kind);
  Json fields = Json::array();
  for (const FieldDoc& field : doc.fields) {
    fields.push_back({{"name", field.name},
                      {"type", field.type},
                      {"expected", field.expected},
                      {"presence", field.presence == Presence::required ? "required" : "optional"},
                      {"default", field.default_text.empty() ? Json() : Json::parse(field.default_text)},
                      {"help", field.help}});
  }
  return to_line({{"explain", 1},
                  {"kind", doc.name},
                  {"help", doc.help},
                  {"runs_as", runs_as(kind)},
                  {"shorthand", doc.shorthand.empty() ? Json() : Json(doc.shorthand)},
                  {"fields", std::move(fields)},
                  {"example", fmt::format("steps:\n{}", example_of_kind(kind))}});
}

}  // namespace gpustrap
