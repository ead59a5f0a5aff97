#include "controller/adopt_input.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/adopt_commands.h"
#include "controller/adopt_markdown.h"
#include "controller/lint_words.h"
#include "controller/shell_reader.h"

namespace gpustrap {
namespace {

bool is_word_char(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.'; }

std::string_view first_word(std::string_view line) {
  line = trim(line);
  return line.substr(0, line.find_first_of(" \t("));
}

/// "python3" of `#!/usr/bin/env -S python3 -u`; empty without such a line.
std::string interpreter_of(std::string_view text) {
  if (!text.starts_with("#!")) return {};
  const std::vector<std::string> words = split(std::string(trim(text.substr(2, text.find('\n') - 2))), ' ');
  for (const std::string& word : words) {
    const std::string name = name_of_path(word);
    if (!name.empty() && name != "env" && name[0] != '-' && name.find('=') == std::string::npos) return name;
  }
  return {};
}

/// Lines that are neither empty nor comments.
std::vector<std::string_view> code_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    if (!trim(line).empty() && trim(line)[0] != '#') lines.push_back(line.ends_with('\r') ? line.substr(0, line.size() - 1) : line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

bool is_python(std::string_view line) {
  const std::string_view word = first_word(line);
  const bool imports = (word == "import" || word == "from") && line.find_first_of(";|&$'\"") == std::string_view::npos &&
                       (word == "import" || line.find(" import ") != std::string_view::npos);
  return imports || line.starts_with("\"\"\"") || ((word == "def" || word == "class" || word == "async") && trim(line).ends_with(':'));
}

struct Foreign {
  std::string what, advice;
};

/// What other programs read, by the marks that each has.
std::optional<Foreign> foreign(std::string_view text, const std::string& name) {
  const std::string kCommands = "give its shell commands, one a line: `gpustrap adopt - < commands.txt`";
  const std::string interpreter = interpreter_of(text);
  if (!interpreter.empty() && !is_among(interpreter, {"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "busybox"}))
    return Foreign{fmt::format("its first line asks for `{}`, and this reads the scripts of sh and bash", strip_control(interpreter)),
                   kCommands};
  const auto ends = [&](std::string_view what) { return name.ends_with(what); };
  if (text.starts_with("#cloud-config"))
    return Foreign{"this is a cloud-config of cloud-init, and no shell script",
                   "give what stands under `runcmd`, one command a line, and `packages` as `apt-get install -y …`"};
  const std::vector<std::string_view> lines = code_of(text);
  if (lines.empty()) return std::nullopt;
  const auto has_line = [&](auto&& is_meant) { return std::any_of(lines.begin(), lines.end(), is_meant); };
  const auto begin = std::find_if(lines.begin(), lines.end(), [](std::string_view line) { return !line.starts_with("ARG "); });
  if (begin != lines.end() && (begin->starts_with("FROM ") || begin->starts_with("from ")) &&
      begin->find(" import ") == std::string_view::npos)
    return Foreign{"this is a Dockerfile, and no shell script",
                   "give what stands behind RUN, one command a line: `gpustrap adopt - < commands.txt`"};
  if (ends(".py") || is_python(lines[0])) return Foreign{"this is Python, and no shell script", kCommands};
  const bool is_fish =
      ends(".fish") || (has_line([](std::string_view line) { return trim(line) == "end"; }) && has_line([](std::string_view line) {
                          return first_word(line) == "set" && line.find(" -gx ") != std::string_view::npos;
                        }));
  if (is_fish) return Foreign{"this is a script of fish, and this reads those of sh and bash", "write its lines as bash has them"};
  if (ends(".ps1") || ends(".bat") || ends(".cmd")) return Foreign{"this is a script for Windows, and no shell script", kCommands};
  if (lines[0].starts_with("<!") || lines[0].starts_with("<html"))
    return Foreign{"this is a web page, and no shell script", "copy the commands out of it"};
  if (lines[0] == "{" || lines[0].starts_with("{\"")) return Foreign{"this is JSON, and no shell script", kCommands};
  if (is_among(first_word(lines[0]), {"name:", "steps:", "description:", "vars:"}) &&
      has_line([](std::string_view line) { return line == "steps:"; }))
    return Foreign{"this is a recipe already", "`gpustrap recipe lint FILE` checks it, `gpustrap plan FILE HOST` shows what it would do"};
  if (lines[0] == "---") return Foreign{"this is YAML, and no shell script", kCommands};
  return std::nullopt;
}

struct Prompt {
  std::size_t length = 0;  ///< of the line's beginning, up to the command; 0: there is none
  char sign = '$';
};

/// `$ `, `(base) ubuntu@gpu:~/data$ `, `[root@gpu ~]# `. A lone `# ` is a comment.
Prompt prompt_of(std::string_view line) {
  std::size_t at = std::min(line.find_first_not_of(" \t"), line.size());
  if (line.substr(at).starts_with('(') && line.find(") ", at) != std::string_view::npos) {
    const std::size_t close = line.find(") ", at);
    if (std::all_of(line.begin() + static_cast<std::ptrdiff_t>(at) + 1, line.begin() + static_cast<std::ptrdiff_t>(close), is_word_char))
      at = close + 2;
  }
  if (line.substr(at).starts_with("$ ")) return {at + 2, '$'};
  std::size_t end = at;
  const bool in_brackets = line.substr(at).starts_with('[');
  if (in_brackets) ++end;
  const std::size_t user = end;
  while (end < line.size() && is_word_char(line[end])) ++end;
  if (end == user || end >= line.size() || line[end] != '@') return {};
  const std::size_t host = ++end;
  while (end < line.size() && is_word_char(line[end])) ++end;
  if (end == host) return {};
  const std::size_t sign = line.find_first_of("$#", end);
  if (sign == std::string_view::npos || sign + 1 >= line.size() || line[sign + 1] != ' ') return {};
  const std::string_view folder = line.substr(end, sign - end);
  const bool fits = in_brackets ? folder.ends_with(']') : folder.starts_with(':') && folder.find(' ') == std::string_view::npos;
  return fits ? Prompt{sign + 2, line[sign]} : Prompt{};
}

/// Every line behind a `# `, and each begins with a program: what a tutorial types as root.
bool is_all_root_prompts(const std::vector<std::string>& lines) {
  std::size_t commands = 0;
  for (const std::string& line : lines) {
    if (trim(line).empty()) continue;
    if (!line.starts_with("# ")) return false;
    const std::string_view word = first_word(std::string_view(line).substr(2));
    if (!is_among(word, {"apt-get", "apt",   "curl",    "wget",    "mkdir",  "cd",         "systemctl",  "modprobe",
                         "docker",  "dpkg",  "useradd", "usermod", "tar",    "cp",         "ln",         "mv",
                         "rm",      "sh",    "bash",    "echo",    "export", "pip",        "pip3",       "git",
                         "chmod",   "chown", "snap",    "cat",     "reboot", "nvidia-smi", "nvidia-ctk", "add-apt-repository",
                         "python3", "conda", "mount",   "gpg"}))
      return false;
    ++commands;
  }
  return commands > 0;
}

}  // namespace

bool has_prompt(std::string_view line) { return prompt_of(line).length > 0; }

std::string without_prompts(std::string_view text) {
  std::vector<std::string> lines = split(std::string(text), '\n');
  if (text.starts_with("#!")) return std::string(text);
  if (is_all_root_prompts(lines)) {
    for (std::string& line : lines) line.erase(0, std::min<std::size_t>(2, line.size()));
    return join(lines, "\n");
  }
  const auto is_typed = [](const std::string& line) { return prompt_of(line).length > 0 || line.starts_with(">>> "); };
  const auto is_code = [](const std::string& line) { return !trim(line).empty() && trim(line)[0] != '#'; };
  const auto first = std::find_if(lines.begin(), lines.end(), is_code);
  if (std::none_of(lines.begin(), lines.end(), is_typed)) return std::string(text);
  // Where the first command has a prompt each has, and what has none is an answer.
  const bool is_transcript = first != lines.end() && is_typed(*first);
  bool goes_on = false;
  std::string document;  // the delimiter of a here-document that is being typed
  for (std::string& line : lines) {
    const Prompt prompt = prompt_of(line);
    const bool is_more = (goes_on || !document.empty()) && prompt.length == 0;
    if (prompt.length > 0) {
      line.erase(0, prompt.length);
      document.clear();
    } else if (is_more && line.starts_with("> ")) {
      line.erase(0, 2);
    } else if (line.starts_with(">>>") || (line.starts_with("... ") && is_transcript)) {
      line = "# " + line + "   (typed into Python: no step)";
    } else if (is_transcript && !is_more && is_code(line)) {
      line = "# " + line + "   (no prompt in front: read as an answer)";
    }
    if (line.starts_with('#')) continue;
    goes_on = line.ends_with('\\') || line.ends_with("&&") || line.ends_with('|');
    if (!document.empty() && trim(line) == document) document.clear();
    const std::size_t mark = document.empty() && prompt.length > 0 ? line.find("<<") : std::string::npos;
    if (mark == std::string::npos) continue;
    std::string_view word = first_word(std::string_view(line).substr(mark + 2 + (line.substr(mark).starts_with("<<-") ? 1 : 0)));
    while (!word.empty() && (word.front() == '\'' || word.front() == '"')) word.remove_prefix(1);
    while (!word.empty() && (word.back() == '\'' || word.back() == '"')) word.remove_suffix(1);
    document = word;
  }
  return join(lines, "\n");
}

AdoptInput read_adopt_input(std::string_view text, const std::string& name) {
  AdoptInput input;
  if (text.find('\0') != std::string_view::npos || !is_utf8(text)) {
    input.problem = "this is no text: expected a shell script";
    input.advice = "name the script, or pipe the commands in: `gpustrap adopt - < commands.txt`";
    return input;
  }
  if (is_markdown(text, name)) {
    MarkdownCommands commands = commands_of_markdown(text);
    if (commands.taken == 0) {
      input.problem = "this is Markdown, and there is no block of shell commands for a host in it";
      if (!commands.left.empty())
        input.problem += fmt::format(": line {}: {}, {}", commands.left[0].line, commands.left[0].what, commands.left[0].why);
      input.advice = "put ```bash before the commands and ``` behind them, or give them alone: `gpustrap adopt - < commands.txt`";
      return input;
    }
    for (MarkdownCommands::Left& one : commands.left) input.left_out.push_back({one.line, std::move(one.what), std::move(one.why)});
    input.blocks = commands.taken;
    input.text = std::move(commands.text);
    return input;
  }
  if (const auto other = foreign(text, name)) {
    input.problem = other->what;
    input.advice = other->advice;
    return input;
  }
  input.text = without_prompts(text);
  if (const auto fault = find_fault(input.text)) {
    input.problem = fault->stray ? fmt::format("line {}: {} closes what nothing has opened", fault->line, strip_control(fault->what))
                                 : fmt::format("line {}: {} is not closed before the text ends", fault->line, strip_control(fault->what));
    input.advice = "give the whole script; `bash -n FILE` says where bash loses the thread";
  }
  return input;
}

}  // namespace gpustrap
