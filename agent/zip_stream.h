#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace gpustrap {

/// Bytes of a file that is still coming: the next ones, as many as there are; empty at its end. Waits for them.
using ByteSource = std::function<Result<std::string_view>()>;

/// Inflates the members of a zip while it arrives. What a zip holds is said by the directory at its end alone, so this decides nothing: it
/// lays the contents aside, and whoever reads the directory later finds there what need not be inflated again. Anything unusual ends it
/// early, and the rest is read in the usual way.
class ZipStream {
 public:
  struct Member {
    std::uint64_t size = 0;
    std::string sha256;
    std::string name;  ///< of its file in the folder
  };

  /// Contents go to the empty directory `folder`. No more than `max_size` bytes of them (0: no limit), and none that would fill the disk.
  ZipStream(UniqueFd folder, std::uint64_t max_size) : folder_(std::move(folder)), max_size_(max_size) {}

  /// Reads `source` to its end. An error is the source's own.
  [[nodiscard]] Result<void> read(const ByteSource& source);
  /// After read(): reads the directory of the whole zip; false where there is none that it understands, and find() then finds nothing.
  bool read_directory(int zip);
  /// The content of the member that the directory calls `name`, `size` bytes of it, once, with the same checksum as was inflated.
  [[nodiscard]] std::optional<Member> find(const std::string& name, std::uint64_t size) const;
  [[nodiscard]] int folder() const { return folder_.get(); }

 private:
  struct Stored {
    std::string name;
    std::uint32_t crc = 0;
    Member member;
  };
  struct Listed {
    std::uint64_t offset = 0, size = 0;
    std::uint32_t crc = 0;
    bool once = true;
  };
  class Input;
  /// One local header and its data; false where this is to end.
  Result<bool> read_member(Input& input);
  Result<bool> inflate_member(Input& input, bool deflated, std::uint64_t packed, bool open_end, Stored& stored);

  UniqueFd folder_;
  std::uint64_t max_size_, written_ = 0;
  std::map<std::uint64_t, Stored> stored_;  ///< by the place of their local headers
  std::map<std::string, Listed> listed_;
};

}  // namespace gpustrap
