#include "controller/adopt_reader.h"

#include <algorithm>
#include <cstddef>
#include <memory>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/adopt_commands.h"
#include "controller/adopt_conditions.h"
#include "controller/adopt_script.h"

namespace gpustrap {
namespace {

std::string counted(std::ptrdiff_t n) { return n == 1 ? "one command" : fmt::format("{} commands", n); }

bool is_exit(const ShellCommand& command) { return !command.words.empty() && command.words[0].shown() == "exit"; }

}  // namespace

void ScriptReader::read(std::string_view script) {
  const std::vector<ShellStatement> statements = read_shell(script);
  state_.is_root = is_for_root(statements);
  script_ = script;
  functions_.find(statements);
  take_all(statements);
}

void ScriptReader::take_all(const std::vector<ShellStatement>& statements) {
  for (const ShellStatement& statement : statements) {
    for (const std::string& comment : statement.comments) {
      if (!comment.starts_with('!')) state_.comments.emplace_back(trim(comment));
    }
    if (statement.text.empty()) continue;
    state_.script_line = statement.line;
    if (statement.commands.size() == 1 && is_exit(statement.commands[0]) && !statement.background) {
      const auto behind = std::count_if(statements.begin() + (&statement - statements.data()) + 1, statements.end(),
                                        [](const ShellStatement& one) { return !one.text.empty(); });
      state_.absorb(statement.text,
                    behind > 0 ? fmt::format("the script ends here: {} behind it left out", counted(behind)) : "the script ends here");
      ended_ = true;
    } else if (statement.commands.size() == 1 && program_of(statement.commands[0]) == "return" && depth_ > 0) {
      return;
    } else {
      take(statement);
    }
    if (ended_) return;
  }
}

void ScriptReader::take(const ShellStatement& statement) {
  state_.script_line = statement.line;
  state_.behind = behind(statement.end);
  if (const auto wants_root = wants_root_of(statement))
    return state_.absorb(statement.text, *wants_root ? "the steps of a script for root say `as: root`" : "steps run as the login user");
  why_whole_.clear();
  if (take_arguments_of_script(statement)) return;
  if (is_failure_check(statement, functions_)) return state_.absorb(statement.text, "a run ends by itself where a step fails");
  if (const std::string command = required_command(statement, functions_); !command.empty()) {
    state_.absorb(statement.text, "a run ends by itself where that fails");
    return take_all(read_inside(command, statement.line));
  }
  if (open_call(statement) || take_known(statement) || take_guarded(statement) || unroll(statement)) return;
  if (statement.commands.empty()) return take_compound(statement);
  const bool chooses = std::any_of(statement.commands.begin(), statement.commands.end(),
                                   [](const ShellCommand& one) { return one.join == ShellJoin::or_else; });
  if (statement.commands.size() > 1 && take_settings(statement)) return;
  if (chooses && take_shrugged(statement)) return;
  if (chooses || asks_first(statement)) return keep({statement.commands, statement.text, statement.background});
  if (take_growth(statement)) return;
  AdoptSegment segment;
  std::vector<AdoptSegment> segments;
  for (std::size_t i = 0; i < statement.commands.size(); ++i) {
    segment.commands.push_back(statement.commands[i]);
    if (i + 1 < statement.commands.size() && statement.commands[i + 1].join == ShellJoin::pipe) continue;
    segment.text = text_of(statement, segment.commands.front().begin, segment.commands.back().end);
    segments.push_back(std::move(segment));
    segment = {};
  }
  const bool has_document =
      statement.text.find('\n') != std::string::npos &&
      std::any_of(statement.commands.begin(), statement.commands.end(), [](const ShellCommand& one) {
        return std::any_of(one.redirects.begin(), one.redirects.end(), [](const ShellRedirect& r) { return r.document.has_value(); });
      });
  if (segments.size() == 1 || has_document) {
    // The lines of a here-document stand behind the whole line.
    segments.resize(1);
    segments[0].text = statement.text;
    if (has_document) segments[0].commands = statement.commands;
    segments[0].background = statement.background;
  } else if (statement.background) {
    return keep({statement.commands, statement.text, true});
  }
  for (const AdoptSegment& one : segments) {
    if (!one.commands.empty()) {
      const std::string_view before = std::string_view(statement.text).substr(0, one.commands.front().begin - statement.begin);
      state_.script_line = statement.line + static_cast<int>(std::count(before.begin(), before.end(), '\n'));
    }
    if (segments.size() > 1) state_.behind = behind(one.commands.back().end);
    if (speaks(one)) {
      state_.absorb(one.text, "it only looks or speaks");
      continue;
    }
    if (!adopt(one)) keep(one);
  }
}

std::string_view ScriptReader::behind(std::size_t end) const {
  return depth_ > 0 ? script_ : script_.substr(std::min(end, script_.size()));
}

bool ScriptReader::speaks(const AdoptSegment& segment) const {
  if (segment.commands.size() != 1 || segment.background || !segment.commands[0].redirects.empty()) return false;
  const ShellCommand& command = segment.commands[0];
  const bool runs = std::any_of(command.words.begin(), command.words.end(), [](const ShellWord& word) {
    return std::any_of(word.parts.begin(), word.parts.end(), [](const ShellPart& part) {
      return part.kind == ShellPart::Kind::opaque && (part.text.starts_with("$(") || part.text.starts_with('`'));
    });
  });
  return !runs && !command.words.empty() && command.assignments.empty() && functions_.only_speaks(command.words[0].plain().value_or(""));
}

bool ScriptReader::adopt(const AdoptSegment& segment) {
  std::vector<bool> was_dropped;
  for (const AdoptedStep& step : state_.steps) was_dropped.push_back(step.dropped);
  if (!adopt_segment(segment, state_)) return false;
  AdoptSegment whole = segment;
  for (std::size_t i = was_dropped.size(); i-- > 0;) {
    if (!state_.steps[i].dropped || was_dropped[i] || state_.steps[i].original.empty()) continue;
    whole.text = state_.steps[i].original + "\n" + whole.text;  // as the lines above had fetched it
    whole.commands.clear();
  }
  for (std::size_t i = was_dropped.size(); i < state_.steps.size(); ++i)
    state_.steps[i].as_command = std::make_shared<const AdoptedStep>(command_of(whole, fmt::format("was-{}", was_dropped.size() + 1)));
  return true;
}

bool ScriptReader::asks_first(const ShellStatement& statement) {
  for (std::size_t i = 0; i + 1 < statement.commands.size(); ++i) {
    const BareCommand bare = bare_command(statement.commands[i]);
    const std::string program = bare.words.empty() ? "" : bare.words[0].shown();
    const bool asks = is_among(program, {"[", "test", "which", "grep", "egrep", "type", "id", "hash", "-v"});  // `command -v`
    const std::size_t end_of_pipe = statement.commands[i + 1].join == ShellJoin::pipe ? i + 1 : i;
    if (asks && end_of_pipe == i && statement.commands[i + 1].join == ShellJoin::and_then) return true;
  }
  return false;
}

bool ScriptReader::take_shrugged(const ShellStatement& statement) {
  const ShellCommand& last = statement.commands.back();
  const std::string program = last.words.empty() ? "" : last.words[0].shown();
  const bool ends = program == "exit" || program == "return" || functions_.only_ends(program);  // as a run does by itself
  const bool shrugs = last.join == ShellJoin::or_else &&
                      (ends || program == "true" || program == ":" || program == "echo" || functions_.only_speaks(program));
  const auto joins = [](const ShellCommand& one) { return one.join == ShellJoin::none || one.join == ShellJoin::pipe; };
  if (!shrugs || statement.background || !std::all_of(statement.commands.begin(), statement.commands.end() - 1, joins)) return false;
  AdoptSegment segment;
  segment.commands.assign(statement.commands.begin(), statement.commands.end() - 1);
  segment.text = text_of(statement, segment.commands.front().begin, segment.commands.back().end);
  const std::size_t before = state_.steps.size();
  if (!adopt(segment)) return false;
  for (std::size_t i = before; i < state_.steps.size(); ++i)
    state_.steps[i].as_command =
        std::make_shared<const AdoptedStep>(command_of({statement.commands, statement.text, false}, fmt::format("was-{}", before + 1)));
  for (std::size_t i = before; !ends && i < state_.steps.size(); ++i)
    state_.steps[i].reviews.emplace_back("the script goes on where this fails, and a run ends there");
  return true;
}

std::string ScriptReader::text_of(const ShellStatement& statement, std::size_t begin, std::size_t end) {
  return statement.text.substr(begin - statement.begin, std::min(end, statement.end) - begin);
}

void ScriptReader::take_compound(const ShellStatement& statement) {
  if (const std::string name = function_name(statement.text); !name.empty()) {
    state_.functions[name] = statement.text;
    const bool is_long = std::count(statement.text.begin(), statement.text.end(), '\n') > 3;
    return state_.absorb(is_long ? statement.text.substr(0, statement.text.find('\n')) + " …" : statement.text,
                         "a function: goes where it is called");
  }
  if (take_array(statement) || take_settings(statement)) return;
  keep({{}, statement.text, statement.background});
  for (const FoundCommand& found : find_commands(statement.text)) {
    const ShellCommand& command = found.command;
    const std::string program = command.words.empty() ? "" : command.words[0].shown();
    if (program == "cd" || program == "pushd") state_.folder = std::nullopt;
  }
}

void read_script(std::string_view script, const std::string& marks, AdoptState& state) { ScriptReader(state, marks).read(script); }

}  // namespace gpustrap
