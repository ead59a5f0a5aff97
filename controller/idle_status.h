#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/protocol/json_fwd.h"

namespace gpustrap {

/// What the guard of `idle_stop` tells of a host (/run/gpustrap/idle.json), printable and bounded. Times are those of the guard's last
/// look, `age_s` ago; none where it does not know.
struct IdleStatus {
  std::string state;      ///< busy, quiet, kept, warned, stopping, off
  std::string busy_with;  ///< the first of what keeps it on
  std::string last_use;
  std::optional<std::uint64_t> idle_for_s, after_s, stops_in_s;
  std::string stops_for;  ///< idle, budget
  std::uint64_t kept_for_s = 0, age_s = 0;
  std::int64_t at_ms = 0;
  struct Budget {
    std::string currency, price_from;
    double limit = 0, spent = 0, per_hour = 0;
  };
  std::optional<Budget> budget;
  struct Spot {
    std::string action, time;  ///< action empty: a recommendation to move away
    std::int64_t seen_ms = 0;
    bool this_boot = false;
  };
  std::optional<Spot> spot;
  struct Stop {
    std::string why;
    std::int64_t at_ms = 0;
  };
  std::optional<Stop> last_stop;
};

/// Nothing where it is no such document: it is a host's word. `uptime_s`: of the host, when it was read.
[[nodiscard]] std::optional<IdleStatus> read_idle_status(std::string_view text, std::uint64_t uptime_s);
/// Title and text of what `status` shows of it.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> idle_lines(const IdleStatus& status);
/// For a table: "busy", "12m", "stops in 4m", "kept 2h00m".
[[nodiscard]] std::string idle_word(const IdleStatus& status);
/// docs/json.md, `idle` of status.
[[nodiscard]] Json idle_document(const IdleStatus& status);

/// What `keep` prints of the agent's reply.
[[nodiscard]] std::string keep_text(const std::string& destination, const Json& reply);
[[nodiscard]] Json keep_document(const std::string& destination, const Json& reply);

}  // namespace gpustrap
