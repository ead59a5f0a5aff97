#include <algorithm>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/steps/edited_file.h"
#include "agent/steps/kinds.h"
#include "agent/steps/library_paths.h"
#include "agent/steps/managed_block.h"

// Where the variables go, and why there.
//
// scope: login. ~/.bashrc, at its very start: Ubuntu's and Debian's .bashrc return at once in a shell that is not interactive,
// and `ssh host command` is one (their bash reads .bashrc for it), so a block at the end would count for terminals only. Login
// shells read .bashrc through ~/.profile; where the file that a bash login shell reads first does not do that, or does not
// exist, the same block goes there too. For a zsh user ~/.zshenv has it as well.
// scope: system. /etc/profile.d/gpustrap.sh, which every login shell reads.
//
// All environment steps, of all recipes, share one block for each file and only ever add or change lines of their own variables:
// two recipes that extend PATH do not undo each other. Every line checks for itself whether there is something to do, so reading
// a file twice, or two files with the same lines, extends nothing twice.

namespace gpustrap {
namespace {

const BlockName kBlock = {"environment"};
constexpr const char* kSystemFile = "/etc/profile.d/gpustrap.sh";
constexpr std::string_view kLibraries = "LD_LIBRARY_PATH";

/// One line of the block.
struct Line {
  std::string variable;
  std::string text;
  bool sets = false;  ///< replaces what this block had set before; else it extends a list
};

/// What follows "~", "$HOME" or "${HOME}" at the start of a value: "/bin", "" for the home itself; nullopt for any other value.
std::optional<std::string> behind_home(const std::string& value) {
  for (const std::string_view home : {"~", "$HOME", "${HOME}"}) {
    if (value == home || value.starts_with(std::string(home) + "/")) return value.substr(home.size());
  }
  return std::nullopt;
}

/// As one word for sh, with the home left to the shell.
std::string shell_word(const std::string& value) {
  const std::optional<std::string> rest = behind_home(value);
  if (!rest) return shell_quote(value);
  return "\"${HOME}\"" + (rest->empty() ? "" : shell_quote(*rest));
}

/// The elements of list values: "a:b" is two, and an empty one would mean the current directory.
std::vector<std::string> elements_of(const EnvironmentChange& change) {
  std::vector<std::string> elements;
  for (const std::string& value : change.values) {
    for (const std::string& element : split(value, ':')) {
      if (!element.empty() && std::find(elements.begin(), elements.end(), element) == elements.end()) elements.push_back(element);
    }
  }
  return elements;
}

std::vector<Line> lines_for(const std::string& name, const EnvironmentChange& change) {
  if (change.kind == EnvironmentChange::Kind::set) {
    return {{name, fmt::format("export {}={}", name, shell_word(change.values.empty() ? "" : change.values[0])), true}};
  }
  const bool prepends = change.kind == EnvironmentChange::Kind::prepend;
  std::vector<std::string> elements = elements_of(change);
  // Each line puts its element in front: the first wanted comes last.
  if (prepends) std::reverse(elements.begin(), elements.end());
  std::vector<Line> lines;
  for (const std::string& element : elements) {
    const std::string word = shell_word(element);
    const std::string extended =
        prepends ? fmt::format("{1}\"${{{0}:+:${{{0}}}}}\"", name, word) : fmt::format("\"${{{0}:+${{{0}}}:}}\"{1}", name, word);
    lines.push_back({name, fmt::format("case \":${{{0}-}}:\" in *:{1}:*) ;; *) export {0}={2} ;; esac", name, word, extended), false});
  }
  return lines;
}

/// The lines of a block once it has `wanted`. What sets comes before what extends.
std::vector<std::string> merged(std::vector<std::string> block, const std::vector<Line>& wanted) {
  for (const Line& line : wanted) {
    if (std::find(block.begin(), block.end(), line.text) != block.end()) continue;
    if (!line.sets) {
      block.push_back(line.text);
      continue;
    }
    const auto same = std::find_if(block.begin(), block.end(),
                                   [&](const std::string& text) { return text.starts_with("export " + line.variable + "="); });
    if (same != block.end())
      *same = line.text;
    else
      block.insert(std::find_if(block.begin(), block.end(), [](const std::string& text) { return !text.starts_with("export "); }),
                   line.text);
  }
  return block;
}

bool reads_bashrc(const std::string& profile) {
  const std::vector<std::string> lines = text_lines(profile);
  return std::any_of(lines.begin(), lines.end(),
                     [](const std::string& line) { return line.find(".bashrc") != std::string::npos && !trim(line).starts_with('#'); });
}

/// The files of a user's shells, all in the home of `user`.
Result<std::vector<std::string>> shell_files(const Host& user) {
  const std::string home = user.self().home;
  std::vector<std::string> files = {home + "/.bashrc"};
  std::string profile = home + "/.profile";
  bool covered = false;
  for (const char* name : {"/.bash_profile", "/.bash_login", "/.profile"}) {
    const Result<EditedFile> file = look_at_file(home + name, user);
    if (!file) return fail(file.error());
    if (!file->info) continue;
    profile = home + name;
    covered = reads_bashrc(file->content);
    break;
  }
  if (!covered) files.push_back(profile);
  if (user.self().shell.ends_with("/zsh")) files.push_back(home + "/.zshenv");
  return files;
}

/// What a step has to do on a host.
struct Work {
  struct Edit {
    EditedFile file;
    std::string text;
    std::vector<std::string> variables;  ///< those whose lines are missing
  };
  std::vector<Edit> edits;         ///< of files that differ
  std::vector<std::string> files;  ///< all that are looked after
  std::string loader_knows;        ///< directories of LD_LIBRARY_PATH that need no variable
  bool sets_libraries = false;
};

class EnvironmentStep : public Step {
 public:
  explicit EnvironmentStep(EnvironmentSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const Result<Work> work = work_on(host);
    if (!work) return fail(work.error());
    const std::string known =
        work->loader_knows.empty() ? "" : fmt::format("ld.so already searches {}, so {} is not needed", work->loader_knows, kLibraries);
    if (work->edits.empty()) {
      std::vector<std::string> reasons;
      if (!work->files.empty()) reasons.push_back(join(variables(*work), ", ") + " in " + join(work->files, ", "));
      if (!known.empty()) reasons.push_back(known);
      return StepState::satisfied(join(reasons, "; "));
    }
    std::vector<std::string> reasons;
    std::string changes;
    for (const Work::Edit& edit : work->edits) {
      reasons.push_back(fmt::format("{} lacks {}", edit.file.path, join(edit.variables, ", ")));
      changes += content_differs(edit.file, edit.text, std::nullopt).changes;
    }
    return StepState::unsatisfied(join(reasons, "; "), changes);
  }

