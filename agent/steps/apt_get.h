#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"

// apt-get as every step runs it: it asks nothing, keeps the user's configuration files, waits for locks, tries again where a
// mirror fails in passing, and shows apt's own progress.

namespace gpustrap {

/// How long apt's locks are waited for: first-boot updates of a cloud image take minutes.
inline constexpr auto kAptLockLimit = std::chrono::minutes(10);

/// Runs `apt-get WORDS…`. An error in apt's own words, with what to do.
[[nodiscard]] Result<void> run_apt_get(Host& host, StepLog& log, const std::vector<std::string>& words_after);

/// The error of an apt command that looked or ran, and failed.
[[nodiscard]] Error apt_error(const Command& command, const CommandResult& result);
/// Whether older lists than the mirror's could be the reason: worth an update and a second try.
[[nodiscard]] bool lists_may_lie(const Error& error);

/// `dpkg --configure -a`, where an earlier installation was cut short.
[[nodiscard]] Result<void> finish_cut_installation(Host& host, StepLog& log);

/// `apt-get update`, and notes when.
[[nodiscard]] Result<void> update_package_lists(Host& host, StepLog& log);
/// Whether there are no lists, or nobody has asked for newer ones since `max_age`.
[[nodiscard]] bool lists_are_old(const Host& host, std::chrono::seconds max_age);

}  // namespace gpustrap
