#pragma once

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "controller/adopt_functions.h"
#include "controller/adopt_state.h"
#include "controller/shell_reader.h"

namespace gpustrap {

/// Goes through a script, for adopt_reader.h.
class ScriptReader {
 public:
  ScriptReader(AdoptState& state, std::string marks) : state_(state), marks_(std::move(marks)) {}
  void read(std::string_view script);

 private:
  static constexpr int kDeepestBlock = 8;

  // adopt_reader.cc: line by line.
  void take_all(const std::vector<ShellStatement>& statements);
  void take(const ShellStatement& statement);
  /// The script's text behind a place; all of it from inside of a block, which has places of its own.
  [[nodiscard]] std::string_view behind(std::size_t end) const;
  [[nodiscard]] bool speaks(const AdoptSegment& segment) const;
  /// As typed steps; each remembers the command that it is where its fields turn out to be wrong.
  bool adopt(const AdoptSegment& segment);
  /// `[ -f FILE ] && make`: where the first is false the rest is not done, and that is no mistake.
  static bool asks_first(const ShellStatement& statement);
  /// `… || true`, `… || echo failed`: the command before it as a step, for a person to say whether the run may go on without it.
  bool take_shrugged(const ShellStatement& statement);
  static std::string text_of(const ShellStatement& statement, std::size_t begin, std::size_t end);
  void take_compound(const ShellStatement& statement);

  // adopt_blocks.cc: what stands around lines.
  /// `main "$@"`, `install git`: the lines of a function in the place of its call, where they mean there what they mean inside.
  bool open_call(const ShellStatement& statement);
  void take_inside(const std::vector<ShellStatement>& inside);
  /// What the script does with its own arguments, where it is given none.
  bool take_arguments_of_script(const ShellStatement& statement);
  /// `if [ "$WITH_CUDA" = yes ]; then …; else …; fi`, `$WITH_CUDA && …`: what is done by the values that the script sets.
  bool take_known(const ShellStatement& statement);
  /// `if [ ! -d X ]; then …; fi`, `[ -d X ] || …`: as steps, where each knows by itself when it is done, or as one with that guard.
  bool take_guarded(const ShellStatement& statement);
  /// `for name in a b c; do …; done`, where each round is steps that know when they are done.
  bool unroll(const ShellStatement& statement);
  /// A question, and what is done by its answer alone: `A && B`, `A || B | C`.
  static bool is_choice(const std::vector<ShellCommand>& all);
  /// No line of it ends anything, or sets what lines behind it would know only sometimes.
  [[nodiscard]] bool may_be_opened(const std::string& body) const;
  /// Tries the lines as steps; where any of them would be done though `holds` holds, nothing is changed.
  bool open_under(const std::string& text, const std::vector<ShellStatement>& inside, const std::string& holds);

  // adopt_settings.cc: what lines know of those above.
  /// `TOOLS+=" tmux"`.
  bool take_growth(const ShellStatement& statement);
  /// `TOOLS=(git tmux)`, `declare -A PORTS=([web]=80)`.
  bool take_array(const ShellStatement& statement);
  /// `if [ -f /etc/os-release ]; then . /etc/os-release; fi`: what sets variables and does nothing else goes along with the steps that need
  /// it.
  bool take_settings(const ShellStatement& statement);
  /// What a command sets that stays as it is, nobody knows from here on: `read NAME`, an assignment in a branch.
  void forget(const std::string& text);

  // adopt_kept.cc: what stays a command.
  /// The original text as a command.
  void keep(const AdoptSegment& segment);
  AdoptedStep* removal_before(const AdoptSegment& segment);
  /// Whether root's own step can run it: no home of the login user's in it, and nothing that another shell has to work out.
  [[nodiscard]] bool may_be_roots(const BareCommand& bare) const;
  /// With what it needs of the lines above. `mark` names the file that says it has been done.
  [[nodiscard]] AdoptedStep command_of(const AdoptSegment& segment, const std::string& mark) const;
  /// What is still for somebody to fill in: `<your-name>`, an argument of the script.
  [[nodiscard]] std::vector<std::string> blanks_in(const std::string& text) const;
  [[nodiscard]] std::string removed_by(const AdoptSegment& segment) const;
  static std::string id_of(const AdoptSegment& segment);

  AdoptState& state_;
  std::string marks_;
  std::string_view script_;
  std::size_t marked_ = 0;
  ScriptFunctions functions_;
  std::set<std::string> active_;  ///< functions that are open
  int depth_ = 0, opened_ = 0;
  bool ended_ = false;
  bool of_script_ = true;               ///< $1 and the like are the script's own
  std::string why_whole_;               ///< why the call that is read could not be opened
  std::optional<InferredGuard> guard_;  ///< of the command in an `if`
};

}  // namespace gpustrap
