#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/idle_rules.h"
#include "agent/idle_signs.h"
#include "agent/paths.h"
#include "agent/protocol/json_fwd.h"
#include "agent/spot_notice.h"

// The guard's files: rules (written by the step), memory and `keep` in the state, which outlive a restart; the last sample and what
// everybody may know in the runtime folder, which do not.

namespace gpustrap {

struct IdleFiles {
  AgentPaths paths = system_paths();

  [[nodiscard]] std::string folder() const { return paths.state + "/idle"; }
  [[nodiscard]] std::string rules() const { return folder() + "/rules.json"; }
  [[nodiscard]] std::string record() const { return folder() + "/record.json"; }
  /// The same of this boot, for a disk that takes no more.
  [[nodiscard]] std::string record_of_boot() const { return paths.runtime + "/idle-record.json"; }
  [[nodiscard]] std::string keep() const { return folder() + "/keep.json"; }
  [[nodiscard]] std::string sample() const { return paths.runtime + "/idle-sample.json"; }
  /// For everybody's eyes; docs/json.md has its members.
  [[nodiscard]] std::string status() const { return paths.runtime + "/idle.json"; }
};

/// Everything the guard remembers.
struct IdleRecord {
  IdleMemory memory;
  struct Note {
    std::string path;
    std::uint32_t uid = 0;
    std::string boot;
    bool spot = false;  ///< of a notice, which is not taken back
  };
  std::vector<Note> notes;  ///< files that it has put into notebook folders
  struct Spot {
    SpotNotice notice;
    std::int64_t seen_ms = 0;
    std::string boot;  ///< on which it was seen
  };
  std::optional<Spot> spot;
  struct Stop {
    std::string why;
    std::int64_t at_ms = 0;
  };
  std::optional<Stop> last_stop;  ///< that this guard has done
};

/// One line each. What is no such document, or was cut off, reads as nothing: the guard then begins anew, and stops nothing early.
[[nodiscard]] std::string rules_text(const IdleRules& rules);
[[nodiscard]] std::optional<IdleRules> rules_in(std::string_view text);
[[nodiscard]] std::string record_text(const IdleRecord& record);
[[nodiscard]] IdleRecord record_in(std::string_view text);
[[nodiscard]] std::string keep_text(const Postponement& keep);
[[nodiscard]] std::optional<Postponement> keep_in(std::string_view text);
[[nodiscard]] std::string sample_text(const IdleSample& sample);
[[nodiscard]] IdleSample sample_in(std::string_view text);

/// What the guard tells everybody, as of `now_ms`.
[[nodiscard]] Json idle_status(const IdleRules& rules, const IdleRecord& record, const IdleMoment& moment, const IdleVerdict& verdict,
                               std::int64_t now_ms);

/// A request `keep`: its reply. An error (not_found) where nothing stops this host.
[[nodiscard]] Result<Json> keep_host(const AgentPaths& paths, std::optional<std::uint64_t> seconds);

}  // namespace gpustrap
