#include "controller/adopt.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "controller/adopt_input.h"
#include "controller/adopt_reader.h"
#include "controller/adopt_state.h"
#include "controller/adopt_yaml.h"
#include "controller/compat_loader.h"
#include "controller/lint.h"

namespace gpustrap {
namespace {

/// Turns a step back into the command that it was made of.
void make_command(AdoptedStep& step) {
  step.kind = "command";
  step.fields = step.as_command->fields;
  step.as = step.as_command->as;
  step.reviews = step.as_command->reviews;
}

/// In a script for root ~ is root's home, in its files as in its commands.
void make_roots(AdoptedStep& step) {
  constexpr std::string_view kOfTheLogin[] = {"git", "conda", "conda_env", "venv", "pip", "environment"};
  const bool by_kind = std::find(std::begin(kOfTheLogin), std::end(kOfTheLogin), step.kind) != std::end(kOfTheLogin);
  const bool by_path = std::any_of(step.fields.begin(), step.fields.end(), [](const Json& value) {
    return value.is_string() && value.get_ref<const std::string&>().starts_with('~');
  });
  if (step.kind != "jupyter" && (by_kind || by_path)) step.as = "root";
}

/// `${{` is a placeholder in recipes, and may be text in what a script writes: it goes through base64.
void hide_placeholders(AdoptedStep& step) {
  if (step.kind != "command" || !step.fields.contains("run")) return;
  const auto run = step.fields["run"].get<std::string>();
  if (run.find("${{") == std::string::npos) return;
  step.fields["run"] = fmt::format("bash -eo pipefail -c \"$(base64 -d <<'END'\n{}\nEND\n)\"\n", base64_of(run));
  step.reviews.emplace_back("the text holds `${{`, which recipes fill in: it stands here in base64");
}

void give_single_ids(std::vector<AdoptedStep>& steps) {
  std::set<std::string> taken;
  for (AdoptedStep& step : steps) {
    const std::string wanted = step.id.empty() ? step.kind : step.id;
    std::string id = wanted;
    for (std::size_t n = 2; !taken.insert(id).second; ++n) id = fmt::format("{}-{}", wanted, n);
    step.id = id;
  }
}

/// What lint says of the recipe, by step: errors of the loader make a step the command it was; everything else is marked for review, and
/// what is no error is allowed there with the script as the reason.
bool settle(AdoptedRecipe& recipe) {
  const Result<Compat> compat = load_builtin_compat();
  if (!compat) return false;
  constexpr int kMostRounds = 4;
  for (int round = 0; round < kMostRounds; ++round) {
    std::vector<AdoptedLines> lines;
    const std::string text = write_adopted(recipe, lines);
    const std::vector<BuiltinRecipe> only = {{"adopted", text}};
    LoadOptions options;
    options.sources.builtins = &only;
    const Result<LintReport> report = lint_recipe("adopted", options, *compat);
    if (!report) return false;
    bool changed = false;
    std::set<std::size_t> broken;
    for (const LintFinding& finding : report->findings) {
      if (finding.rule->id == "review") continue;
      const auto next = std::upper_bound(lines.begin(), lines.end(), finding.place.line,
                                         [](int line, const AdoptedLines& step) { return line < step.begin; });
      if (next == lines.begin()) return false;
      const std::size_t index = static_cast<std::size_t>(next - lines.begin()) - 1;
      AdoptedStep& step = recipe.steps[index];
      if (finding.rule->id == "recipe-error") {
        if (step.kind == "command" || !step.as_command) return false;
        if (broken.insert(index).second) {
          make_command(step);
          hide_placeholders(step);
        }
        changed = true;
        continue;
      }
      const std::string id(finding.rule->id);
      const std::string review = fmt::format("{}: {}", finding.message, finding.advice);
      if (std::find(step.reviews.begin(), step.reviews.end(), review) != step.reviews.end() ||
          std::find(step.allows.begin(), step.allows.end(), id) != step.allows.end())
        continue;
      // An error stays one until somebody has looked: no script is a reason to hide it.
      if (finding.severity != Severity::error) step.allows.push_back(id);
      step.reviews.push_back(review);
      changed = true;
    }
    if (!changed) return true;
  }
  return false;
}

}  // namespace

AdoptedScript adopt_script(std::string_view script, const std::string& name) {
  AdoptedScript adopted;
  AdoptInput input = read_adopt_input(script, name);
  if (!input.problem.empty()) {
    adopted.problem = std::move(input.problem);
    adopted.advice = std::move(input.advice);
    return adopted;
  }
  AdoptedRecipe recipe;
  recipe.script = name;
  recipe.name = recipe_name_from(name);
  AdoptState state;
  read_script(input.text, recipe.name, state);
  recipe.asks_terms = state.asks_terms;
  recipe.comments = std::move(state.comments);
  for (AdoptedStep& step : state.steps) {
    if (step.dropped) continue;
    if (state.is_root && step.as.empty()) make_roots(step);
    recipe.steps.push_back(std::move(step));
  }
  if (recipe.steps.empty()) {
    adopted.problem = "there is no command in it that changes a host";
    adopted.advice = "name a script that installs or sets something; `gpustrap recipe new FILE` begins a recipe without one";
    return adopted;
  }
  give_single_ids(recipe.steps);
  for (AdoptedStep& step : recipe.steps) hide_placeholders(step);
  if (!settle(recipe)) {
    adopted.problem = "no recipe that loads can be made of it: more than 1 MiB of text, or characters that YAML does not take";
    adopted.advice = "give a part of the script";
    return adopted;
  }
  std::vector<AdoptedLines> lines;
  adopted.recipe = write_adopted(recipe, lines);
  for (std::size_t i = 0; i < recipe.steps.size(); ++i) {
    const AdoptedStep& step = recipe.steps[i];
    ++(step.kind == "command" ? adopted.commands : adopted.typed);
    for (std::size_t k = 0; k < step.reviews.size(); ++k)
      adopted.reviews.push_back({step.id, step.line, lines[i].reviews[k], review_text(step.reviews[k])});
  }
  adopted.blocks = input.blocks;
  for (const LeftOut& one : input.left_out) {
    adopted.blocks_left.push_back({one.line, one.text, one.why});
    adopted.left_out.push_back({one.line, one.text, one.why});
  }
  for (LeftOut& one : state.left_out) adopted.left_out.push_back({one.line, std::move(one.text), std::move(one.why)});
  std::stable_sort(adopted.left_out.begin(), adopted.left_out.end(),
                   [](const AdoptedScript::LeftOut& a, const AdoptedScript::LeftOut& b) { return a.script_line < b.script_line; });
  return adopted;
}

std::string adopted_json(const AdoptedScript& adopted, const std::string& script, const std::string& file) {
  Json reviews = Json::array(), left_out = Json::array();
  for (const AdoptedScript::Review& one : adopted.reviews)
    reviews.push_back({{"step", one.step}, {"script_line", one.script_line}, {"recipe_line", one.recipe_line}, {"why", one.why}});
  for (const AdoptedScript::LeftOut& one : adopted.left_out)
    left_out.push_back({{"script_line", one.script_line}, {"text", one.text}, {"why", one.why}});
  return to_line({{"adopt", 1},
                  {"script", script},
                  {"file", file.empty() ? Json() : Json(file)},
                  {"recipe", adopted.recipe},
                  {"typed", adopted.typed},
                  {"commands", adopted.commands},
                  {"reviews", std::move(reviews)},
                  {"left_out", std::move(left_out)}});
}

}  // namespace gpustrap
