#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "controller/shell_reader.h"

namespace gpustrap {

// What adopt_reader.cc has to know of a script before it takes its lines: whose it is, and what its functions do.

/// The program of a command, without sudo and the like; empty where there is none.
[[nodiscard]] std::string program_of(const ShellCommand& command);
/// Statements of a block's body, which begins on that line of the script.
[[nodiscard]] std::vector<ShellStatement> read_inside(const std::string& body, int line);
/// The name of the function that the text defines; empty where it defines none.
[[nodiscard]] std::string function_name(const std::string& text);
/// `[ "$EUID" -eq 0 ] || die …`: true for a script that ends where it is not root's, false for one that ends where it is.
[[nodiscard]] std::optional<bool> wants_root_of(const ShellStatement& statement);
/// A script that looks whether it is root says whose it is; else one that installs packages or starts services without sudo is root's.
/// `sudo -u NAME` is what root does to be somebody else.
[[nodiscard]] bool is_for_root(const std::vector<ShellStatement>& statements);

/// The functions of a script, by name.
class ScriptFunctions {
 public:
  struct Body {
    std::string text;
    int line = 1;
  };
  void find(const std::vector<ShellStatement>& statements);
  /// Nothing where there is none of this name, or two: which one is meant depends on the place.
  [[nodiscard]] const Body* body_of(const std::string& name) const;
  /// `log() { echo "[setup] $*"; }`: says something and does nothing.
  [[nodiscard]] bool only_speaks(const std::string& name, int depth = 0) const;
  /// `die() { echo "$*" >&2; exit 1; }`.
  [[nodiscard]] bool only_ends(const std::string& name) const;

 private:
  std::map<std::string, Body> bodies_;  ///< no text where a name has two
};

/// A `return` or `trap` anywhere but as a line of its own at the end, where it does not only say that something has failed.
[[nodiscard]] bool returns_early(const std::vector<ShellStatement>& statements, const ScriptFunctions& functions);

/// Whether every command in `text` is meant, and none runs in the background.
[[nodiscard]] bool holds_only(const std::string& text, const std::function<bool(const ShellCommand&)>& is_meant);

}  // namespace gpustrap
