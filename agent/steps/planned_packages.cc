#include "agent/steps/planned_packages.h"

#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/steps/python_version.h"
#include "agent/steps/state_paths.h"

namespace gpustrap {
namespace {

/// What runs in a folder of its own and leaves nothing: $1 the cache, $2 the largest file in blocks of 512 bytes, then the command.
/// The command is a background job, so that the shell hears SIGTERM (the limit) at once; some of their children outlive SIGTERM for a
/// moment, and write on into what is being removed: once more then.
constexpr const char* kAside = R"(umask 077
cache=$1; ulimit -f "$2" 2>/dev/null; shift 2
if [ -d "$cache" ]; then aside=$(mktemp -d "$cache/plan.XXXXXX"); else aside=$(mktemp -d /var/tmp/gpustrap-plan.XXXXXX); fi
[ -n "$aside" ] || exit 125
clean() { rm -rf "$aside" 2>/dev/null || { sleep 1; rm -rf "$aside"; }; }
job=
trap 'kill "$job" 2>/dev/null; wait "$job" 2>/dev/null; clean; exit 124' TERM INT HUP
export TMPDIR="$aside" XDG_CACHE_HOME="$aside" PIP_NO_CACHE_DIR=1 UV_CACHE_DIR="$aside/uv" CONDA_PKGS_DIRS="$aside/pkgs"
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 UV_PYTHON_DOWNLOADS=never
export CONDA_NOTIFY_OUTDATED_CONDA=false CONDA_NUMBER_CHANNEL_NOTICES=0 CONDA_REPORT_ERRORS=false
"$@" & job=$!
wait "$job"; code=$?
clean
exit "$code")";
constexpr std::uint64_t kBlock = 512;
constexpr std::size_t kMost = 2000, kLongest = 100;

std::string word(std::string_view text) { return strip_control(first_line(text, kLongest)); }

SimulatedPackage package_of(std::string_view name, std::string_view version, const std::map<std::string, std::string>& installed) {
  SimulatedPackage package{normalized_package_name(word(name)), {}, word(version)};
  if (const auto there = installed.find(package.name); there != installed.end()) package.from = there->second;
  return package;
}

std::string text_of(const Json& object, const char* name) {
  const auto found = object.is_object() ? object.find(name) : object.end();
  return found != object.end() && found->is_string() ? word(found->get<std::string>()) : "";
}

/// The document that conda ends with; behind it old ones may say another one of their exit.
Json first_document(std::string_view said) {
  const std::size_t begin = said.find('{');
  if (begin == std::string_view::npos) return {};
  for (std::size_t end = said.find("\n}", begin); end != std::string_view::npos; end = said.find("\n}", end + 1)) {
    Json document = Json::parse(said.substr(begin, end + 2 - begin), nullptr, false);
    if (document.is_object()) return document;
  }
  Json whole = Json::parse(said.substr(begin), nullptr, false);
  return whole.is_object() ? whole : Json();
}

}  // namespace

Result<CommandResult> look_aside(const Host& host, Command command, const PlanLimits& limits) {
  std::vector<std::string> words = {
      "sh", "-c", kAside, "gpustrap-plan", cache_directory(host), fmt::format("{}", limits.file_size / kBlock)};
  words.insert(words.end(), command.argv.begin(), command.argv.end());
  command.argv = std::move(words);
  command.timeout = limits.time;
  return host.look(command);
}

std::vector<SimulatedPackage> packages_of_pip(std::string_view said, const std::map<std::string, std::string>& installed) {
  constexpr std::string_view kPip = "Would install ";
  std::vector<SimulatedPackage> packages;
  for (const std::string& line : split(said, '\n')) {
    if (line.starts_with(kPip)) {
      for (const std::string& one : words(line.substr(kPip.size()))) {
        const std::size_t dash = one.rfind('-');
        if (dash != std::string::npos && dash > 0 && packages.size() < kMost)
          packages.push_back(package_of(one.substr(0, dash), one.substr(dash + 1), installed));
      }
    }
    const std::vector<std::string> parts = words(line);
    if (parts.size() < 2 || parts[0] != "+" || packages.size() >= kMost) continue;
    const std::size_t equals = parts[1].find("==");
    if (equals != std::string::npos && equals > 0)
      packages.push_back(package_of(parts[1].substr(0, equals), parts[1].substr(equals + 2), installed));
  }
  return packages;
}

std::vector<SimulatedPackage> packages_of_conda(std::string_view said) {
  const Json document = first_document(said);
  std::vector<SimulatedPackage> packages;
  const auto actions = document.is_object() ? document.find("actions") : document.end();
  if (actions == document.end() || !actions->is_object()) return packages;
  std::map<std::string, std::string> gone;
  const auto list = [&](const char* name) {
    const auto found = actions->find(name);
    return found != actions->end() && found->is_array() ? *found : Json::array();
  };
  for (const Json& one : list("UNLINK")) gone[text_of(one, "name")] = text_of(one, "version");
  for (const Json& one : list("LINK")) {
    const std::string name = text_of(one, "name");
    if (name.empty() || packages.size() >= kMost) continue;
    const auto old = gone.find(name);
    packages.push_back({name, old == gone.end() ? "" : old->second, text_of(one, "version")});
    if (old != gone.end()) gone.erase(old);
  }
  for (const auto& [name, version] : gone) {
    if (!name.empty() && packages.size() < kMost) packages.push_back({name, version, {}});
  }
  return packages;
}

std::string unknown_versions(std::string_view why) { return fmt::format("the versions are chosen when it runs: {}\n", why); }

}  // namespace gpustrap
