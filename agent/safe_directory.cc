#include "agent/safe_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

/// As many as the kernel follows in one path.
constexpr int kMostLinks = 40;

/// In a directory that others may write to, only a link of root's counts, and where everybody may write it must not be movable.
bool only_root_can_place(const struct stat& link, const struct stat& directory) {
  if (directory.st_uid != 0) return false;
  if (link.st_uid != 0) return (directory.st_mode & 0022U) == 0;
  return (directory.st_mode & 0002U) == 0 || (directory.st_mode & S_ISVTX) != 0;
}

Result<std::string> target_of(int link, const std::string& path) {
  std::string target(4096, '\0');
  const ssize_t length = ::readlinkat(link, "", target.data(), target.size());
  if (length < 0) return fail(errno_error(errno, "reading a link of " + path));
  target.resize(static_cast<std::size_t>(length));
  return target;
}

}  // namespace

Result<UniqueFd> open_directory(const std::string& path, MissingParents missing) {
  const std::string doing = "opening " + path;
  UniqueFd at(::open(path.starts_with('/') ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!at.valid()) return fail(errno_error(errno, doing));
  std::vector<std::string> rest = split(path, '/');
  std::reverse(rest.begin(), rest.end());
  for (int links = 0; !rest.empty();) {
    const std::string part = rest.back();
    rest.pop_back();
    if (part.empty() || part == ".") continue;
    UniqueFd next(::openat(at.get(), part.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!next.valid() && errno == ENOENT && missing == MissingParents::make) {
      if (::mkdirat(at.get(), part.c_str(), 0755) != 0 && errno != EEXIST) return fail(errno_error(errno, "making " + path));
      next.reset(::openat(at.get(), part.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    }
    if (!next.valid()) return fail(errno_error(errno, doing));
    struct stat info {};
    if (::fstat(next.get(), &info) != 0) return fail(errno_error(errno, doing));
    if (S_ISDIR(info.st_mode)) {
      at = std::move(next);
      continue;
    }
    if (!S_ISLNK(info.st_mode)) return fail(Error(ErrorCode::not_found, fmt::format("`{}` on the way is not a directory", part)).in(doing));
    struct stat directory {};
    if (::fstat(at.get(), &directory) != 0) return fail(errno_error(errno, doing));
    if (::geteuid() == 0 && !only_root_can_place(info, directory)) {
      return fail(Error(ErrorCode::unsafe,
                        fmt::format("`{}` on the way is a symbolic link that a user could have put there to lead root elsewhere", part),
                        "run the step with `as: login`, or name the real path")
                      .in(doing));
    }
    if (++links > kMostLinks) return fail(errno_error(ELOOP, doing));
    Result<std::string> target = target_of(next.get(), path);
    if (!target) return fail(std::move(target).error());
    if (target->starts_with('/')) at.reset(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!at.valid()) return fail(errno_error(errno, doing));
    const std::vector<std::string> parts = split(*target, '/');
    rest.insert(rest.end(), parts.rbegin(), parts.rend());
  }
  return at;
}

}  // namespace gpustrap
