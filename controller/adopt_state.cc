#include "controller/adopt_state.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/adopt_commands.h"

namespace gpustrap {

std::optional<std::string> AdoptState::value_of(const std::string& name) const {
  if (name == "HOME") return "~";
  const auto found = variables.find(name);
  return found == variables.end() ? std::nullopt : found->second.value;
}

std::optional<std::string> AdoptState::text_of(const ShellWord& word) const {
  std::optional<std::string> text = word.expanded([&](const std::string& name) { return value_of(name); });
  // ~ is a home only at the front: `$HOME` further in cannot be said without a shell.
  if (text && text->find('~', 1) != std::string::npos && word.shown().find("${") != std::string::npos &&
      text->find("~/", 1) != std::string::npos)
    return std::nullopt;
  return text;
}

std::optional<std::string> AdoptState::path_of(const std::string& text) const {
  if (text.empty() || text.find_first_of("*\n") != std::string::npos) return std::nullopt;
  std::string whole = text;
  if (text[0] == '~' && text.size() > 1 && text[1] != '/') return std::nullopt;
  if (text[0] != '/' && text[0] != '~') {
    if (!folder) return std::nullopt;
    whole = *folder + "/" + text;
  }
  std::vector<std::string> parts;
  const std::string start = whole[0] == '~' ? "~" : "";
  for (const std::string& part : split(whole.substr(whole[0] == '~' ? 1 : 0), '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (parts.empty() && start == "~") return std::nullopt;
      if (!parts.empty()) parts.pop_back();
      continue;
    }
    parts.push_back(part);
  }
  const std::string path = start + (parts.empty() ? "" : "/" + join(parts, "/"));
  return path.empty() ? "/" : path;
}

AdoptedStep& AdoptState::add(std::string kind, Json fields) {
  AdoptedStep step;
  step.kind = std::move(kind);
  step.fields = std::move(fields);
  step.comments = std::move(comments);
  step.folder = folder.value_or("");
  comments.clear();
  steps.push_back(std::move(step));
  return steps.back();
}

void AdoptState::absorb(const std::string& text, std::string_view why) {
  const std::vector<std::string> lines = split(text, '\n');
  for (const std::string& line : lines) comments.push_back(&line == &lines.back() ? fmt::format("{}   ({})", line, why) : line);
}

InferredGuard infer_guard(const AdoptSegment& segment, const AdoptState& state) {
  if (segment.commands.size() != 1) return {};
  const ShellCommand& command = segment.commands[0];
  const auto path = [&](const ShellWord& word) {
    const auto text = state.text_of(word);
    return text ? state.path_of(*text).value_or("") : std::string();
  };
  for (const ShellRedirect& one : command.redirects) {
    if (one.op == ">" && one.descriptor != 2 && one.target.shown() != "/dev/null") return {path(one.target), ""};
  }
  const BareCommand bare = bare_command(command);
  if (bare.words.size() < 2) return {};
  const std::string program = bare.words[0].shown();
  const ShellWord& last = bare.words.back();
  const auto quoted = [&](const ShellWord& word) {
    const std::string where = path(word);
    return where.starts_with("~/") ? "~/" + shell_quote(where.substr(2)) : shell_quote(where);
  };
  if (program == "touch" || program == "mkfifo") return {path(last), ""};
  // Several files go into a folder, which is there before.
  const bool is_one_file = bare.words.size() == 3 || (bare.words.size() == 4 && bare.words[1].shown().starts_with('-'));
  if ((program == "cp" || program == "mv") && is_one_file && !last.shown().ends_with('/') && last.shown() != "." && state.text_of(last) &&
      bare.words[bare.words.size() - 2].shown().find('*') == std::string::npos)
    return {path(last), ""};
  if (is_among(program, {"rm"}) && !path(last).empty() && bare.words.size() == 3) return {"", "test ! -e " + quoted(last)};
  if (program == "chmod" && bare.words.size() == 3 && bare.words[1].shown() == "+x" && !path(last).empty())
    return {"", "test -x " + quoted(last)};
  if (program == "usermod" && bare.words.size() == 4 && bare.words[1].shown() == "-aG" && state.text_of(bare.words[2])) {
    const auto user = state.text_of(last);
    const bool is_login = is_among(last.shown(), {"${USER}", "$(whoami)", "`whoami`"});
    const std::string group = shell_quote(*state.text_of(bare.words[2]));
    if (user || is_login) return {"", fmt::format("id -nG {}| tr ' ' '\\n' | grep -qx {}", user ? shell_quote(*user) + " " : "", group)};
  }
  if (program == "useradd" || program == "adduser") return {"", state.text_of(last) ? "id " + shell_quote(*state.text_of(last)) : ""};
  for (std::size_t i = 1; i + 1 < bare.words.size(); ++i) {
    const bool is_address = bare.words[i + 1].shown().find("://") != std::string::npos;  // `-O` of curl has no value
    if (is_among(bare.words[i].shown(), {"-o", "--output", "-out", "-O"}) && !is_address) return {path(bare.words[i + 1]), ""};
  }
  return {};
}

}  // namespace gpustrap
