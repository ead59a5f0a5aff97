#include "controller/adopt_script.h"

#include <algorithm>
#include <cctype>
#include <map>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/adopt_arguments.h"
#include "controller/adopt_commands.h"
#include "controller/adopt_conditions.h"
#include "controller/lint_words.h"

namespace gpustrap {
namespace {

bool is_name(const std::string& text) {
  return !text.empty() && std::isdigit(static_cast<unsigned char>(text[0])) == 0 &&
         std::all_of(text.begin(), text.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; });
}

/// Names of `local a=1 b` and the like.
std::vector<std::string> locals_of(const std::string& text) {
  std::vector<std::string> names;
  for (const FoundCommand& found : find_commands(text)) {
    const std::vector<ShellWord>& words = found.command.words;
    if (words.empty() || !is_among(words[0].shown(), {"local", "declare", "typeset"})) continue;
    for (std::size_t i = 1; i < words.size(); ++i) {
      const std::string word = words[i].shown();
      if (!word.starts_with('-')) names.push_back(word.substr(0, word.find_first_of("+=")));
    }
  }
  return names;
}

/// `local -a`, `declare -n`: anything but values.
bool has_special_locals(const std::string& text) {
  const std::vector<FoundCommand> all = find_commands(text);
  return std::any_of(all.begin(), all.end(), [](const FoundCommand& found) {
    const std::vector<ShellWord>& words = found.command.words;
    return words.size() > 1 && is_among(words[0].shown(), {"local", "declare", "typeset"}) && words[1].shown().starts_with('-') &&
           words[1].shown().find_first_not_of("rxi", 1) != std::string::npos;
  });
}

}  // namespace

bool ScriptReader::open_call(const ShellStatement& statement) {
  constexpr int kDeepest = 8, kMostCalls = 200;
  if (statement.commands.size() != 1 || statement.background || depth_ >= kDeepest || opened_ >= kMostCalls) return false;
  const ShellCommand& command = statement.commands[0];
  if (command.words.empty() || !command.assignments.empty() || !command.redirects.empty()) return false;
  const std::string name = command.words[0].plain().value_or("");
  const ScriptFunctions::Body* body = functions_.body_of(name);
  if (body == nullptr || active_.contains(name) || functions_.only_speaks(name)) return false;
  const auto stays = [&](std::string_view why) {
    why_whole_ = fmt::format("`{}` stays a function: {}", name, why);
    return false;
  };
  std::vector<std::optional<std::string>> arguments;
  bool of_script = false, are_counted = true;
  for (auto word = command.words.begin() + 1; word != command.words.end(); ++word) {
    const bool passes_on = word->shown() == "$@" || word->shown() == "$*";
    of_script = of_script || (passes_on && of_script_);
    const auto fields = passes_on ? std::nullopt : state_.fields_of(*word);
    if (fields)
      arguments.insert(arguments.end(), fields->begin(), fields->end());
    else
      arguments.emplace_back();
    are_counted = are_counted && (fields || word->quoted) && !passes_on;
  }
  of_script = of_script && command.words.size() == 2;
  const std::string argument = argument_in(body->text);
  if (!of_script && !argument.empty() && !are_counted) return stays("how many arguments it gets, only a shell knows");
  const auto text = of_script ? body->text : with_arguments(body->text, arguments);
  if (!text) return stays(fmt::format("what `{}` and the like come to in it, only a shell knows", argument));
  const std::vector<ShellStatement> inside = read_inside(*text, body->line);
  if (text->find("FUNCNAME") != std::string::npos) return stays("it asks for its own name");
  if (returns_early(inside, functions_)) return stays("it may return before its last line");
  if (has_special_locals(*text)) return stays("it keeps lists or references of its own");
  state_.absorb(statement.text, "its lines follow");
  // What is local is so until the function ends.
  std::map<std::string, std::optional<AdoptState::Variable>> outside;
  for (const std::string& local : locals_of(*text)) {
    const auto variable = state_.variables.find(local);
    outside[local] = variable == state_.variables.end() ? std::nullopt : std::optional<AdoptState::Variable>(variable->second);
  }
  const bool was_of_script = std::exchange(of_script_, of_script);
  active_.insert(name);
  ++opened_;
  take_inside(inside);
  active_.erase(name);
  of_script_ = was_of_script;
  for (auto& [local, variable] : outside) {
    state_.variables.erase(local);
    if (variable) state_.variables[local] = *std::move(variable);
  }
  return true;
}

