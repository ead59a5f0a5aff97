#include "controller/adopt_state.h"

#include <fnmatch.h>

#include <algorithm>
#include <cctype>
#include <initializer_list>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/adopt_commands.h"
#include "controller/lint_words.h"

namespace gpustrap {
namespace {

bool is_name_part(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

bool mentions(const std::string& text, const std::string& name) {
  for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) {
    const std::size_t end = at + name.size();
    if ((at == 0 || !is_name_part(text[at - 1])) && (end == text.size() || !is_name_part(text[end]))) return true;
  }
  return false;
}

/// Whether a shell would run `name` somewhere in the text.
bool calls(const std::string& text, const std::string& name) {
  for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) {
    const std::size_t end = at + name.size();
    if (end < text.size() && std::string_view(" \t\n;&|)`").find(text[end]) == std::string_view::npos) continue;
    const std::size_t before = at == 0 ? std::string::npos : text.find_last_not_of(" \t", at - 1);
    if (before == std::string::npos || std::string_view("\n;&|({`!").find(text[before]) != std::string_view::npos) return true;
    std::size_t word = before;
    while (word > 0 && is_name_part(text[word - 1])) --word;
    if (is_among(text.substr(word, before + 1 - word), {"if", "then", "else", "elif", "do", "while", "until", "time"}) && before + 1 < at)
      return true;
  }
  return false;
}

/// `NAME=value` for a shell; a ~ in front stays one that the shell fills in.
std::string assignment_text(const std::string& name, const AdoptState::Variable& variable) {
  if (!variable.value) return variable.text;
  const std::string& value = *variable.value;
  const std::string quoted = value.starts_with("~/") ? "~/" + shell_quote(value.substr(2)) : value == "~" ? "~" : shell_quote(value);
  return fmt::format("{}{}={}", variable.exported ? "export " : "", name, quoted);
}

}  // namespace

std::optional<std::string> AdoptState::value_of(const std::string& name) const {
  if (name == "HOME") return "~";
  const auto found = variables.find(name);
  if (found == variables.end()) return std::nullopt;
  const bool may_be_another = std::any_of(sources.begin(), sources.end(), [&](const Source& one) {
    return one.names.empty() && one.order > found->second.order;  // a file that sets nobody knows what
  });
  return may_be_another ? std::nullopt : found->second.value;
}

std::optional<std::string> AdoptState::text_of(const ShellWord& word) const {
  std::optional<std::string> text = word.expanded([&](const std::string& name) { return value_of(name); });
  // ~ is a home only at the front: `$HOME` further in cannot be said without a shell.
  if (text && text->find('~', 1) != std::string::npos && word.shown().find("${") != std::string::npos &&
      text->find("~/", 1) != std::string::npos)
    return std::nullopt;
  return text;
}

std::optional<std::vector<std::string>> AdoptState::fields_of(const ShellWord& word) const {
  constexpr std::string_view kBlanks = " \t\n";
  std::vector<std::string> fields;
  std::string field;
  bool begun = false;
  const auto end_field = [&] {
    if (begun) fields.push_back(std::move(field));
    field.clear();
    begun = false;
  };
  for (const ShellPart& part : word.parts) {
    if (part.kind == ShellPart::Kind::text) {
      field += part.text;
      begun = begun || !part.text.empty() || word.quoted;
      continue;
    }
    if (part.kind == ShellPart::Kind::opaque) {
      const bool is_array = part.text.starts_with("${") && (part.text.ends_with("[@]}") || part.text.ends_with("[*]}"));
      const auto found = is_array ? variables.find(part.text.substr(2, part.text.size() - 6)) : variables.end();
      if (found == variables.end() || !found->second.elements || !field.empty() || !fields.empty() || &part != &word.parts.back())
        return std::nullopt;
      return found->second.elements;
    }
    const std::optional<std::string> value = value_of(part.text);
    if (!value) return std::nullopt;
    if (part.quoted) {
      field += *value;
      begun = true;
      continue;
    }
    if (value->find_first_of("*?[") != std::string::npos) return std::nullopt;
    for (const char c : *value) {
      if (kBlanks.find(c) != std::string_view::npos) {
        end_field();
      } else {
        field += c;
        begun = true;
      }
    }
  }
  end_field();
  // ~ is a home only at the front: `$HOME` further in cannot be said without a shell.
  const bool has_variable =
      std::any_of(word.parts.begin(), word.parts.end(), [](const ShellPart& p) { return p.kind == ShellPart::Kind::variable; });
  for (const std::string& one : fields) {
    if (has_variable && one.find("~/", 1) != std::string::npos) return std::nullopt;
  }
  return fields;
}

