#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/mirrors.h"
#include "agent/steps/kinds.h"
#include "agent/steps/pip_download.h"
#include "agent/steps/planned_packages.h"
#include "agent/steps/python_environment.h"
#include "agent/steps/python_version.h"
#include "agent/steps/wheel_lock.h"
#include "agent/steps/wheels_ahead.h"

namespace gpustrap {
namespace {

/// The reason among pip's last words that helps most.
Error pip_error(const Command& command, const CommandResult& result) {
  std::string why;
  for (const std::string& line : split(result.err, '\n')) {
    if (line.starts_with("ERROR: ") && why.empty()) why = first_line(strip_control(line.substr(7)));
  }
  if (why.empty()) return command_error(command, result);
  // pip then says that there is no such package, and in a warning before that why it found none.
  if (const std::size_t broken = result.err.find("after connection broken by "); broken != std::string::npos) {
    return {ErrorCode::network, "the package index could not be reached: " + first_line(strip_control(result.err.substr(broken + 27)), 200),
            "run the same command again; what has been fetched is kept"};
  }
  if (why.find("No matching distribution") != std::string::npos || why.find("Could not find a version") != std::string::npos) {
    return {ErrorCode::command, why, "check name and version; not every version has a wheel for this Python (pip index versions NAME)"};
  }
  if (why.find("No space left") != std::string::npos)
    return {ErrorCode::no_space, why, "make room (df -h), then run the same command again"};
  if (why.find("ResolutionImpossible") != std::string::npos || why.find("conflicting dependencies") != std::string::npos) {
    return {ErrorCode::command, why, "the packages ask for versions that exclude each other; the step's output names them"};
  }
  return {ErrorCode::command, why, "the step's output has all that pip said"};
}

class PipStep : public Step {
 public:
  explicit PipStep(PipSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const std::string path = host.expand(environment_folder(spec_));
    const Result<std::vector<PythonRequirement>> wanted = requirements(host);
    if (!wanted) return fail(wanted.error());
    const Result<std::optional<PythonEnvironment>> environment = find_python_environment(host, path);
    if (!environment) return fail(environment.error());
    if (!*environment) return StepState::unsatisfied(fmt::format("{} does not exist, {} wanted", path, names(*wanted)));
    const Result<std::map<std::string, std::string>> installed = installed_python_packages(host, **environment);
    if (!installed) return fail(installed.error());
    std::vector<std::string> missing;
    std::vector<std::string> present;
    for (const PythonRequirement& requirement : *wanted) {
      const auto found = installed->find(requirement.name);
      if (found == installed->end()) {
        missing.push_back(requirement.text + " is not installed");
        continue;
      }
      const Result<bool> fits = python_version_satisfies(found->second, requirement.versions);
      if (!fits) return fail(fits.error());
      if (*fits)
        present.push_back(found->first + " " + found->second);
      else
        missing.push_back(fmt::format("{} {} is installed, {} wanted", found->first, found->second, requirement.versions));
    }
    if (!missing.empty()) return StepState::unsatisfied(join(missing, "; "));
    if (spec_.upgrade) return StepState::unsatisfied("the index is asked for newer versions at every run");
    return StepState::satisfied(join(present, ", "));
  }

  /// As the tool that apply will use finds them in its index. Wheels alone: to see what others need, their own code would have to run.
  [[nodiscard]] std::string planned(const Host& host) const override {
    const std::string path = host.expand(environment_folder(spec_));
    const Result<std::vector<PythonRequirement>> wanted = requirements(host);
    const Result<std::optional<PythonEnvironment>> environment = find_python_environment(host, path);
    if (!wanted || !environment) return {};
    if (!*environment) return unknown_versions(path + " is not there yet");
    if (const std::string foreign = foreign_code(host); !foreign.empty())
      return unknown_versions(fmt::format("`{}` is built where it is looked at", foreign));
    const Result<std::map<std::string, std::string>> installed = installed_python_packages(host, **environment);
    if (!installed) return {};
    Command command;
    std::string tool = "uv";
    if (const auto pip = installed->find("pip"); pip != installed->end()) {
      constexpr std::string_view kFirstThatPlans = "22.2";
      if (compare_python_versions(pip->second, kFirstThatPlans) < 0)
        return unknown_versions(fmt::format("its pip is {}; from {} on pip can tell before", pip->second, kFirstThatPlans));
      tool = "pip";
      command.argv = {(*environment)->interpreter,
                      "-m",
                      "pip",
                      "install",
                      "--dry-run",
                      "--no-input",
                      "--disable-pip-version-check",
                      "--progress-bar",
                      "off",
                      "--no-cache-dir",
                      "--only-binary",
                      ":all:"};
    } else {
      command = uv_command(host, **environment);
      command.argv.insert(command.argv.end(), {"--dry-run", "--no-build", "--no-cache", "--color", "never"});
    }
    add_wishes(host, command);
    const PlanLimits limits;
    const Result<CommandResult> said = look_aside(host, command, limits);
    if (!said) {
      return unknown_versions(said.error().code() == ErrorCode::timeout
                                  ? fmt::format("{} did not find them within {}", tool, human_duration(limits.time))
                                  : said.error().why());
    }
    if (said->exit_code == 127) return unknown_versions("there is neither pip nor uv in " + path);
    if (said->exit_code != 0) return unknown_versions(fmt::format("{} does not find them now ({})", tool, pip_error(command, *said).why()));
    std::vector<std::string> names;
    for (const PythonRequirement& requirement : *wanted) names.push_back(requirement.name);
    const std::vector<SimulatedPackage> packages = packages_of_pip(said->out + "\n" + said->err, *installed);
    return packages.empty() ? "the index has nothing newer\n" : simulation_text(packages, names);
  }

