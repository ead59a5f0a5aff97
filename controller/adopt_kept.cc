#include "controller/adopt_script.h"

#include <algorithm>
#include <cstddef>
#include <regex>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/adopt_arguments.h"
#include "controller/adopt_commands.h"
#include "controller/lint_words.h"

namespace gpustrap {
namespace {

/// Programs whose arguments are no files: they may run as root's own step, without sudo.
bool means_no_files(const std::string& program) {
  for (const std::string_view one : {"apt-get",
                                     "apt",
                                     "add-apt-repository",
                                     "usermod",
                                     "useradd",
                                     "adduser",
                                     "groupadd",
                                     "systemctl",
                                     "ufw",
                                     "update-alternatives",
                                     "modprobe",
                                     "sysctl",
                                     "timedatectl",
                                     "hostnamectl",
                                     "locale-gen",
                                     "ldconfig",
                                     "snap",
                                     "nvidia-ctk",
                                     "service",
                                     "apt-mark",
                                     "apt-fast",
                                     "update-initramfs",
                                     "update-grub",
                                     "swapoff",
                                     "nvidia-smi",
                                     "loginctl"}) {
    if (program == one) return true;
  }
  return false;
}

/// An `exit` that says that all is well: a run cannot stop there.
bool ends_well(const ShellCommand& command) {
  if (command.words.empty() || command.words[0].shown() != "exit") return false;
  return command.words.size() == 1 || command.words[1].shown() == "0";
}

/// `<your-name>`, `YOUR_TOKEN`: what a tutorial leaves to its reader.
std::string blank_in(const std::string& text) {
  static const std::regex kBlank(R"((^|[^<0-9&])(<[A-Za-z][A-Za-z0-9_. -]*>)|(\b(YOUR|your)[_-][A-Za-z_-]+))");
  std::smatch found;
  if (!std::regex_search(text, found, kBlank)) return {};
  return found[2].matched ? found[2].str() : found[3].str();
}

}  // namespace

void ScriptReader::keep(const AdoptSegment& segment) {
  AdoptSegment whole = segment;
  // `rm -rf X` and the command that makes X again are one: apart, a run that ends between them would leave neither.
  if (AdoptedStep* removal = removal_before(segment)) {
    whole.text = removal->original + "\n" + segment.text;
    whole.commands.clear();
    state_.comments.insert(state_.comments.begin(), removal->comments.begin(), removal->comments.end());
    removal->dropped = true;
  }
  AdoptedStep step = command_of(whole, fmt::format("{}", ++marked_));
  step.id = id_of(segment);
  if (!why_whole_.empty()) step.reviews.insert(step.reviews.begin(), std::exchange(why_whole_, {}));
  step.removes = whole.commands.empty() ? "" : removed_by(segment);
  step.comments = std::move(state_.comments);
  state_.comments.clear();
  state_.steps.push_back(std::move(step));
  forget(segment.text);
}

AdoptedStep* ScriptReader::removal_before(const AdoptSegment& segment) {
  if (state_.steps.empty() || segment.commands.empty()) return nullptr;
  AdoptedStep& last = state_.steps.back();
  if (last.kind != "command" || last.removes.empty() || last.dropped || last.folder != state_.folder.value_or("") ||
      !removed_by(segment).empty())
    return nullptr;
  const auto holds = [](const std::string& folder, const std::string& path) { return path == folder || path.starts_with(folder + "/"); };
  for (const ShellCommand& command : segment.commands) {
    for (const ShellWord& word : command.words) {
      const auto text = state_.field_of(word);
      const auto path = text && text->find('/') != std::string::npos ? state_.path_of(*text) : std::nullopt;
      if (path && (holds(*path, last.removes) || holds(last.removes, *path))) return &last;
    }
  }
  return nullptr;
}

bool ScriptReader::may_be_roots(const BareCommand& bare) const {
  for (const ShellWord& word : bare.words) {
    const auto text = state_.text_of(word);
    if (!text || text->find('~') != std::string::npos) return false;
  }
  return true;
}

AdoptedStep ScriptReader::command_of(const AdoptSegment& segment, const std::string& mark) const {
  std::string text = segment.text;
  const InferredGuard guard = guard_ ? *guard_ : blank_in(segment.text).empty() ? infer_guard(segment, state_) : InferredGuard{};
  AdoptedStep step;
  step.kind = "command";
  step.original = segment.text;
  step.folder = state_.folder.value_or("");
  step.line = state_.script_line;
  const BareCommand bare = segment.commands.size() == 1 ? bare_command(segment.commands[0]) : BareCommand{};
  const std::string program = bare.words.empty() ? "" : bare.words[0].shown();
  if (state_.is_root) {
    step.as = "root";
  } else if (bare.sudo && bare.understood && bare.user.empty() && bare.assignments.empty() && means_no_files(program) &&
             may_be_roots(bare) && segment.commands[0].assignments.empty()) {
    step.as = "root";
    text = text.substr(bare.words[0].begin - segment.commands[0].begin);
  }
  const std::vector<FoundCommand> inside = segment.commands.empty() ? find_commands(text) : std::vector<FoundCommand>{};
  if (std::any_of(inside.begin(), inside.end(), [](const FoundCommand& one) { return ends_well(one.command); }))
    step.reviews.emplace_back("`exit` ended the whole script; here it ends this step alone, and the steps below go on");
  if (program == "read") step.reviews.emplace_back("it asks, and nobody is there to answer: let a var say it (`vars:`, --var)");
  if (text.find("SUDO_USER") != std::string::npos)
    step.reviews.emplace_back("SUDO_USER is who typed sudo; nobody does here, and it is empty: name the user");
  for (const std::string& review : blanks_in(text)) step.reviews.push_back(review);
  if (segment.background) {
    text += " &";
    step.reviews.emplace_back("runs in the background of this step, and ends with the run: a `service` would stay");
  }
  std::string run = state_.prelude_of(text, step.as == "root") + text;
  if (run.find('\n') != std::string::npos) run += "\n";
  if (!guard.creates.empty() || !guard.unless.empty()) {
    if (!guard.creates.empty()) step.fields["creates"] = guard.creates;
    if (!guard.unless.empty()) step.fields["unless"] = guard.unless;
    step.reviews.emplace_back("is it done where that holds?");
  } else {
    const std::string folder = step.as == "root" ? "/var/lib/adopted/" + marks_ : "~/.local/state/adopted/" + marks_;
    run += fmt::format("{}mkdir -p {} && touch {}/{}\n", run.ends_with('\n') ? "" : "\n", folder, folder, mark);
    step.fields["creates"] = folder + "/" + mark;
    step.reviews.emplace_back("nothing tells whether this has been done; the file in `creates` says so once it has run");
  }
  if (state_.folder && *state_.folder != "~") step.fields["chdir"] = *state_.folder;
  if (!state_.folder) step.reviews.emplace_back("the lines above may have changed the folder: say `chdir`");
  step.fields["run"] = run;
  return step;
}

std::vector<std::string> ScriptReader::blanks_in(const std::string& text) const {
  std::vector<std::string> reviews;
  if (const std::string blank = blank_in(text); !blank.empty()) reviews.push_back(fmt::format("`{}` is for you to fill in", blank));
  const auto ask = [&](const std::string& what, const std::string& argument) {
    reviews.push_back(
        fmt::format("{}`{}` is an argument of the script, and a recipe has none: write what it is, or a var", what, argument));
  };
  if (!of_script_) return reviews;
  if (const std::string argument = argument_in(text); !argument.empty()) ask("", argument);
  for (const auto& [name, variable] : state_.variables) {
    const std::string argument = variable.value || find_word(text, name) == std::string::npos ? "" : argument_in(variable.text);
    if (!argument.empty()) ask(fmt::format("{}: ", name), argument);
  }
  return reviews;
}

std::string ScriptReader::removed_by(const AdoptSegment& segment) const {
  if (segment.commands.size() != 1) return {};
  const BareCommand bare = bare_command(segment.commands[0]);
  if (bare.words.size() < 2 || bare.words[0].shown() != "rm") return {};
  const auto file = state_.field_of(bare.words.back());
  return file && (bare.words.size() == 2 || bare.words[1].shown().starts_with('-')) ? state_.path_of(*file).value_or("") : std::string();
}

std::string ScriptReader::id_of(const AdoptSegment& segment) {
  std::string id = "command";
  if (!segment.commands.empty()) {
    const BareCommand bare = bare_command(segment.commands[0]);
    if (!bare.words.empty()) id = name_of_path(bare.words[0].shown());
  }
  for (char& c : id) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    if (!plain) c = '-';
  }
  id.erase(0, id.find_first_not_of("-_"));
  return id.empty() ? "command" : id.substr(0, 40);
}

}  // namespace gpustrap
