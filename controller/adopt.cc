#include "controller/adopt.h"

#include <algorithm>
#include <cctype>
#include <initializer_list>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/adopt_state.h"
#include "controller/adopt_yaml.h"
#include "controller/compat_loader.h"
#include "controller/lint.h"
#include "controller/lint_words.h"

namespace gpustrap {
namespace {

/// Programs whose arguments are no files: they may run as root's own step, without sudo.
bool means_no_files(const std::string& program) {
  for (const std::string_view one : {"apt-get",  "apt",      "add-apt-repository", "usermod",     "useradd",
                                     "adduser",  "groupadd", "systemctl",          "ufw",         "update-alternatives",
                                     "modprobe", "sysctl",   "timedatectl",        "hostnamectl", "locale-gen",
                                     "ldconfig", "snap",     "nvidia-ctk",         "service",     "apt-mark"}) {
    if (program == one) return true;
  }
  return false;
}

class ScriptReader {
 public:
  ScriptReader(AdoptState& state, std::string marks) : state_(state), marks_(std::move(marks)) {}

  void read(std::string_view script) {
    const std::vector<ShellStatement> statements = read_shell(script);
    state_.is_root = is_for_root(statements);
    for (const ShellStatement& statement : statements) {
      for (const std::string& comment : statement.comments) {
        if (!comment.starts_with('!')) state_.comments.emplace_back(trim(comment));
      }
      if (!statement.text.empty()) take(statement);
    }
  }

 private:
  /// A script that installs packages or starts services without sudo is run by root.
  static bool is_for_root(const std::vector<ShellStatement>& statements) {
    bool with = false, without = false;
    for (const ShellStatement& statement : statements) {
      for (const FoundCommand& found : find_commands(statement.text)) {
        const BareCommand bare = bare_command(found.command);
        const std::string program = bare.words.empty() ? "" : bare.words[0].shown();
        with = with || bare.sudo;
        without = without || (!bare.sudo && (program == "apt-get" || program == "systemctl" || program == "apt"));
      }
    }
    return without && !with;
  }

  void take(const ShellStatement& statement) {
    if (statement.commands.empty()) return take_compound(statement);
    const bool chooses = std::any_of(statement.commands.begin(), statement.commands.end(),
                                     [](const ShellCommand& one) { return one.join == ShellJoin::or_else; });
    if (chooses && take_shrugged(statement)) return;
    if (chooses) return keep({statement.commands, statement.text, statement.background});
    AdoptSegment segment;
    std::vector<AdoptSegment> segments;
    for (std::size_t i = 0; i < statement.commands.size(); ++i) {
      segment.commands.push_back(statement.commands[i]);
      if (i + 1 < statement.commands.size() && statement.commands[i + 1].join == ShellJoin::pipe) continue;
      segment.text = text_of(statement, segment.commands.front().begin, segment.commands.back().end);
      segments.push_back(std::move(segment));
      segment = {};
    }
    const bool has_document =
        statement.text.find('\n') != std::string::npos &&
        std::any_of(statement.commands.begin(), statement.commands.end(), [](const ShellCommand& one) {
          return std::any_of(one.redirects.begin(), one.redirects.end(), [](const ShellRedirect& r) { return r.document.has_value(); });
        });
    if (segments.size() == 1 || has_document) {
      // The lines of a here-document stand behind the whole line.
      segments.resize(1);
      segments[0].text = statement.text;
      if (has_document) segments[0].commands = statement.commands;
      segments[0].background = statement.background;
    } else if (statement.background) {
      return keep({statement.commands, statement.text, true});
    }
    for (const AdoptSegment& one : segments) {
      if (!adopt_segment(one, state_)) keep(one);
    }
  }

  /// `… || true`, `… || echo failed`: the command before it as a step, for a person to say whether the run may go on without it.
  bool take_shrugged(const ShellStatement& statement) {
    const ShellCommand& last = statement.commands.back();
    const std::string program = last.words.empty() ? "" : last.words[0].shown();
    const bool ends = program == "exit" || program == "return";  // as a run does by itself
    const bool shrugs = last.join == ShellJoin::or_else && (ends || program == "true" || program == ":" || program == "echo");
    const auto joins = [](const ShellCommand& one) { return one.join == ShellJoin::none || one.join == ShellJoin::pipe; };
    if (!shrugs || statement.background || !std::all_of(statement.commands.begin(), statement.commands.end() - 1, joins)) return false;
    AdoptSegment segment;
    segment.commands.assign(statement.commands.begin(), statement.commands.end() - 1);
    segment.text = text_of(statement, segment.commands.front().begin, segment.commands.back().end);
    const std::size_t before = state_.steps.size();
    if (!adopt_segment(segment, state_)) return false;
    for (std::size_t i = before; !ends && i < state_.steps.size(); ++i)
      state_.steps[i].reviews.emplace_back("the script goes on where this fails, and a run ends there");
    return true;
  }

