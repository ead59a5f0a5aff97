#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"

namespace gpustrap {

struct SharedFiles;
class TransferChild;

/// How to fetch. The times are options so that tests can shorten them.
struct FetchOptions {
  /// http_proxy, https_proxy, all_proxy, no_proxy of the login, in either case. The process's own environment is not asked.
  std::vector<std::pair<std::string, std::string>> proxy;
  /// CA bundle to use; empty: the host's own, found by find_ca_bundle().
  std::string ca_file;
  std::chrono::milliseconds connect_timeout{20'000};  ///< name look-up, connection and TLS together
  std::chrono::milliseconds stall{30'000};            ///< no byte for this long: the attempt is given up
  int attempts = 5;                                   ///< for each URL; only transient failures use more than one
  std::chrono::milliseconds first_pause{1'000};       ///< before the second attempt; doubles up to 30 s
  const SharedFiles* shared = nullptr;                ///< another host may have what has a digest, or want it from here
  TransferChild* transfers = nullptr;                 ///< for what has a digest, one after the other; else each file has its own
  std::uint64_t keep_free = 0;                        ///< bytes of the disk: what would leave less is given up (no_space)
};

/// Fetches the first URL that works into `request.to` and returns what arrived.
///
/// The network side runs in a child of its own, or in options.transfers (as uid 65534 where the caller is root), which holds nothing but a
/// pipe; this process writes `to.gpustrap-part`, hashes the very bytes it writes, compares, syncs and renames. A cut transfer goes on where
/// it stopped, in this call or the next, as long as the server says the file is still the same or a digest will tell.
///
/// Errors: digest (the part is removed), no_space (the part is removed, the free bytes are named), tls, not_found, unreachable,
/// network, timeout, busy (another process fetches into the same file), unsafe (a redirect from https to http).
[[nodiscard]] Result<FetchResult> fetch_file(const FetchRequest& request, const FetchOptions& options, StepLog& log);

/// Makes the local file `from`, which is the caller's own, what `request.to` asks for, as if it had just been fetched: hashed, compared,
/// synced and renamed; copied only where it lies on another file system. `from` is gone afterwards, however it ends.
/// Errors: digest, not_found, no_space, io, unsafe.
[[nodiscard]] Result<FetchResult> adopt_file(const std::string& from, const FetchRequest& request, StepLog& log);

/// Where fetch_file() keeps what has come so far of the file `to`.
[[nodiscard]] std::string part_of(const std::string& to);
/// What it notes beside that, to go on with it later.
[[nodiscard]] std::string notes_of_part(const std::string& to);
/// How much of `to` has come, and its size (0: unknown); nullopt while nothing has.
[[nodiscard]] std::optional<std::pair<std::uint64_t, std::uint64_t>> progress_of_part(const std::string& to);

/// What fetches into `folder` left that were cut, and that nobody has gone on with for a week: most have another address by now.
[[nodiscard]] std::vector<std::string> old_parts(const std::string& folder);
void remove_old_parts(const std::string& folder);

/// The certificate authorities for these options, as PEM text; or why there are none, which matters only to https.
[[nodiscard]] Result<std::string> read_authorities(const FetchOptions& options);
/// The file with the host's certificate authorities: SSL_CERT_FILE, CURL_CA_BUNDLE, then where distributions keep it.
/// Error tls where there is none, with what to do.
[[nodiscard]] Result<std::string> find_ca_bundle();

}  // namespace gpustrap
