#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/host.h"

namespace gpustrap {

/// A name as an archive gives it, made relative and plain ("./a//b/" is "a/b"), without its first `strip` folders. nullopt where
/// nothing is left. Error unsafe for absolute names, "..", names longer than a path can be and parts longer than a name, and for
/// more than 256 folders.
[[nodiscard]] Result<std::optional<std::string>> safe_entry_name(std::string_view raw, unsigned strip);

/// Whether a symbolic link at `path` (relative to the root) may have `target`: relative, climbing only at its beginning and no
/// higher than the root. A `..` behind a name is refused too: were that name a link, it would climb from somewhere else.
[[nodiscard]] Result<void> check_link_target(const std::string& path, std::string_view target);

/// A name for messages: UTF-8, without control characters.
[[nodiscard]] std::string shown_name(std::string_view name);

/// A directory that is filled from an archive: everything is made beneath its descriptor, no link is ever followed, nothing that
/// stands is replaced.
class UnpackTree {
 public:
  /// Error unsafe where `root` belongs to another user, who could change what is unpacked there under our hands.
  [[nodiscard]] static Result<UnpackTree> open(const std::string& root);

  /// Makes it and its parents; again with another mode is fine.
  Result<void> add_directory(const std::string& path, unsigned mode);
  /// A new empty file to write to; no descriptor where the archive had that file before (then end_file() compares).
  Result<UniqueFd> begin_file(const std::string& path, unsigned mode);
  /// Instead: the new file is `name` of the directory `from`, which moves. No descriptor where that cannot be: the archive had that file
  /// before, or the file system moves nothing without replacing what may be there.
  UniqueFd take_file(const std::string& path, unsigned mode, int from, const std::string& name);
  /// Instead of writing to it: the new file becomes `name` of the directory `from`. False where that cannot be; it is then written to.
  bool take_content(const std::string& path, UniqueFd& file, int from, const std::string& name);
  Result<void> end_file(const std::string& path, std::uint64_t size, const std::string& sha256);
  Result<void> add_symlink(const std::string& path, const std::string& target);
  /// A second name for a file that was unpacked before.
  Result<void> add_hard_link(const std::string& path, const std::string& target);

  /// Everything on the disk, not only in memory.
  Result<void> sync();
  [[nodiscard]] std::uint64_t free_bytes() const;
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] std::size_t name_bytes() const { return name_bytes_; }  ///< of all names and link targets together
  /// What was made, in order.
  [[nodiscard]] std::vector<UnpackedEntry> take_entries() { return std::move(entries_); }
  /// errno_error with what to do, and with the free bytes where the disk is full.
  [[nodiscard]] Error system_error(int error_number, const std::string& doing) const;

 private:
  UnpackTree(std::string root, UniqueFd fd) : root_(std::move(root)), root_fd_(std::move(fd)) {}
  /// Descriptor of the directory that holds `path`, made where missing. Valid until the next call.
  Result<int> parent_fd(const std::string& path);
  Result<int> open_directory(const std::string& path);
  [[nodiscard]] const UnpackedEntry* find(const std::string& path) const;
  void remember(UnpackedEntry entry);
  [[nodiscard]] Error twice(const std::string& path) const;

  std::string root_;
  UniqueFd root_fd_;
  std::string open_path_;  ///< the directory that open_fd_ is of; archives list files of one directory together
  UniqueFd open_fd_;
  std::vector<UnpackedEntry> entries_;
  std::size_t name_bytes_ = 0;
  std::unordered_map<std::string, std::size_t> index_;
};

}  // namespace gpustrap
