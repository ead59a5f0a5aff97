#include "agent/steps/apt_packages.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/fetched_ahead.h"
#include "agent/steps/apt_mirror.h"

namespace gpustrap {
namespace {

constexpr std::string_view kPartial = "/var/cache/apt/archives/partial/";

bool is_package_name(std::string_view name) {
  return name.ends_with(".deb") && !name.starts_with('.') && std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  std::string_view("._+~%:-").find(c) != std::string_view::npos;
         });
}

bool is_sha256(std::string_view text) { return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos; }

}  // namespace

std::vector<FetchRequest> packages_to_fetch(const Host& host, const std::vector<std::string>& words_after) {
  Command command;
  // It waits for no lock and takes none: the lists and dpkg's database are read as they are.
  command.argv = {"apt-get", "-q", "-y", "-o", "Debug::NoLocking=1", "--print-uris"};
  command.argv.insert(command.argv.end(), words_after.begin(), words_after.end());
  command.env = {{"DEBIAN_FRONTEND", "noninteractive"}};
  by_apt_mirror(host, command);
  const Result<CommandResult> said = host.look(command);
  std::vector<FetchRequest> packages;
  if (!said || said->exit_code != 0) return packages;
  // 'http://deb.debian.org/debian/pool/main/b/bc/bc_1.07.1-3_amd64.deb' bc_1.07.1-3_amd64.deb 107040 SHA256:5f0c…
  for (const std::string& line : split(said->out, '\n')) {
    const std::vector<std::string> parts = words(line);
    constexpr std::string_view kDigest = "SHA256:";
    if (parts.size() != 4 || !parts[3].starts_with(kDigest) || !is_sha256(parts[3].substr(kDigest.size())) || !is_package_name(parts[1]))
      continue;
    const std::string& quoted = parts[0];
    if (quoted.size() < 3 || !quoted.starts_with('\'') || !quoted.ends_with('\'')) continue;
    FetchRequest package;
    package.urls = {quoted.substr(1, quoted.size() - 2)};
    if (!package.urls[0].starts_with("http://") && !package.urls[0].starts_with("https://")) continue;
    package.to = std::string(kPartial) + parts[1];
    package.sha256 = parts[3].substr(kDigest.size());
    package.name = parts[1];
    package.dated = true;  // by its time apt asks its server whether that is the whole file
    packages.push_back(std::move(package));
  }
  return packages;
}

void hand_over_packages(Host& host, StepLog& log, const std::vector<std::string>& words_after) {
  const Result<std::vector<std::string>> names = host.list(ahead_folder(host.self()));
  if (!names || std::none_of(names->begin(), names->end(), is_ahead_package)) return;
  std::size_t taken = 0;
  for (const FetchRequest& package : packages_to_fetch(host, words_after)) {
    if (host.take_fetched(package, log)) ++taken;
  }
  if (taken > 0) log.say(fmt::format("{} package{} came ahead, apt checks {}", taken, taken == 1 ? "" : "s", taken == 1 ? "it" : "them"));
}

}  // namespace gpustrap
