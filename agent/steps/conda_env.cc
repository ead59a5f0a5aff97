#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/protocol/conda_requirement.h"
#include "agent/steps/conda_command.h"
#include "agent/steps/conda_prefix.h"
#include "agent/steps/kinds.h"
#include "agent/steps/ownership.h"
#include "agent/steps/planned_packages.h"
#include "agent/steps/python_version.h"
#include "agent/steps/state_paths.h"

namespace gpustrap {
namespace {

/// "*cuda*" and the like.
bool matches_pattern(std::string_view text, std::string_view pattern) {
  if (pattern.empty()) return text.empty();
  if (pattern[0] != '*') return !text.empty() && text[0] == pattern[0] && matches_pattern(text.substr(1), pattern.substr(1));
  for (std::size_t skip = 0; skip <= text.size(); ++skip) {
    if (matches_pattern(text.substr(skip), pattern.substr(1))) return true;
  }
  return false;
}

Result<bool> fits(const CondaPackage& package, const CondaRequirement& wanted) {
  if (!wanted.build.empty() && !matches_pattern(package.build, wanted.build)) return false;
  if (wanted.versions.empty()) return true;
  for (const std::string& alternative : wanted.versions) {
    const Result<bool> satisfied = python_version_satisfies(package.version, alternative);
    if (!satisfied || *satisfied) return satisfied;
  }
  return false;
}

class CondaEnvStep : public Step {
 public:
  explicit CondaEnvStep(CondaEnvSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const Result<Seen> seen = look(host);
    if (!seen) return fail(seen.error());
    if (seen->to_do != Seen::ToDo::nothing) {
      return StepState::unsatisfied(seen->reason, "create it" + (wanted_names().empty() ? std::string() : " with " + wanted_names()));
    }
    std::vector<std::string> missing = seen->missing;
    if (!seen->file_reason.empty()) missing.push_back(seen->file_reason);
    std::vector<std::string> present = seen->present;
    if (!spec_.pip.items.empty()) {
      const Result<StepState> state = pip_step(*seen)->check(host);
      if (!state) return state;
      (state->is == StepState::Is::satisfied ? present : missing).push_back(state->reason);
    }
    if (!missing.empty()) return StepState::unsatisfied(join(missing, "; "));
    return StepState::satisfied(present.empty() ? seen->environment + " is there"
                                                : fmt::format("{} in {}", join(present, ", "), seen->environment));
  }

  /// As conda finds them in its channels now.
  [[nodiscard]] std::string planned(const Host& host) const override {
    const Result<Seen> seen = look(host);
    if (!seen) return {};
    if (!seen->has_conda) return unknown_versions(fmt::format("there is no conda in {} yet", seen->prefix));
    const bool creates = seen->to_do != Seen::ToDo::nothing;
    std::string text;
    if (spec_.file && (creates || !seen->file_reason.empty()))
      text += unknown_versions("what " + host.expand(spec_.file->text) + " asks for is for conda to say");
    else if (creates || !seen->missing.empty())
      text += planned_by_conda(host, *seen, creates ? "create" : "install");
    if (spec_.pip.items.empty()) return text;
    if (creates) return text + "and by pip " + join(spec_.pip.items, " ") + ", once the environment is there\n";
    const std::unique_ptr<Step> pip = pip_step(*seen);
    const Result<StepState> state = pip->check(host);
    return state && state->is != StepState::Is::satisfied ? text + pip->planned(host) : text;
  }

  Result<void> apply(Host& host, StepLog& log) override {
    Result<Seen> seen = look(host);
    if (!seen) return fail(std::move(seen).error());
    if (!seen->has_conda) {
      return fail(ErrorCode::not_found, fmt::format("there is no conda in {}", seen->prefix),
                  fmt::format("add a step before this one: conda: {{ prefix: {} }}", spec_.conda.text));
    }
    if (seen->to_do == Seen::ToDo::clear_and_create) {
      log.say(seen->reason + "; clearing it away to make it anew");
      if (Result<void> cleared = clear_folder(host, seen->environment); !cleared) return cleared;
    }
    if (seen->to_do != Seen::ToDo::nothing) {
      if (Result<void> made = create(host, log, *seen); !made) return made;
    } else {
      // The note of a creation whose end alone was missed.
      if (Result<void> ended = end_conda_work(host, seen->environment); !ended) return ended;
      if (!seen->file_reason.empty()) {
        if (Result<void> updated = apply_file(host, log, *seen); !updated) return updated;
      }
    }
    return complete(host, log);
  }

 private:
  struct Seen {
    std::string prefix, environment;
    bool has_conda = false;
    enum class ToDo { nothing, create, clear_and_create } to_do = ToDo::nothing;
    std::string reason;                         ///< why it is to be made
    std::vector<std::string> missing, present;  ///< sentences about packages
    std::string file_reason;                    ///< why the environment file is to be applied
  };

