#include "agent/restarts.h"

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {

std::optional<Error> restart_refusal(const RunHistory& history, const RebootWish& wish, bool can_be_resumed) {
  if (history.reboots_asked >= kMostReboots) {
    return Error(
        ErrorCode::unsupported,
        fmt::format("this run has restarted the host {} times already, and it still wants: {}", history.reboots_asked, wish.reason),
        fmt::format("look at why a restart does not settle it; a run restarts its host at most {} times", kMostReboots));
  }
  if (!can_be_resumed) {
    return Error(ErrorCode::unsupported, "this agent cannot take up its run after a restart",
                 "restart the host by hand, and run the same command again");
  }
  return std::nullopt;
}

Rebooting restart_event(const RunHistory& history, const std::string& step, const RebootWish& wish, const std::string& boot_id) {
  Rebooting rebooting;
  rebooting.step = step;
  rebooting.reason = wish.reason;
  rebooting.boot_id = boot_id;
  rebooting.number = history.reboots_asked + 1;
  return rebooting;
}

Error restart_overdue(const RebootWish& wish) {
  return {ErrorCode::timeout, fmt::format("the host was asked to restart, and is still up after {}", human_duration(wish.limit)),
          "look at what holds up its shutdown (systemctl list-jobs), or raise the step's `limit`"};
}

std::optional<Error> reason_to_give_up(const RunHistory& history) {
  if (history.fruitless_boots > kMostReboots) {
    return Error(ErrorCode::internal, fmt::format("the host went down {} times in a row here", history.fruitless_boots),
                 "look at what this step does to the host (journalctl -b -1), then run the same command again");
  }
  if (history.fruitless_starts > kMostFruitlessStarts) {
    return Error(ErrorCode::internal, fmt::format("the runner died {} times in a row here", history.fruitless_starts),
                 "look at the host's own log for what ends it (journalctl -b), then run the same command again");
  }
  return std::nullopt;
}

}  // namespace gpustrap
