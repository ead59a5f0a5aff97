#include "controller/adopt_markdown.h"

#include <algorithm>
#include <cctype>
#include <cstddef>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/adopt_commands.h"
#include "controller/adopt_input.h"
#include "controller/shell_reader.h"

namespace gpustrap {
namespace {

struct Fence {
  std::size_t indent = 0, length = 0;
  char mark = '\0';  ///< none: no fence
  std::string_view info;
};

Fence fence_of(std::string_view line) {
  Fence fence;
  fence.indent = std::min(line.find_first_not_of(" \t"), line.size());
  std::string_view rest = line.substr(fence.indent);
  // The first line of an item of a list may be a fence: "1. ```bash".
  const std::size_t item = rest.find("```");
  const bool begins_item = item != std::string_view::npos && item > 0 && item <= 4 && rest[item - 1] == ' ' &&
                           (rest[0] == '-' || rest[0] == '*' || std::isdigit(static_cast<unsigned char>(rest[0])) != 0);
  if (begins_item) {
    fence.indent += item;
    rest.remove_prefix(item);
  }
  if (rest.empty() || (rest[0] != '`' && rest[0] != '~')) return fence;
  const std::size_t length = std::min(rest.find_first_not_of(rest[0]), rest.size());
  constexpr std::size_t kShortest = 3;
  fence.info = trim(rest.substr(length));
  if (length < kShortest || (rest[0] == '`' && fence.info.find('`') != std::string_view::npos)) return fence;
  fence.length = length;
  fence.mark = rest[0];
  return fence;
}

/// "bash" of `bash title="x"`, `{.bash .numberLines}`, `{bash}`, `sh:setup.sh`.
std::string language_of(std::string_view info) {
  while (!info.empty() && (info.front() == '{' || info.front() == '.' || info.front() == ' ')) info.remove_prefix(1);
  std::string word(info.substr(0, info.find_first_of(" \t,}{:")));
  std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return word;
}

bool is_shell(const std::string& language) {
  return is_among(language, {"bash", "sh", "shell", "zsh", "console", "terminal", "shell-session", "shellsession", "sh-session",
                             "bash-session", "commandline", "command-line", "shellscript", "ubuntu", "linux"});
}

/// Whether a block that names no language begins as what people type on such hosts.
bool begins_with_command(const MarkdownBlock& block) {
  for (const std::string& line : block.lines) {
    const std::string_view code = trim(line);
    if (code.empty() || code[0] == '#') continue;
    if (has_prompt(line)) return true;
    const std::string_view word = code.substr(0, code.find_first_of(" \t;"));
    return is_among(word, {"sudo",       "apt-get",   "apt",    "wget",  "curl",   "git",     "conda", "mamba",
                           "pip",        "pip3",      "cd",     "mkdir", "export", "source",  "echo",  "bash",
                           "sh",         "systemctl", "docker", "tar",   "unzip",  "python3", "chmod", "ubuntu-drivers",
                           "nvidia-smi", "jupyter",   "snap",   "rm",    "mv",     "cp",      "ln",    "virtualenv",
                           "cat",        "ssh",       "scp"});
  }
  return false;
}

/// What stands in such blocks and is no command: what is typed into Python, and words for people.
std::string only_commands(const std::string& line) {
  const std::string_view code = trim(line);
  if (code.empty() || code[0] == '#') return line.find("(no prompt in front") == std::string::npos ? line : std::string();
  const std::string_view word = code.substr(0, code.find_first_of(" \t"));
  const bool is_import = code.find_first_of("'\"$|&;=") == std::string_view::npos &&
                         (word == "import" || (word == "from" && code.find(" import ") != std::string_view::npos));
  if (is_import || word.starts_with("print(") || word == ">>>") return fmt::format("# {}   (Python: no step)", code);
  const bool is_prose = std::any_of(word.begin(), word.end(), [](char c) { return static_cast<unsigned char>(c) > 0x7F; });
  return is_prose ? fmt::format("# {}   (no command)", code) : line;
}

/// The heading that says that what stands below it is for another machine, or for another day.
std::string other_purpose(const std::vector<std::string>& headings) {
  for (const std::string& heading : headings) {
    std::string small = heading;
    std::transform(small.begin(), small.end(), small.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    for (const std::string_view word :
         {"uninstall", "troubleshoot", "clean up", "cleanup", "cleaning up", "tear down", "teardown", "rollback", "windows", "macos",
          "mac os", "wsl", "on your laptop", "on your local", "local machine"}) {
      if (small.find(word) != std::string::npos) return heading;
    }
  }
  return {};
}

}  // namespace

bool is_markdown(std::string_view text, const std::string& name) {
  for (const std::string_view end : {".md", ".markdown", ".mdx", ".mkd", ".qmd", ".rmd", ".Rmd"}) {
    if (name.ends_with(end)) return true;
  }
  if (text.starts_with("#!") || name.ends_with(".sh") || name.ends_with(".bash")) return false;
  // A script may write such a text by a here-document.
  const std::size_t first = text.starts_with("```") ? 0 : text.find("\n```");
  return first != std::string_view::npos && text.substr(0, first).find("<<") == std::string_view::npos && !markdown_blocks(text).empty();
}

std::vector<MarkdownBlock> markdown_blocks(std::string_view text) {
  std::vector<MarkdownBlock> blocks;
  std::vector<std::pair<std::size_t, std::string>> headings;  // by level
  Fence open;
  int number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    ++number;
    const Fence fence = fence_of(line);
    if (open.mark != '\0') {
      if (fence.mark == open.mark && fence.length >= open.length && fence.info.empty()) {
        open = {};
        continue;
      }
      const std::size_t blanks = std::min(line.find_first_not_of(" \t"), line.size());
      blocks.back().lines.emplace_back(line.substr(std::min(blanks, open.indent)));
      continue;
    }
    if (fence.mark != '\0') {
      open = fence;
      MarkdownBlock block;
      block.line = number + 1;
      block.language = language_of(fence.info);
      for (const auto& [level, heading] : headings) block.headings.push_back(heading);
      blocks.push_back(std::move(block));
      continue;
    }
    const std::size_t level = std::min(line.find_first_not_of('#'), line.size());
    constexpr std::size_t kDeepest = 6;
    if (level == 0 || level > kDeepest || level >= line.size() || line[level] != ' ') continue;
    while (!headings.empty() && headings.back().first >= level) headings.pop_back();
    headings.emplace_back(level, std::string(trim(line.substr(level))));
  }
  return blocks;
}

MarkdownCommands commands_of_markdown(std::string_view text) {
  MarkdownCommands commands;
  const std::vector<std::string> all = split(std::string(text), '\n');
  std::vector<std::string> lines(all.size());
  const auto set = [&](std::size_t line, std::string what) {
    if (line >= 1 && line <= lines.size()) lines[line - 1] = std::move(what);
  };
  std::vector<std::string> said;
  for (const MarkdownBlock& block : markdown_blocks(text)) {
    const auto line = static_cast<std::size_t>(block.line);
    const std::string what = block.language.empty() ? "a block" : fmt::format("a block of {}", strip_control(block.language));
    const auto leave = [&](std::string why) {
      set(line - 1, fmt::format("# {}, line {}   (left out: {})", what, block.line, why));
      commands.left.push_back({block.line, what, std::move(why)});
    };
    if (std::all_of(block.lines.begin(), block.lines.end(), [](const std::string& one) { return trim(one).empty(); })) continue;
    if (!block.language.empty() && !is_shell(block.language)) {
      leave("no shell commands");
      continue;
    }
    if (block.language.empty() && !begins_with_command(block)) {
      leave("it names no language, and begins with no command that is known");
      continue;
    }
    if (const std::string heading = other_purpose(block.headings); !heading.empty()) {
      leave(fmt::format("below “{}”", strip_control(heading)));
      continue;
    }
    const std::string shell = without_prompts(join(block.lines, "\n"));
    if (const auto fault = find_fault(shell)) {
      leave(fmt::format("line {}: {} {}", block.line + fault->line - 1, strip_control(fault->what),
                        fault->stray ? "closes what nothing has opened" : "is not closed"));
      continue;
    }
    ++commands.taken;
    // The nearest heading says what the commands are for.
    if (!block.headings.empty() && (said.empty() || said != block.headings)) set(line - 1, "# " + strip_control(block.headings.back()));
    said = block.headings;
    std::size_t at = line;
    const bool has_document = shell.find("<<") != std::string::npos;  // whose lines may be anything
    for (const std::string& one : split(shell, '\n')) set(at++, has_document ? one : only_commands(one));
  }
  commands.text = join(lines, "\n");
  return commands;
}

}  // namespace gpustrap
