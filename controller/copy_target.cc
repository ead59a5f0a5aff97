#include "controller/copy_target.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "agent/base/file.h"
#include "agent/base/text.h"

namespace gpustrap {
namespace {

constexpr int kFolder = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

Error error_at(int number, const std::string& doing, const std::string& path) {
  return errno_error(number, doing + " " + shown_path(path));
}

std::string base_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::array<timespec, 2> times_of(std::int64_t mtime) { return {timespec{0, UTIME_OMIT}, timespec{mtime, 0}}; }

}  // namespace

Result<CopyTarget> CopyTarget::open(const std::string& path) {
  if (Result<void> made = make_directories(path); !made) return fail(std::move(made).error());
  UniqueFd root(::open(path.c_str(), kFolder));
  if (!root.valid()) return fail(errno_error(errno, "opening " + shown_path(path)));
  return CopyTarget(std::move(root));
}

Result<int> CopyTarget::parent_of(const std::string& path, std::string& name) {
  name = base_of(path);
  const std::string folder = path.size() > name.size() ? path.substr(0, path.size() - name.size() - 1) : "";
  if (folder.empty()) return root_.get();
  if (folder == open_path_ && open_fd_.valid()) return open_fd_.get();
  UniqueFd at;
  for (const std::string& part : split(folder, '/')) {
    UniqueFd next(::openat(at.valid() ? at.get() : root_.get(), part.c_str(), kFolder | O_NOFOLLOW));
    if (!next.valid())
      return fail(error_at(errno, "opening the folder", folder).with_hint("a symlink in a folder's place is not followed"));
    at = std::move(next);
  }
  open_path_ = folder;
  open_fd_ = std::move(at);
  return open_fd_.get();
}

Result<void> CopyTarget::make_folder(const std::string& path, unsigned mode) {
  std::string name;
  const Result<int> parent = parent_of(path, name);
  if (!parent) return fail(parent.error());
  // Its owner fills it, whatever the host's does.
  if (::mkdirat(*parent, name.c_str(), mode | 0700U) == 0) return {};
  struct stat info {};
  if (errno == EEXIST && ::fstatat(*parent, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode)) return {};
  return fail(error_at(errno == EEXIST ? ENOTDIR : errno, "making the folder", path));
}

Result<UniqueFd> CopyTarget::open_part(const std::string& path, const CopyEntry& entry, std::uint64_t& size) {
  std::string name;
  const std::string part = part_name(path, entry);
  const Result<int> parent = parent_of(part, name);
  if (!parent) return fail(parent.error());
  UniqueFd fd(::openat(*parent, name.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600));
  struct stat info {};
  if (!fd.valid() || ::fstat(fd.get(), &info) != 0) return fail(error_at(errno, "writing", path));
  size = static_cast<std::uint64_t>(info.st_size);
  return fd;
}

Result<UniqueFd> CopyTarget::read_part(const std::string& path, const CopyEntry& entry) {
  std::string name;
  const Result<int> parent = parent_of(part_name(path, entry), name);
  if (!parent) return fail(parent.error());
  UniqueFd fd(::openat(*parent, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return fail(error_at(errno, "reading", path));
  return fd;
}

void CopyTarget::drop(const std::string& path) {
  std::string name;
  if (const Result<int> parent = parent_of(path, name)) ::unlinkat(*parent, name.c_str(), 0);
}

void CopyTarget::drop_part(const std::string& path, const CopyEntry& entry) { drop(part_name(path, entry)); }

Result<void> CopyTarget::check(int parent, const std::string& name, const CopyEntry* expected) const {
  struct stat info {};
  if (::fstatat(parent, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return {};
  const bool is_same = expected != nullptr && info.st_mtime == expected->mtime &&
                       (expected->type != CopyEntry::Type::file || static_cast<std::uint64_t>(info.st_size) == expected->size);
  if (is_same) return {};
  return fail(ErrorCode::busy, "it was changed while this ran", "look at it, then give the same command again");
}

Result<void> CopyTarget::finish(const std::string& path, const CopyEntry& entry, const CopyEntry* expected) {
  std::string name;
  const std::string part = base_of(part_name(path, entry));
  const Result<int> parent = parent_of(path, name);
  if (!parent) return fail(parent.error());
  if (Result<void> checked = check(*parent, name, expected); !checked) return checked;
  const auto times = times_of(entry.mtime);
  if (::fchmodat(*parent, part.c_str(), entry.mode, 0) != 0 || ::utimensat(*parent, part.c_str(), times.data(), 0) != 0 ||
      ::renameat(*parent, part.c_str(), *parent, name.c_str()) != 0)
    return fail(error_at(errno, "writing", path));
  return {};
}

Result<void> CopyTarget::make_link(const std::string& path, const CopyEntry& entry, const CopyEntry* expected) {
  std::string name;
  const std::string part = base_of(part_name(path, entry));
  const Result<int> parent = parent_of(path, name);
  if (!parent) return fail(parent.error());
  if (Result<void> checked = check(*parent, name, expected); !checked) return checked;
  ::unlinkat(*parent, part.c_str(), 0);
  const auto times = times_of(entry.mtime);
  if (::symlinkat(entry.target.c_str(), *parent, part.c_str()) != 0 ||
      ::utimensat(*parent, part.c_str(), times.data(), AT_SYMLINK_NOFOLLOW) != 0 ||
      ::renameat(*parent, part.c_str(), *parent, name.c_str()) != 0)
    return fail(error_at(errno, "making the symlink", path));
  return {};
}

Result<void> CopyTarget::set_time(const std::string& path, std::int64_t mtime) {
  std::string name;
  const Result<int> parent = parent_of(path, name);
  if (!parent) return fail(parent.error());
  const auto times = times_of(mtime);
  if (::utimensat(*parent, name.c_str(), times.data(), AT_SYMLINK_NOFOLLOW) != 0) return fail(error_at(errno, "setting the time of", path));
  return {};
}

Result<void> CopyTarget::set_mode(const std::string& path, unsigned mode) {
  std::string name;
  const Result<int> parent = parent_of(path, name);
  if (!parent) return fail(parent.error());
  struct stat info {};
  if (::fstatat(*parent, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return fail(error_at(errno, "setting the mode of", path));
  if (!S_ISREG(info.st_mode)) return fail(ErrorCode::unsafe, shown_path(path) + " is no file any more");
  if (::fchmodat(*parent, name.c_str(), mode & 0777U, AT_SYMLINK_NOFOLLOW) != 0) return fail(error_at(errno, "setting the mode of", path));
  return {};
}

}  // namespace gpustrap
