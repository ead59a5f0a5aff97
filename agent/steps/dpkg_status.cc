#include "agent/steps/dpkg_status.h"

#include <algorithm>
#include <utility>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

constexpr std::string_view kStatusFile = "/var/lib/dpkg/status";

/// The one-line fields of a stanza that are asked for. Thousands of stanzas are read by each apt step, so each is gone through once.
struct Stanza {
  std::string_view name, status, version, provides, architecture;

  explicit Stanza(std::string_view text) {
    while (!text.empty()) {
      const std::size_t end = std::min(text.find('\n'), text.size());
      const std::string_view line = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      if (line.empty() || line.front() == ' ') continue;
      for (auto [field, value] : {std::pair{std::string_view("Package:"), &name}, std::pair{std::string_view("Status:"), &status},
                                  std::pair{std::string_view("Version:"), &version}, std::pair{std::string_view("Provides:"), &provides},
                                  std::pair{std::string_view("Architecture:"), &architecture}}) {
        if (line.front() != field.front() || !line.starts_with(field) || !value->empty()) continue;
        *value = trim(line.substr(field.size()));
        break;
      }
    }
  }
};

/// "libc6:i386" → "libc6" and "i386"; no architecture, or "any": whichever there is.
std::pair<std::string_view, std::string_view> parts_of(std::string_view name) {
  const std::size_t colon = name.find(':');
  if (colon == std::string_view::npos) return {name, {}};
  const std::string_view architecture = name.substr(colon + 1);
  return {name.substr(0, colon), architecture == "any" ? std::string_view() : architecture};
}

bool is_for(const DpkgPackage& package, std::string_view architecture) {
  return architecture.empty() || package.architecture == architecture || package.architecture == "all";
}

}  // namespace

DpkgStatus DpkgStatus::parse(std::string_view text) {
  DpkgStatus status;
  while (!text.empty()) {
    const std::size_t end = text.find("\n\n");
    const std::string_view stanza = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 2);
    const Stanza fields(stanza);
    const std::vector<std::string> words_of_status = words(fields.status);
    if (fields.name.empty() || words_of_status.size() != 3) continue;
    DpkgPackage package;
    package.version = fields.version;
    package.wanted = words_of_status[0];
    package.state = words_of_status[2];
    for (const std::string& provided : split(fields.provides, ',')) {
      const std::vector<std::string> parts = words(provided);  // "mail-transport-agent", "libc6 (= 2.36)"
      if (!parts.empty()) package.provides.push_back(parts.front());
    }
    package.architecture = fields.architecture;
    status.packages_.emplace(fields.name, std::move(package));
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
  const auto [bare, architecture] = parts_of(name);
  const auto [first, last] = packages_.equal_range(bare);
  const auto found = std::find_if(first, last, [wanted = architecture](const auto& entry) {
    return entry.second.state == "installed" && is_for(entry.second, wanted);
  });
  return found == last ? nullptr : &found->second;
}

const DpkgPackage* DpkgStatus::installed(std::string_view name) const {
  if (const DpkgPackage* itself = installed_itself(name)) return itself;
  const auto [bare, architecture] = parts_of(name);
  for (const auto& [other, package] : packages_) {
    if (package.state == "installed" && is_for(package, architecture) &&
        std::find(package.provides.begin(), package.provides.end(), bare) != package.provides.end())
      return &package;
  }
  return nullptr;
}

bool DpkgStatus::is_held(std::string_view name) const {
  const auto [bare, architecture] = parts_of(name);
  const auto [first, last] = packages_.equal_range(bare);
  return std::any_of(first, last,
                     [wanted = architecture](const auto& entry) { return entry.second.wanted == "hold" && is_for(entry.second, wanted); });
}

std::vector<std::string> DpkgStatus::installed_names() const {
  std::vector<std::string> names;
  for (const auto& [name, package] : packages_) {
    if (package.state == "installed" && (names.empty() || names.back() != name)) names.push_back(name);
  }
  return names;
}

std::vector<std::string> DpkgStatus::names_in(bool (*state)(const std::string& state)) const {
  std::vector<std::string> names;
  for (const auto& [name, package] : packages_) {
    if (state(package.state)) names.push_back(packages_.count(name) > 1 ? name + ":" + package.architecture : name);
  }
  return names;
}

std::vector<std::string> DpkgStatus::unfinished() const {
  return names_in([](const std::string& state) {
    return state == "half-configured" || state == "half-installed" || state == "unpacked" || state.starts_with("triggers-");
  });
}

std::vector<std::string> DpkgStatus::half_installed() const {
  return names_in([](const std::string& state) { return state == "half-installed"; });
}

}  // namespace gpustrap
