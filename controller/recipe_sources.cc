#include "controller/recipe_sources.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "controller/yaml_document.h"

namespace gpustrap {
namespace {

Error no_such_file(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_symlink(path, ignored))
    return {ErrorCode::recipe,
            fmt::format("{} is a link to {}, which is not there", path, std::filesystem::read_symlink(path, ignored).string()),
            "name the file itself, or make the link anew"};
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".yaml") || name.ends_with(".yml")) files.push_back(name);
  }
  std::sort(files.begin(), files.end());
  const std::string nearest = nearest_name(path.substr(slash == std::string::npos ? 0 : slash + 1), files);
  const std::string why = fmt::format("there is no recipe file {}{}", quote_value(path),
                                      nearest.empty() ? "" : fmt::format("; did you mean `{}/{}`?", folder == "/" ? "" : folder, nearest));
  if (!std::filesystem::is_directory(folder, ignored)) return {ErrorCode::recipe, why, fmt::format("there is no folder {} either", folder)};
  return {ErrorCode::recipe, why,
          files.empty() ? "a recipe is a .yaml file; `gpustrap recipe show jupyter > lab.yaml` is a start" : "check its name and folder"};
}

Result<RecipeText> read_recipe_file(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    return fail(ErrorCode::recipe, path + " is a directory", "name a recipe file in it");
  }
  // To open a pipe or a device would wait for somebody to write. One that the shell has made, <(…), has its writer.
  const bool is_from_shell = path.starts_with("/dev/fd/") || path.starts_with("/proc/self/fd/") || path == "/dev/stdin";
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status) && !is_from_shell)
    return fail(ErrorCode::recipe, path + " is no file but a pipe, a socket or a device", "a recipe is a .yaml file");
  if (const auto size = std::filesystem::file_size(path, ignored); !ignored && size > kMaxRecipeBytes) {
    return fail(ErrorCode::recipe, fmt::format("{} has {} MiB, and a recipe at most 1", path, (size >> 20U) + 1),
                "is it the file that you meant?");
  }
  auto text = read_file(path, kMaxRecipeBytes + 1);
  if (!text && text.error().code() == ErrorCode::not_found) return fail(no_such_file(path));
  if (!text) return fail(Error(ErrorCode::recipe, std::move(text).error().sentence()).in("opening the recipe"));
  return RecipeText{path, *std::move(text), parent_of(path)};
}

}  // namespace

bool is_recipe_file(std::string_view name) {
  return name.find('/') != std::string_view::npos || name.ends_with(".yaml") || name.ends_with(".yml");
}

Result<RecipeText> find_recipe(const std::string& name, const RecipeSources& sources, const std::string& directory) {
  if (name.find("://") != std::string::npos) {
    return fail(ErrorCode::recipe, quote_value(name) + " is a URL: expected a recipe's name or file",
                "download it, read it, then name the file");
  }
  if (is_recipe_file(name) && name[0] != '/' && !directory.empty()) {
    // One name for one file: a recipe that includes itself is known by it.
    const std::string path = directory + "/" + std::filesystem::path(name).lexically_normal().string();
    return read_recipe_file(directory == "." ? path.substr(name.starts_with("./") ? 0 : 2) : path);
  }
  if (is_recipe_file(name)) return read_recipe_file(name);
  if (is_plain_id(name) && !sources.user_directory.empty()) {
    const std::string path = sources.user_directory + "/" + name + ".yaml";
    if (path_exists(path)) return read_recipe_file(path);
  }
  for (const BuiltinRecipe& builtin : *sources.builtins) {
    if (builtin.name == name) return RecipeText{fmt::format("built-in/{}.yaml", name), std::string(builtin.text), {}};
  }
  const std::vector<std::string> names = recipe_names(sources);
  const std::string nearest = nearest_name(name, names);
  std::error_code ignored;
  std::string hint;
  for (const std::string& file : {name, name + ".yaml", name + ".yml"}) {
    if (!hint.empty() || !std::filesystem::is_regular_file(file, ignored)) continue;
    hint = fmt::format("for the file write {}{}; ", is_recipe_file(file) ? "" : "./", file);
  }
  hint += "recipes: " + join(names, ", ");
  return fail(
      ErrorCode::recipe,
      fmt::format("there is no recipe {}{}", quote_value(name), nearest.empty() ? "" : fmt::format("; did you mean `{}`?", nearest)),
      std::move(hint));
}

std::vector<std::string> recipe_names(const RecipeSources& sources) {
  std::set<std::string> names;
  for (const BuiltinRecipe& builtin : *sources.builtins) names.emplace(builtin.name);
  std::error_code ignored;
  if (!sources.user_directory.empty()) {
    for (const auto& entry : std::filesystem::directory_iterator(sources.user_directory, ignored)) {
      if (entry.path().extension() == ".yaml" && is_plain_id(entry.path().stem().string())) names.insert(entry.path().stem().string());
    }
  }
  return {names.begin(), names.end()};
}

}  // namespace gpustrap