void ScriptReader::take_inside(const std::vector<ShellStatement>& inside) {
  functions_.find(inside);
  ++depth_;
  take_all(inside);
  --depth_;
}

bool ScriptReader::take_arguments_of_script(const ShellStatement& statement) {
  if (!of_script_ || argument_in(statement.text).empty() || !function_name(statement.text).empty()) return false;
  if (reads_arguments(statement, functions_)) {
    state_.absorb(statement.text, "reads the script's arguments, and a recipe gives it none");
    return true;
  }
  const auto text = with_arguments(statement.text, {}, MissingArgument::unknown);
  if (!text || !argument_in(*text).empty()) return false;
  take_all(read_inside(*text, statement.line));
  return true;
}

bool ScriptReader::take_known(const ShellStatement& statement) {
  if (statement.background || depth_ > kDeepestBlock) return false;
  const std::string first = statement.text.substr(0, statement.text.find('\n'));
  const auto take_part = [&](const std::string& body, int line) {
    state_.absorb(first, "so it is by what the script sets: its lines follow");
    take_inside(read_inside(body, line));
    return true;
  };
  const auto leave = [&] {
    state_.absorb(first == statement.text ? first : first + " …", "not so by what the script sets: left out");
    return true;
  };
  if (!statement.commands.empty()) {
    const std::vector<ShellCommand>& all = statement.commands;
    if (!is_choice(all)) return false;
    const auto holds = known_condition(text_of(statement, all[0].begin, all[0].end), state_);
    if (!holds) return false;
    const bool where_false = all[1].join == ShellJoin::or_else;
    return *holds == where_false ? leave() : take_part(statement.text.substr(all[1].begin - statement.begin), statement.line);
  }
  const std::vector<ShellBranch> branches = read_branches(statement.text);
  for (const ShellBranch& branch : branches) {
    const auto holds = branch.condition.empty() ? std::optional<bool>(true) : known_condition(branch.condition, state_);
    if (!holds) return false;
    if (*holds) return take_part(branch.body, statement.line + branch.line);
  }
  return !branches.empty() && leave();
}

bool ScriptReader::is_choice(const std::vector<ShellCommand>& all) {
  if (all.size() < 2 || (all[1].join != ShellJoin::or_else && all[1].join != ShellJoin::and_then)) return false;
  const bool where_false = all[1].join == ShellJoin::or_else;
  return std::none_of(all.begin() + 2, all.end(), [&](const ShellCommand& one) {
    return one.join == ShellJoin::or_else || (where_false && one.join == ShellJoin::and_then);
  });
}

bool ScriptReader::take_guarded(const ShellStatement& statement) {
  if (statement.background || depth_ > kDeepestBlock) return false;
  std::string condition, body;
  bool where_false = false;
  int line = statement.line;
  if (statement.commands.empty()) {
    const auto block = read_block(statement.text);
    if (!block || block->kind != ShellBlock::Kind::condition) return false;
    condition = block->condition;
    body = block->body;
    line += block->line;
  } else {
    const std::vector<ShellCommand>& all = statement.commands;
    if (!is_choice(all)) return false;
    where_false = all[1].join == ShellJoin::or_else;
    condition = text_of(statement, all[0].begin, all[0].end);
    body = statement.text.substr(all[1].begin - statement.begin);  // with its here-documents
    line += static_cast<int>(std::count(statement.text.begin(), statement.text.end(), '\n') - std::count(body.begin(), body.end(), '\n'));
  }
  if (condition.find("BASH_SOURCE") != std::string::npos && condition.find("=") != std::string::npos &&
      condition.find("!=") == std::string::npos && !where_false) {
    take_all(read_inside(body, line));  // the script is run, and not sourced
    return true;
  }
  const auto test = host_test(condition, state_);
  if (!test || test->negated == where_false) return false;
  const std::vector<ShellStatement> inside = read_inside(body, line);
  if (!may_be_opened(body) || returns_early(inside, functions_)) return false;
  return open_under(statement.text, inside, test->holds);
}

