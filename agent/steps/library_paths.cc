#include "agent/steps/library_paths.h"

#include <algorithm>
#include <set>

#include "agent/base/file.h"
#include "agent/base/text.h"

namespace gpustrap {
namespace {

/// `path` with every link on the way resolved; as it is where something on the way is missing or cannot be looked at.
std::string resolved(const std::string& path, const Host& host) {
  std::vector<std::string> rest = split(path, '/');
  std::reverse(rest.begin(), rest.end());
  std::string at;
  for (int links = 0; !rest.empty();) {
    const std::string part = rest.back();
    rest.pop_back();
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      at = at.empty() || parent_of(at) == "/" ? "" : parent_of(at);
      continue;
    }
    const std::string next = at + "/" + part;
    const Result<std::optional<FileInfo>> info = host.info(next);
    if (!info || !*info) return path;
    if ((*info)->type == FileType::symlink) {
      const Result<std::string> target = host.read_link(next);
      if (!target || ++links > 40) return path;
      if (target->starts_with('/')) at.clear();
      const std::vector<std::string> parts = split(*target, '/');
      rest.insert(rest.end(), parts.rbegin(), parts.rend());
      continue;
    }
    at = next;
  }
  return at.empty() ? "/" : at;
}

/// "	libcudart.so.12 (libc6,x86-64) => /usr/local/cuda/targets/x86_64-linux/lib/libcudart.so.12"
std::set<std::string> directories_in_cache(const std::string& listing) {
  std::set<std::string> directories;
  for (const std::string& line : split(listing, '\n')) {
    const std::size_t arrow = line.find("=> /");
    if (arrow != std::string::npos) directories.insert(parent_of(trim(line.substr(arrow + 3))));
  }
  return directories;
}

Result<std::set<std::string>> directories_in_configuration(const Host& host) {
  std::set<std::string> directories;
  const Result<std::optional<FileInfo>> folder = host.info("/etc/ld.so.conf.d");
  if (!folder) return fail(folder.error());
  if (!*folder) return directories;
  const Result<std::vector<std::string>> names = host.list("/etc/ld.so.conf.d");
  if (!names) return fail(names.error());
  for (const std::string& name : *names) {
    if (!name.ends_with(".conf")) continue;
    const Result<std::string> text = host.read("/etc/ld.so.conf.d/" + name);
    if (!text) return fail(text.error());
    for (const std::string& line : split(*text, '\n')) {
      if (trim(line).starts_with('/')) directories.insert(std::string(trim(line)));
    }
  }
  return directories;
}

}  // namespace

Result<std::vector<std::string>> directories_unknown_to_loader(const std::vector<std::string>& directories, const Host& host) {
  const Result<CommandResult> listing = host.look({.argv = {"ldconfig", "-p"}});
  if (!listing) return fail(listing.error());
  std::set<std::string> known;
  if (listing->exit_code == 0) {
    known = directories_in_cache(listing->out);
  } else {
    Result<std::set<std::string>> configured = directories_in_configuration(host);
    if (!configured) return fail(std::move(configured).error());
    known = *std::move(configured);
  }
  std::set<std::string> searched;
  for (const std::string& directory : known) searched.insert(resolved(directory, host));
  std::vector<std::string> unknown;
  for (const std::string& directory : directories) {
    if (!searched.contains(resolved(directory, host))) unknown.push_back(directory);
  }
  return unknown;
}

}  // namespace gpustrap
