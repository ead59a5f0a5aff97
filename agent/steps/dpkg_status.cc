#include "agent/steps/dpkg_status.h"

#include <algorithm>
#include <utility>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

constexpr std::string_view kStatusFile = "/var/lib/dpkg/status";

/// Value of a one-line field of a stanza.
std::string field(std::string_view stanza, std::string_view name) {
  std::size_t at = 0;
  while (at < stanza.size()) {
    const std::size_t end = std::min(stanza.find('\n', at), stanza.size());
    const std::string_view line = stanza.substr(at, end - at);
    if (line.size() > name.size() && line.starts_with(name) && line[name.size()] == ':')
      return std::string(trim(line.substr(name.size() + 1)));
    at = end + 1;
  }
  return {};
}

}  // namespace

DpkgStatus DpkgStatus::parse(std::string_view text) {
  DpkgStatus status;
  while (!text.empty()) {
    const std::size_t end = text.find("\n\n");
    const std::string_view stanza = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 2);
    const std::string name = field(stanza, "Package");
    const std::vector<std::string> words_of_status = words(field(stanza, "Status"));
    if (name.empty() || words_of_status.size() != 3) continue;
    DpkgPackage package;
    package.version = field(stanza, "Version");
    package.wanted = words_of_status[0];
    package.state = words_of_status[2];
    for (const std::string& provided : split(field(stanza, "Provides"), ',')) {
      const std::vector<std::string> parts = words(provided);  // "mail-transport-agent", "libc6 (= 2.36)"
      if (!parts.empty()) package.provides.push_back(parts.front());
    }
    DpkgPackage& kept = status.packages_[name];
    if (kept.state != "installed") kept = std::move(package);
  }
  return status;
}

Result<DpkgStatus> DpkgStatus::read(const Host& host) {
  const Result<std::string> text = host.read(std::string(kStatusFile));
  if (!text) {
    if (text.error().code() == ErrorCode::not_found) {
      return fail(ErrorCode::unsupported, "this host has no dpkg", "use a Debian or Ubuntu image, or a `when: {os: …}` on this step");
    }
    return fail(text.error());
  }
  return parse(*text);
}

const DpkgPackage* DpkgStatus::installed_itself(std::string_view name) const {
  const auto found = packages_.find(name);
  return found != packages_.end() && found->second.state == "installed" ? &found->second : nullptr;
}

const DpkgPackage* DpkgStatus::installed(std::string_view name) const {
  // "libc6:amd64" asks for an architecture; the database of a single-architecture host knows the bare name.
  const std::string_view bare = name.substr(0, name.find(':'));
  if (const auto found = packages_.find(bare); found != packages_.end() && found->second.state == "installed") return &found->second;
  for (const auto& [other, package] : packages_) {
    if (package.state == "installed" && std::find(package.provides.begin(), package.provides.end(), bare) != package.provides.end())
      return &package;
  }
  return nullptr;
}

bool DpkgStatus::is_held(std::string_view name) const {
  const auto found = packages_.find(name);
  return found != packages_.end() && found->second.wanted == "hold";
}

std::vector<std::string> DpkgStatus::installed_names() const {
  std::vector<std::string> names;
  for (const auto& [name, package] : packages_) {
    if (package.state == "installed") names.push_back(name);
  }
  return names;
}

std::vector<std::string> DpkgStatus::unfinished() const {
  std::vector<std::string> names;
  for (const auto& [name, package] : packages_) {
    const bool cut = package.state == "half-configured" || package.state == "half-installed" || package.state == "unpacked" ||
                     package.state.starts_with("triggers-");
    if (cut) names.push_back(name);
  }
  return names;
}

std::vector<std::string> DpkgStatus::half_installed() const {
  std::vector<std::string> names;
  for (const auto& [name, package] : packages_) {
    if (package.state == "half-installed") names.push_back(name);
  }
  return names;
}

}  // namespace gpustrap
