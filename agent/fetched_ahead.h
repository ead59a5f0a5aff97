#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/host.h"

// Files that fetchers bring while other steps run, and how steps take them. An entry is a file NAME in a folder that only its user may
// write to; NAME.gpustrap-part while it grows; NAME.lock, which whoever works on the entry holds, and which has the run's id. Nothing read
// here is believed: who takes an entry hashes it, as if it had come over the network.

namespace gpustrap {

/// Of what a step would fetch, which of it lies where.
struct AheadPlace {
  std::string folder;  ///< empty: nothing is fetched ahead
  std::string run;     ///< a file without a digest is good for this run alone
  std::string step = {};
};

/// /var/lib/gpustrap/cache/ahead for root, ~/.cache/gpustrap/ahead else.
[[nodiscard]] std::string ahead_folder(const Identity& identity);

/// The entry's file, by what is asked for: addresses and digest.
[[nodiscard]] std::string ahead_path(const AheadPlace& place, const FetchRequest& request);

/// Gets what is asked for into the place, `fetch` doing the work, where no other process is at it and it is not there yet. `begun` is
/// called in between: from then on a step that comes to the file waits for this fetch.
using FetchTo = std::function<Result<FetchResult>(const FetchRequest& request)>;
[[nodiscard]] Result<void> fetch_ahead(const AheadPlace& place, const FetchRequest& request, const std::function<void()>& begun,
                                       const FetchTo& fetch);

/// What `request` asks for, taken from the place; waits for a fetcher that is at it, and goes on with what one has left, by `fetch`.
/// Nullopt where nothing of it is there, or what is there is not it: the caller then fetches itself.
[[nodiscard]] std::optional<Result<FetchResult>> take_ahead(const AheadPlace& place, const FetchRequest& request, StepLog& log,
                                                            const FetchTo& fetch);

/// Of a step that finds out by asking what it will fetch: what its fetcher found, for its own process; good for this run alone.
[[nodiscard]] Result<void> note_ahead(const AheadPlace& place, const std::vector<FetchRequest>& requests);
[[nodiscard]] std::vector<FetchRequest> noted_ahead(const AheadPlace& place);
[[nodiscard]] std::string requests_to_json(const std::vector<FetchRequest>& requests);
/// None where it is not what requests_to_json() writes.
[[nodiscard]] std::vector<FetchRequest> requests_from_json(std::string_view text);

/// Removes the entries that nobody works on, and the folder where none is left.
void clear_ahead(const std::string& folder);

/// What a fetcher leaves free on the disk of `folder`, in bytes: a tenth of it, at most 4 GiB and at least 64 MiB.
[[nodiscard]] std::uint64_t kept_free(const std::string& folder);
/// Whether other steps have come near that, so that what was fetched ahead must go: less than half of it is free.
[[nodiscard]] bool is_short_of_room(const std::string& folder);

}  // namespace gpustrap
