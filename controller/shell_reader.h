#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gpustrap {

// Shell text taken apart as far as it can be without running it. What is not understood stays text, whole and in its place.

/// A piece of a word: text that is what it says, a variable, or something that only a shell can work out.
struct ShellPart {
  enum class Kind { text, variable, opaque } kind = Kind::text;
  std::string text;     ///< the text without its quotes, the variable's name, or what stood there
  bool quoted = false;  ///< of a variable or what is opaque: in double quotes, where a shell does not split its value
};

struct ShellWord {
  std::vector<ShellPart> parts;
  std::size_t begin = 0, end = 0;  ///< bytes of the text
  bool quoted = false;             ///< some of it in quotes

  /// Its text where nothing is left for a shell to work out.
  [[nodiscard]] std::optional<std::string> plain() const;
  /// The same with the values of variables that `value_of` knows.
  [[nodiscard]] std::optional<std::string> expanded(
      const std::function<std::optional<std::string>(const std::string& name)>& value_of) const;
  /// Its text with variables as `${NAME}` and the rest as it stood: for looking at, not for use.
  [[nodiscard]] std::string shown() const;
};

struct ShellAssignment {
  std::string name;
  ShellWord value;
};

struct ShellRedirect {
  std::string op;                       ///< ">", ">>", "<", "<<", "&>" …; a descriptor before it is not kept
  int descriptor = -1;                  ///< the one that was written, or -1
  ShellWord target;                     ///< of a here-document: its delimiter
  std::optional<std::string> document;  ///< the lines of a here-document
  bool document_is_plain = false;       ///< nothing in it is expanded
};

/// What stands between a command and the one before it.
enum class ShellJoin { none, and_then, or_else, pipe };

struct ShellCommand {
  ShellJoin join = ShellJoin::none;
  std::vector<ShellAssignment> assignments;
  std::vector<ShellWord> words;
  std::vector<ShellRedirect> redirects;
  std::size_t begin = 0, end = 0;
};

/// What ends at a newline, `;` or `&`.
struct ShellStatement {
  std::vector<ShellCommand> commands;  ///< empty where it is compound (if, for, a function, …) or not understood
  bool background = false;
  std::string text;                   ///< as written, with the bodies of its here-documents
  std::vector<std::string> comments;  ///< lines above it, and what stands behind it; without `#`
  std::size_t begin = 0, end = 0;
  int line = 1;
};

/// All statements in order. Comments behind the last one come as a statement without text.
[[nodiscard]] std::vector<ShellStatement> read_shell(std::string_view text);

/// What is not closed before the text ends, or closes what nothing has opened.
struct ShellFault {
  int line = 1;
  std::string what;  ///< "`if`", "the quote \"", "the here-document END"
  bool stray = false;
};
[[nodiscard]] std::optional<ShellFault> find_fault(std::string_view text);

/// `if CONDITION; then BODY; fi`, `for NAME in WORDS; do BODY; done` or `NAME() { BODY }`, and nothing else beside it.
struct ShellBlock {
  enum class Kind { condition, loop, function } kind = Kind::condition;
  std::string condition;         ///< of `if`
  std::string name;              ///< of `for` and of a function
  std::vector<ShellWord> words;  ///< of `for`
  std::string body;
  int line = 0;  ///< of the body, counted from the block's first, which is 0
};
[[nodiscard]] std::optional<ShellBlock> read_block(std::string_view text);

/// One of `if A; then …; elif B; then …; else …; fi`.
struct ShellBranch {
  std::string condition;  ///< empty: `else`
  std::string body;
  int line = 0;  ///< of the body, counted from the first line, which is 0
};
/// All of them, where the text is one `if` and nothing beside it.
[[nodiscard]] std::vector<ShellBranch> read_branches(std::string_view text);

/// Every simple command there is, those inside of compound ones too; `background` ones say so.
struct FoundCommand {
  ShellCommand command;
  bool background = false;
};
[[nodiscard]] std::vector<FoundCommand> find_commands(std::string_view text);

/// A command without what only runs it: sudo, env, nohup, time, command, exec, nice.
struct BareCommand {
  std::vector<ShellAssignment> assignments;  ///< those behind sudo and env
  std::vector<ShellWord> words;              ///< the program and its arguments
  bool sudo = false;
  std::string user;  ///< of `sudo -u`
  bool nohup = false;
  bool understood = true;  ///< no option of those that would change what it means
};
[[nodiscard]] BareCommand bare_command(const ShellCommand& command);

}  // namespace gpustrap
