#include "controller/adopt_functions.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <iterator>
#include <regex>
#include <string_view>

#include "agent/base/text.h"
#include "controller/adopt_commands.h"
#include "controller/adopt_conditions.h"
#include "controller/lint_words.h"

namespace gpustrap {

std::string program_of(const ShellCommand& command) {
  const BareCommand bare = bare_command(command);
  return bare.words.empty() ? "" : bare.words[0].shown();
}

std::vector<ShellStatement> read_inside(const std::string& body, int line) {
  std::vector<ShellStatement> statements = read_shell(body);
  for (ShellStatement& one : statements) one.line += line - 1;
  return statements;
}

std::string function_name(const std::string& text) {
  std::string_view rest = text;
  if (rest.starts_with("function ")) rest = trim(rest.substr(9));
  std::size_t end = 0;
  while (end < rest.size() && (std::isalnum(static_cast<unsigned char>(rest[end])) != 0 || rest[end] == '_' || rest[end] == '-')) ++end;
  const std::string_view behind = trim(rest.substr(end));
  const bool is_function =
      end > 0 && (behind.starts_with("()") || behind.starts_with("( )") || (text.starts_with("function ") && behind.starts_with('{')));
  return is_function ? std::string(rest.substr(0, end)) : std::string();
}

std::optional<bool> wants_root_of(const ShellStatement& statement) {
  constexpr std::size_t kLongestCheck = 1000;
  if (statement.text.size() > kLongestCheck || statement.background) return std::nullopt;
  std::string text;
  std::copy_if(statement.text.begin(), statement.text.end(), std::back_inserter(text), [](char c) { return c != '"' && c != '\''; });
  const std::regex kCheck(R"re((EUID|\bUID|id -u\)?|id -u`|whoami\)?|whoami`|\$\{?USER\}?)\}?\s*(-eq|-ne|-gt|==|!=|=)\s*(0|root)\b)re");
  const std::regex kElse(R"(\b(else|elif)\b)");
  std::smatch found;
  if (!std::regex_search(text, found, kCheck) || std::regex_search(text, kElse)) return std::nullopt;
  bool ends = false;
  for (const FoundCommand& one : find_commands(statement.text)) {
    const BareCommand bare = bare_command(one.command);
    const std::string program = bare.words.empty() ? "" : bare.words[0].shown();
    const bool becomes_root = bare.sudo && statement.text.find("$0") != std::string::npos;
    const bool stops = becomes_root || is_among(program, {"exit", "return", "die", "fatal", "error", "err", "abort", "fail", "usage"});
    const bool is_harmless = is_among(program, {"[", "test", "echo", "printf", "cat", "EUID", "UID", "${EUID}", "${UID}", "${USER}",
                                                "$(id -u)", "$(whoami)", "info", "warn", "log"}) ||
                             program.starts_with("${") || program.starts_with("((") || program.empty();
    if (!stops && !is_harmless) return std::nullopt;
    ends = ends || stops;
  }
  if (!ends) return std::nullopt;
  const bool is_root_there = found[2] == "-eq" || found[2] == "==" || found[2] == "=";
  const bool is_if = text.starts_with("if");
  const bool is_negated = is_if && trim(std::string_view(text).substr(2)).starts_with('!');
  const bool ends_where_true = is_if || text.find("||") == std::string::npos;
  return (is_root_there != is_negated) != ends_where_true;
}

bool is_for_root(const std::vector<ShellStatement>& statements) {
  bool with = false, without = false;
  for (const ShellStatement& statement : statements) {
    if (const auto wants_root = wants_root_of(statement)) return *wants_root;
    const auto block = statement.commands.empty() ? read_block(statement.text) : std::nullopt;
    if (block && block->kind == ShellBlock::Kind::function) {
      for (const ShellStatement& one : read_shell(block->body)) {
        if (const auto wants_root = wants_root_of(one)) return *wants_root;
      }
    }
    for (const FoundCommand& found : find_commands(statement.text)) {
      const BareCommand bare = bare_command(found.command);
      const std::string program = bare.words.empty() ? "" : bare.words[0].shown();
      with = with || (bare.sudo && (bare.user.empty() || bare.user == "root"));
      without = without || (!bare.sudo && (program == "apt-get" || program == "systemctl" || program == "apt"));
    }
  }
  return without && !with;
}

bool returns_early(const std::vector<ShellStatement>& statements, const ScriptFunctions& functions) {
  for (const ShellStatement& statement : statements) {
    if (is_failure_check(statement, functions) || !required_command(statement, functions).empty()) continue;
    const bool is_last_word = statement.commands.size() == 1 && program_of(statement.commands[0]) == "return";
    for (const FoundCommand& found : find_commands(statement.text)) {
      const std::string program = program_of(found.command);
      if (program == "trap" || (program == "return" && !is_last_word)) return true;
    }
  }
  return false;
}

bool holds_only(const std::string& text, const std::function<bool(const ShellCommand&)>& is_meant) {
  const std::vector<FoundCommand> found = find_commands(text);
  return std::all_of(found.begin(), found.end(), [&](const FoundCommand& one) { return !one.background && is_meant(one.command); });
}

void ScriptFunctions::find(const std::vector<ShellStatement>& statements) {
  for (const ShellStatement& statement : statements) {
    const auto block = statement.commands.empty() ? read_block(statement.text) : std::nullopt;
    if (!block || block->kind != ShellBlock::Kind::function) continue;
    const bool is_new = bodies_.emplace(block->name, Body{block->body, statement.line + block->line}).second;
    if (!is_new) bodies_[block->name].text.clear();  // which one is meant depends on the place
  }
}

const ScriptFunctions::Body* ScriptFunctions::body_of(const std::string& name) const {
  const auto found = bodies_.find(name);
  return found == bodies_.end() || found->second.text.empty() ? nullptr : &found->second;
}

bool ScriptFunctions::only_speaks(const std::string& name, int depth) const {
  const Body* body = body_of(name);
  if (body == nullptr || depth > 3) return false;
  return holds_only(body->text, [&](const ShellCommand& command) {
    const std::string program = program_of(command);
    const auto is_silent = [](const ShellRedirect& one) {
      return one.target.shown() == "2" || one.target.shown() == "1" || one.target.shown() == "/dev/null";
    };
    return std::all_of(command.redirects.begin(), command.redirects.end(), is_silent) &&
           (program.empty() || is_among(program, {"echo", "printf", "tput", "local"}) || only_speaks(program, depth + 1));
  });
}

bool ScriptFunctions::only_ends(const std::string& name) const {
  const Body* body = body_of(name);
  if (body == nullptr) return false;
  bool ends = false;
  return holds_only(body->text,
                    [&](const ShellCommand& command) {
                      const std::string program = program_of(command);
                      ends = ends || program == "exit";
                      return program == "exit" || program.empty() || is_among(program, {"echo", "printf", "tput", "local"}) ||
                             only_speaks(program);
                    }) &&
         ends;
}

}  // namespace gpustrap
