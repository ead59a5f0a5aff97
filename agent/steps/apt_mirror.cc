#include "agent/steps/apt_mirror.h"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "agent/base/text.h"
#include "agent/steps/apt_sources.h"

namespace gpustrap {
namespace {

constexpr const char* kParts = "/etc/apt/sources.list.d";
/// What distributions call the folders of their archives; a mirror keeps the names.
constexpr std::array<std::string_view, 4> kArchives = {"debian", "debian-security", "ubuntu", "ubuntu-ports"};

bool has_mirror(const Host& host) { return !host.mirror().any("apt").empty(); }

std::string folder_of(const Host& host) { return "/var/lib/gpustrap/apt-mirror/" + host.mirror().name; }
std::string configuration_of(const Host& host) { return folder_of(host) + "/apt.conf"; }
std::string stamp_of(const Host& host) { return folder_of(host) + "/updated"; }

/// An update without the mirror takes its lists away: apt keeps those of the sources that it is given.
bool has_lists(const Host& host) {
  const Result<std::vector<std::string>> names = host.list("/var/lib/apt/lists");
  if (!names) return false;
  for (const MirrorPlace& place : host.mirror().places) {
    if (place.what != "apt") continue;
    const std::string beginning = list_name_prefix(place.to);
    if (std::any_of(names->begin(), names->end(), [&](const std::string& name) { return name.starts_with(beginning); })) return true;
  }
  return false;
}

/// "http://archive.example.org/ubuntu/" and "mirror+file:///etc/apt/mirrors/debian.list" (cloud images) are archives by their last name.
/// One with more before it is somebody else's: https://download.example.org/linux/ubuntu.
std::optional<std::string> mirrored_url(const Mirror& mirror, bool by_name, std::string_view url) {
  if (std::optional<std::string> there = mirror.by_prefix("apt", url)) return there;
  const std::size_t scheme = url.find("://");
  const std::string base = mirror.place("apt");
  if (base.empty() || !by_name || scheme == std::string_view::npos) return std::nullopt;
  std::string_view path = url.substr(scheme + 3);
  const bool is_list = url.starts_with("mirror+file:") && path.ends_with(".list");
  if (is_list) {
    path.remove_suffix(5);
    path.remove_prefix(path.rfind('/') + 1);
  } else if (url.starts_with("http")) {
    path.remove_prefix(std::min(path.find('/') + 1, path.size()));
    if (path.ends_with('/')) path.remove_suffix(1);
  }
  if (std::find(kArchives.begin(), kArchives.end(), path) == kArchives.end()) return std::nullopt;
  return base + (base.ends_with('/') ? "" : "/") + std::string(path);
}

/// An entry that names another key than the distribution's is not the distribution's.
bool is_of_others(std::string_view entry) {
  // In a line it is an option, in a stanza a field.
  if (entry.find("signed-by=") == std::string_view::npos && entry.find("Signed-By:") == std::string_view::npos) return false;
  return entry.find("debian-archive") == std::string_view::npos && entry.find("ubuntu-archive") == std::string_view::npos;
}

/// One line with the mirror in place of its addresses; nothing else in it is touched.
std::string mirrored_line(const Mirror& mirror, bool by_name, std::string_view line) {
  std::string out;
  while (!line.empty()) {
    const std::size_t begin = std::min(line.find_first_not_of(" \t"), line.size());
    const std::size_t end = std::min(line.find_first_of(" \t", begin), line.size());
    out += line.substr(0, begin);
    const std::string_view word = line.substr(begin, end - begin);
    out += mirrored_url(mirror, by_name, word).value_or(std::string(word));
    line.remove_prefix(end);
  }
  return out;
}

}  // namespace

std::string mirrored_sources(const Mirror& mirror, std::string_view text, bool deb822) {
  const std::vector<std::string> lines = split(text, '\n');
  std::vector<std::string> out;
  for (std::size_t begin = 0; begin < lines.size();) {
    std::size_t end = begin + 1;
    while (deb822 && !trim(lines[begin]).empty() && end < lines.size() && !trim(lines[end]).empty()) ++end;
    std::string entry;
    for (std::size_t i = begin; i < end; ++i) entry += lines[i] + "\n";
    const bool by_name = !is_of_others(entry);  // an address that the mirror names is meant, whoever signs it
    for (; begin < end; ++begin) out.push_back(lines[begin].starts_with('#') ? lines[begin] : mirrored_line(mirror, by_name, lines[begin]));
  }
  return join(out, "\n");
}

void by_apt_mirror(const Host& host, Command& command) {
  if (!has_mirror(host)) return;
  if (const Result<std::optional<FileInfo>> made = host.info(configuration_of(host)); made && *made)
    command.env.emplace_back("APT_CONFIG", configuration_of(host));
}

void look_by_apt_mirror(const Host& host, Command& command) {
  if (has_mirror(host) && has_lists(host)) by_apt_mirror(host, command);
}

Result<void> prepare_apt_mirror(Host& host) {
  if (!has_mirror(host)) return {};
  // The sources may hold passwords.
  FileAttributes hidden;
  hidden.mode = 0700;
  const std::string folder = folder_of(host);
  const std::string parts = folder + "/sources.list.d";
  for (const std::string& path : {folder, parts}) {
    if (Result<void> made = host.make_directory(path, hidden); !made) return made;
  }
  hidden.mode = 0600;
  // apt reads all its lists anew where its sources are newer than its cache.
  const auto write_if_new = [&](const std::string& path, const std::string& text) -> Result<void> {
    const Result<std::string> there = host.read(path);
    return there && *there == text ? Result<void>() : host.write(path, text, hidden);
  };
  std::vector<std::string> names = host.list(kParts).value_or(std::vector<std::string>());
  std::erase_if(names, [](const std::string& name) { return !name.ends_with(".list") && !name.ends_with(".sources"); });
  for (const std::string& left : host.list(parts).value_or(std::vector<std::string>())) {
    if (std::find(names.begin(), names.end(), left) != names.end()) continue;
    if (Result<void> removed = host.remove(parts + "/" + left); !removed) return removed;
  }
  for (std::string& name : names) name.insert(0, "sources.list.d/");
  names.emplace_back("sources.list");
  for (const std::string& name : names) {
    const Result<std::string> text = host.read("/etc/apt/" + name);
    if (!text && text.error().code() != ErrorCode::not_found) return fail(text.error());
    const std::string copy = text ? mirrored_sources(host.mirror(), *text, name.ends_with(".sources")) : std::string();
    if (Result<void> wrote = write_if_new(folder + "/" + name, copy); !wrote) return wrote;
  }
  return write_if_new(configuration_of(host), "Dir::Etc::SourceList \"" + folder + "/sources.list\";\nDir::Etc::SourceParts \"" + parts +
                                                  "\";\nAPT::Get::List-Cleanup \"false\";\n");
}

Result<void> note_apt_mirror_lists(Host& host) { return has_mirror(host) ? host.write(stamp_of(host), "", {}) : Result<void>(); }

bool needs_apt_mirror_lists(const Host& host, std::chrono::seconds max_age) {
  if (!has_mirror(host)) return false;
  const Result<std::optional<FileInfo>> stamp = host.info(stamp_of(host));
  return !stamp || !*stamp || !has_lists(host) || host.now() - (*stamp)->mtime_s > max_age.count();
}

}  // namespace gpustrap
