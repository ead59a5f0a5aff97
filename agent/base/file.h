#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace gpustrap {

/// The whole content; an error where it is longer than `limit` bytes.
[[nodiscard]] Result<std::string> read_file(const std::string& path, std::size_t limit = 16U << 20U);
/// Everything that can be read from `fd` until its end, at most `limit` bytes.
[[nodiscard]] Result<std::string> read_all(int fd, std::size_t limit = 16U << 20U);
/// Writes all of `bytes`, through short writes and EINTR.
[[nodiscard]] Result<void> write_all(int fd, std::string_view bytes);
/// Temporary file beside `path`, fsync, rename: a reader sees the old or the new content, never a part.
[[nodiscard]] Result<void> write_file_atomically(const std::string& path, std::string_view content, mode_t mode = 0644);
/// `path` and its missing parents, each with `mode`.
[[nodiscard]] Result<void> make_directories(const std::string& path, mode_t mode = 0755);
[[nodiscard]] bool path_exists(const std::string& path);
/// Everything before the last '/', "/" for a name at the root, "." for a bare name.
[[nodiscard]] std::string parent_of(std::string_view path);
/// Removes `name` in `directory` (AT_FDCWD for a whole path) and everything under it, following no link. Success where nothing is there.
[[nodiscard]] Result<void> remove_tree_at(int directory, const std::string& name);

/// A pipe with close-on-exec on both ends.
struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};
[[nodiscard]] Result<Pipe> make_pipe();
[[nodiscard]] Result<void> set_nonblocking(int fd);

}  // namespace gpustrap
