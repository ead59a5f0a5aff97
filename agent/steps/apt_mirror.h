#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/host.h"

// A mirror of the distribution's archive, for the apt of this run alone: apt is given copies of the host's sources that name the mirror,
// by a configuration of its own. The host's own sources stay as they are, every signature is checked against the same keys, and the
// lists of the host's own places are kept beside those of the mirror.

namespace gpustrap {

/// Makes a command of apt take what it fetches from the mirror, where the run has one and the copies have been made.
void by_apt_mirror(const Host& host, Command& command);
/// The same for one that only looks, where there are lists of the mirror: without them it sees more in those of the host's own places.
void look_by_apt_mirror(const Host& host, Command& command);
/// Makes the copies as the host's sources now are. Nothing where the run has no mirror for apt.
[[nodiscard]] Result<void> prepare_apt_mirror(Host& host);
/// Notes that the mirror's lists have just been fetched.
[[nodiscard]] Result<void> note_apt_mirror_lists(Host& host);
/// Whether the run has a mirror whose lists are not there, or were not fetched since `max_age`.
[[nodiscard]] bool needs_apt_mirror_lists(const Host& host, std::chrono::seconds max_age);

/// `text`, one of apt's files of sources, with the mirror in place of the distribution's archive; `deb822`: it has stanzas.
[[nodiscard]] std::string mirrored_sources(const Mirror& mirror, std::string_view text, bool deb822);

}  // namespace gpustrap
