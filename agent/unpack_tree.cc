#include "agent/unpack_tree.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/safe_directory.h"

namespace gpustrap {
namespace {

/// PATH_MAX; nothing longer can be opened by its name afterwards.
constexpr std::size_t kMaxName = 4096;
/// NAME_MAX of every usual file system.
constexpr std::size_t kMaxPart = 255;
/// What is honest has a tenth of it. Removing a tree takes two descriptors for each folder on the way down, of 1024.
constexpr std::size_t kMaxDepth = 256;
const char* const kUnsafeHint = "do not use this archive, or have it packed again without such names";

std::vector<std::string> parts_of(std::string_view path) {
  std::vector<std::string> parts;
  for (std::string& part : split(path, '/')) {
    if (!part.empty() && part != ".") parts.push_back(std::move(part));
  }
  return parts;
}

mode_t current_umask() {
  const mode_t mask = ::umask(022);
  ::umask(mask);
  return mask;
}

}  // namespace

std::string shown_name(std::string_view name) {
  std::string shown = strip_control(to_utf8(name));
  shown.erase(std::remove(shown.begin(), shown.end(), '\n'), shown.end());
  return shown.size() > 200 ? first_line(shown, 200) : shown;
}

Result<std::optional<std::string>> safe_entry_name(std::string_view raw, unsigned strip) {
  if (raw.size() >= kMaxName) {
    return fail(ErrorCode::unsafe, fmt::format("it has a name of {} bytes: {}", raw.size(), shown_name(raw)), kUnsafeHint);
  }
  if (raw.starts_with('/')) return fail(ErrorCode::unsafe, fmt::format("it has an absolute name: {}", shown_name(raw)), kUnsafeHint);
  const std::vector<std::string> parts = parts_of(raw);
  if (std::find(parts.begin(), parts.end(), "..") != parts.end()) {
    return fail(ErrorCode::unsafe, fmt::format("it has a name with `..`: {}", shown_name(raw)), kUnsafeHint);
  }
  if (parts.size() > kMaxDepth) {
    return fail(ErrorCode::unsafe, fmt::format("it has a name {} folders deep: {}", parts.size() - 1, shown_name(raw)), kUnsafeHint);
  }
  const auto longest = std::find_if(parts.begin(), parts.end(), [](const std::string& part) { return part.size() > kMaxPart; });
  if (longest != parts.end()) {
    return fail(ErrorCode::unsafe,
                fmt::format("it has a name with a part of {} bytes, {} are possible: {}", longest->size(), kMaxPart, shown_name(raw)),
                kUnsafeHint);
  }
  if (parts.size() <= strip) return std::optional<std::string>();
  return std::optional<std::string>(join({parts.begin() + strip, parts.end()}, "/"));
}

Result<void> check_link_target(const std::string& path, std::string_view target) {
  const auto refuse = [&](std::string_view why) {
    return fail(ErrorCode::unsafe, fmt::format("its link {} -> {} {}", shown_name(path), shown_name(target), why), kUnsafeHint);
  };
  if (target.empty() || target.size() >= kMaxName) return refuse("has no usable target");
  if (target.starts_with('/')) return refuse("is absolute");
  const std::size_t depth = parts_of(path).size() - 1;
  const std::vector<std::string> parts = parts_of(target);
  const auto first_name = std::find_if(parts.begin(), parts.end(), [](const std::string& part) { return part != ".."; });
  if (static_cast<std::size_t>(first_name - parts.begin()) > depth) return refuse("leaves the folder");
  if (std::find(first_name, parts.end(), "..") != parts.end()) return refuse("has `..` behind a name");
  return {};
}

Result<UnpackTree> UnpackTree::open(const std::string& root) {
  const Result<UniqueFd> found = gpustrap::open_directory(root);
  if (!found) return fail(found.error());
  UniqueFd fd(::openat(found->get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat info {};
  if (!fd.valid() || ::fstat(fd.get(), &info) != 0) return fail(errno_error(errno, "opening " + root));
  if (info.st_uid != ::geteuid()) {
    return fail(ErrorCode::unsafe, fmt::format("{} belongs to uid {}, not to who unpacks (uid {})", root, info.st_uid, ::geteuid()),
                "run the step again; if this comes back, see who changes that folder");
  }
  return UnpackTree(root, std::move(fd));
}

const UnpackedEntry* UnpackTree::find(const std::string& path) const {
  const auto found = index_.find(path);
  return found == index_.end() ? nullptr : &entries_[found->second];
}

void UnpackTree::remember(UnpackedEntry entry) {
  name_bytes_ += entry.path.size() + entry.target.size();
  index_.emplace(entry.path, entries_.size());
  entries_.push_back(std::move(entry));
}

Error UnpackTree::twice(const std::string& path) const {
  return {ErrorCode::unsafe, fmt::format("it holds {} twice, and the two differ", shown_name(path)),
          "which one is meant cannot be told: have the archive packed again"};
}

std::uint64_t UnpackTree::free_bytes() const {
  struct statvfs room {};
  if (::fstatvfs(root_fd_.get(), &room) != 0) return 0;
  return static_cast<std::uint64_t>(::geteuid() == 0 ? room.f_bfree : room.f_bavail) * room.f_frsize;
}

Error UnpackTree::system_error(int error_number, const std::string& doing) const {
  Error error = errno_error(error_number, doing);
  if (error.code() != ErrorCode::no_space)
    return std::move(error).with_hint("check that " + root_ + " can be written to (`dmesg` tells of a failing disk), and run again");
  struct statvfs room {};
  std::string why = fmt::format("No space left: {} free in {}", human_bytes(free_bytes()), root_);
  if (::fstatvfs(root_fd_.get(), &room) == 0 && room.f_files > 0 && room.f_favail == 0)
    why = "No space left: the file system of " + root_ + " has no inodes";
  return Error(ErrorCode::no_space, std::move(why), "free some space there, or enlarge the disk, and run again").in(doing);
}

Result<int> UnpackTree::open_directory(const std::string& path) {
  if (path.empty()) return root_fd_.get();
  if (open_fd_.valid() && path == open_path_) return open_fd_.get();
  UniqueFd current;
  std::string so_far;
  for (const std::string& part : parts_of(path)) {
    const int above = current.valid() ? current.get() : root_fd_.get();
    so_far += so_far.empty() ? part : "/" + part;
    constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    UniqueFd next(::openat(above, part.c_str(), kFlags));
    if (!next.valid() && errno == ENOENT) {
      if (::mkdirat(above, part.c_str(), 0777) != 0) return fail(system_error(errno, "making " + shown_name(so_far)));
      remember({.path = so_far, .type = FileType::directory, .mode = 0755});
      next.reset(::openat(above, part.c_str(), kFlags));
    }
    if (!next.valid() && (errno == ELOOP || errno == ENOTDIR)) {
      return fail(ErrorCode::unsafe, fmt::format("it has names that lead through {}, which is not a folder", shown_name(so_far)),
                  kUnsafeHint);
    }
    if (!next.valid()) return fail(system_error(errno, "opening " + shown_name(so_far)));
    current = std::move(next);
  }
  open_fd_ = std::move(current);
  open_path_ = path;
  return open_fd_.get();
}

Result<int> UnpackTree::parent_fd(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return open_directory(slash == std::string::npos ? std::string() : path.substr(0, slash));
}

namespace {
std::string last_part(const std::string& path) { return path.substr(path.rfind('/') + 1); }
/// Archives without modes say 0. A file that its owner cannot read helps nobody.
unsigned kept_mode(unsigned mode) { return (mode & 0777U) == 0 ? 0644U : (mode & 0777U) | 0400U; }
}  // namespace

Result<void> UnpackTree::add_directory(const std::string& path, unsigned mode) {
  if (const UnpackedEntry* known = find(path); known != nullptr && known->type != FileType::directory) return fail(twice(path));
  Result<int> fd = open_directory(path);
  if (!fd) return fail(std::move(fd).error());
  // Its owner has to get in, to unpack into it and to remove it again.
  const unsigned kept = (mode & 0777U) | 0700U;
  if (::fchmod(*fd, kept & ~current_umask()) != 0) return fail(system_error(errno, "setting the mode of " + shown_name(path)));
  if (const auto found = index_.find(path); found != index_.end()) entries_[found->second].mode = kept;
  return {};
}

Result<UniqueFd> UnpackTree::begin_file(const std::string& path, unsigned mode) {
  if (const UnpackedEntry* known = find(path)) {
    if (known->type != FileType::regular) return fail(twice(path));
    return UniqueFd();
  }
  const Result<int> parent = parent_fd(path);
  if (!parent) return fail(parent.error());
  const unsigned kept = kept_mode(mode);
  UniqueFd file(::openat(*parent, last_part(path).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kept));
  if (!file.valid()) return fail(system_error(errno, "making " + shown_name(path)));
  remember({.path = path, .type = FileType::regular, .mode = kept});
  return file;
}

UniqueFd UnpackTree::take_file(const std::string& path, unsigned mode, int from, const std::string& name) {
  if (find(path) != nullptr) return {};
  const Result<int> parent = parent_fd(path);
  UniqueFd content(::openat(from, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  const unsigned kept = kept_mode(mode);
  if (!parent || !content.valid() || ::fchmod(content.get(), kept & ~current_umask()) != 0) return {};
  if (::renameat2(from, name.c_str(), *parent, last_part(path).c_str(), RENAME_NOREPLACE) != 0) return {};
  remember({.path = path, .type = FileType::regular, .mode = kept});
  return content;
}

bool UnpackTree::take_content(const std::string& path, UniqueFd& file, int from, const std::string& name) {
  const Result<int> parent = parent_fd(path);
  struct stat made {};
  if (!parent || ::fstat(file.get(), &made) != 0) return false;
  UniqueFd content(::openat(from, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!content.valid() || ::fchmod(content.get(), made.st_mode & 0777U) != 0) return false;
  if (::renameat(from, name.c_str(), *parent, last_part(path).c_str()) != 0) return false;
  file = std::move(content);
  return true;
}

Result<void> UnpackTree::end_file(const std::string& path, std::uint64_t size, const std::string& sha256) {
  UnpackedEntry& entry = entries_[index_.at(path)];
  if (entry.sha256.empty()) {
    entry.size = size;
    entry.sha256 = sha256;
  } else if (entry.sha256 != sha256) {
    return fail(twice(path));
  }
  return {};
}

Result<void> UnpackTree::add_symlink(const std::string& path, const std::string& target) {
  if (Result<void> checked = check_link_target(path, target); !checked) return checked;
  if (const UnpackedEntry* known = find(path)) {
    if (known->type == FileType::symlink && known->target == target) return {};
    return fail(twice(path));
  }
  const Result<int> parent = parent_fd(path);
  if (!parent) return fail(parent.error());
  if (::symlinkat(target.c_str(), *parent, last_part(path).c_str()) != 0) return fail(system_error(errno, "making " + shown_name(path)));
  remember({.path = path, .type = FileType::symlink, .mode = 0777, .target = target});
  return {};
}

Result<void> UnpackTree::add_hard_link(const std::string& path, const std::string& target) {
  const UnpackedEntry* linked = find(target);
  if (linked == nullptr || linked->type != FileType::regular) {
    return fail(ErrorCode::unsafe,
                fmt::format("its hard link {} is to {}, which is no file of the archive before it", shown_name(path), shown_name(target)),
                kUnsafeHint);
  }
  if (const UnpackedEntry* known = find(path)) {
    if (known->type == FileType::regular && known->sha256 == linked->sha256) return {};
    return fail(twice(path));
  }
  UnpackedEntry entry = *linked;
  entry.path = path;
  // open_directory() keeps one descriptor, so the first of the two is held here.
  const Result<int> target_parent = parent_fd(target);
  if (!target_parent) return fail(target_parent.error());
  const UniqueFd held(::fcntl(*target_parent, F_DUPFD_CLOEXEC, 0));
  const Result<int> parent = parent_fd(path);
  if (!parent) return fail(parent.error());
  if (::linkat(held.get(), last_part(target).c_str(), *parent, last_part(path).c_str(), 0) != 0) {
    return fail(system_error(errno, "linking " + shown_name(path)));
  }
  remember(std::move(entry));
  return {};
}

Result<void> UnpackTree::sync() {
  if (::syncfs(root_fd_.get()) != 0) return fail(system_error(errno, "syncing " + root_));
  return {};
}

}  // namespace gpustrap