  /// The first wish that is no name of a package: a folder, an address or another file, whose own code runs as soon as its name or version
  /// is asked for. Empty where there is none.
  [[nodiscard]] std::string foreign_code(const Host& host) const {
    std::vector<std::string> lines = spec_.packages.items;
    if (spec_.requirements) {
      const Result<std::string> text = host.read(host.expand(spec_.requirements->text));
      for (std::string& line : split(text ? *text : std::string(), '\n')) lines.push_back(std::move(line));
    }
    for (const std::string& line : lines) {
      const std::string_view wish = trim(std::string_view(line).substr(0, line.find(" #")));
      const bool is_option = wish.starts_with("-e") || wish.starts_with("--editable") || wish.starts_with("-r") ||
                             wish.starts_with("--requirement") || wish.starts_with("-c") || wish.starts_with("--constraint");
      const bool is_name = wish.starts_with('-') || wish.starts_with('#') || wish.find_first_of("/@\\") == std::string_view::npos;
      if (is_option || !is_name) return first_line(strip_control(wish), 60);
    }
    return {};
  }

  Result<void> apply(Host& host, StepLog& log) override {
    const std::string path = host.expand(environment_folder(spec_));
    const Result<std::optional<PythonEnvironment>> environment = find_python_environment(host, path);
    if (!environment) return fail(environment.error());
    if (!*environment)
      return fail(ErrorCode::not_found, path + " is no Python environment",
                  fmt::format("add a `{}` step before this one", spec_.env.empty() ? "venv" : "conda_env"));
    const Result<std::map<std::string, std::string>> installed = installed_python_packages(host, **environment);
    if (!installed) return fail(installed.error());
    Command command;
    if (const auto pip = installed->find("pip"); pip != installed->end()) {
      const std::string version = with_resuming_pip(host, log, path, **environment, pip->second);
      command.argv = {(*environment)->interpreter, "-m", "pip", "install", "--no-input", "--disable-pip-version-check"};
      add_download_options(version, command, log);
    } else {
      command = uv_command(host, **environment);
    }
    install_wheels(host, log, spec_, command);
    const std::string mirrored = add_wishes(host, command);
    if (!mirrored.empty()) say_mirror(host, log, "packages", mirrored);
    const Result<CommandResult> result = host.act(command, log);
    if (!result) return fail(result.error());
    if (result->exit_code == 127)
      return fail(ErrorCode::not_found, fmt::format("{} has no pip, and there is no uv", path),
                  "make it anew with a `venv` step, or let its `conda_env` step install pip");
    if (result->exit_code != 0) return fail(by_way_of(host, pip_error(command, *result), mirrored));
    return {};
  }

  [[nodiscard]] std::vector<FetchRequest> downloads(const Host& host) const override { return wheels_to_fetch(host, spec_); }

  [[nodiscard]] bool can_verify() const override { return !spec_.upgrade; }

 private:
  /// What the recipe lists and what the requirements file does. Of a file, lines with markers or options are pip's own business.
  [[nodiscard]] Result<std::vector<PythonRequirement>> requirements(const Host& host) const {
    std::vector<PythonRequirement> wanted;
    for (const std::string& text : spec_.packages.items) {
      Result<PythonRequirement> requirement = parse_python_requirement(text);
      if (!requirement) return fail(std::move(requirement).error());
      wanted.push_back(std::move(*requirement));
    }
    if (!spec_.requirements) return wanted;
    const Result<std::string> file = host.read(host.expand(spec_.requirements->text));
    if (!file) return fail(file.error());
    for (const std::string& line : requirement_lines(*file)) {
      if (line.starts_with('-')) continue;
      // Behind it the digests of a locked file may stand.
      const std::string_view text = trim(std::string_view(line).substr(0, line.find(" --")));
      if (Result<PythonRequirement> requirement = parse_python_requirement(text)) wanted.push_back(std::move(*requirement));
    }
    return wanted;
  }

  /// For an environment that uv made, which has no pip.
  [[nodiscard]] static Command uv_command(const Host& host, const PythonEnvironment& environment) {
    Command command;
    command.argv = {"uv", "pip", "install", "--python", environment.interpreter};
    command.env = {{"PATH", environment.path + "/bin:" + host.login().home + "/.local/bin:/usr/local/bin:/usr/bin:/bin"}};
    return command;
  }

  /// What is to be installed, and from where; the address of the mirror that it comes from, empty where it comes from none.
  std::string add_wishes(const Host& host, Command& command) const {
    if (spec_.upgrade) command.argv.emplace_back("--upgrade");
    std::string mirrored;
    if (spec_.index) {
      // An index of its own is meant; it is looked for elsewhere only where the mirror names it.
      const std::optional<std::string> there = host.mirror().by_prefix("downloads", spec_.index->text);
      mirrored = there.value_or("");
      command.argv.insert(command.argv.end(), {"--index-url", there.value_or(spec_.index->text)});
      command.env.emplace_back("UV_DEFAULT_INDEX", "");  // stronger than --index-url
    } else {
      mirrored = host.mirror().place("pypi");
    }
    if (spec_.requirements) command.argv.insert(command.argv.end(), {"-r", host.expand(spec_.requirements->text)});
    for (const std::string& package : spec_.packages.items) command.argv.push_back(package);
    return mirrored;
  }

  static std::string names(const std::vector<PythonRequirement>& wanted) {
    std::vector<std::string> texts;
    for (const PythonRequirement& requirement : wanted) texts.push_back(requirement.text);
    return join(texts, " ");
  }

  PipSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_pip_step(const StepSpec& spec) { return std::make_unique<PipStep>(std::get<PipSpec>(spec)); }

}  // namespace gpustrap
