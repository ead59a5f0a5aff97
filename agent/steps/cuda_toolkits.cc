#include "agent/steps/cuda_toolkits.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/facts.h"

namespace gpustrap {
namespace {

constexpr auto kCommandLimit = std::chrono::minutes(1);
constexpr const char* kFolder = "/usr/local";
constexpr const char* kDefault = "/usr/local/cuda";

/// "12.4" of "/usr/local/cuda-12.4/"; empty for anything else.
std::string version_in(std::string_view path) {
  while (path.ends_with('/')) path.remove_suffix(1);
  const std::string_view name = path.substr(path.rfind('/') == std::string_view::npos ? 0 : path.rfind('/') + 1);
  if (!name.starts_with("cuda-")) return {};
  const std::string version(name.substr(5));
  const bool plain = !version.empty() && version.find_first_not_of("0123456789.") == std::string::npos &&
                     std::count(version.begin(), version.end(), '.') == 1 && version.front() != '.' && version.back() != '.';
  return plain ? version : std::string();
}

Result<void> alternatives(Host& host, StepLog& log, std::vector<std::string> words_after) {
  Command command{{"update-alternatives"}, {}, "", "", kCommandLimit, {}};
  command.argv.insert(command.argv.end(), words_after.begin(), words_after.end());
  const Result<CommandResult> result = host.act(command, log);
  if (!result) return fail(result.error());
  if (result->exit_code != 0) return fail(command_error(command, *result));
  return {};
}

}  // namespace

std::string toolkit_folder(const std::string& version) { return fmt::format("{}/cuda-{}", kFolder, version); }

Result<std::vector<std::string>> installed_toolkits(const Host& host) {
  const Result<std::vector<std::string>> names = host.list(kFolder);
  if (!names && names.error().code() != ErrorCode::not_found) return fail(names.error());
  std::vector<std::string> versions;
  for (const std::string& name : names ? *names : std::vector<std::string>()) {
    const std::string version = version_in(name);
    if (version.empty()) continue;
    // A removed toolkit leaves its folder behind where a file of the user's is in it.
    const Result<std::optional<FileInfo>> compiler = host.info(toolkit_folder(version) + "/bin/nvcc");
    if (!compiler) return fail(compiler.error());
    if (*compiler) versions.push_back(version);
  }
  std::sort(versions.begin(), versions.end(), [](const std::string& a, const std::string& b) { return compare_versions(a, b) < 0; });
  return versions;
}

Result<std::string> default_toolkit(const Host& host) {
  std::string path = kDefault;
  // /usr/local/cuda → /etc/alternatives/cuda → /usr/local/cuda-12.4, and seldom one more.
  for (int hop = 0; hop < 5; ++hop) {
    const Result<std::optional<FileInfo>> info = host.info(path);
    if (!info) return fail(info.error());
    if (!*info) return std::string();
    if (hop == 0 && (*info)->type != FileType::symlink) {
      return fail(ErrorCode::unsafe, fmt::format("{} is no link, but a folder of its own", kDefault),
                  "move it to /usr/local/cuda-VERSION, or say `default: false`");
    }
    if ((*info)->type != FileType::symlink) return version_in(path);
    Result<std::string> target = host.read_link(path);
    if (!target) return fail(std::move(target).error());
    path = target->starts_with('/') ? *std::move(target) : path.substr(0, path.rfind('/') + 1) + *target;
  }
  return std::string();
}

Result<void> set_default_toolkit(Host& host, StepLog& log, const std::string& version) {
  const std::string folder = toolkit_folder(version);
  const Result<CommandResult> registered =
      host.look({{"update-alternatives", "--query", "cuda"}, {{"LC_ALL", "C"}}, "", "", kCommandLimit, {}});
  if (!registered) return fail(registered.error());
  if (registered->exit_code == 0) {
    const std::vector<std::string> lines = split(registered->out, '\n');
    if (std::find(lines.begin(), lines.end(), "Alternative: " + folder) == lines.end()) {
      // A runfile's toolkit beside those of packages. Lower than theirs, which count as 124 for 12.4: `auto` stays with the packages.
      if (Result<void> added = alternatives(host, log, {"--install", kDefault, "cuda", folder, "1"}); !added) return added;
    }
    if (Result<void> set = alternatives(host, log, {"--set", "cuda", folder}); !set) return set;
    const Result<std::string> now = default_toolkit(host);
    if (!now) return fail(now.error());
    if (*now == version) return {};
  }
  return host.make_symlink(kDefault, folder);
}

Result<std::string> compiler_version(const Host& host, const std::string& version) {
  const Command command{{toolkit_folder(version) + "/bin/nvcc", "--version"}, {{"LC_ALL", "C"}}, "", "", kCommandLimit, {}};
  const Result<CommandResult> result = host.look(command);
  if (!result) return fail(result.error());
  if (result->exit_code != 0) return fail(command_error(command, *result));
  const std::size_t at = result->out.find("release ");
  if (at == std::string::npos) {
    return fail(
        ErrorCode::command,
        fmt::format("{} does not say its version, but `{}`", command.argv.front(), first_line(strip_control(trim(result->out)), 80)),
        fmt::format("the toolkit there is damaged: remove {} (its package, where it has one), and run again", toolkit_folder(version)));
  }
  const std::size_t end = result->out.find_first_not_of("0123456789.", at + 8);
  return result->out.substr(at + 8, end == std::string::npos ? end : end - at - 8);
}

}  // namespace gpustrap