bool ScriptReader::may_be_opened(const std::string& body) const {
  return holds_only(body, [&](const ShellCommand& command) {
    const std::string program = program_of(command);
    return !command.words.empty() &&
           !is_among(program, {"exit", "return", "break", "continue", "export", "declare", "readonly", "local", "typeset", "read"}) &&
           !functions_.only_ends(program);
  });
}

bool ScriptReader::open_under(const std::string& text, const std::vector<ShellStatement>& inside, const std::string& holds) {
  const AdoptState before = state_;
  const std::size_t marked = marked_;
  const auto undo = [&] {
    state_ = before;
    marked_ = marked;
  };
  const std::string first = text.substr(0, text.find('\n'));
  if (inside.size() > 1 || text.find('\n') != std::string::npos) state_.comments.push_back(fmt::format("{}   (its lines follow)", first));
  take_inside(inside);
  std::size_t typed = 0, commands = 0;
  bool are_guarded = true;
  for (std::size_t i = before.steps.size(); i < state_.steps.size(); ++i) {
    if (state_.steps[i].dropped) continue;
    ++(state_.steps[i].kind == "command" ? commands : typed);
    are_guarded = are_guarded && is_what_the_step_makes(state_.steps[i], holds);
  }
  const bool moved = state_.folder != before.folder || state_.venv != before.venv;
  if (!moved && commands == 0 && are_guarded) return true;
  undo();
  // A step that does not ask the same by itself would be done where the script does nothing.
  const bool is_one = inside.size() == 1 && inside[0].commands.size() == 1 && inside[0].text.find("<<") == std::string::npos;
  if (moved || !is_one || commands + typed != 1) return false;
  guard_ = {"", holds};
  state_.script_line = inside[0].line;
  keep({inside[0].commands, inside[0].text, inside[0].background});
  guard_.reset();
  return true;
}

bool ScriptReader::unroll(const ShellStatement& statement) {
  constexpr std::size_t kMostRounds = 10;
  const auto block = statement.commands.empty() && !statement.background && depth_ <= 4 ? read_block(statement.text) : std::nullopt;
  if (!block || block->kind != ShellBlock::Kind::loop || !is_name(block->name) || !may_be_opened(block->body)) return false;
  std::vector<std::string> values;
  for (const ShellWord& word : block->words) {
    const auto fields = state_.fields_of(word);
    if (!fields) return false;
    values.insert(values.end(), fields->begin(), fields->end());
  }
  if (values.empty() || values.size() > kMostRounds) return false;
  const std::vector<ShellStatement> inside = read_inside(block->body, statement.line + block->line);
  const AdoptState before = state_;
  const std::size_t marked = marked_;
  state_.comments.push_back(fmt::format("{}   (round by round)", statement.text.substr(0, statement.text.find('\n'))));
  for (const std::string& value : values) {
    state_.assign(block->name, value, fmt::format("{}={}", block->name, shell_quote(value)), false);
    take_inside(inside);
  }
  const bool is_typed = std::none_of(state_.steps.begin() + static_cast<std::ptrdiff_t>(before.steps.size()), state_.steps.end(),
                                     [](const AdoptedStep& step) { return step.kind == "command" && !step.dropped; });
  if (is_typed && state_.folder == before.folder && state_.venv == before.venv) return true;
  state_ = before;
  marked_ = marked;
  return false;
}

}  // namespace gpustrap
