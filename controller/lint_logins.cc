#include <algorithm>
#include <cctype>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "controller/lint_review.h"
#include "controller/lint_words.h"
#include "controller/shell_reader.h"

// What every login gets: variables of `environment`, and lines in the files that shells read.

namespace gpustrap {
namespace {

/// A PATH that is written out whole keeps what a login needs.
bool has_system_folder(const std::string& value) {
  const std::vector<std::string> folders = split(value, ':');
  return std::find(folders.begin(), folders.end(), "/usr/bin") != folders.end() ||
         std::find(folders.begin(), folders.end(), "/bin") != folders.end();
}

/// `NAME=value` of a shell text, with what of it only that shell knows.
struct Assigned {
  std::string name, value, written;
  bool extends = false;      ///< holds what the variable was before, or may
  bool quotes_home = false;  ///< a `~` in quotes
};

/// Whether a quote is open where `at` is.
bool is_in_quotes(std::string_view text, std::size_t at) {
  char open = '\0';
  for (std::size_t i = 0; i < at; ++i) {
    if (open == '\0' && (text[i] == '"' || text[i] == '\''))
      open = text[i];
    else if (text[i] == open)
      open = '\0';
  }
  return open != '\0';
}

std::vector<Assigned> assigned_in(const std::string& text) {
  std::vector<Assigned> all;
  const auto add = [&](const std::string& name, const ShellWord& word, std::string value) {
    Assigned one{name, std::move(value), text.substr(word.begin, word.end - word.begin), false, false};
    for (const ShellPart& part : word.parts) {
      const bool is_itself = part.kind == ShellPart::Kind::variable && part.text == name;
      const bool may_hold_it = part.kind == ShellPart::Kind::opaque &&
                               (part.text.find(name) != std::string::npos || part.text.starts_with("$(") || part.text.starts_with('`'));
      one.extends = one.extends || is_itself || may_hold_it;
    }
    for (std::size_t at = one.written.find('~'); at != std::string::npos; at = one.written.find('~', at + 1)) {
      const bool begins = at > 0 && std::string_view(":=\"'").find(one.written[at - 1]) != std::string_view::npos;
      one.quotes_home = one.quotes_home || (begins && is_in_quotes(one.written, at));
    }
    all.push_back(std::move(one));
  };
  for (const FoundCommand& found : find_commands(text)) {
    const ShellCommand& command = found.command;
    if (command.words.empty()) {
      for (const ShellAssignment& one : command.assignments) add(one.name, one.value, one.value.shown());
      continue;
    }
    const std::string first = command.words[0].shown();
    if (first != "export" && first != "declare" && first != "typeset") continue;
    for (const ShellWord& word : command.words) {
      const std::string shown = word.shown();
      if (const std::size_t equals = shown.find('='); equals != std::string::npos)
        add(shown.substr(0, equals), word, shown.substr(equals + 1));
    }
  }
  return all;
}

/// /etc/environment is no shell text: PAM takes its lines as they are.
std::vector<Assigned> assigned_in_environment(const std::string& text) {
  std::vector<Assigned> all;
  for (const std::string& line : split(text, '\n')) {
    std::string_view rest = trim(line);
    if (rest.starts_with("export ")) rest = trim(rest.substr(7));
    const std::size_t equals = rest.find('=');
    if (rest.starts_with('#') || equals == std::string_view::npos) continue;
    std::string value(rest.substr(equals + 1));
    value.erase(std::remove_if(value.begin(), value.end(), [](char c) { return c == '"' || c == '\''; }), value.end());
    all.push_back({std::string(rest.substr(0, equals)), value, std::string(rest), false, false});
  }
  return all;
}

void look_at_environment(LintReview& review, const LintStep& step) {
  for (const auto& [name, value] : step.fields.items()) {
    if (name == "scope") continue;
    const bool sets = !value.is_object();
    const Json& given = sets || value.empty() ? value : value.begin().value();
    std::vector<std::string> texts;
    for_each_text(given, "", [&](const std::string& text, const std::string& /*pointer*/) { texts.push_back(text); });
    for (const std::string& text : texts) {
      if (text.find("${{") != std::string::npos) continue;
      const std::string place = step.place_of(name);
      const std::string variable = variable_behind_home(text);
      const bool is_itself = variable == "$" + name || variable == "${" + name + "}";
      if (!variable.empty())
        review.add("not-expanded", place, text, fmt::format("`{}` in {} stays as it stands: a value is no shell text", variable, name),
                   is_itself ? Severity::error : Severity::warning,
                   is_itself ? fmt::format("write `{0}: {{ prepend: … }}` or `{0}: {{ append: … }}`", name) : "");
      if (sets && (text.find(":~/") != std::string::npos || text.ends_with(":~")))
        review.add("not-expanded", place, text, fmt::format("the `~` behind `:` in {} stays as it stands", name), std::nullopt,
                   fmt::format("write `{0}: {{ prepend: … }}` or `{0}: {{ append: … }}`, which know `~`", name));
      if (name == "PATH" && sets && !is_itself && !has_system_folder(text))
        review.add_key(
            "path-overwritten", place,
            fmt::format("PATH becomes {} alone for every {}", quote_value(text), step.text("scope") == "system" ? "user" : "login"));
    }
  }
}

}  // namespace

void look_at_login_text(LintReview& review, const std::string& text, const std::string& file, const std::string& pointer) {
  const bool is_shell = file != "/etc/environment";
  for (const Assigned& one : is_shell ? assigned_in(text) : assigned_in_environment(text)) {
    if (one.value.find("${{") != std::string::npos) continue;
    if (one.name == "LD_LIBRARY_PATH") review.add("ld-library-path", pointer, "LD_LIBRARY_PATH", "LD_LIBRARY_PATH is set for every login");
    if (one.name != "PATH") continue;
    if (!is_shell && one.value.find('$') != std::string::npos)
      review.add("path-overwritten", pointer, one.written,
                 fmt::format("{} is no shell text: `$PATH` in it is not replaced, and the PATH of every login is lost", file), std::nullopt,
                 "use `environment` with `PATH: { prepend: … }`");
    else if (!one.extends && !has_system_folder(one.value))
      review.add("path-overwritten", pointer, one.written,
                 fmt::format("{} in {} replaces the PATH of every login", quote_value(one.written), file));
    if (is_shell && one.quotes_home)
      review.add("not-expanded", pointer, one.written, "a `~` in quotes stays as it stands", std::nullopt, "write $HOME in its place");
  }
}

void lint_logins(LintReview& review) {
  for (const LintStep& step : review.steps) {
    if (step.kind == StepKind::environment) look_at_environment(review, step);
    const std::string path = step.text("path");
    if ((step.kind == StepKind::file || step.kind == StepKind::block) && is_profile(path))
      look_at_login_text(review, step.text("content"), path, step.place_of("content"));
  }
}

}  // namespace gpustrap
