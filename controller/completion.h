#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace gpustrap {

/// A word that could stand where the cursor is.
struct Candidate {
  std::string word;
  std::string what{};    ///< for people; may be empty
  bool goes_on = false;  ///< more belongs behind it: no space after it
  auto operator<=>(const Candidate&) const = default;
};

/// What can be named inside a recipe.
struct RecipeWords {
  std::vector<Candidate> steps, vars;
  std::vector<std::string> tags;
};

/// What there is to be named: nothing of it is asked for unless it is needed. Tests give their own.
struct CompletionWorld {
  std::function<std::vector<Candidate>()> hosts, recipes, kinds, mirrors, gpus, runs;
  /// Recipe files and folders (with a slash) that begin so.
  std::function<std::vector<Candidate>(const std::string& start)> recipe_files;
  std::function<RecipeWords(const std::string& recipe)> inside;
  std::function<std::string(const std::string& host)> last_recipe;             ///< that a host was set up with; empty where nobody knows
  std::function<std::vector<Candidate>(const std::string& hosts_file)> fleet;  ///< hosts and groups of a hosts file
};
/// The user's own.
[[nodiscard]] CompletionWorld completion_world();

struct Completion {
  std::vector<Candidate> candidates;
  bool files = false;  ///< any file would do as well, which the shell knows best
};
/// `words` are those behind the program's name; the last is the one that is being written, and may be empty.
[[nodiscard]] Completion complete(const std::vector<std::string>& words, const CompletionWorld& world);
/// For the scripts: a line for each, with a tab before what it is; `:files`, and `:nospace` where no space belongs behind any of them.
[[nodiscard]] std::string completion_lines(const Completion& completion);

/// The scripts, as they are built in.
[[nodiscard]] std::string_view bash_completion();
[[nodiscard]] std::string_view zsh_completion();
[[nodiscard]] std::string_view fish_completion();

/// The names that `Host` lines of an ssh configuration give, without patterns; includes are followed. `home` stands for ~.
[[nodiscard]] std::vector<std::string> hosts_of_ssh_config(const std::string& path, const std::string& folder, const std::string& home,
                                                           int depth = 0);

}  // namespace gpustrap
