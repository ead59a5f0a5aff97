#include "controller/adopt_script.h"

#include <algorithm>
#include <cctype>
#include <cstddef>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/adopt_commands.h"

namespace gpustrap {
namespace {

bool is_name(const std::string& text) {
  return !text.empty() && std::isdigit(static_cast<unsigned char>(text[0])) == 0 &&
         std::all_of(text.begin(), text.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; });
}

}  // namespace

bool ScriptReader::take_growth(const ShellStatement& statement) {
  if (statement.commands.size() != 1 || statement.background) return false;
  const ShellCommand& command = statement.commands[0];
  if (command.words.size() != 1 || !command.assignments.empty() || !command.redirects.empty()) return false;
  const ShellWord& word = command.words[0];
  const std::string first = word.parts.empty() || word.parts[0].kind != ShellPart::Kind::text ? "" : word.parts[0].text;
  const std::size_t plus = first.find("+=");
  if (plus == std::string::npos || !is_name(first.substr(0, plus))) return false;
  const std::string name = first.substr(0, plus);
  const auto before = state_.value_of(name);
  const auto text = state_.text_of(word);
  state_.assign(name, before && text ? std::optional<std::string>(*before + text->substr(plus + 2)) : std::nullopt, statement.text, false);
  state_.absorb(statement.text, "known to the steps below");
  return true;
}

bool ScriptReader::take_array(const ShellStatement& statement) {
  std::string_view rest = statement.text;
  for (const std::string_view word : {"declare ", "typeset ", "readonly ", "local "}) {
    if (rest.starts_with(word)) rest = trim(rest.substr(word.size()));
  }
  const bool is_plain = !rest.starts_with("-A");
  while (rest.starts_with('-') && rest.find(' ') != std::string_view::npos) rest = trim(rest.substr(rest.find(' ')));
  const std::size_t open = rest.find("=(");
  if (open == std::string_view::npos || !rest.ends_with(')') || statement.background) return false;
  const bool grows = open > 0 && rest[open - 1] == '+';
  const std::string name(rest.substr(0, grows ? open - 1 : open));
  if (!is_name(name)) return false;
  std::optional<std::vector<std::string>> elements = std::vector<std::string>{};
  const auto before = state_.variables.find(name);
  if (grows) elements = before == state_.variables.end() ? std::nullopt : before->second.elements;
  for (const ShellStatement& line : read_shell(rest.substr(open + 2, rest.size() - open - 3))) {
    if (line.text.empty()) continue;
    if (line.commands.size() != 1 || !line.commands[0].assignments.empty() || !line.commands[0].redirects.empty() || line.background)
      return false;
    for (const ShellWord& word : line.commands[0].words) {
      const auto fields = is_plain && elements ? state_.fields_of(word) : std::nullopt;
      if (fields)
        elements->insert(elements->end(), fields->begin(), fields->end());
      else
        elements.reset();
    }
  }
  state_.assign(name, std::nullopt, statement.text.starts_with("local ") ? std::string(rest) : statement.text, false);
  state_.variables[name].elements = std::move(elements);
  state_.absorb(statement.text, "known to the steps below");
  return true;
}

bool ScriptReader::take_settings(const ShellStatement& statement) {
  if (statement.background) return false;
  std::vector<std::string> names;
  bool sources = false;
  for (const FoundCommand& found : find_commands(statement.text)) {
    const ShellCommand& command = found.command;
    const std::string program = command.words.empty() ? "" : command.words[0].shown();
    const auto is_silent = [](const ShellRedirect& one) { return one.target.shown() == "/dev/null" || one.target.shown() == "1"; };
    if (found.background || !std::all_of(command.redirects.begin(), command.redirects.end(), is_silent)) return false;
    for (const ShellAssignment& one : command.assignments) names.push_back(one.name);
    sources = sources || program == "." || program == "source";
    if (!command.words.empty() && !is_among(program, {"[", "test", ".", "source", "true", ":", "echo"})) return false;
  }
  if (names.empty() && !sources) return false;
  for (const std::string& name : names) state_.assign(name, std::nullopt, statement.text, false);
  if (sources) state_.source(statement.text, {});
  state_.absorb(statement.text, "carried into the commands below that need it");
  return true;
}

void ScriptReader::forget(const std::string& text) {
  for (const FoundCommand& found : find_commands(text)) {
    const ShellCommand& command = found.command;
    const std::string program = command.words.empty() ? "" : command.words[0].shown();
    if (command.words.empty()) {
      for (const ShellAssignment& one : command.assignments) state_.assign(one.name, std::nullopt, text, false);
    }
    const bool asks = is_among(program, {"read", "mapfile", "readarray"});
    if (!asks && !is_among(program, {"export", "declare", "readonly", "typeset"})) continue;
    for (std::size_t i = 1; i < command.words.size(); ++i) {
      const std::string word = command.words[i].shown();
      const std::string name = word.substr(0, word.find('='));
      if (is_name(name) && (!asks || word == name)) state_.assign(name, std::nullopt, text, false);
    }
  }
}

}  // namespace gpustrap