std::optional<std::string> AdoptState::field_of(const ShellWord& word) const {
  auto fields = fields_of(word);
  return fields && fields->size() == 1 ? std::optional<std::string>(std::move(fields->front())) : std::nullopt;
}

std::vector<std::string> AdoptState::fetched_by(const ShellWord& word) const {
  constexpr char kAny = '\x01';  // path_of takes no *
  std::string pattern;
  for (const ShellPart& part : word.parts) {
    if (part.kind == ShellPart::Kind::opaque && part.text != "*") return {};
    const auto text = part.kind == ShellPart::Kind::text     ? std::optional<std::string>(part.text)
                      : part.kind == ShellPart::Kind::opaque ? std::optional<std::string>(std::string(1, kAny))
                                                             : value_of(part.text);
    if (!text || text->find_first_of("?[*\\") != std::string::npos) return {};
    pattern += *text;
  }
  std::string path = path_of(pattern).value_or("");
  std::replace(path.begin(), path.end(), kAny, '*');
  std::vector<std::string> files;
  if (path.find('*') == std::string::npos) return files;
  for (const auto& [file, download] : downloads) {
    if (::fnmatch(path.c_str(), file.c_str(), FNM_PATHNAME) == 0) files.push_back(file);
  }
  return files;
}

void AdoptState::assign(const std::string& name, std::optional<std::string> value, const std::string& text, bool exported) {
  Variable& variable = variables[name];
  std::string whole = text;
  // `PATH=/opt/bin:$PATH` twice: the second is made of the first.
  const bool grows = text.find("$" + name) != std::string::npos || text.find("${" + name) != std::string::npos ||
                     text.find(name + "+=") != std::string::npos;
  if (!value && grows && variable.order > 0) whole = assignment_text(name, variable) + "\n" + text;
  variable = {std::move(value), std::move(whole), variable.exported || exported, std::nullopt, ++settings};
}

void AdoptState::source(std::string text, std::vector<std::string> names) {
  for (const std::string& name : names) variables.erase(name);
  sources.push_back({std::move(text), std::move(names), ++settings});
}

