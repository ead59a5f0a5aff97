#include "agent/base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include <fmt/format.h>

namespace gpustrap {

Result<std::string> read_all(int fd, std::size_t limit) {
  std::string content;
  std::array<char, 64 * 1024> buffer{};
  while (true) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(errno_error(errno, ""));
    if (got == 0) return content;
    if (content.size() + static_cast<std::size_t>(got) > limit) {
      return fail(ErrorCode::io, fmt::format("it is longer than {} bytes", limit), "is it the right file?");
    }
    content.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

Result<std::string> read_file(const std::string& path, std::size_t limit) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return fail(errno_error(errno, "reading " + path));
  Result<std::string> content = read_all(file.get(), limit);
  if (!content) return fail(std::move(content).error().in("reading " + path));
  return content;
}

Result<void> write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return fail(errno_error(errno, ""));
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

Result<void> write_file_atomically(const std::string& path, std::string_view content, mode_t mode) {
  std::string temporary = path + ".XXXXXX";
  UniqueFd file(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!file.valid()) return fail(errno_error(errno, "writing " + path));
  const auto abandon = [&](Error error) {
    ::unlink(temporary.c_str());
    return fail(std::move(error).in("writing " + path));
  };
  if (Result<void> wrote = write_all(file.get(), content); !wrote) return abandon(std::move(wrote).error());
  if (::fchmod(file.get(), mode) != 0 || ::fsync(file.get()) != 0) return abandon(errno_error(errno, ""));
  if (::rename(temporary.c_str(), path.c_str()) != 0) return abandon(errno_error(errno, ""));
  return {};
}

Result<void> make_directories(const std::string& path, mode_t mode) {
  if (path.empty() || path == "/") return {};
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) return {};
    return fail(Error(ErrorCode::io, "it exists and is not a directory", "move it away, or choose another path").in("making " + path));
  }
  if (Result<void> parent = make_directories(parent_of(path), mode); !parent) return parent;
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) return fail(errno_error(errno, "making " + path));
  return {};
}

bool path_exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

std::string parent_of(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return slash == 0 ? "/" : std::string(path.substr(0, slash));
}

Result<void> remove_tree_at(int directory, const std::string& name) {
  if (::unlinkat(directory, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR && errno != EPERM) return fail(errno_error(errno, "removing " + name));
  const UniqueFd folder(::openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder.valid()) return fail(errno_error(errno, "removing " + name));
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::fdopendir(::dup(folder.get())), ::closedir);
  if (!entries) return fail(errno_error(errno, "removing " + name));
  while (const dirent* entry = ::readdir(entries.get())) {
    const std::string child = entry->d_name;
    if (child == "." || child == "..") continue;
    if (Result<void> removed = remove_tree_at(folder.get(), child); !removed) return removed;
  }
  if (::unlinkat(directory, name.c_str(), AT_REMOVEDIR) != 0) return fail(errno_error(errno, "removing " + name));
  return {};
}

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail(errno_error(errno, "making a pipe"));
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Result<void> set_nonblocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return fail(errno_error(errno, "fcntl"));
  return {};
}

}  // namespace gpustrap