  Result<void> apply(Host& host, StepLog& log) override {
    const Result<Work> work = work_on(host);
    if (!work) return fail(work.error());
    Host& user = spec_.scope == EnvironmentSpec::Scope::login ? host.as_login() : host;
    if (work->sets_libraries) {
      log.say(
          fmt::format("{} is searched before the CUDA libraries that Python packages bring along (JAX, PyTorch): if one of them then finds "
                      "the wrong library, take it out again",
                      kLibraries));
    }
    for (const Work::Edit& edit : work->edits) {
      if (!edit.file.info && spec_.scope == EnvironmentSpec::Scope::system) {
        if (Result<void> made = user.make_directory(parent_of(edit.file.path), {}); !made) return made;
      }
      if (Result<void> wrote = user.write(edit.file.path, edit.text, {}); !wrote) return wrote;
    }
    const std::string shell = user.self().shell.substr(user.self().shell.rfind('/') + 1);
    if (shell == "fish" || shell == "csh" || shell == "tcsh") {
      log.say(fmt::format("{} reads none of these files: the variables are there for bash and for what bash starts", shell));
    }
    return {};
  }

 private:
  /// Names whose lines the files hold, in the recipe's order.
  [[nodiscard]] std::vector<std::string> variables(const Work& work) const {
    std::vector<std::string> names;
    for (const auto& [name, change] : spec_.variables.items) {
      if (name != kLibraries || work.sets_libraries) names.push_back(name);
    }
    return names;
  }