std::string AdoptState::prelude_of(const std::string& text, bool as_root) const {
  std::string all = text;
  std::set<std::string> names;
  std::set<std::size_t> wanted;  // sources
  const bool is_sudo = as_root || text.starts_with("sudo ");
  for (bool grew = true; grew;) {
    grew = false;
    const auto want = [&](const std::string& name, const std::string& definition, bool is_meant) {
      if (!is_meant || names.contains(name)) return;
      names.insert(name);
      all += "\n" + definition;
      grew = true;
    };
    for (const auto& [name, body] : functions) want(name, body, calls(all, name));
    for (const auto& [name, variable] : variables) want(name, assignment_text(name, variable), variable.exported || mentions(all, name));
    for (std::size_t i = 0; i < sources.size(); ++i) {
      const auto is_meant = [&](const std::string& name) { return !variables.contains(name) && mentions(all, name); };
      const bool needed = sources[i].names.empty() ? !is_sudo || all.find('$') != std::string::npos
                                                   : std::any_of(sources[i].names.begin(), sources[i].names.end(), is_meant);
      if (!needed || !wanted.insert(i).second) continue;
      all += "\n" + sources[i].text;
      grew = true;
    }
  }
  std::vector<std::string> lines;
  const auto add_line = [&](const std::string& line) {
    if (!line.empty() && std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(line);
  };
  if (!is_root && !is_sudo) {
    // What the script has activated, by the places of its programs.
    const std::string conda = conda_prefix.empty() ? "" : conda_prefix + "/bin:";
    const bool is_named = !conda_prefix.empty() && venv.empty() && !conda_env.empty() && conda_env != "base";
    const std::string env = !venv.empty() ? venv + "/bin:" : is_named ? conda_prefix + "/envs/" + conda_env + "/bin:" : "";
    if (!conda.empty() || !env.empty()) add_line(fmt::format("PATH={}{}$PATH", env, conda));
  }
  // Values and functions need nothing else to be defined; what a shell has to work out comes behind them as the script has it.
  std::map<std::size_t, std::string> worked_out;
  for (const auto& [name, variable] : variables) {
    if (!names.contains(name) && !variable.exported) continue;
    if (variable.value && (wanted.empty() || variable.order < sources[*wanted.begin()].order))
      add_line(assignment_text(name, variable));
    else
      worked_out[variable.order] = assignment_text(name, variable);
  }
  for (const auto& [name, body] : functions) {
    if (names.contains(name)) add_line(body);
  }
  for (const std::size_t i : wanted) worked_out[sources[i].order] = sources[i].text;
  for (const auto& [order, line] : worked_out) add_line(line);
  return lines.empty() ? "" : join(lines, "\n") + "\n";
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
  step.line = script_line;
  comments.clear();
  steps.push_back(std::move(step));
  return steps.back();
}

void AdoptState::absorb(const std::string& text, std::string_view why) {
  const std::vector<std::string> lines = split(text, '\n');
  for (const std::string& one : lines) comments.push_back(&one == &lines.back() ? fmt::format("{}   ({})", one, why) : one);
  left_out.push_back({script_line, text, std::string(why)});
}

void AdoptState::drop(AdoptedStep& step, std::string_view why) {
  step.dropped = true;
  comments.insert(comments.begin(), step.original);
  comments.insert(comments.begin(), step.comments.begin(), step.comments.end());
  left_out.push_back({step.line, step.original, std::string(why)});
}

namespace {

/// The name in `useradd -m -s /bin/bash NAME`; none where an option is not known.
std::optional<std::string> account_of(const BareCommand& bare, const AdoptState& state) {
  std::optional<std::string> name;
  for (std::size_t i = 1; i < bare.words.size(); ++i) {
    const auto word = state.field_of(bare.words[i]);
    if (!word) return std::nullopt;
    if (is_among(*word,
                 {"-s",      "-d",     "-u",         "-g",    "-G",    "-c",       "-e",        "-k",      "-p",        "-b",
                  "--shell", "--home", "--home-dir", "--uid", "--gid", "--groups", "--ingroup", "--gecos", "--comment", "--password"})) {
      ++i;
    } else if (!word->starts_with('-')) {
      if (name) return std::nullopt;  // `adduser NAME GROUP`
      name = *word;
    }
  }
  return name;
}

/// Whether a system has such a file before anybody makes it: /etc/fstab, and nothing in folders that are for what is added.
bool is_there_before(std::string_view path) {
  if (!path.starts_with("/etc/") && !path.starts_with("/usr/bin/") && !path.starts_with("/boot/")) return false;
  return path.find(".d/") == std::string_view::npos && path.find("keyring") == std::string_view::npos &&
         !path.starts_with("/etc/systemd/system/");
}

/// Options whose value is the file that a program makes; elsewhere `-o` is an owner, a mount option or a format.
bool names_output(const std::string& program, const std::string& option) {
  if (is_among(program, {"curl", "gcc", "g++", "cc", "c++", "clang", "clang++", "nvcc", "gpg", "go", "rustc"}))
    return option == "-o" || option == "--output";
  return (program == "wget" && option == "-O") || (program == "openssl" && option == "-out");
}

}  // namespace

InferredGuard infer_guard(const AdoptSegment& segment, const AdoptState& state) {
  if (segment.commands.empty()) return {};
  // What a pipeline makes is what its last command writes.
  const ShellCommand& command = segment.commands.back();
  const bool is_pipeline = segment.commands.size() > 1;
  if (is_pipeline && !std::all_of(segment.commands.begin() + 1, segment.commands.end(),
                                  [](const ShellCommand& one) { return one.join == ShellJoin::pipe; }))
    return {};
  const auto path = [&](const ShellWord& word) {
    const auto text = state.field_of(word);
    return text ? state.path_of(*text).value_or("") : std::string();
  };
  for (const ShellRedirect& one : command.redirects) {
    const auto target = one.op == ">" && one.descriptor != 2 ? state.text_of(one.target) : std::nullopt;
    if (target && *target != "/dev/null") return {is_there_before(path(one.target)) ? "" : path(one.target), ""};
  }
  const BareCommand bare = bare_command(command);
  if (bare.words.size() < 2) return {};
  const std::string program = bare.words[0].shown();
  const std::string second = bare.words[1].shown();
  const ShellWord& last = bare.words.back();
  const auto quoted = [&](const ShellWord& word) {
    const std::string where = path(word);
    return where.starts_with("~/") ? "~/" + shell_quote(where.substr(2)) : shell_quote(where);
  };
  for (std::size_t i = 1; i + 1 < bare.words.size(); ++i) {
    const bool is_address = bare.words[i + 1].shown().find("://") != std::string::npos;  // `-O` of curl has no value
    if (names_output(program, bare.words[i].shown()) && !is_address && bare.words[i + 1].shown() != "-")
      return {path(bare.words[i + 1]), ""};
  }
  if (program == "tee" && bare.words.size() == 2) return {is_there_before(path(last)) ? "" : path(last), ""};
  if (is_pipeline) return {};
  if (program == "touch" && (bare.words.size() == 2 || !second.starts_with('-'))) return {path(last), ""};
  if (program == "mkfifo") return {path(last), ""};
  // Several files go into a folder, which is there before.
  const bool is_plain_option = second.size() > 1 && second[0] == '-' && second.find_first_not_of("rRafpvnuPLd", 1) == std::string::npos;
  const bool is_one_file = (bare.words.size() == 3 && !second.starts_with('-')) || (bare.words.size() == 4 && is_plain_option);
  const bool replaces = second.starts_with('-') && second.find('f') != std::string::npos;
  if ((program == "cp" || program == "mv") && is_one_file && !replaces && !last.shown().ends_with('/') && last.shown() != "." &&
      state.field_of(last) && !is_there_before(path(last)) && bare.words[bare.words.size() - 2].shown().find('*') == std::string::npos)
    return {path(last), ""};
  if (program == "rm") {
    // Where a line below may make the file again, only a file of our own tells that it has been removed: else each run would delete anew.
    const bool is_recursive = second.starts_with('-') && second.find_first_of("rR") != std::string::npos;
    const std::string file = path(last);
    if (is_recursive || file.empty() || bare.words.size() > 3 || (bare.words.size() == 3 && !second.starts_with('-'))) return {};
    const std::string folder = file.substr(0, file.rfind('/'));
    const bool is_named_below = state.behind.find(name_of_path(file)) != std::string_view::npos ||
                                (folder.find('/') != std::string::npos && state.behind.find(folder) != std::string_view::npos);
    return is_named_below ? InferredGuard{} : InferredGuard{"", "test ! -e " + quoted(last)};
  }
  if (program == "chmod" && bare.words.size() == 3 && second == "+x" && !path(last).empty()) return {"", "test -x " + quoted(last)};
  if (program == "usermod" && bare.words.size() == 4 && second == "-aG" && state.field_of(bare.words[2])) {
    const auto user = state.field_of(last);
    const bool is_login = is_among(last.shown(), {"${USER}", "$(whoami)", "`whoami`"});
    const std::string group = shell_quote(*state.field_of(bare.words[2]));
    if (user || is_login) return {"", fmt::format("id -nG {}| tr ' ' '\\n' | grep -qx {}", user ? shell_quote(*user) + " " : "", group)};
  }
  if (program == "useradd" || program == "adduser") {
    const auto name = account_of(bare, state);
    return {"", name ? "id " + shell_quote(*name) : ""};
  }
  const bool is_one_group = bare.words.size() == 2 || (bare.words.size() == 3 && is_among(second, {"-f", "-r", "--force", "--system"}));
  if (program == "groupadd" && is_one_group && state.field_of(last)) return {"", "getent group " + shell_quote(*state.field_of(last))};
  return {};
}

}  // namespace gpustrap
