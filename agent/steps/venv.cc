#include <chrono>
#include <cstdint>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/facts.h"
#include "agent/steps/kinds.h"
#include "agent/steps/python_environment.h"

namespace gpustrap {
namespace {

bool is_version(const std::string& python) { return !python.empty() && python.find_first_not_of("0123456789.") == std::string::npos; }

/// About what an environment with pip takes.
constexpr std::uint64_t kRoom = 24ULL << 20U;

class VenvStep : public Step {
 public:
  explicit VenvStep(VenvSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const std::string path = host.expand(spec_.path.text);
    const Result<std::optional<FileInfo>> unfinished = host.info(mark_of(path));
    if (!unfinished) return fail(unfinished.error());
    if (*unfinished) return StepState::unsatisfied("the making of " + path + " was interrupted");
    const Result<std::optional<PythonEnvironment>> found = find_python_environment(host, path);
    if (!found) return fail(found.error());
    if (!*found) {
      const Result<std::vector<std::string>> inside = host.list(path);
      if (inside && !inside->empty()) {
        return fail(ErrorCode::unsafe, path + " exists and is no virtual environment", "move it away, or choose another path");
      }
      return StepState::unsatisfied(path + " does not exist");
    }
    if (is_version(spec_.python) && !has_wanted_version((*found)->version)) {
      return fail(ErrorCode::unsafe, fmt::format("{} is an environment of Python {}, {} wanted", path, (*found)->version, spec_.python),
                  fmt::format("its packages would be lost, so it is left alone; move it away (mv {0} {0}.old), or ask for {1}", path,
                              (*found)->version));
    }
    if (spec_.system_site_packages != (*found)->system_site_packages) {
      return StepState::unsatisfied(fmt::format("{} {} the system's packages", path, spec_.system_site_packages ? "does not see" : "sees"));
    }
    return StepState::satisfied(fmt::format("Python {} in {}", (*found)->version, path));
  }

  [[nodiscard]] std::string planned(const Host& host) const override {
    constexpr auto kLimit = std::chrono::seconds(10);
    const Result<CommandResult> said = host.look({{interpreter(host), "--version"}, {}, "", "", kLimit, {}});
    if (!said || said->exit_code != 0)
      return fmt::format("which Python is known when it runs: there is no `{}` here yet\n", interpreter(host));
    return fmt::format("{} of `{}`\n", first_line(strip_control(trim(said->out + said->err)), 80), interpreter(host));
  }

  Result<void> apply(Host& host, StepLog& log) override {
    const std::string path = host.expand(spec_.path.text);
    const Result<bool> is_ours = begin(host, path);
    if (!is_ours) return fail(is_ours.error());
    Command command;
    command.argv = {interpreter(host), "-m", "venv"};
    if (spec_.system_site_packages) command.argv.emplace_back("--system-site-packages");
    command.argv.push_back(path);
    const Result<CommandResult> result = host.act(command, log);
    if (!result) return fail(result.error());
    if (result->exit_code == 0) return *is_ours ? host.remove(mark_of(path)) : Result<void>();
    // What went wrong comes before what could not be tidied up behind it; the mark stays with what is left.
    const Result<std::uint64_t> free = host.disk_free(path);
    if (*is_ours) (void)host.remove_tree(path);
    const std::string& python = command.argv.front();
    const std::string said = result->out + result->err;
    if (result->exit_code == 127) {
      return fail(ErrorCode::not_found, fmt::format("`{}` is not on this host", python),
                  "add a step before this one: apt: [python3, python3-venv]" +
                      (is_version(spec_.python) ? fmt::format("; is python{} in this release?", spec_.python) : std::string()));
    }
    // Debian and Ubuntu ship Python without ensurepip.
    if (said.find("ensurepip is not available") != std::string::npos) {
      return fail(ErrorCode::not_found, fmt::format("`{}` has no ensurepip", python), "add a step before this one: apt: [python3-venv]");
    }
    // venv runs pip out of sight, and says of it that it failed, but not why.
    if (free && *free < kRoom) {
      return fail(ErrorCode::no_space,
                  fmt::format("No space left: an environment needs {}, {} free in {}", human_size(kRoom), human_size(*free), path),
                  "make room (df -h), then run the same command again");
    }
    return fail(command_error(command, *result));
  }

 private:
  [[nodiscard]] std::string interpreter(const Host& host) const {
    return is_version(spec_.python) ? "python" + spec_.python : host.expand(spec_.python);
  }
  /// There while this step makes an environment: what a crash leaves behind looks like one, and has no pip.
  [[nodiscard]] static std::string mark_of(const std::string& path) { return path + "/.gpustrap-unfinished"; }

  /// Makes the folder with its mark, empty but for that; false where an environment is there already, which venv is to change.
  static Result<bool> begin(Host& host, const std::string& path) {
    const Result<std::optional<FileInfo>> unfinished = host.info(mark_of(path));
    if (!unfinished) return fail(unfinished.error());
    const Result<std::optional<PythonEnvironment>> found = find_python_environment(host, path);
    if (!found) return fail(found.error());
    if (*found && !*unfinished) return false;
    if (*unfinished) (void)host.remove_tree(path);  // a disk that is mounted there stays
    if (Result<void> made = host.make_directory(path, {}); !made) return fail(made.error());
    if (Result<void> marked = host.write(mark_of(path), "", {}); !marked) return fail(marked.error());
    return true;
  }

  /// "3.11" wants any 3.11.x.
  [[nodiscard]] bool has_wanted_version(const std::string& version) const {
    return version == spec_.python || version.starts_with(spec_.python + ".");
  }

  VenvSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_venv_step(const StepSpec& spec) { return std::make_unique<VenvStep>(std::get<VenvSpec>(spec)); }

}  // namespace gpustrap