  [[nodiscard]] Result<Seen> look(const Host& host) const {
    Result<std::string> prefix = follow_link(host.expand(spec_.conda.text), host);
    if (!prefix) return fail(std::move(prefix).error());
    Seen seen;
    seen.prefix = std::move(*prefix);
    seen.environment = spec_.name == "base" ? seen.prefix : fmt::format("{}/envs/{}", seen.prefix, spec_.name);
    const Result<std::optional<FileInfo>> program = host.info(seen.prefix + "/bin/conda");
    if (!program) return fail(program.error());
    seen.has_conda = program->has_value();
    const Result<std::vector<std::string>> inside = host.list(seen.environment);
    if (!inside && inside.error().code() != ErrorCode::not_found) return fail(inside.error());
    if (!inside || inside->empty()) {
      seen.to_do = Seen::ToDo::create;
      seen.reason = seen.has_conda ? fmt::format("environment {} does not exist", spec_.name)
                                   : fmt::format("there is no conda in {} yet", seen.prefix);
      return seen;
    }
    // conda writes it at the end of what it does.
    const Result<std::optional<FileInfo>> history = host.info(seen.environment + "/conda-meta/history");
    if (!history) return fail(history.error());
    if (!*history) {
      if (conda_work(host, seen.environment) != "create") {
        return fail(ErrorCode::unsafe, fmt::format("{} exists, is not empty, and is no environment of conda", seen.environment),
                    fmt::format("move it away (mv {0} {0}.old), or choose another `name`", seen.environment));
      }
      seen.to_do = Seen::ToDo::clear_and_create;
      seen.reason = fmt::format("making environment {} was cut short", spec_.name);
      return seen;
    }
    if (Result<void> looked = look_at_packages(host, seen); !looked) return fail(std::move(looked).error());
    if (Result<void> looked = look_at_file(host, seen); !looked) return fail(std::move(looked).error());
    return seen;
  }

  Result<void> look_at_packages(const Host& host, Seen& seen) const {
    const Result<std::map<std::string, CondaPackage>> installed = conda_packages(host, seen.environment);
    if (!installed) return fail(installed.error());
    if (!spec_.python.empty()) {
      const auto python = installed->find("python");
      if (python == installed->end()) {
        seen.missing.push_back(fmt::format("python {} is not installed", spec_.python));
      } else if (python->second.version != spec_.python && !python->second.version.starts_with(spec_.python + ".")) {
        return fail(
            ErrorCode::unsafe, fmt::format("environment {} has Python {}, {} wanted", spec_.name, python->second.version, spec_.python),
            fmt::format("what pip installed into it would be lost, so it is left alone; remove it ({}/bin/conda env remove -n {}), ask "
                        "for {}, or choose another `name`",
                        seen.prefix, spec_.name, python->second.version));
      } else {
        seen.present.push_back("python " + python->second.version);
      }
    }
    for (const std::string& text : spec_.packages.items) {
      const Result<CondaRequirement> wanted = parse_conda_requirement(text);
      if (!wanted) return fail(wanted.error());
      const auto found = installed->find(wanted->name);
      if (found == installed->end()) {
        seen.missing.push_back(wanted->text + " is not installed");
        continue;
      }
      const Result<bool> satisfied = fits(found->second, *wanted);
      if (!satisfied) return fail(satisfied.error());
      const std::string there = fmt::format("{} {}", wanted->name, found->second.version);
      if (*satisfied)
        seen.present.push_back(there);
      else
        seen.missing.push_back(
            fmt::format("{}{} is installed, {} wanted", there, wanted->build.empty() ? "" : " " + found->second.build, text));
    }
    return {};
  }

  /// Only conda can tell what a file asks for; whether it is the one that was applied is seen from its digest.
  Result<void> look_at_file(const Host& host, Seen& seen) const {
    if (!spec_.file) return {};
    const std::string path = host.expand(spec_.file->text);
    const Result<std::string> digest = host.digest(path);
    if (!digest) {
      if (digest.error().code() != ErrorCode::not_found) return fail(digest.error());
      seen.file_reason = path + " does not exist";
      return {};
    }
    const Result<std::string> applied = host.read(file_note(host, seen));
    if (!applied && applied.error().code() != ErrorCode::not_found) return fail(applied.error());
    if (!applied)
      seen.file_reason = path + " has not been applied yet";
    else if (trim(*applied) != *digest)
      seen.file_reason = path + " has changed since it was applied";
    else
      seen.present.push_back("as " + path + " says");
    return {};
  }

  static std::string file_note(const Host& host, const Seen& seen) {
    return fmt::format("{}/{}.file", state_directory(host, "conda"), sha256_hex(seen.environment).substr(0, 32));
  }

