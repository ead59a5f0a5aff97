#include "agent/steps/pip_download.h"

#include <charconv>
#include <cstdint>
#include <map>
#include <memory>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/steps/python_version.h"

namespace gpustrap {
namespace {

constexpr std::string_view kFirstThatResumes = "25.1", kFirstWithRawProgress = "24.1";

bool is_at_least(std::string_view version, std::string_view wanted) { return compare_python_versions(version, wanted) >= 0; }

/// "Progress 8192 of 3000000"; the total is 0 where the server does not say it.
bool shows_progress(std::string_view line, const std::string& name, StepLog& log) {
  constexpr std::string_view kBegin = "Progress ", kBetween = " of ";
  if (!line.starts_with(kBegin)) return false;
  line.remove_prefix(kBegin.size());
  std::uint64_t done = 0, total = 0;
  const auto first = std::from_chars(line.data(), line.data() + line.size(), done);
  const std::string_view rest = line.substr(static_cast<std::size_t>(first.ptr - line.data()));
  if (first.ec != std::errc() || !rest.starts_with(kBetween)) return false;
  const auto second = std::from_chars(rest.data() + kBetween.size(), rest.data() + rest.size(), total);
  if (second.ec != std::errc()) return false;
  log.progress(name, done, total);
  return true;
}

}  // namespace

std::string with_resuming_pip(Host& host, StepLog& log, const std::string& folder, const PythonEnvironment& environment,
                              const std::string& version) {
  if (is_at_least(version, kFirstThatResumes)) return version;
  const Result<std::optional<FileInfo>> is_virtual = host.info(folder + "/pyvenv.cfg");
  if (!is_virtual || !*is_virtual) return version;
  log.say(fmt::format("pip {} would begin a cut download anew: looking for a newer pip", version));
  Command update;
  update.argv = {environment.interpreter, "-m",  "pip", "install",   "--no-input", "--disable-pip-version-check",
                 "--progress-bar",        "off", "-q",  "--upgrade", "pip"};
  const Result<CommandResult> result = host.act(update, log);
  const Result<std::map<std::string, std::string>> now = installed_python_packages(host, environment);
  const auto found = now ? now->find("pip") : std::map<std::string, std::string>::const_iterator();
  const std::string there = now && found != now->end() ? found->second : version;
  if (!result || result->exit_code != 0) log.say(fmt::format("going on with pip {}", there));
  return there;
}

void add_download_options(const std::string& version, Command& install, StepLog& log) {
  if (is_at_least(version, kFirstThatResumes)) install.argv.insert(install.argv.end(), {"--resume-retries", "20"});
  if (!is_at_least(version, kFirstWithRawProgress)) {
    install.argv.insert(install.argv.end(), {"--progress-bar", "off"});
    return;
  }
  install.argv.insert(install.argv.end(), {"--progress-bar", "raw"});
  install.takes_line = [&log, name = std::make_shared<std::string>()](std::string_view line) {
    // "  Downloading torch-2.14.0-cp311-….whl (904.4 MB)"
    const std::string_view words = trim(line);
    if (constexpr std::string_view kBegin = "Downloading "; words.starts_with(kBegin)) {
      *name = std::string(words.substr(kBegin.size(), words.find(' ', kBegin.size()) - kBegin.size()));
    }
    return shows_progress(words, *name, log);
  };
}

}  // namespace gpustrap
