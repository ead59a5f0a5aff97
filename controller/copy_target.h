#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "controller/copy_plan.h"

namespace gpustrap {

/// A folder here that is filled from a host. Everything is done below its descriptor and through no link: whatever stands there, nothing is
/// written outside of it. Paths are is_path_below().
class CopyTarget {
 public:
  /// Makes it where it is missing.
  [[nodiscard]] static Result<CopyTarget> open(const std::string& path);

  [[nodiscard]] Result<void> make_folder(const std::string& path, unsigned mode);
  /// The part file of an entry, at its end; `size`: what is there already.
  [[nodiscard]] Result<UniqueFd> open_part(const std::string& path, const CopyEntry& entry, std::uint64_t& size);
  /// What is there already, for a digest of the whole.
  [[nodiscard]] Result<UniqueFd> read_part(const std::string& path, const CopyEntry& entry);
  void drop_part(const std::string& path, const CopyEntry& entry);
  void drop(const std::string& path);
  /// Gives the part its mode, time and name. `expected`: what stood at that name when it was decided, null: nothing. Error busy where
  /// something else does now.
  [[nodiscard]] Result<void> finish(const std::string& path, const CopyEntry& entry, const CopyEntry* expected);
  [[nodiscard]] Result<void> make_link(const std::string& path, const CopyEntry& entry, const CopyEntry* expected);
  [[nodiscard]] Result<void> set_time(const std::string& path, std::int64_t mtime);
  /// Of a file; nothing else is touched.
  [[nodiscard]] Result<void> set_mode(const std::string& path, unsigned mode);

 private:
  explicit CopyTarget(UniqueFd root) : root_(std::move(root)) {}
  /// Of the folder that holds `path`, valid until the next call.
  Result<int> parent_of(const std::string& path, std::string& name);
  [[nodiscard]] Result<void> check(int parent, const std::string& name, const CopyEntry* expected) const;

  UniqueFd root_;
  std::string open_path_;
  UniqueFd open_fd_;
};

}  // namespace gpustrap