  [[nodiscard]] std::string wanted_names() const {
    std::vector<std::string> names;
    if (!spec_.python.empty()) names.push_back("python " + spec_.python);
    names.insert(names.end(), spec_.packages.items.begin(), spec_.packages.items.end());
    return join(names, ", ");
  }

  Result<void> create(Host& host, StepLog& log, const Seen& seen) const {
    if (Result<void> made = host.make_directory(seen.environment, {}); !made) return made;
    if (Result<void> noted = begin_conda_work(host, seen.environment, "create"); !noted) return noted;
    Result<void> done = spec_.file ? apply_file(host, log, seen) : run_conda(host, log, seen.prefix, arguments("create", seen));
    if (!done) {
      // The room on the disk may be what the next attempt needs; what was fetched is kept in conda's own cache.
      if (Result<void> cleared = clear_folder(host, seen.environment); !cleared) return cleared;
    }
    if (Result<void> ended = end_conda_work(host, seen.environment); !ended) return ended;
    return done;
  }

  Result<void> apply_file(Host& host, StepLog& log, const Seen& seen) const {
    const std::string path = host.expand(spec_.file->text);
    const Result<std::string> digest = host.digest(path);
    if (!digest) {
      return fail(
          digest.error().code() == ErrorCode::not_found
              ? Error(ErrorCode::not_found, path + " does not exist", "put it there, or let a `file` or `git` step do that before this one")
              : digest.error());
    }
    if (Result<void> done = run_conda(host, log, seen.prefix, {"env", "update", "--json", "-p", seen.environment, "-f", path}); !done)
      return fail(std::move(done).error().in("applying " + path));
    const std::string note = file_note(host, seen);
    if (Result<void> made = host.make_directory(state_directory(host, "conda"), {}); !made) return made;
    return host.write(note, *digest + "\n", {});
  }

  /// What is still missing in an environment that is there.
  Result<void> complete(Host& host, StepLog& log) const {
    const Result<Seen> seen = look(host);
    if (!seen) return fail(seen.error());
    if (!seen->missing.empty()) {
      if (Result<void> done = run_conda(host, log, seen->prefix, arguments("install", *seen)); !done) return done;
    }
    if (spec_.pip.items.empty()) return {};
    const std::unique_ptr<Step> pip = pip_step(*seen);
    const Result<StepState> state = pip->check(host);
    if (!state) return fail(state.error());
    return state->is == StepState::Is::satisfied ? Result<void>() : pip->apply(host, log);
  }

  [[nodiscard]] std::vector<std::string> arguments(const std::string& verb, const Seen& seen) const {
    std::vector<std::string> words = {verb, "--json", "--yes", "-p", seen.environment};
    if (!spec_.channels.items.empty()) words.emplace_back("--override-channels");
    for (const std::string& channel : spec_.channels.items) words.insert(words.end(), {"-c", channel});
    if (!spec_.python.empty()) words.push_back("python=" + spec_.python);
    words.insert(words.end(), spec_.packages.items.begin(), spec_.packages.items.end());
    if (!spec_.pip.items.empty()) words.emplace_back("pip");
    return words;
  }

  [[nodiscard]] std::string planned_by_conda(const Host& host, const Seen& seen, const std::string& verb) const {
    Command command;
    command.argv = {seen.prefix + "/bin/conda"};
    const std::vector<std::string> words = arguments(verb, seen);
    command.argv.insert(command.argv.end(), words.begin(), words.end());
    command.argv.emplace_back("--dry-run");
    // The index of a large channel comes first, 50 MB packed and some hundred unpacked, as conda's own copy of it is not written to.
    constexpr PlanLimits kLimits{std::chrono::seconds(60), std::uint64_t{1} << 30U};
    const Result<CommandResult> said = look_aside(host, command, kLimits);
    if (!said) {
      return unknown_versions(said.error().code() == ErrorCode::timeout
                                  ? fmt::format("conda did not find them within {}", human_duration(kLimits.time))
                                  : said.error().why());
    }
    if (said->exit_code != 0)
      return unknown_versions(fmt::format("conda does not find them now ({})", conda_error(said->out, said->err).why()));
    std::vector<std::string> names;
    if (!spec_.python.empty()) names.emplace_back("python");
    for (const std::string& text : spec_.packages.items) {
      if (const Result<CondaRequirement> wanted = parse_conda_requirement(text)) names.push_back(wanted->name);
    }
    return simulation_text(packages_of_conda(said->out), names);
  }

  [[nodiscard]] std::unique_ptr<Step> pip_step(const Seen& seen) const {
    PipSpec pip;
    pip.venv.text = seen.environment;
    pip.packages = spec_.pip;
    return make_pip_step(pip);
  }

  CondaEnvSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_conda_env_step(const StepSpec& spec) { return std::make_unique<CondaEnvStep>(std::get<CondaEnvSpec>(spec)); }

}  // namespace gpustrap
