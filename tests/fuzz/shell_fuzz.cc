#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "controller/adopt.h"
#include "controller/adopt_arguments.h"
#include "controller/adopt_markdown.h"
#include "controller/shell_reader.h"

// Any bytes as a shell script: statements come in order, say where they stand, and leave out nothing but what separates them.

namespace {

/// Whether only separators and comments stand between two statements.
bool is_between(std::string_view text) {
  bool comment = false;
  bool at_word_start = true;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') comment = false;
    if (!comment && c == '#' && at_word_start) comment = true;
    const bool separates = c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ';' || c == '&' || c == ')' || c == '\\';
    if (!comment && !separates) return false;
    at_word_start = separates;
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gpustrap;
  const std::string text(data, data + size);
  std::size_t behind = 0;
  for (const ShellStatement& statement : read_shell(text)) {
    if (statement.begin < behind || statement.end < statement.begin || statement.end > text.size() || statement.line < 1) std::abort();
    if (!is_between(std::string_view(text).substr(behind, statement.begin - behind))) std::abort();
    if (statement.text.empty() && statement.comments.empty() && statement.end > statement.begin + 1) std::abort();
    behind = statement.end;
  }
  if (!is_between(std::string_view(text).substr(behind))) std::abort();
  for (const FoundCommand& found : find_commands(text)) {
    if (found.command.end < found.command.begin || found.command.end > text.size()) std::abort();
    (void)bare_command(found.command);
  }
  if (const auto fault = find_fault(text); fault && (fault->line < 1 || fault->what.empty())) std::abort();
  if (const auto block = read_block(text); block && (block->body.size() >= text.size() || block->line < 0)) std::abort();
  for (const ShellBranch& branch : read_branches(text)) {
    if (branch.body.size() >= text.size() || branch.line < 0) std::abort();
  }
  // What is filled in leaves no argument, and what has none stays as it is.
  const auto filled = with_arguments(text, {"a b", "$(rm -rf /)", "~/x"});
  if (filled && argument_in(text).empty() && *filled != text) std::abort();
  const auto lines_of = [](const std::string& all) { return std::count(all.begin(), all.end(), '\n'); };
  if (lines_of(commands_of_markdown(text).text) != lines_of(text)) std::abort();
  // A recipe is made only where it loads; that takes a while, so not of every input.
  if (size % 64 == 0) {
    const AdoptedScript adopted = adopt_script(text, "setup.sh");
    if (adopted.problem.empty() == adopted.recipe.empty()) std::abort();
  }
  return 0;
}
