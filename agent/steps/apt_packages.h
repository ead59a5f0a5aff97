#pragma once

#include <string>
#include <vector>

#include "agent/host.h"

// Packages that are fetched while an earlier step still has dpkg at work, or several at once just before apt needs them. They come from the
// addresses that apt itself names, for the digests that apt itself names, and apt gets them in its folder of unfinished downloads: there it
// compares them with its lists once more before it uses them, which it does not with files among its finished ones.

namespace gpustrap {

/// What `apt-get WORDS…` would download now: over http and https, where apt names a SHA-256. Empty where apt cannot say.
[[nodiscard]] std::vector<FetchRequest> packages_to_fetch(const Host& host, const std::vector<std::string>& words_after);

/// Before `apt-get WORDS…`: gives apt what has come ahead of it, and fetches the large ones that have not, several at once.
void hand_over_packages(Host& host, StepLog& log, const std::vector<std::string>& words_after);

}  // namespace gpustrap
