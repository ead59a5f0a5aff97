#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/recipe.h"
#include "controller/compat_loader.h"
#include "controller/console.h"
#include "controller/display_width.h"
#include "controller/embedded_agents.h"
#include "controller/manifest.h"
#include "controller/recipe_explain.h"
#include "controller/recipe_loader.h"
#include "controller/recipe_reference.h"
#include "controller/user_recipes.h"
#include "controller/verbs.h"

namespace gpustrap {
namespace {

VerbResult print(const std::string& text) {
  if (Result<void> written = write_all(STDOUT_FILENO, text); !written) return fail(std::move(written).error());
  return ExitCode::ok;
}

}  // namespace

std::string config_directory() {
  const char* config = std::getenv("XDG_CONFIG_HOME");
  const char* home = std::getenv("HOME");
  if (config != nullptr && config[0] == '/') return std::string(config) + "/gpustrap";
  if (home != nullptr && home[0] == '/') return std::string(home) + "/.config/gpustrap";
  return {};
}

RecipeSources recipe_sources() {
  RecipeSources sources;
  if (const std::string directory = config_directory(); !directory.empty()) sources.user_directory = directory + "/recipes";
  return sources;
}

VerbResult verb_recipe_list(const Options& options) {
  const std::vector<RecipeListing> recipes = list_recipes(recipe_sources());
  if (options.json) {
    Json document = {{"version", 1}, {"recipes", Json::array()}};
    for (const RecipeListing& recipe : recipes)
      document["recipes"].push_back(
          {{"name", recipe.name}, {"description", to_utf8(recipe.description)}, {"source", to_utf8(recipe.source)}});
    return print(to_line(document));
  }
  std::size_t longest = 0;
  for (const RecipeListing& recipe : recipes) longest = std::max(longest, display_width(recipe.name));
  std::string text;
  for (const RecipeListing& recipe : recipes) {
    const std::string from = recipe.source.starts_with("built-in/") ? "" : fmt::format("  ({})", recipe.source);
    text += strip_control(fmt::format("{}  {}{}", fit_to_width(recipe.name, longest), first_line(recipe.description), from)) + "\n";
  }
  return print(text);
}

VerbResult verb_recipe_show(const Options& options) {
  if (options.json) {
    Result<LoadedRecipe> loaded = load_recipe(options.recipe, LoadOptions{recipe_sources(), options.vars});
    if (!loaded) return fail(std::move(loaded).error());
    if (Result<void> added = add_compat(loaded->recipe); !added) return fail(std::move(added).error());
    return print(write_recipe(loaded->recipe).dump() + "\n");
  }
  if (!options.vars.empty())
    return fail(ErrorCode::usage, "--var goes with --json: the recipe itself is shown as it is written", "add --json, or leave --var out");
  Result<RecipeText> recipe = find_recipe(options.recipe, recipe_sources());
  if (!recipe) return fail(std::move(recipe).error());
  return print(recipe->text);
}

VerbResult verb_recipe_explain(const Options& options) {
  const std::vector<std::string> names = recipe_names(recipe_sources());
  const bool is_recipe = is_recipe_file(options.recipe) || std::find(names.begin(), names.end(), options.recipe) != names.end();
  const bool is_kind = step_kind_from_name(options.recipe).has_value();
  if (options.kind || (is_kind && !is_recipe)) {
    const Result<std::string> text = explain_kind(options.recipe);
    if (!text) return fail(text.error());
    return print(options.json ? kind_json(*step_kind_from_name(options.recipe)) : *text);
  }
  if (!is_recipe) {
    std::vector<std::string> known = names;
    known.insert(known.end(), step_kind_names().begin(), step_kind_names().end());
    const std::string nearest = nearest_name(options.recipe, known);
    return fail(ErrorCode::recipe,
                fmt::format("there is neither a recipe nor a kind of step {}{}", quote_value(options.recipe),
                            nearest.empty() ? "" : fmt::format("; did you mean `{}`?", nearest)),
                fmt::format("recipes: {}\nkinds: {}", join(names, ", "), join(step_kind_names(), ", ")));
  }
  const Result<Compat> compat = load_builtin_compat();
  if (!compat) return fail(compat.error());
  Result<ImaginedMachine> machine = imagine_machine(*compat, options.gpus, options.os, options.arch);
  if (!machine) return fail(std::move(machine).error());
  machine->cuda = options.cuda;
  machine->branch = options.branch;
  LoadOptions load{recipe_sources(), options.vars};
  load.names_for_hosts = true;
  const Result<LoadedRecipe> recipe = load_recipe(options.recipe, load);
  if (!recipe) return fail(recipe.error());
  const Console console = console_of(STDOUT_FILENO, ColourChoice::never);
  Explanation explanation = explain_recipe(*recipe, *compat, *machine, console.person ? console.size().columns - 1 : 0);
  if (is_kind)
    explanation.text += fmt::format("\n`{}` is a kind of step, too: gpustrap recipe explain {} --kind\n", options.recipe, options.recipe);
  const VerbResult printed = print(options.json ? explanation.document : explanation.text);
  return printed && explanation.would_fail ? VerbResult(ExitCode::step_failed) : printed;
}

VerbResult verb_version(const Options& options) {
  if (options.json) {
    Json document = {{"version", 1}, {"gpustrap", GPUSTRAP_VERSION}, {"agents", Json::array()}};
    for (const EmbeddedAgent& agent : embedded_agents())
      document["agents"].push_back({{"arch", agent.arch}, {"sha256", agent.digest}, {"packed_bytes", agent.gzipped.size()}});
    return print(to_line(document));
  }
  std::string text = "gpustrap " GPUSTRAP_VERSION "\n";
  for (const EmbeddedAgent& agent : embedded_agents()) {
    text += fmt::format("agent {:<8} {}  {}\n", agent.arch, agent.digest.substr(0, 16), human_bytes(agent.gzipped.size()));
  }
  if (embedded_agents().empty()) text += "no agents are built in\n";
  return print(text + kManifest);
}

}  // namespace gpustrap
