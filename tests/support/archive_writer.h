#pragma once

#include <string>
#include <vector>

namespace gpustrap {

struct PackedEntry {
  enum class Kind { file, directory, symlink, hard_link, fifo, device } kind = Kind::file;
  std::string name;
  std::string content;  ///< or the target of a link
  unsigned mode = 0644;
};

enum class Packing { zip, encrypted_zip, tar, tar_gz, tar_bz2, tar_xz, tar_zst, gnu_tar, tar_gz_gz };

/// Bytes of an archive with exactly these entries, hostile ones included. Names are bytes; `zip` marks them as UTF-8.
[[nodiscard]] std::string pack(Packing packing, const std::vector<PackedEntry>& entries);

}  // namespace gpustrap
