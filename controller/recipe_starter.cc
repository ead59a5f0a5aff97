#include "controller/recipe_starter.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/unique_fd.h"

namespace gpustrap {
namespace {

/// "my-lab" of "recipes/my lab.yaml": a recipe's name has letters, digits, `.`, `_` and `-`.
std::string name_from(const std::string& path) {
  std::string name = path.substr(path.rfind('/') == std::string::npos ? 0 : path.rfind('/') + 1);
  for (const std::string_view ending : {".yaml", ".yml"}) {
    if (name.size() > ending.size() && name.ends_with(ending)) name.erase(name.size() - ending.size());
  }
  for (char& c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    if (!plain) c = '-';
  }
  name.erase(0, name.find_first_not_of("-._"));
  return name.empty() ? "recipe" : name.substr(0, 64);
}

}  // namespace

std::string starter_recipe(const std::string& path) {
  std::string text(starter_text());
  constexpr std::string_view kName = "\nname: NAME\n";
  text.replace(text.find(kName), kName.size(), fmt::format("\nname: \"{}\"\n", name_from(path)));
  // `lab.yaml` is a file to gpustrap, `lab` a recipe's name.
  const std::string file = path.find('/') == std::string::npos && !path.ends_with(".yaml") && !path.ends_with(".yml") ? "./" + path : path;
  for (std::size_t at = text.find(" FILE"); at != std::string::npos && at < text.find("# `gpustrap"); at = text.find(" FILE", at + 1)) {
    const std::size_t end = text.find_first_not_of(' ', at + 5);
    // What stands behind it stays in its column where there is room.
    const std::size_t room = end - at - 5;
    const std::string filled = " " + file;
    text.replace(at, 5, filled);
    if (file.size() > 4 && room > 2) text.erase(at + filled.size(), std::min(room - 2, file.size() - 4));
  }
  return text;
}

Result<void> write_new_file(const std::string& path, std::string_view content) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!file.valid() && errno == EEXIST) {
    return fail(ErrorCode::usage, fmt::format("{} is there already, and stays as it is", path), "give another name");
  }
  if (!file.valid())
    return fail(Error(ErrorCode::usage, std::strerror(errno), "name a file in a folder that is there").in("creating " + path));
  if (Result<void> written = write_all(file.get(), content); !written) return fail(std::move(written).error().in("writing " + path));
  return {};
}

}  // namespace gpustrap
