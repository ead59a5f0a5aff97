#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/recipe.h"
#include "controller/fleet_hosts.h"
#include "controller/recipe_sources.h"
#include "controller/yaml_document.h"

namespace gpustrap {

struct LoadOptions {
  RecipeSources sources;
  std::vector<std::pair<std::string, std::string>> vars;  ///< --var NAME=VALUE, the last of a name wins
  /// What a hosts file says for the host: stronger than the recipe's defaults. Those that the recipe does not have are for another recipe.
  std::vector<HostVar> host_vars = {};
  /// The hosts that `${{ hosts.… }}` speaks of, and which of them the recipe is for; none where a host is by itself.
  const FleetHosts* hosts = nullptr;
  std::size_t host = 0;
  /// For people who want to read the recipe before they have a hosts file: `<hosts.head.address>` stands for what it would say.
  bool names_for_hosts = false;
  /// For who looks at a recipe before anybody has said what its vars are: `${{ vars.x }}` of one without a default stays as it is.
  bool open_vars = false;
};

/// A recipe ready for a host: includes taken in, vars filled in, every field checked; only facts may be missing.
struct LoadedRecipe {
  Recipe recipe;
  std::string source;                                     ///< the file, or "built-in/jupyter.yaml"
  std::vector<std::pair<std::string, std::string>> vars;  ///< as used, for people
  std::vector<std::string> next;                          ///< `next`: what people are told once all is done, a line each
  bool of_one_host = false;                               ///< it says `hosts.self` or the like: another host's would differ
};

/// Loads `name_or_path`. The error (recipe) of a wrong recipe holds all problems, sorted by place, one a line:
/// "d2l.yaml:12:5: `packges` is not a field of apt; did you mean `packages`?"
[[nodiscard]] Result<LoadedRecipe> load_recipe(const std::string& name_or_path, const LoadOptions& options);

/// A recipe with its mistakes, for who has more to say of it. Steps are as the loader has them: includes taken in, vars filled in.
struct ReviewedRecipe {
  std::string source;                        ///< as in LoadedRecipe
  std::shared_ptr<Json> document;            ///< null where the text is no recipe
  PlaceMap places;                           ///< of `document`
  std::map<std::string, std::string> texts;  ///< of all files it is made of, by the names that places have
  std::vector<SourceProblem> problems;       ///< all that load_recipe would refuse it for
};
/// The error is that of a recipe that is not there.
[[nodiscard]] Result<ReviewedRecipe> review_recipe(const std::string& name_or_path, const LoadOptions& options);

/// What `recipe list` shows. The description is empty where the file is no recipe.
struct RecipeListing {
  std::string name, description, source;
};
[[nodiscard]] std::vector<RecipeListing> list_recipes(const RecipeSources& sources);

/// "NAME=VALUE" of --var; an error (usage) for anything else.
[[nodiscard]] Result<std::pair<std::string, std::string>> parse_var(const std::string& argument);

}  // namespace gpustrap
