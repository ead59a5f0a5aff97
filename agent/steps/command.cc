#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/steps/kinds.h"

namespace gpustrap {
namespace {

/// Where distributions have bash; a static list, since a look must not depend on what the step's own PATH holds.
constexpr const char* kBashPaths[] = {"/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"};

class CommandStep : public Step {
 public:
  explicit CommandStep(CommandSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] bool can_verify() const override { return !spec_.creates.items.empty() || !spec_.unless.empty(); }

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    if (!can_verify()) return StepState::unsatisfied("always runs: it has neither `creates` nor `unless`", described(spec_.run));
    std::string missing;
    for (const std::string& item : spec_.creates.items) {
      const std::string path = host.expand(item);
      const Result<bool> there = exists(path, host);
      if (!there) return fail(there.error());
      if (!*there && missing.empty()) missing = path;
    }
    if (!spec_.creates.items.empty() && missing.empty()) {
      return StepState::satisfied(host.expand(spec_.creates.items.front()) + " exists" +
                                  (spec_.creates.items.size() > 1 ? fmt::format(", and {} more", spec_.creates.items.size() - 1) : ""));
    }
    if (spec_.unless.empty()) return StepState::unsatisfied(missing + " does not exist", described(spec_.run));
    return ask_unless(host);
  }

  Result<void> apply(Host& host, StepLog& log) override {
    const Result<Command> command = command_for(spec_.run, host);
    if (!command) return fail(command.error());
    const Result<CommandResult> result = host.act(*command, log);
    if (!result) return fail(result.error());
    if (result->exit_code == 0) return {};
    Command shown = *command;
    if (!spec_.run.shell.empty()) shown.argv = {first_line(spec_.run.shell, 80)};
    // In a shell text 127 may be any of its words, and the shell has said which.
    if (result->exit_code == 127 && !spec_.run.shell.empty()) {
      return fail(ErrorCode::command,
                  fmt::format("`{}` failed (exit 127): {}", shown.argv[0], first_line(last_lines(strip_control(result->err), 1))),
                  "install the program that it names, or correct its name");
    }
    return fail(command_error(shown, *result));
  }

 private:
  [[nodiscard]] static std::string described(const CommandText& text) {
    if (!text.shell.empty()) return text.shell;
    std::vector<std::string> quoted;
    for (const std::string& word : text.argv) quoted.push_back(shell_quote(word));
    return join(quoted, " ");
  }

  /// A link counts only when it leads to something.
  [[nodiscard]] static Result<bool> exists(const std::string& path, const Host& host) {
    const Result<std::optional<FileInfo>> info = host.info(path);
    if (!info) return fail(info.error());
    if (!*info) return false;
    if ((*info)->type != FileType::symlink) return true;
    const Result<std::string> target = host.read_link(path);
    if (!target) return fail(target.error());
    const std::string folder = parent_of(path);
    const Result<std::optional<FileInfo>> behind = host.info(target->starts_with('/') ? *target : folder + "/" + *target);
    if (!behind) return fail(behind.error());
    return behind->has_value();
  }

  [[nodiscard]] Result<StepState> ask_unless(const Host& host) const {
    if (spec_.chdir) {
      const std::string folder = host.expand(spec_.chdir->text);
      const Result<bool> there = exists(folder, host);
      if (!there) return fail(there.error());
      if (!*there) return StepState::unsatisfied(folder + " does not exist, so `unless` cannot be asked yet", described(spec_.run));
    }
    const Result<Command> command = command_for(spec_.unless, host);
    if (!command) return fail(command.error());
    const Result<CommandResult> result = host.look(*command);
    if (!result) return fail(Error(result.error()).in("asking `unless`"));
    const std::string shown = first_line(described(spec_.unless), 80);
    if (result->exit_code == 0) return StepState::satisfied(fmt::format("`{}` succeeds", shown));
    return StepState::unsatisfied(fmt::format("`{}` exits with {}", shown, result->exit_code), described(spec_.run));
  }

  [[nodiscard]] Result<Command> command_for(const CommandText& text, const Host& host) const {
    Command command;
    if (spec_.chdir) command.cwd = host.expand(spec_.chdir->text);
    if (text.shell.empty()) {
      command.argv = text.argv;
      if (!command.argv.empty()) command.argv[0] = host.expand(command.argv[0]);
      return command;
    }
    for (const char* bash : kBashPaths) {
      const Result<std::optional<FileInfo>> info = host.info(bash);
      if (!info) return fail(info.error());
      if (!*info) continue;
      command.argv = {bash, "-eo", "pipefail", "-c", text.shell};
      return command;
    }
    command.argv = {"/bin/sh", "-e", "-c", text.shell};
    return command;
  }

  CommandSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_command_step(const StepSpec& spec) { return std::make_unique<CommandStep>(std::get<CommandSpec>(spec)); }

}  // namespace gpustrap
