#include "controller/adopt_conditions.h"

#include <fnmatch.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <system_error>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/adopt_commands.h"
#include "controller/adopt_functions.h"
#include "controller/lint_words.h"

namespace gpustrap {
namespace {

/// `[[ A ]]` as `[ A ]`; whether it was.
bool unbracket(std::string& text) {
  if (!text.starts_with("[[ ") || !text.ends_with(" ]]")) return false;
  text = "[ " + text.substr(3, text.size() - 6) + " ]";
  return true;
}

bool take_negation(std::string& text) {
  if (!text.starts_with("! ")) return false;
  text = trim(std::string_view(text).substr(2));
  return true;
}

/// A word behind `==` in `[[ ]]`, for fnmatch.
std::optional<std::string> pattern_of(const ShellWord& word, const AdoptState& state) {
  std::string pattern;
  for (const ShellPart& part : word.parts) {
    if (part.kind == ShellPart::Kind::opaque && part.text == "*") {
      pattern += '*';
      continue;
    }
    const auto text = part.kind == ShellPart::Kind::text       ? std::optional<std::string>(part.text)
                      : part.kind == ShellPart::Kind::variable ? state.value_of(part.text)
                                                               : std::nullopt;
    if (!text || text->find_first_of("?[*") != std::string::npos) return std::nullopt;
    for (const char c : *text) pattern += c == '\\' ? "\\\\" : std::string(1, c);
  }
  return pattern;
}

std::optional<long> number_of(const std::string& text) {
  long value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || problem != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// What stands between the brackets of a test.
std::optional<bool> known_test(const std::vector<ShellWord>& words, bool is_double, const AdoptState& state) {
  std::vector<std::string> texts;
  std::optional<std::string> pattern;
  for (const ShellWord& word : words) {
    const bool is_pattern = is_double && texts.size() == 2 && is_among(texts[1], {"=", "==", "!="});
    if (is_pattern) pattern = pattern_of(word, state);
    if (is_pattern && !pattern) return std::nullopt;
    const auto text = is_pattern ? pattern : is_double ? state.text_of(word) : state.field_of(word);
    if (!text) return std::nullopt;
    texts.push_back(*text);
  }
  if (texts.size() == 1) return !texts[0].empty();
  if (texts.size() == 2 && texts[0] == "-z") return texts[1].empty();
  if (texts.size() == 2 && texts[0] == "-n") return !texts[1].empty();
  if (texts.size() != 3) return std::nullopt;
  const std::string& op = texts[1];
  if (is_among(op, {"=", "==", "!="})) {
    const bool same = pattern ? ::fnmatch(texts[2].c_str(), texts[0].c_str(), 0) == 0 : texts[0] == texts[2];
    return same == (op != "!=");
  }
  const auto a = number_of(texts[0]), b = number_of(texts[2]);
  if (!a || !b) return std::nullopt;
  if (op == "-eq") return *a == *b;
  if (op == "-ne") return *a != *b;
  if (op == "-lt") return *a < *b;
  if (op == "-le") return *a <= *b;
  if (op == "-gt") return *a > *b;
  if (op == "-ge") return *a >= *b;
  return std::nullopt;
}

/// The one branch of an `if` without `else`, which only says something and ends.
std::optional<ShellBranch> branch_that_ends(const ShellStatement& statement, const ScriptFunctions& functions) {
  if (!statement.commands.empty() || statement.background) return std::nullopt;
  std::vector<ShellBranch> branches = read_branches(statement.text);
  if (branches.size() != 1) return std::nullopt;
  bool is_end = false;
  const bool is_only_that = holds_only(branches[0].body, [&](const ShellCommand& command) {
    const std::string program = program_of(command);
    const bool ends = program == "exit" || program == "return" || functions.only_ends(program);
    is_end = is_end || ends;
    const bool says = is_among(program, {"echo", "printf", "cat", "usage"}) || functions.only_speaks(program);
    return ends || (says && std::all_of(command.redirects.begin(), command.redirects.end(), [](const ShellRedirect& one) {
                      return one.document || is_among(one.target.shown(), {"1", "2", "/dev/null", "/dev/stderr"});
                    }));
  });
  return is_end && is_only_that ? std::optional<ShellBranch>(std::move(branches[0])) : std::nullopt;
}

}  // namespace

std::optional<HostTest> host_test(std::string text, const AdoptState& state) {
  HostTest test;
  test.negated = take_negation(text);
  unbracket(text);
  const std::vector<ShellStatement> statements = read_shell(text);
  if (statements.size() != 1 || statements[0].commands.size() != 1 || statements[0].background) return std::nullopt;
  const ShellCommand& command = statements[0].commands[0];
  const auto is_silent = [](const ShellRedirect& one) {
    return one.op.find('>') != std::string::npos && is_among(one.target.shown(), {"/dev/null", "1", "2"});
  };
  if (!command.assignments.empty() || !std::all_of(command.redirects.begin(), command.redirects.end(), is_silent)) return std::nullopt;
  std::vector<std::string> words;
  for (const ShellWord& word : command.words) {
    // `[ -x "$(command -v curl)" ]` asks whether there is such a program.
    const std::string shown = word.shown();
    for (const std::string_view asks : {"$(command -v ", "$(which "}) {
      if (words.size() == 2 && words[1] == "-x" && shown.starts_with(asks) && shown.ends_with(')'))
        return host_test((test.negated ? "! command -v " : "command -v ") + shown.substr(asks.size(), shown.size() - asks.size() - 1),
                         state);
    }
    const auto field = state.field_of(word);
    if (!field) return std::nullopt;
    words.push_back(*field);
  }
  if (words.empty()) return std::nullopt;
  if (words[0] == "[" && words.back() == "]")
    words.pop_back();
  else if (words[0] == "[")
    return std::nullopt;
  if (words[0] == "[" || words[0] == "test") {
    words.erase(words.begin());
    if (!words.empty() && words[0] == "!") {
      test.negated = !test.negated;
      words.erase(words.begin());
    }
    if (words.size() != 2 || !is_among(words[0], {"-d", "-e", "-f", "-x", "-s", "-L", "-h", "-S", "-r"})) return std::nullopt;
    const auto path = state.path_of(words[1]);
    if (!path) return std::nullopt;
    test.holds = fmt::format("test {} {}", words[0], path->starts_with("~/") ? "~/" + shell_quote(path->substr(2)) : shell_quote(*path));
    return test;
  }
  const bool is_known_question = (words[0] == "id" && words.size() == 2 && !words[1].starts_with('-')) ||
                                 (words[0] == "id" && words.size() == 3 && words[1] == "-u") ||
                                 (words[0] == "getent" && words.size() == 3) ||
                                 (words[0] == "dpkg" && words.size() == 3 && words[1] == "-s");
  if (is_known_question) {
    for (const std::string& word : words) test.holds += (test.holds.empty() ? "" : " ") + shell_quote(word);
    return test;
  }
  const bool is_command = words[0] == "command" && words.size() == 3 && words[1] == "-v";
  const bool is_which = words.size() == 2 && is_among(words[0], {"which", "hash", "type"});
  if (!is_command && !is_which) return std::nullopt;
  test.holds = "command -v " + shell_quote(words.back());
  return test;
}

std::optional<bool> known_condition(const std::string& text, const AdoptState& state) {
  std::string whole = text;
  const bool negated = take_negation(whole);
  const bool is_double = unbracket(whole);
  const std::vector<ShellStatement> statements = read_shell(whole);
  if (statements.size() != 1 || statements[0].commands.empty() || statements[0].background) return std::nullopt;
  if (is_double && statements[0].commands.size() != 1) return std::nullopt;
  std::optional<bool> result;
  for (const ShellCommand& command : statements[0].commands) {
    if (command.join == ShellJoin::pipe || !command.redirects.empty() || !command.assignments.empty() || command.words.empty())
      return std::nullopt;
    if (result && ((command.join == ShellJoin::and_then && !*result) || (command.join == ShellJoin::or_else && *result))) continue;
    std::vector<ShellWord> words = command.words;
    const std::string program = state.field_of(words[0]).value_or("");
    if (words.size() == 1 && is_among(program, {"true", "false", ":"})) {
      result = program != "false";
      continue;
    }
    if (program == "[" && words.back().shown() == "]")
      words.pop_back();
    else if (program != "test")
      return std::nullopt;
    words.erase(words.begin());
    const bool is_not = !words.empty() && words[0].shown() == "!";
    if (is_not) words.erase(words.begin());
    const auto said = known_test(words, is_double, state);
    if (!said) return std::nullopt;
    result = *said != is_not;
  }
  return result ? std::optional<bool>(*result != negated) : std::nullopt;
}

bool is_failure_check(const ShellStatement& statement, const ScriptFunctions& functions) {
  const auto branch = branch_that_ends(statement, functions);
  return branch && branch->condition.find("$?") != std::string::npos &&
         (branch->condition.find("-ne 0") != std::string::npos || branch->condition.find("!= 0") != std::string::npos ||
          branch->condition.find("-gt 0") != std::string::npos);
}

std::string required_command(const ShellStatement& statement, const ScriptFunctions& functions) {
  const auto branch = branch_that_ends(statement, functions);
  if (!branch || !branch->condition.starts_with("! ")) return {};
  std::string command(trim(std::string_view(branch->condition).substr(2)));
  const std::vector<ShellStatement> inside = read_shell(command);
  if (inside.size() != 1 || inside[0].commands.size() != 1 || inside[0].background) return {};
  const std::string program = program_of(inside[0].commands[0]);
  const bool asks = is_among(program, {"[", "test", "command", "-v", "which", "type", "hash", "grep", "id", "getent", "dpkg", "lsmod",
                                       "lspci", "nvidia-smi", "ping", "curl", "mountpoint", "pgrep"}) ||
                    inside[0].commands[0].words[0].shown() == "command" || command.find("is-active") != std::string::npos;
  return asks ? std::string() : command;
}

bool reads_arguments(const ShellStatement& statement, const ScriptFunctions& functions) {
  if (const auto branch = branch_that_ends(statement, functions)) {
    const std::string& condition = branch->condition;
    const bool counts = condition.find("$#") != std::string::npos || condition.find("${#}") != std::string::npos;
    const bool asks_first = condition.find("-z") != std::string::npos &&
                            (condition.find("$1") != std::string::npos || condition.find("${1") != std::string::npos);
    return counts || asks_first;
  }
  if (!statement.commands.empty() || statement.background || !statement.text.starts_with("while ")) return false;
  const std::string head = statement.text.substr(0, std::min(statement.text.find("do\n"), statement.text.find("do ")));
  const bool counts = head.find("$#") != std::string::npos || head.find("${#}") != std::string::npos ||
                      head.find("getopts ") != std::string::npos || head.find("$1") != std::string::npos ||
                      head.find("${1") != std::string::npos;
  return counts && (statement.text.find("shift") != std::string::npos || head.find("getopts") != std::string::npos);
}

bool is_what_the_step_makes(const AdoptedStep& step, const std::string& holds) {
  const std::size_t space = holds.rfind(' ');
  const std::string what = space == std::string::npos ? holds : holds.substr(space + 1);
  const std::string program = name_of_path(what);
  // git takes the newest of a branch at each run, which the script does not where the folder is there.
  const bool names_it = std::any_of(step.fields.begin(), step.fields.end(),
                                    [&](const Json& value) { return value.is_string() && value.get_ref<const std::string&>() == what; });
  if (names_it) return step.kind != "git";
  if (step.kind == "nvidia_driver") return program == "nvidia-smi";
  if (step.kind == "cuda") return program == "nvcc" || what.starts_with("/usr/local/cuda");
  if (step.kind == "conda")
    return program == "conda" || (step.fields.contains("prefix") && what.starts_with(step.fields["prefix"].get<std::string>() + "/"));
  if (step.kind == "pip" || step.kind == "conda_env" || step.kind == "nvidia_smi") return false;
  if (step.kind != "apt" || !step.fields.contains("packages") || step.fields.contains("state") || !holds.starts_with("command -v "))
    return false;
  const Json& packages = step.fields["packages"];
  return packages.is_array() && packages.size() == 1 &&
         (packages[0] == program || (program == "pip3" && packages[0] == "python3-pip") ||
          (program == "pip" && packages[0] == "python3-pip") || (program == "gcc" && packages[0] == "build-essential") ||
          (program == "make" && packages[0] == "build-essential") || (program == "lspci" && packages[0] == "pciutils") ||
          (program == "lsb_release" && packages[0] == "lsb-release"));
}

}  // namespace gpustrap
