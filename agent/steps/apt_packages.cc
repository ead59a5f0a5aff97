#include "agent/steps/apt_packages.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string_view>

#include <fmt/format.h>

#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/fetch.h"
#include "agent/steps/apt_mirror.h"

namespace gpustrap {
namespace {

constexpr std::string_view kPartial = "/var/cache/apt/archives/partial/";
/// Smaller ones come sooner by apt itself, which asks for the next while one still comes.
constexpr std::uint64_t kLarge = std::uint64_t{1} << 20U;

/// A proxy that only apt knows of (Acquire::http::Proxy, or a program that finds one): what apt reaches others may not.
bool has_way_of_its_own(const Host& host) {
  Command command;
  command.argv = {"apt-config", "dump", "--no-empty", "--format", "%f %v%n", "Acquire"};
  const Result<CommandResult> said = host.look(command);
  if (!said || said->exit_code != 0) return true;
  const std::vector<std::string> lines = split(said->out, '\n');
  return std::any_of(lines.begin(), lines.end(), [](const std::string& line) {
    std::string name = line.substr(0, line.find(' '));
    std::transform(name.begin(), name.end(), name.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return name.find("proxy") != std::string::npos && !line.ends_with(" DIRECT");
  });
}

bool is_package_name(std::string_view name) {
  return name.ends_with(".deb") && !name.starts_with('.') && std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  std::string_view("._+~%:-").find(c) != std::string_view::npos;
         });
}

}  // namespace

std::vector<FetchRequest> packages_to_fetch(const Host& host, const std::vector<std::string>& words_after) {
  Command command;
  // It waits for no lock and takes none: the lists and dpkg's database are read as they are. Left alone it names MD5 sums.
  command.argv = {"apt-get", "-q", "-y", "-o", "Debug::NoLocking=1", "-o", "Acquire::ForceHash=SHA256", "--print-uris"};
  command.argv.insert(command.argv.end(), words_after.begin(), words_after.end());
  command.env = {{"DEBIAN_FRONTEND", "noninteractive"}};
  by_apt_mirror(host, command);
  const Result<CommandResult> said = host.look(command);
  std::vector<FetchRequest> packages;
  if (!said || said->exit_code != 0 || said->out.find(" SHA256:") == std::string::npos || has_way_of_its_own(host)) return packages;
  // 'http://deb.example.org/debian/pool/main/b/bc/bc_1.07.1-3_amd64.deb' bc_1.07.1-3_amd64.deb 107040 SHA256:5f0c…
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
    std::from_chars(parts[2].data(), parts[2].data() + parts[2].size(), package.size);
    package.dated = true;  // by its time apt asks its server whether that is the whole file
    packages.push_back(std::move(package));
  }
  return packages;
}

void hand_over_packages(Host& host, StepLog& log, const std::vector<std::string>& words_after) {
  std::size_t taken = 0;
  std::vector<FetchRequest> large;
  for (FetchRequest& package : packages_to_fetch(host, words_after)) {
    if (host.take_fetched(package, log)) {
      ++taken;
    } else if (package.size >= kLarge) {
      large.push_back(std::move(package));
    }
  }
  if (taken > 0) log.say(fmt::format("{} package{} came ahead, apt checks {}", taken, taken == 1 ? "" : "s", taken == 1 ? "it" : "them"));
  if (large.empty()) return;
  // A single one, too: what apt fetches nobody can hold back, nor hold others back for it. The largest first: nothing is left for the end
  // that one connection alone would have to bring.
  std::stable_sort(large.begin(), large.end(), [](const FetchRequest& a, const FetchRequest& b) { return a.size > b.size; });
  if (host.fetch_many(large, log) == large.size()) return;
  log.say("left to apt");
  for (const FetchRequest& package : large) {
    for (const std::string& rest : {part_of(package.to), notes_of_part(package.to)}) (void)host.remove(rest);
  }
}

}  // namespace gpustrap