  static std::string text_of(const ShellStatement& statement, std::size_t begin, std::size_t end) {
    return statement.text.substr(begin - statement.begin, std::min(end, statement.end) - begin);
  }

  void take_compound(const ShellStatement& statement) {
    if (const std::string name = function_name(statement.text); !name.empty()) {
      state_.functions[name] = statement.text;
      return state_.absorb(statement.text, "goes along with the steps that call it");
    }
    keep({{}, statement.text, statement.background});
    for (const FoundCommand& found : find_commands(statement.text)) {
      const ShellCommand& command = found.command;
      const std::string program = command.words.empty() ? "" : command.words[0].shown();
      if (program == "cd" || program == "pushd") state_.folder = std::nullopt;
      for (const ShellAssignment& one : command.assignments) {
        if (command.words.empty()) state_.variables[one.name] = {std::nullopt, statement.text, false};
      }
    }
  }

  static std::string function_name(const std::string& text) {
    std::string_view rest = text;
    if (rest.starts_with("function ")) rest = trim(rest.substr(9));
    std::size_t end = 0;
    while (end < rest.size() && (std::isalnum(static_cast<unsigned char>(rest[end])) != 0 || rest[end] == '_' || rest[end] == '-')) ++end;
    const std::string_view behind = trim(rest.substr(end));
    const bool is_function =
        end > 0 && (behind.starts_with("()") || behind.starts_with("( )") || (text.starts_with("function ") && behind.starts_with('{')));
    return is_function ? std::string(rest.substr(0, end)) : std::string();
  }

  /// The original text as a command, with what it needs of the lines above.
  void keep(const AdoptSegment& segment) {
    std::string text = segment.text;
    const InferredGuard guard = infer_guard(segment, state_);
    AdoptedStep& step = state_.add("command", Json::object());
    step.original = segment.text;
    step.id = id_of(segment);
    step.removes = removed_by(segment);
    const BareCommand bare = segment.commands.size() == 1 ? bare_command(segment.commands[0]) : BareCommand{};
    const std::string program = bare.words.empty() ? "" : bare.words[0].shown();
    if (state_.is_root) {
      step.as = "root";
    } else if (bare.sudo && bare.understood && bare.user.empty() && bare.assignments.empty() && means_no_files(program) &&
               text.find_first_of("~$`") == std::string::npos && segment.commands[0].assignments.empty()) {
      step.as = "root";
      text = text.substr(bare.words[0].begin - segment.commands[0].begin);
    }
    const std::vector<FoundCommand> inside = segment.commands.empty() ? find_commands(text) : std::vector<FoundCommand>{};
    if (std::any_of(inside.begin(), inside.end(), [](const FoundCommand& one) { return is_exit(one.command); }))
      step.reviews.emplace_back("`exit` ended the whole script; here it ends this step alone, and the steps below go on");
    if (program == "read") step.reviews.emplace_back("it asks, and nobody is there to answer: let a var say it (`vars:`, --var)");
    if (segment.background) {
      text += " &";
      step.reviews.emplace_back("runs in the background of this step, and ends with the run: a `service` would stay");
    }
    const std::string prelude = prelude_of(text);
    std::string run = prelude + text;
    if (run.find('\n') != std::string::npos) run += "\n";
    if (!guard.creates.empty() || !guard.unless.empty()) {
      if (!guard.creates.empty()) step.fields["creates"] = guard.creates;
      if (!guard.unless.empty()) step.fields["unless"] = guard.unless;
      step.reviews.emplace_back("is it done where that holds?");
    } else {
      const std::string folder = step.as == "root" ? "/var/lib/adopted/" + marks_ : "~/.local/state/adopted/" + marks_;
      const std::string mark = folder + "/" + fmt::format("{}", ++marked_);
      run += fmt::format("{}mkdir -p {} && touch {}\n", run.ends_with('\n') ? "" : "\n", folder, mark);
      step.fields["creates"] = mark;
      step.reviews.emplace_back("nothing tells whether this has been done; the file in `creates` says so once it has run");
    }
    if (state_.folder && *state_.folder != "~") step.fields["chdir"] = *state_.folder;
    if (!state_.folder) step.reviews.emplace_back("the lines above may have changed the folder: say `chdir`");
    step.fields["run"] = run;
  }

