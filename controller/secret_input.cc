#include "controller/secret_input.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/hosts_file.h"
#include "controller/prompt.h"
#include "controller/recipe_loader.h"
#include "controller/user_recipes.h"

namespace gpustrap {
namespace {

std::optional<std::string> from_environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

SecretSurroundings surroundings() {
  SecretSurroundings around;
  around.environment = from_environment;
  around.home = from_environment("HOME").value_or("");
  if (can_ask()) around.ask = ask_secret;
  // What is collected now must not end in a core file.
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  return around;
}

/// The recipe that was last brought to this host; none where it is not remembered, or can no longer be loaded.
std::optional<Recipe> remembered_recipe(const Options& options) {
  const Result<HostsFile> file = HostsFile::open();
  if (!file) return std::nullopt;
  const Result<std::optional<RememberedHost>> host = file->find(options.host);
  if (!host || !host->has_value() || (*host)->recipe.empty()) return std::nullopt;
  LoadOptions load;
  load.sources = recipe_sources();
  Result<LoadedRecipe> loaded = load_recipe((*host)->recipe, load);
  if (!loaded) return std::nullopt;
  return std::move(loaded->recipe);
}

}  // namespace

Result<SecretValues> secrets_for(const Recipe& recipe) {
  std::set<std::string> needed;
  for (const StepEntry& step : recipe.steps) {
    for (std::string& name : secrets_of(step).all) needed.insert(std::move(name));
  }
  if (needed.empty()) return SecretValues();
  std::vector<SecretSource> sources = recipe.secrets;
  std::erase_if(sources, [&](const SecretSource& source) { return !needed.contains(source.name); });
  return collect_secrets(sources, surroundings());
}

SecretValues secrets_waited_for(const std::vector<std::string>& names, const std::string& running, const Options& options, Status& status) {
  const std::optional<Recipe> recipe = remembered_recipe(options);
  std::vector<SecretSource> sources;
  if (recipe && recipe->name == running) sources = recipe->secrets;
  std::erase_if(sources, [&](const SecretSource& source) { return std::find(names.begin(), names.end(), source.name) == names.end(); });
  std::string why = "no recipe that is remembered for this host says where it comes from";
  if (!sources.empty()) {
    status.pause();
    Result<SecretValues> values = collect_secrets(sources, surroundings());
    if (values) return *std::move(values);
    why = values.error().why();
  }
  status.notice(fmt::format("The run waits for {} {}: {}. `gpustrap up RECIPE {}` with the same recipe hands over what it needs.",
                            names.size() == 1 ? "the secret" : "the secrets", strip_control(join(names, ", ")), why,
                            options.destination()));
  return {};
}

}  // namespace gpustrap
