#pragma once

#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/zip_stream.h"

namespace gpustrap {

/// Unpacks a zip or tar (gz, bz2, xz, zst or plain, told by content) into the existing directory `request.to`, which should be
/// empty and the caller's own: a staging directory. Returns every file, directory and link made, with paths relative to it.
///
/// Nothing is ever written outside. The archive is refused (unsafe), whatever was unpacked so far left for the caller to remove:
/// - absolute names and `..`; names that lead through a link, or through a file;
/// - symbolic links that are absolute, climb out of the root, or have `..` behind a name (what that means depends on other links);
/// - hard links to anything but a file unpacked before; devices, fifos, sockets;
/// - one name twice with different content. Identical repetitions are one entry: with differing ones, whether the first or the
///   last counts differs from tool to tool, and that difference is how a checked archive hides another.
/// - more than `max_size` bytes (0: no limit), `max_entries` or `max_name_bytes`, or far more than its size can honestly hold;
/// - names of parts longer than a file system takes, or more folders deep than anything honest is.
/// Set-user-id, set-group-id and sticky bits are dropped and the umask applies; owners are the caller's; times are kept.
/// A name that is not UTF-8 is kept byte for byte; one that cannot be read at all is an error.
/// Also errors: io (a truncated end, a bad checksum), unsupported (no such archive, an encrypted one), no_space.
[[nodiscard]] Result<std::vector<UnpackedEntry>> unpack_archive(const UnpackRequest& request, StepLog& log);
/// The same for a zip of which `ahead` has inflated what came; that is moved into place.
[[nodiscard]] Result<std::vector<UnpackedEntry>> unpack_zip(const UnpackRequest& request, StepLog& log, ZipStream& ahead);
/// The same for a tar that is still coming: `source` brings it, `request.archive` serves for messages. Reads `source` to its end.
[[nodiscard]] Result<std::vector<UnpackedEntry>> unpack_stream(const UnpackRequest& request, StepLog& log, const ByteSource& source);

}  // namespace gpustrap
