#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

// What `pull` and `push` do with each file. Nothing here touches a disk.

/// One name below the folder that is copied. Times are whole seconds: that is what tar carries everywhere.
struct CopyEntry {
  enum class Type { file, folder, link, other } type = Type::file;
  std::uint64_t size = 0;
  std::int64_t mtime = 0;
  unsigned mode = 0644;  ///< rwx for user, group and others
  std::string target;    ///< of a link
};
/// By path relative to the folder, "a/b".
using CopyTree = std::map<std::string, CopyEntry>;

/// What both sides had of a file when they were last the same.
struct CopyMark {
  std::uint64_t size = 0;
  std::int64_t mtime = 0;
};
using CopyMarks = std::map<std::string, CopyMark>;

struct CopyRules {
  bool overwrite = false;  ///< also what is newer at the target, or was changed on both sides
  bool checksum = false;   ///< files of one size are compared by content, whatever their times say
};

/// Whether two files of one size hold the same.
enum class Content { unknown, equal, different };

struct CopyDecision {
  enum class Act {
    copy,
    same,
    compare,  ///< only their contents tell
    keep,     ///< what is at the target stays, and `why` says so
    skip,     ///< neither file, folder nor link
  } act = Act::same;
  std::string why{};
};
/// `target`, `mark`: null where there is none.
[[nodiscard]] CopyDecision decide(const CopyEntry& source, const CopyEntry* target, const CopyMark* mark, const CopyRules& rules,
                                  Content content = Content::unknown);

/// Whether a host's word may be a path below a folder: relative, plain, without "." and "..", and no longer than a path can be.
[[nodiscard]] bool is_path_below(std::string_view path);
/// For messages: UTF-8, one line, nothing that a terminal obeys.
[[nodiscard]] std::string shown_path(std::string_view path);

/// What a file is called while it comes: in its own folder, and another name for another version of it, so that what came of one is never
/// gone on with for another.
[[nodiscard]] std::string part_name(std::string_view path, const CopyEntry& entry);
/// Whether a file is called as only gpustrap calls them: those are not copied.
[[nodiscard]] bool is_part(std::string_view path);

/// Remembers marks below the state folder, for one pair of folders.
class CopyMemory {
 public:
  /// Error io for a file that cannot be read; nothing is remembered where there is none.
  [[nodiscard]] static Result<CopyMemory> load(const std::string& state, const std::string& host, const std::string& there,
                                               const std::string& here);
  [[nodiscard]] const CopyMark* find(const std::string& path) const;
  void note(const std::string& path, const CopyEntry& entry) { marks_[path] = {entry.size, entry.mtime}; }
  /// Parts that a push has begun there: what it leaves of a file is cleared away once that is another file.
  [[nodiscard]] std::vector<std::string> parts() const { return {parts_.begin(), parts_.end()}; }
  void note_part(const std::string& part) { parts_.insert(part); }
  void forget_part(const std::string& part) { parts_.erase(part); }
  [[nodiscard]] Result<void> save() const;

 private:
  std::string path_;
  CopyMarks marks_;
  std::set<std::string> parts_;
};

}  // namespace gpustrap
