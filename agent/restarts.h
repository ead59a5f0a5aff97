#pragma once

#include <optional>
#include <string>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/protocol/event.h"
#include "agent/run_history.h"

namespace gpustrap {

/// Why this run may not restart its host for `wish`; nullopt where it may.
[[nodiscard]] std::optional<Error> restart_refusal(const RunHistory& history, const RebootWish& wish, bool can_be_resumed);
/// What goes into the journal before the host is asked. `boot_id`: of the boot that is about to end.
[[nodiscard]] Rebooting restart_event(const RunHistory& history, const std::string& step, const RebootWish& wish,
                                      const std::string& boot_id);
/// The host was asked, and is still up when the wish's limit is over.
[[nodiscard]] Error restart_overdue(const RebootWish& wish);

/// Why a run is given up whose host or runners go down again and again without its getting further, this runner counted; nullopt where
/// it is not.
[[nodiscard]] std::optional<Error> reason_to_give_up(const RunHistory& history);

}  // namespace gpustrap
