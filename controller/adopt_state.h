#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/protocol/json.h"
#include "controller/shell_reader.h"

namespace gpustrap {

/// One step of the recipe that is being made.
struct AdoptedStep {
  std::string id;  ///< wanted; made single later
  std::string kind;
  Json fields = Json::object();
  std::string as;                                 ///< empty: the kind's own
  std::vector<std::string> comments;              ///< what stood in the script, and what became of it
  std::vector<std::string> reviews;               ///< what a person should look at
  std::vector<std::string> allows;                ///< rules of lint that the original text breaks
  std::string original;                           ///< the command as it stood
  std::string folder;                             ///< where it ran; empty: not known
  std::string removes;                            ///< the one file that a command removes
  bool dropped = false;                           ///< another step does its work
  std::shared_ptr<const AdoptedStep> as_command;  ///< what it is where its fields turn out to be wrong
  int line = 0;                                   ///< of the script
};

/// A command of the script that has no step.
struct LeftOut {
  int line;
  std::string text, why;
};

/// What the commands above have done to the shell that runs the script.
struct AdoptState {
  struct Variable {
    std::optional<std::string> value;  ///< none: only a shell knows
    std::string text;                  ///< of the assignment
    bool exported = false;
    std::optional<std::vector<std::string>> elements;  ///< of an array, where they are known
    std::size_t order = 0;                             ///< among all that the script sets
  };
  /// `. FILE`: what it sets goes along with the commands that need it.
  struct Source {
    std::string text;
    std::vector<std::string> names;  ///< what it is known to set; none: anything
    std::size_t order = 0;
  };
  struct Download {
    std::string url;
    std::size_t step;  ///< index of the step that fetches it
  };
  std::vector<AdoptedStep> steps;
  std::vector<LeftOut> left_out;
  int script_line = 0;                      ///< where what is being read begins
  std::vector<std::string> comments;        ///< for the next step
  std::optional<std::string> folder = "~";  ///< none: not known
  std::optional<std::string> folder_before = "~";
  std::map<std::string, Variable> variables;
  std::vector<Source> sources;
  std::size_t settings = 0;                      ///< counts variables and sources
  std::string_view behind;                       ///< the script's text behind the segment that is read
  std::map<std::string, std::string> functions;  ///< text by name
  std::map<std::string, Download> downloads;     ///< by path on the host
  std::string venv, conda_env, conda_prefix;     ///< what pip installs into
  std::optional<std::size_t> conda_step;
  bool is_root = false;  ///< the script is one for root: it installs packages without sudo
  bool asks_terms = false;

  [[nodiscard]] std::optional<std::string> value_of(const std::string& name) const;
  [[nodiscard]] std::optional<std::string> text_of(const ShellWord& word) const;
  /// What a shell makes of a word: it splits a value that stands without quotes. None where only a shell knows.
  [[nodiscard]] std::optional<std::vector<std::string>> fields_of(const ShellWord& word) const;
  /// fields_of, where it is one.
  [[nodiscard]] std::optional<std::string> field_of(const ShellWord& word) const;
  /// Paths of what the steps above fetch, by a pattern such as `Miniconda3-*.sh`.
  [[nodiscard]] std::vector<std::string> fetched_by(const ShellWord& word) const;
  /// Keeps an assignment for the steps below; `text` is what a shell has to read for it.
  void assign(const std::string& name, std::optional<std::string> value, const std::string& text, bool exported);
  void source(std::string text, std::vector<std::string> names);
  /// Assignments, sourced files and functions of the lines above that `text` needs, in an order that makes sense to a shell. What is
  /// root's (`sudo make`, too) has no use for the login's environments.
  [[nodiscard]] std::string prelude_of(const std::string& text, bool as_root) const;
  /// A path of the script on the host: absolute or below ~; none where that is not known.
  [[nodiscard]] std::optional<std::string> path_of(const std::string& text) const;
  AdoptedStep& add(std::string kind, Json fields);
  /// A command that needs no step: kept as a comment.
  void absorb(const std::string& text, std::string_view why);
  /// The step that is made next does the work of that one, too, and takes its comments.
  void drop(AdoptedStep& step, std::string_view why);
};

/// What stands between `&&`: a command, or a pipeline of them.
struct AdoptSegment {
  std::vector<ShellCommand> commands;
  std::string text;
  bool background = false;
};

/// Takes a segment as typed steps; false where it is not understood, and then nothing was changed.
[[nodiscard]] bool adopt_segment(const AdoptSegment& segment, AdoptState& state);

/// What tells that a command has been done, where its words show it: a path for `creates`, or a command for `unless`.
struct InferredGuard {
  std::string creates, unless;
};
[[nodiscard]] InferredGuard infer_guard(const AdoptSegment& segment, const AdoptState& state);

}  // namespace gpustrap
