#include "agent/steps/conda_login.h"

#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/steps/conda_prefix.h"
#include "agent/steps/edited_file.h"
#include "agent/steps/ownership.h"
#include "agent/steps/state_paths.h"

namespace gpustrap {
namespace {

constexpr std::string_view kBlockStart = "# >>> conda initialize >>>", kBlockEnd = "# <<< conda initialize <<<";

/// Those that ask for acceptance. The plugin's name for each is its own business: the files name the URL.
constexpr auto kChannels = std::to_array<std::string_view>({"https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r"});

std::string bashrc_of(const Host& host) { return host.self().home + "/.bashrc"; }

/// What stands between conda's markers; nullopt where there is no such block.
std::optional<std::string> conda_block(std::string_view text) {
  const std::size_t start = text.find(kBlockStart);
  if (start == std::string_view::npos) return std::nullopt;
  const std::size_t end = text.find(kBlockEnd, start);
  return std::string(text.substr(start, end == std::string_view::npos ? end : end - start));
}

/// The folder of the conda that the block starts: its first "…/bin/conda".
std::string conda_of_block(const std::string& block) {
  constexpr std::string_view kProgram = "/bin/conda";
  const std::size_t end = block.find(kProgram);
  if (end == std::string::npos) return {};
  const std::size_t start = block.find_last_of(" \t\n'\"(=", end);
  return block.substr(start + 1, end - start - 1);
}

/// Whether one of these folders of acceptances holds one for the channel.
bool is_accepted(const Host& host, const std::vector<std::string>& roots, std::string_view channel) {
  for (const std::string& root : roots) {
    const Result<std::vector<std::string>> folders = host.list(root);
    if (!folders) continue;
    for (const std::string& folder : *folders) {
      const Result<std::vector<std::string>> files = host.list(root + "/" + folder);
      if (!files) continue;
      for (const std::string& file : *files) {
        const Result<std::string> text = host.read(fmt::format("{}/{}/{}", root, folder, file));
        if (!text) continue;
        const Json document = Json::parse(*text, nullptr, false);
        if (!document.is_object()) continue;
        if (document.value("base_url", Json()) == Json(channel) && document.value("tos_accepted", Json()) == Json(true)) return true;
      }
    }
  }
  return false;
}

}  // namespace

Result<StepState> check_conda_init(const Host& host, const std::string& prefix) {
  const std::string path = bashrc_of(host);
  const Result<std::string> text = host.read(path);
  if (!text && text.error().code() != ErrorCode::not_found) return fail(text.error());
  const std::optional<std::string> block = text ? conda_block(*text) : std::nullopt;
  if (!block) return StepState::unsatisfied("~/.bashrc does not know it");
  const std::string known = conda_of_block(*block);
  if (known == prefix) return StepState::satisfied("~/.bashrc knows it");
  const Result<std::optional<FileInfo>> program = host.info(known + "/bin/conda");
  if (!known.empty() && program && *program) return StepState::satisfied(fmt::format("~/.bashrc starts {} and is left", known));
  return StepState::unsatisfied(fmt::format("~/.bashrc starts {}, which is gone", known.empty() ? "a conda" : known));
}

Result<void> init_conda(Host& host, StepLog& log, const std::string& prefix) {
  const Result<std::string> path = follow_link(bashrc_of(host), host);
  if (!path) return fail(path.error());
  const Result<EditedFile> bashrc = look_at_file(*path, host);
  if (!bashrc) return fail(bashrc.error());
  const std::string home = state_directory(host, "conda") + "/init";
  if (Result<void> cleared = clear_folder(host, home); !cleared) return cleared;
  FileAttributes hidden;
  hidden.mode = 0700;
  if (Result<void> made = host.make_directory(home, hidden); !made) return made;
  if (Result<void> wrote = host.write(home + "/.bashrc", bashrc->content, {}); !wrote) return wrote;
  Command command;
  command.argv = {prefix + "/bin/conda", "init", "bash"};
  command.env = {{"HOME", home}};
  const Result<CommandResult> result = host.act(command, log);
  if (!result) return fail(result.error());
  if (result->exit_code != 0) return fail(command_error(command, *result));
  const Result<std::string> text = host.read(home + "/.bashrc");
  if (!text) return fail(text.error());
  const std::optional<std::string> block = conda_block(*text);
  if (!block || conda_of_block(*block) != prefix) {
    return fail(ErrorCode::command, fmt::format("`conda init bash` of {} did not write its block", prefix),
                "put `init: false` on the step, and the lines that you want into ~/.bashrc");
  }
  if (Result<void> wrote = host.write(*path, *text, {}); !wrote) return wrote;
  return clear_folder(host, home);
}

Result<StepState> check_conda_terms(const Host& host, const std::string& prefix) {
  const Result<std::map<std::string, CondaPackage>> packages = conda_packages(host, prefix);
  if (!packages) return fail(packages.error());
  if (!packages->contains("conda-anaconda-tos")) return StepState::satisfied("no Terms of Service are asked for");
  // Where the plugin looks, in its order.
  const std::string& home = host.self().home;
  const std::vector<std::string> roots = {"/etc/conda/tos", "/var/lib/conda/tos", prefix + "/conda-meta/tos", home + "/.config/conda/tos",
                                          home + "/.conda/tos"};
  for (const std::string_view channel : kChannels) {
    if (!is_accepted(host, roots, channel)) return StepState::unsatisfied(fmt::format("the terms of {} are not accepted yet", channel));
  }
  return StepState::satisfied("Anaconda's terms are accepted");
}

Result<void> accept_conda_terms(Host& host, StepLog& log, const std::string& prefix) {
  for (const std::string_view channel : kChannels) {
    log.say(fmt::format("accepting the Terms of Service of {}, as `accept_tos: true` asks", channel));
    Command command;
    command.argv = {prefix + "/bin/conda", "tos", "accept", "--override-channels", "--channel", std::string(channel)};
    const Result<CommandResult> result = host.act(command, log);
    if (!result) return fail(result.error());
    if (result->exit_code != 0) return fail(command_error(command, *result).in("accepting the Terms of Service"));
  }
  return {};
}

}  // namespace gpustrap