  /// A value is not a shell text, and one that expects to be would end up as nonsense in the variable.
  [[nodiscard]] static Result<void> refuse_references(const std::string& name, const EnvironmentChange& change) {
    for (const std::string& value : change.values) {
      const std::optional<std::string> rest = behind_home(value);
      const std::string& literal = rest ? *rest : value;
      if (literal.find("$" + name) == std::string::npos && literal.find("${" + name) == std::string::npos) continue;
      return fail(ErrorCode::recipe,
                  fmt::format("the value `{}` of {} is taken as it is: the variable in it would not be replaced", value, name),
                  fmt::format("write {0}: {{prepend: …}} or {0}: {{append: …}}", name));
    }
    return {};
  }

  /// LD_LIBRARY_PATH without what the loader finds by itself; nullopt where nothing is left.
  [[nodiscard]] static Result<std::optional<EnvironmentChange>> still_needed(const EnvironmentChange& change, const Host& host,
                                                                             Work& work) {
    const std::vector<std::string> elements = elements_of(change);
    std::vector<std::string> directories;
    for (const std::string& element : elements) {
      const std::optional<std::string> rest = behind_home(element);
      directories.push_back(rest ? host.login().home + *rest : element);
    }
    const Result<std::vector<std::string>> unknown = directories_unknown_to_loader(directories, host);
    if (!unknown) return fail(unknown.error());
    if (unknown->empty() && !elements.empty()) {
      work.loader_knows = join(elements, ", ");
      return std::optional<EnvironmentChange>();
    }
    work.sets_libraries = true;
    return std::optional<EnvironmentChange>(change);
  }

  [[nodiscard]] Result<Work> work_on(const Host& host) const {
    Work work;
    std::vector<Line> lines;
    for (const auto& [name, change] : spec_.variables.items) {
      if (Result<void> literal = refuse_references(name, change); !literal) return fail(std::move(literal).error());
      std::optional<EnvironmentChange> needed = change;
      if (name == kLibraries) {
        Result<std::optional<EnvironmentChange>> rest = still_needed(change, host, work);
        if (!rest) return fail(std::move(rest).error());
        needed = *std::move(rest);
      }
      if (!needed) continue;
      const std::vector<Line> more = lines_for(name, *needed);
      lines.insert(lines.end(), more.begin(), more.end());
    }
    if (lines.empty()) return work;

    const bool is_login = spec_.scope == EnvironmentSpec::Scope::login;
    const Host& user = is_login ? host.as_login() : host;
    if (is_login) {
      Result<std::vector<std::string>> files = shell_files(user);
      if (!files) return fail(std::move(files).error());
      work.files = *std::move(files);
    } else {
      work.files = {kSystemFile};
    }
    for (const std::string& path : work.files) {
      if (Result<void> edited = edit(path, lines, user, work); !edited) return fail(std::move(edited).error());
    }
    return work;
  }

  static Result<void> edit(const std::string& path, const std::vector<Line>& lines, const Host& user, Work& work) {
    Result<EditedFile> file = look_at_file(path, user);
    if (!file) return fail(std::move(file).error());
    const Result<std::optional<std::vector<std::string>>> block = lines_of_block(file->content, kBlock);
    if (!block) return fail(Error(block.error()).in(path));
    const std::vector<std::string> before = block->value_or(std::vector<std::string>());
    const std::vector<std::string> after = merged(before, lines);
    if (*block && after == before) return {};
    Work::Edit edit;
    for (const Line& line : lines) {
      const bool there = std::find(before.begin(), before.end(), line.text) != before.end();
      const bool named = std::find(edit.variables.begin(), edit.variables.end(), line.variable) != edit.variables.end();
      if (!there && !named) edit.variables.push_back(line.variable);
    }
    Result<std::string> text = with_block(file->content, kBlock, after, BlockPlace::start);
    if (!text) return fail(std::move(text).error().in(path));
    edit.text = *std::move(text);
    edit.file = *std::move(file);
    work.edits.push_back(std::move(edit));
    return {};
  }

  EnvironmentSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_environment_step(const StepSpec& spec) {
  return std::make_unique<EnvironmentStep>(std::get<EnvironmentSpec>(spec));
}

}  // namespace gpustrap
