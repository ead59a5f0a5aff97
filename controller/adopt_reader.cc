#include "controller/adopt_reader.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/adopt_commands.h"
#include "controller/adopt_functions.h"
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
    script_ = script;
    functions_.find(statements);
    take_all(statements);
  }

 private:
  void take_all(const std::vector<ShellStatement>& statements) {
    for (const ShellStatement& statement : statements) {
      for (const std::string& comment : statement.comments) {
        if (!comment.starts_with('!')) state_.comments.emplace_back(trim(comment));
      }
      if (statement.text.empty()) continue;
      state_.script_line = statement.line;
      if (statement.commands.size() == 1 && is_exit(statement.commands[0]) && !statement.background) {
        const auto behind = std::count_if(statements.begin() + (&statement - statements.data()) + 1, statements.end(),
                                          [](const ShellStatement& one) { return !one.text.empty(); });
        state_.absorb(statement.text,
                      behind > 0 ? fmt::format("the script ends here: {} behind it left out", counted(behind)) : "the script ends here");
        ended_ = true;
      } else if (statement.commands.size() == 1 && program_of(statement.commands[0]) == "return" && depth_ > 0) {
        return;
      } else {
        take(statement);
      }
      if (ended_) return;
    }
  }

  static std::string counted(std::ptrdiff_t n) { return n == 1 ? "one command" : fmt::format("{} commands", n); }

  /// `main "$@"`: the lines of a function in the place of its call, where they mean there what they mean inside.
  bool open_call(const ShellStatement& statement) {
    constexpr int kDeepest = 8, kMostCalls = 200;
    if (statement.commands.size() != 1 || statement.background || depth_ >= kDeepest || opened_ >= kMostCalls) return false;
    const ShellCommand& command = statement.commands[0];
    if (command.words.empty() || !command.assignments.empty() || !command.redirects.empty()) return false;
    const std::string name = command.words[0].plain().value_or("");
    const ScriptFunctions::Body* body = functions_.body_of(name);
    if (body == nullptr || active_.contains(name)) return false;
    const bool passes_on = std::all_of(command.words.begin() + 1, command.words.end(),
                                       [](const ShellWord& word) { return word.shown() == "$@" || word.shown() == "$*"; });
    const std::string text = body->text;
    const bool asks = text.find("FUNCNAME") != std::string::npos || (!passes_on && takes_arguments(text));
    const std::vector<ShellStatement> inside = read_inside(text, body->line);
    if (asks || returns_early(inside)) return false;
    state_.absorb(statement.text, "its lines follow");
    active_.insert(name);
    ++opened_;
    ++depth_;
    functions_.find(inside);
    take_all(inside);
    --depth_;
    active_.erase(name);
    return true;
  }

  /// A test that can stand in `unless`: of a file, or whether there is a program. `holds` is what it says where it is not negated.
  struct Test {
    std::string holds;
    bool negated = false;
  };
  [[nodiscard]] std::optional<Test> test_of(std::string text) const {
    Test test;
    if (text.starts_with("! ")) {
      test.negated = true;
      text = trim(std::string_view(text).substr(2));
    }
    if (text.starts_with("[[ ") && text.ends_with(" ]]")) text = "[ " + text.substr(3, text.size() - 6) + " ]";
    const std::vector<ShellStatement> statements = read_shell(text);
    if (statements.size() != 1 || statements[0].commands.size() != 1 || statements[0].background) return std::nullopt;
    const ShellCommand& command = statements[0].commands[0];
    const auto is_silent = [](const ShellRedirect& one) {
      return one.op.find('>') != std::string::npos && is_among(one.target.shown(), {"/dev/null", "1", "2"});
    };
    if (!command.assignments.empty() || !std::all_of(command.redirects.begin(), command.redirects.end(), is_silent)) return std::nullopt;
    std::vector<std::string> words;
    for (const ShellWord& word : command.words) {
      const auto field = state_.field_of(word);
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
      const auto path = state_.path_of(words[1]);
      if (!path) return std::nullopt;
      test.holds = fmt::format("test {} {}", words[0], path->starts_with("~/") ? "~/" + shell_quote(path->substr(2)) : shell_quote(*path));
      return test;
    }
    const bool is_command = words[0] == "command" && words.size() == 3 && words[1] == "-v";
    const bool is_which = words.size() == 2 && is_among(words[0], {"which", "hash", "type"});
    if (!is_command && !is_which) return std::nullopt;
    test.holds = "command -v " + shell_quote(words.back());
    return test;
  }

  /// `if [ ! -d X ]; then …; fi`, `[ -d X ] || …`: as steps, where each knows by itself when it is done, or as one with that guard.
  bool take_guarded(const ShellStatement& statement) {
    if (statement.background || depth_ > 8) return false;
    std::string condition, body;
    bool where_false = false;
    int line = statement.line;
    if (statement.commands.empty()) {
      const auto block = read_block(statement.text);
      if (!block || block->kind != ShellBlock::Kind::condition) return false;
      condition = block->condition;
      body = block->body;
      line += block->line;
    } else {
      const std::vector<ShellCommand>& all = statement.commands;
      if (all.size() < 2 || (all[1].join != ShellJoin::or_else && all[1].join != ShellJoin::and_then)) return false;
      where_false = all[1].join == ShellJoin::or_else;
      for (std::size_t i = 2; i < all.size(); ++i) {
        if (all[i].join == ShellJoin::or_else || (where_false && all[i].join == ShellJoin::and_then)) return false;
      }
      condition = text_of(statement, all[0].begin, all[0].end);
      body = statement.text.substr(all[1].begin - statement.begin);  // with its here-documents
      line += static_cast<int>(std::count(statement.text.begin(), statement.text.end(), '\n') - std::count(body.begin(), body.end(), '\n'));
    }
    if (condition.find("BASH_SOURCE") != std::string::npos && condition.find("=") != std::string::npos &&
        condition.find("!=") == std::string::npos && !where_false) {
      take_all(read_inside(body, line));  // the script is run, and not sourced
      return true;
    }
    const auto test = test_of(condition);
    if (!test || test->negated == where_false) return false;
    const std::vector<ShellStatement> inside = read_inside(body, line);
    if (!may_be_opened(body) || returns_early(inside)) return false;
    return open_under(statement.text, inside, test->holds);
  }

  /// No line of it ends anything, or sets what lines behind it would know only sometimes.
  [[nodiscard]] bool may_be_opened(const std::string& body) const {
    return holds_only(body, [&](const ShellCommand& command) {
      const std::string program = program_of(command);
      return !command.words.empty() &&
             !is_among(program, {"exit", "return", "break", "continue", "export", "declare", "readonly", "local", "typeset"}) &&
             !functions_.only_ends(program);
    });
  }

  /// Tries the lines as steps; where any of them stays a command beside others, nothing is changed.
  bool open_under(const std::string& text, const std::vector<ShellStatement>& inside, const std::string& holds) {
    const AdoptState before = state_;
    const std::size_t marked = marked_;
    const auto undo = [&] {
      state_ = before;
      marked_ = marked;
    };
    const auto take_inside = [&] {
      const std::string first = text.substr(0, text.find('\n'));
      if (inside.size() > 1 || text.find('\n') != std::string::npos)
        state_.comments.push_back(fmt::format("{}   (its lines follow)", first));
      ++depth_;
      take_all(inside);
      --depth_;
    };
    take_inside();
    std::size_t typed = 0, commands = 0;
    for (std::size_t i = before.steps.size(); i < state_.steps.size(); ++i) {
      if (!state_.steps[i].dropped) ++(state_.steps[i].kind == "command" ? commands : typed);
    }
    const bool moved = state_.folder != before.folder || state_.venv != before.venv;
    if (!moved && commands == 1 && typed == 0 && inside.size() == 1) {
      undo();
      guard_ = {"", holds};
      take_inside();
      guard_.reset();
      return true;
    }
    if (moved || commands > 0) return undo(), false;
    for (std::size_t i = before.steps.size(); i < state_.steps.size(); ++i) {
      AdoptedStep& step = state_.steps[i];
      const bool is_of_itself = std::any_of(step.fields.begin(), step.fields.end(), [&](const Json& value) {
        return value.is_string() && holds.ends_with(" " + value.get_ref<const std::string&>());
      });
      if (!is_of_itself || step.kind == "git")
        step.reviews.push_back(fmt::format("the script does this only where `{}` does not hold", holds));
    }
    return true;
  }

  /// `for name in a b c; do …; done`, where each round is steps that know when they are done.
  bool unroll(const ShellStatement& statement) {
    constexpr std::size_t kMostRounds = 10;
    const auto block = statement.commands.empty() && !statement.background && depth_ <= 4 ? read_block(statement.text) : std::nullopt;
    if (!block || block->kind != ShellBlock::Kind::loop || !is_name(block->name) || !may_be_opened(block->body)) return false;
    std::vector<std::string> values;
    for (const ShellWord& word : block->words) {
      const auto fields = state_.fields_of(word);
      if (!fields) return false;
      values.insert(values.end(), fields->begin(), fields->end());
    }
    if (values.empty() || values.size() > kMostRounds) return false;
    const std::vector<ShellStatement> inside = read_inside(block->body, statement.line + block->line);
    const AdoptState before = state_;
    const std::size_t marked = marked_;
    state_.comments.push_back(fmt::format("{}   (round by round)", statement.text.substr(0, statement.text.find('\n'))));
    ++depth_;
    for (const std::string& value : values) {
      state_.assign(block->name, value, fmt::format("{}={}", block->name, shell_quote(value)), false);
      take_all(inside);
    }
    --depth_;
    const bool is_typed = std::none_of(state_.steps.begin() + static_cast<std::ptrdiff_t>(before.steps.size()), state_.steps.end(),
                                       [](const AdoptedStep& step) { return step.kind == "command" && !step.dropped; });
    if (is_typed && state_.folder == before.folder && state_.venv == before.venv) return true;
    state_ = before;
    marked_ = marked;
    return false;
  }

  void take(const ShellStatement& statement) {
    state_.script_line = statement.line;
    state_.behind = behind(statement.end);
    if (const auto wants_root = wants_root_of(statement))
      return state_.absorb(statement.text, *wants_root ? "the steps of a script for root say `as: root`" : "steps run as the login user");
    if (open_call(statement) || take_guarded(statement) || unroll(statement)) return;
    if (statement.commands.empty()) return take_compound(statement);
    const bool chooses = std::any_of(statement.commands.begin(), statement.commands.end(),
                                     [](const ShellCommand& one) { return one.join == ShellJoin::or_else; });
    if (statement.commands.size() > 1 && take_settings(statement)) return;
    if (chooses && take_shrugged(statement)) return;
    if (chooses || asks_first(statement)) return keep({statement.commands, statement.text, statement.background});
    if (take_growth(statement)) return;
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
      if (!one.commands.empty()) {
        const std::string_view before = std::string_view(statement.text).substr(0, one.commands.front().begin - statement.begin);
        state_.script_line = statement.line + static_cast<int>(std::count(before.begin(), before.end(), '\n'));
      }
      if (segments.size() > 1) state_.behind = behind(one.commands.back().end);
      if (speaks(one)) {
        state_.absorb(one.text, "it only looks or speaks");
        continue;
      }
      if (!adopt(one)) keep(one);
    }
  }

  /// The script's text behind a place; all of it from inside of a block, which has places of its own.
  [[nodiscard]] std::string_view behind(std::size_t end) const {
    return depth_ > 0 ? script_ : script_.substr(std::min(end, script_.size()));
  }

  [[nodiscard]] bool speaks(const AdoptSegment& segment) const {
    if (segment.commands.size() != 1 || segment.background || !segment.commands[0].redirects.empty()) return false;
    const ShellCommand& command = segment.commands[0];
    const bool runs = std::any_of(command.words.begin(), command.words.end(), [](const ShellWord& word) {
      return std::any_of(word.parts.begin(), word.parts.end(), [](const ShellPart& part) {
        return part.kind == ShellPart::Kind::opaque && (part.text.starts_with("$(") || part.text.starts_with('`'));
      });
    });
    return !runs && !command.words.empty() && command.assignments.empty() && functions_.only_speaks(command.words[0].plain().value_or(""));
  }

  /// As typed steps; each remembers the command that it is where its fields turn out to be wrong.
  bool adopt(const AdoptSegment& segment) {
    std::vector<bool> was_dropped;
    for (const AdoptedStep& step : state_.steps) was_dropped.push_back(step.dropped);
    if (!adopt_segment(segment, state_)) return false;
    AdoptSegment whole = segment;
    for (std::size_t i = was_dropped.size(); i-- > 0;) {
      if (!state_.steps[i].dropped || was_dropped[i] || state_.steps[i].original.empty()) continue;
      whole.text = state_.steps[i].original + "\n" + whole.text;  // as the lines above had fetched it
      whole.commands.clear();
    }
    for (std::size_t i = was_dropped.size(); i < state_.steps.size(); ++i)
      state_.steps[i].as_command = std::make_shared<const AdoptedStep>(command_of(whole, fmt::format("was-{}", was_dropped.size() + 1)));
    return true;
  }

  /// `[ -f FILE ] && make`: where the first is false the rest is not done, and that is no mistake.
  static bool asks_first(const ShellStatement& statement) {
    for (std::size_t i = 0; i + 1 < statement.commands.size(); ++i) {
      const BareCommand bare = bare_command(statement.commands[i]);
      const std::string program = bare.words.empty() ? "" : bare.words[0].shown();
      const bool asks = is_among(program, {"[", "test", "which", "grep", "egrep", "type", "id", "hash", "-v"});  // `command -v`
      const std::size_t end_of_pipe = statement.commands[i + 1].join == ShellJoin::pipe ? i + 1 : i;
      if (asks && end_of_pipe == i && statement.commands[i + 1].join == ShellJoin::and_then) return true;
    }
    return false;
  }

  /// `TOOLS+=" tmux"`.
  bool take_growth(const ShellStatement& statement) {
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
    state_.assign(name, before && text ? std::optional<std::string>(*before + text->substr(plus + 2)) : std::nullopt, statement.text,
                  false);
    state_.absorb(statement.text, "known to the steps below");
    return true;
  }

  static bool is_name(const std::string& text) {
    return !text.empty() && std::isdigit(static_cast<unsigned char>(text[0])) == 0 &&
           std::all_of(text.begin(), text.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; });
  }

  /// `TOOLS=(git tmux)`, `declare -A PORTS=([web]=80)`.
  bool take_array(const ShellStatement& statement) {
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

  /// `… || true`, `… || echo failed`: the command before it as a step, for a person to say whether the run may go on without it.
  bool take_shrugged(const ShellStatement& statement) {
    const ShellCommand& last = statement.commands.back();
    const std::string program = last.words.empty() ? "" : last.words[0].shown();
    const bool ends = program == "exit" || program == "return" || functions_.only_ends(program);  // as a run does by itself
    const bool shrugs = last.join == ShellJoin::or_else &&
                        (ends || program == "true" || program == ":" || program == "echo" || functions_.only_speaks(program));
    const auto joins = [](const ShellCommand& one) { return one.join == ShellJoin::none || one.join == ShellJoin::pipe; };
    if (!shrugs || statement.background || !std::all_of(statement.commands.begin(), statement.commands.end() - 1, joins)) return false;
    AdoptSegment segment;
    segment.commands.assign(statement.commands.begin(), statement.commands.end() - 1);
    segment.text = text_of(statement, segment.commands.front().begin, segment.commands.back().end);
    const std::size_t before = state_.steps.size();
    if (!adopt(segment)) return false;
    for (std::size_t i = before; i < state_.steps.size(); ++i)
      state_.steps[i].as_command =
          std::make_shared<const AdoptedStep>(command_of({statement.commands, statement.text, false}, fmt::format("was-{}", before + 1)));
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
      const bool is_long = std::count(statement.text.begin(), statement.text.end(), '\n') > 3;
      return state_.absorb(is_long ? statement.text.substr(0, statement.text.find('\n')) + " …" : statement.text,
                           "a function: goes where it is called");
    }
    if (take_array(statement) || take_settings(statement)) return;
    keep({{}, statement.text, statement.background});
    for (const FoundCommand& found : find_commands(statement.text)) {
      const ShellCommand& command = found.command;
      const std::string program = command.words.empty() ? "" : command.words[0].shown();
      if (program == "cd" || program == "pushd") state_.folder = std::nullopt;
      for (const ShellAssignment& one : command.assignments) {
        if (command.words.empty()) state_.assign(one.name, std::nullopt, statement.text, false);
      }
    }
  }

  /// `if [ -f /etc/os-release ]; then . /etc/os-release; fi`: what sets variables and does nothing else goes along with the steps that need
  /// it.
  bool take_settings(const ShellStatement& statement) {
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
      if (!command.words.empty() && !is_among(program, {"[", "test", ".", "source", "true", ":"})) return false;
    }
    if (names.empty() && !sources) return false;
    for (const std::string& name : names) state_.assign(name, std::nullopt, statement.text, false);
    if (sources) state_.source(statement.text, {});
    state_.absorb(statement.text, "carried into the commands below that need it");
    return true;
  }

  /// The original text as a command.
  void keep(const AdoptSegment& segment) {
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
    step.removes = whole.commands.empty() ? "" : removed_by(segment);
    step.comments = std::move(state_.comments);
    state_.comments.clear();
    state_.steps.push_back(std::move(step));
  }

  AdoptedStep* removal_before(const AdoptSegment& segment) {
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

  /// Whether root's own step can run it: no home of the login user's in it, and nothing that another shell has to work out.
  [[nodiscard]] bool may_be_roots(const BareCommand& bare) const {
    for (const ShellWord& word : bare.words) {
      const auto text = state_.text_of(word);
      if (!text || text->find('~') != std::string::npos) return false;
    }
    return true;
  }

  /// With what it needs of the lines above. `mark` names the file that says it has been done.
  [[nodiscard]] AdoptedStep command_of(const AdoptSegment& segment, const std::string& mark) const {
    std::string text = segment.text;
    const InferredGuard guard = guard_ ? *guard_ : infer_guard(segment, state_);
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
    if (std::any_of(inside.begin(), inside.end(), [](const FoundCommand& one) { return is_exit(one.command); }))
      step.reviews.emplace_back("`exit` ended the whole script; here it ends this step alone, and the steps below go on");
    if (program == "read") step.reviews.emplace_back("it asks, and nobody is there to answer: let a var say it (`vars:`, --var)");
    if (text.find("SUDO_USER") != std::string::npos)
      step.reviews.emplace_back("SUDO_USER is who typed sudo; nobody does here, and it is empty: name the user");
    if (segment.background) {
      text += " &";
      step.reviews.emplace_back("runs in the background of this step, and ends with the run: a `service` would stay");
    }
    std::string run = state_.prelude_of(text) + text;
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

  static bool is_exit(const ShellCommand& command) { return !command.words.empty() && command.words[0].shown() == "exit"; }

  [[nodiscard]] std::string removed_by(const AdoptSegment& segment) const {
    if (segment.commands.size() != 1) return {};
    const BareCommand bare = bare_command(segment.commands[0]);
    if (bare.words.size() < 2 || bare.words[0].shown() != "rm") return {};
    const auto file = state_.field_of(bare.words.back());
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

  AdoptState& state_;
  std::string marks_;
  std::string_view script_;
  std::size_t marked_ = 0;
  ScriptFunctions functions_;
  std::set<std::string> active_;  ///< functions that are open
  int depth_ = 0, opened_ = 0;
  bool ended_ = false;
  std::optional<InferredGuard> guard_;  ///< of the command in an `if`
};

}  // namespace

void read_script(std::string_view script, const std::string& marks, AdoptState& state) { ScriptReader(state, marks).read(script); }

}  // namespace gpustrap
