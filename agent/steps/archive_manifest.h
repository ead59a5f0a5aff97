#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"

namespace gpustrap {

/// One name that an archive put into a folder.
struct ManifestEntry {
  std::string path;  ///< relative to the folder; bytes
  FileType type = FileType::regular;
  std::string content;  ///< sha256 of the packed file, or the target of a link
  /// Of the file in the folder when it was put there or found to be the same; a file with others has to be hashed to be known.
  std::uint64_t size = 0;
  std::int64_t mtime_s = 0;
};

/// What was unpacked into a folder from one archive: how a later run tells the user's work from the archive's.
struct ArchiveManifest {
  std::string id;      ///< its name in the state folder
  std::string folder;  ///< where to
  std::string source;  ///< as shown: no password, no query
  std::string sha256;  ///< of the archive
  std::vector<ManifestEntry> entries;
  /// Of an archive that lies on the host: another one may come to lie there. 0 and 0: it was fetched.
  std::uint64_t source_size = 0;
  std::int64_t source_mtime_s = 0;
};

/// Id of the manifest of one archive (URL or path, digest or "", strip) in one folder. All of one folder begin alike.
[[nodiscard]] std::string manifest_id(const std::string& folder, const std::string& source, const std::string& sha256, std::int64_t strip);

/// nullopt where there is none. A manifest that cannot be understood is none either: then nothing counts as the archive's, and
/// everything in the folder is kept.
[[nodiscard]] Result<std::optional<ArchiveManifest>> read_manifest(const Host& host, const std::string& id);
/// All manifests of the folder, whatever the archive.
[[nodiscard]] Result<std::vector<ArchiveManifest>> manifests_of_folder(const Host& host, const std::string& folder);
/// How many entries one file of a manifest takes: a line has about 200 bytes, and a host reads files of at most 64 MiB.
constexpr std::size_t kPieceEntries = 100'000;
[[nodiscard]] Result<void> write_manifest(Host& host, const ArchiveManifest& manifest, std::size_t piece_entries = kPieceEntries);
[[nodiscard]] Result<void> remove_manifest(Host& host, const std::string& id);

}  // namespace gpustrap