  static bool is_exit(const ShellCommand& command) { return !command.words.empty() && command.words[0].shown() == "exit"; }

  [[nodiscard]] std::string removed_by(const AdoptSegment& segment) const {
    if (segment.commands.size() != 1) return {};
    const BareCommand bare = bare_command(segment.commands[0]);
    if (bare.words.size() < 2 || bare.words[0].shown() != "rm") return {};
    const auto file = state_.text_of(bare.words.back());
    return file && (bare.words.size() == 2 || bare.words[1].shown().starts_with('-')) ? state_.path_of(*file).value_or("") : std::string();
  }

  static std::string id_of(const AdoptSegment& segment) {
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

  static bool mentions(const std::string& text, const std::string& name) {
    const auto is_part = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; };
    for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) {
      const std::size_t end = at + name.size();
      if ((at == 0 || !is_part(text[at - 1])) && (end == text.size() || !is_part(text[end]))) return true;
    }
    return false;
  }

  /// Assignments, exports and functions of the lines above that the text names, in an order that makes sense to a shell.
  [[nodiscard]] std::string prelude_of(const std::string& text) const {
    std::string all = text;
    std::set<std::string> names;
    for (bool grew = true; grew;) {
      grew = false;
      const auto want = [&](const std::string& name, const std::string& definition) {
        if (names.contains(name) || !mentions(all, name)) return;
        names.insert(name);
        all += "\n" + definition;
        grew = true;
      };
      for (const auto& [name, body] : state_.functions) want(name, body);
      for (const auto& [name, variable] : state_.variables) want(name, variable.text);
    }
    std::vector<std::string> lines;
    if (!state_.is_root && !text.starts_with("sudo ")) {
      // What the script has activated, by the places of its programs.
      const std::string conda = state_.conda_prefix.empty() ? "" : state_.conda_prefix + "/bin:";
      const bool is_named = !state_.conda_prefix.empty() && state_.venv.empty() && !state_.conda_env.empty() && state_.conda_env != "base";
      const std::string env = !state_.venv.empty() ? state_.venv + "/bin:"
                              : is_named           ? state_.conda_prefix + "/envs/" + state_.conda_env + "/bin:"
                                                   : "";
      if (!conda.empty() || !env.empty()) lines.push_back(fmt::format("PATH={}{}$PATH", env, conda));
    }
    const auto add = [&](const std::string& line) {
      if (std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(line);
    };
    // Variables that others are made of come first: those with a value need none of the others.
    for (const bool known : {true, false}) {
      for (const auto& [name, variable] : state_.variables) {
        if (variable.value.has_value() != known || (!names.contains(name) && !variable.exported)) continue;
        if (known) {
          const std::string& value = *variable.value;
          const std::string quoted = value.starts_with("~/") ? "~/" + shell_quote(value.substr(2))
                                     : value == "~"          ? "~"
                                                             : shell_quote(value);
          add(fmt::format("{}{}={}", variable.exported ? "export " : "", name, quoted));
        } else if (!variable.text.empty()) {
          add(variable.text);
        }
      }
    }
    for (const auto& [name, body] : state_.functions) {
      if (names.contains(name)) add(body);
    }
    return lines.empty() ? "" : join(lines, "\n") + "\n";
  }

  AdoptState& state_;
  std::string marks_;
  std::size_t marked_ = 0;
};

/// Turns a step back into the command that it was made of.
void make_command(AdoptedStep& step, const std::string& marks, std::size_t number) {
  const std::string mark = fmt::format("~/.local/state/adopted/{}/was-{}", marks, number);
  step.kind = "command";
  step.fields = {{"creates", mark},
                 {"run", fmt::format("{}\nmkdir -p ~/.local/state/adopted/{} && touch {}\n", step.original, marks, mark)}};
  if (!step.folder.empty() && step.folder != "~") step.fields["chdir"] = step.folder;
  step.as.clear();
  step.reviews = {"nothing tells whether this has been done; the file in `creates` says so once it has run"};
}

/// In a script for root ~ is root's home, in its files as in its commands.
void make_roots(AdoptedStep& step) {
  constexpr std::string_view kOfTheLogin[] = {"git", "conda", "conda_env", "venv", "pip", "environment"};
  const bool by_kind = std::find(std::begin(kOfTheLogin), std::end(kOfTheLogin), step.kind) != std::end(kOfTheLogin);
  const bool by_path = std::any_of(step.fields.begin(), step.fields.end(), [](const Json& value) {
    return value.is_string() && value.get_ref<const std::string&>().starts_with('~');
  });
  if (step.kind != "jupyter" && (by_kind || by_path)) step.as = "root";
}

/// `${{` is a placeholder in recipes, and may be text in what a script writes: it goes through base64.
void hide_placeholders(AdoptedStep& step) {
  if (step.kind != "command" || !step.fields.contains("run")) return;
  const auto run = step.fields["run"].get<std::string>();
  if (run.find("${{") == std::string::npos) return;
  step.fields["run"] = fmt::format("bash -eo pipefail -c \"$(base64 -d <<'END'\n{}\nEND\n)\"\n", base64_of(run));
  step.reviews.emplace_back("the text holds `${{`, which recipes fill in: it stands here in base64");
}

void give_single_ids(std::vector<AdoptedStep>& steps) {
  std::set<std::string> taken;
  for (AdoptedStep& step : steps) {
    const std::string wanted = step.id.empty() ? step.kind : step.id;
    std::string id = wanted;
    for (std::size_t n = 2; !taken.insert(id).second; ++n) id = fmt::format("{}-{}", wanted, n);
    step.id = id;
  }
}

/// What lint says of the recipe, by step: errors of the loader make a step the command it was; everything else is allowed there with
/// the script as the reason, and marked for review.
bool settle(AdoptedRecipe& recipe, const std::string& marks) {
  const Result<Compat> compat = load_builtin_compat();
  if (!compat) return false;
  constexpr int kMostRounds = 4;
  for (int round = 0; round < kMostRounds; ++round) {
    std::vector<int> lines;
    const std::string text = write_adopted(recipe, &lines);
    const std::vector<BuiltinRecipe> only = {{"adopted", text}};
    LoadOptions options;
    options.sources.builtins = &only;
    const Result<LintReport> report = lint_recipe("adopted", options, *compat);
    if (!report) return false;
    bool changed = false;
    std::set<std::size_t> broken;
    for (const LintFinding& finding : report->findings) {
      if (finding.rule->id == "review") continue;
      const auto next = std::upper_bound(lines.begin(), lines.end(), finding.place.line);
      if (next == lines.begin()) return false;
      const std::size_t index = static_cast<std::size_t>(next - lines.begin()) - 1;
      AdoptedStep& step = recipe.steps[index];
      if (finding.rule->id == "recipe-error") {
        if (step.kind == "command") return false;
        if (broken.insert(index).second) {
          make_command(step, marks, index + 1);
          hide_placeholders(step);
        }
        changed = true;
        continue;
      }
      const std::string id(finding.rule->id);
      if (std::find(step.allows.begin(), step.allows.end(), id) != step.allows.end()) continue;
      step.allows.push_back(id);
      step.reviews.push_back(fmt::format("{}: {}", finding.message, finding.advice));
      changed = true;
    }
    if (!changed) return true;
  }
  return false;
}

}  // namespace

AdoptedScript adopt_script(std::string_view script, const std::string& name) {
  AdoptedScript adopted;
  if (script.find('\0') != std::string_view::npos || !is_utf8(script)) {
    adopted.problem = "this is no text: expected a shell script";
    return adopted;
  }
  AdoptedRecipe recipe;
  recipe.script = name;
  recipe.name = recipe_name_from(name);
  AdoptState state;
  ScriptReader(state, recipe.name).read(script);
  recipe.asks_terms = state.asks_terms;
  recipe.comments = std::move(state.comments);
  for (AdoptedStep& step : state.steps) {
    if (step.dropped) continue;
    if (state.is_root && step.as.empty()) make_roots(step);
    recipe.steps.push_back(std::move(step));
  }
  if (recipe.steps.empty()) {
    adopted.problem = "there is no command in it that changes a host";
    return adopted;
  }
  give_single_ids(recipe.steps);
  for (AdoptedStep& step : recipe.steps) hide_placeholders(step);
  if (!settle(recipe, recipe.name)) {
    adopted.problem = "no recipe that loads can be made of it: more than 1 MiB of text, or characters that YAML does not take";
    return adopted;
  }
  adopted.recipe = write_adopted(recipe, nullptr);
  for (const AdoptedStep& step : recipe.steps) {
    ++(step.kind == "command" ? adopted.commands : adopted.typed);
    adopted.reviews += step.reviews.size();
  }
  return adopted;
}

}  // namespace gpustrap
