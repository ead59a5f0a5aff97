// What there is on this machine to be named: hosts, recipes, mirrors, runs. Completion never fails: what cannot be read is not offered.
#include <glob.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/compat_lookup.h"
#include "agent/protocol/step_spec.h"
#include "controller/compat_loader.h"
#include "controller/completion.h"
#include "controller/fleet_hosts.h"
#include "controller/hosts_file.h"
#include "controller/recipe_loader.h"
#include "controller/run_catalogue.h"
#include "controller/run_log.h"
#include "controller/user_config.h"
#include "controller/user_recipes.h"

namespace gpustrap {
namespace {

std::vector<Candidate> hosts() {
  std::vector<Candidate> hosts;
  if (const Result<HostsFile> file = HostsFile::open()) {
    for (const RememberedHost& host : file->load().value_or(std::vector<RememberedHost>()))
      hosts.push_back({host.host, host.recipe.empty() ? "remembered" : "had " + host.recipe});
  }
  const char* home = std::getenv("HOME");
  if (home == nullptr) return hosts;
  const std::string folder = std::string(home) + "/.ssh";
  for (const std::string& host : hosts_of_ssh_config(folder + "/config", folder, home)) hosts.push_back({host, "~/.ssh/config"});
  return hosts;
}

std::vector<Candidate> recipes() {
  std::vector<Candidate> recipes;
  for (const RecipeListing& recipe : list_recipes(recipe_sources())) recipes.push_back({recipe.name, recipe.description});
  return recipes;
}

std::vector<Candidate> recipe_files(const std::string& start) {
  const std::size_t slash = start.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : start.substr(0, slash + 1);
  std::vector<Candidate> files;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder.empty() ? "." : folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with('.') && start.substr(folder.size()).empty()) continue;
    if (entry.is_directory(ignored))
      files.push_back({folder + name + "/", "folder", true});
    else if (is_recipe_file(name))
      files.push_back({folder + name, "recipe file"});
  }
  return files;
}

RecipeWords inside(const std::string& recipe) {
  RecipeWords words;
  if (recipe.empty()) return words;
  LoadOptions options;
  options.sources = recipe_sources();
  options.names_for_hosts = options.open_vars = true;
  const Result<LoadedRecipe> loaded = load_recipe(recipe, options);
  if (!loaded) return words;
  for (const StepEntry& step : loaded->recipe.steps) {
    words.steps.push_back({step.id, step.name.empty() ? std::string(step_kind_name(step.kind)) : step.name});
    words.tags.insert(words.tags.end(), step.tags.items.begin(), step.tags.items.end());
  }
  for (const auto& [name, value] : loaded->vars) words.vars.push_back({name, value});
  return words;
}

std::string last_recipe(const std::string& host) {
  const std::size_t at = host.rfind('@');
  const Result<std::optional<RememberedHost>> known =
      HostsFile::open().and_then([&](const HostsFile& file) { return file.find(at == std::string::npos ? host : host.substr(at + 1)); });
  return known && known->has_value() ? (*known)->recipe : "";
}

std::vector<Candidate> mirrors() {
  std::vector<Candidate> mirrors;
  for (const Mirror& mirror : load_user_config().value_or(UserConfig()).mirrors) mirrors.push_back({mirror.name, "config.yaml"});
  return mirrors;
}

std::vector<Candidate> gpus() {
  std::vector<Candidate> gpus;
  if (const Result<Compat> compat = load_builtin_compat()) {
    for (const std::string& name : gpu_names(*compat)) gpus.push_back({name});
  }
  return gpus;
}

std::vector<Candidate> runs() {
  std::vector<Candidate> runs;
  const Result<std::vector<PastRun>> past = state_directory().and_then([](const std::string& state) { return past_runs(state, {}); });
  for (const PastRun& run : past.value_or(std::vector<PastRun>()))
    runs.push_back({run.id, run.recipe + (run.host.empty() ? "" : " on " + run.host)});
  return runs;
}

std::vector<Candidate> fleet(const std::string& hosts_file) {
  std::vector<Candidate> names;
  const Result<FleetHosts> hosts = load_fleet_hosts(hosts_file);
  if (!hosts) return names;
  for (const FleetHost& host : hosts->hosts) names.push_back({host.name, host.settings.address == host.name ? "" : host.settings.address});
  for (const std::string& group : hosts->groups) names.push_back({group, "group"});
  return names;
}

std::vector<Candidate> kinds() {
  std::vector<Candidate> kinds;
  for (const std::string& name : step_kind_names()) kinds.push_back({name, "kind of step"});
  return kinds;
}

}  // namespace

CompletionWorld completion_world() {
  CompletionWorld world;
  world.hosts = hosts;
  world.recipes = recipes;
  world.kinds = kinds;
  world.mirrors = mirrors;
  world.gpus = gpus;
  world.runs = runs;
  world.recipe_files = recipe_files;
  world.inside = inside;
  world.last_recipe = last_recipe;
  world.fleet = fleet;
  return world;
}

std::vector<std::string> hosts_of_ssh_config(const std::string& path, const std::string& folder, const std::string& home, int depth) {
  std::vector<std::string> hosts;
  for (const std::string& line : split(read_file(path, 1U << 20U).value_or(""), '\n')) {
    std::string spaced = line;
    std::replace(spaced.begin(), spaced.end(), '=', ' ');
    const std::vector<std::string> parts = words(spaced);
    if (parts.size() < 2) continue;
    std::string keyword = parts.front();
    std::transform(keyword.begin(), keyword.end(), keyword.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (keyword == "host") {
      for (std::size_t i = 1; i < parts.size() && !parts[i].starts_with('#'); ++i) {
        if (parts[i].find_first_of("*?!\"") == std::string::npos) hosts.push_back(parts[i]);
      }
    }
    if (keyword != "include" || depth >= 4) continue;
    for (std::size_t i = 1; i < parts.size(); ++i) {
      const std::string file = parts[i].starts_with("~/") ? home + parts[i].substr(1) : parts[i];
      glob_t found{};
      if (::glob((file.starts_with('/') ? file : folder + "/" + file).c_str(), 0, nullptr, &found) == 0) {
        for (std::size_t k = 0; k < found.gl_pathc; ++k) {
          const std::vector<std::string> more = hosts_of_ssh_config(found.gl_pathv[k], folder, home, depth + 1);
          hosts.insert(hosts.end(), more.begin(), more.end());
        }
      }
      ::globfree(&found);
    }
  }
  return hosts;
}

}  // namespace gpustrap
