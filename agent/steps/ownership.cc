#include "agent/steps/ownership.h"

#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"

namespace gpustrap {
namespace {

/// More than any honest chain, and an end to a circle.
constexpr int kMostLinks = 8;

/// The rule of open_directory, which goes by the same question for the directories on the way.
bool only_root_can_place(const FileInfo& link, const FileInfo& directory) {
  if (directory.uid != 0) return false;
  if (link.uid != 0) return (directory.mode & 0022U) == 0;
  return (directory.mode & 0002U) == 0 || (directory.mode & 01000U) != 0;
}

Error missing(std::string_view what, const std::string& name) {
  return {ErrorCode::not_found, fmt::format("there is no {} `{}` on this host", what, name),
          "make it in an earlier step, or correct the name"};
}

}  // namespace

Result<FileAttributes> attributes_of(const WantedOwnership& wanted, const Host& host) {
  FileAttributes attributes;
  if (wanted.mode) attributes.mode = wanted.mode->bits;
  if (!wanted.owner.empty()) {
    Result<std::optional<uid_t>> uid = host.user_id(wanted.owner);
    if (!uid) return fail(std::move(uid).error());
    if (!*uid) return fail(missing("user", wanted.owner));
    attributes.uid = *uid;
  }
  if (!wanted.group.empty()) {
    Result<std::optional<gid_t>> gid = host.group_id(wanted.group);
    if (!gid) return fail(std::move(gid).error());
    if (!*gid) return fail(missing("group", wanted.group));
    attributes.gid = *gid;
  }
  return attributes;
}

Result<std::string> ownership_difference(const FileInfo& info, const WantedOwnership& wanted, const Host& host) {
  std::vector<std::string> differences;
  if (wanted.mode && wanted.mode->bits != info.mode) {
    differences.push_back(fmt::format("mode is {:04o}, {:04o} wanted", info.mode, wanted.mode->bits));
  }
  if (!wanted.owner.empty()) {
    Result<std::optional<uid_t>> uid = host.user_id(wanted.owner);
    if (!uid) return fail(std::move(uid).error());
    if (!*uid || **uid != info.uid) differences.push_back(fmt::format("owner is uid {}, {} wanted", info.uid, wanted.owner));
  }
  if (!wanted.group.empty()) {
    Result<std::optional<gid_t>> gid = host.group_id(wanted.group);
    if (!gid) return fail(std::move(gid).error());
    if (!*gid || **gid != info.gid) differences.push_back(fmt::format("group is gid {}, {} wanted", info.gid, wanted.group));
  }
  return join(differences, "; ");
}

Result<std::string> follow_link(const std::string& path, const Host& host) {
  std::string at = path;
  for (int links = 0; links < kMostLinks; ++links) {
    Result<std::optional<FileInfo>> info = host.info(at);
    if (!info) return fail(std::move(info).error());
    if (!*info || (*info)->type != FileType::symlink) return at;
    const std::string folder = parent_of(at);
    if (host.self().uid == 0) {
      const Result<std::optional<FileInfo>> parent = host.info(folder);
      if (!parent) return fail(parent.error());
      if (!*parent || !only_root_can_place(**info, **parent)) {
        return fail(ErrorCode::unsafe, fmt::format("{} is a symbolic link that a user could have put there to lead root elsewhere", at),
                    "run the step with `as: login`, or name the file that it points to");
      }
    }
    Result<std::string> target = host.read_link(at);
    if (!target) return fail(std::move(target).error());
    at = target->starts_with('/') ? *target : (folder == "/" ? "" : folder) + "/" + *target;
  }
  return fail(ErrorCode::unsafe, fmt::format("{} leads through more than {} symbolic links", path, kMostLinks), "name the file itself");
}

Result<bool> may_be_planted(const std::string& path, const FileInfo& info, const Host& host) {
  if (host.self().uid != 0 || info.uid == 0) return false;
  const Result<std::string> folder = follow_link(parent_of(path), host);
  if (!folder) return fail(folder.error());
  const Result<std::optional<FileInfo>> parent = host.info(*folder);
  if (!parent) return fail(parent.error());
  return *parent && ((*parent)->mode & 0002U) != 0;
}

std::string describe_type(FileType type) {
  switch (type) {
    case FileType::regular: return "a file";
    case FileType::directory: return "a directory";
    case FileType::symlink: return "a symbolic link";
    default: return "neither a file nor a directory";
  }
}

}  // namespace gpustrap
