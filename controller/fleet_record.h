#pragma once

#include <map>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "controller/exit_code.h"

namespace gpustrap {

/// How the last run of a recipe on many hosts ended on each of them: what `--limit failed` goes by. Kept below the state folder, beside
/// the logs of the runs.
class FleetRecord {
 public:
  /// Of this recipe on these hosts: a recipe is its name or the absolute path of its file, hosts the absolute path of their file or
  /// their names. Empty where nothing is recorded. Error io, also for a record that cannot be understood.
  [[nodiscard]] static Result<FleetRecord> load(const std::string& state, const std::string& recipe, const std::string& hosts);

  [[nodiscard]] bool empty() const { return ends_.empty(); }
  /// Whether the host did not end well when it was last run.
  [[nodiscard]] bool has_failed(const std::string& host) const;
  /// Puts the newest end in the place of that before.
  void note(const std::string& host, ExitCode exit) { ends_[host] = static_cast<int>(exit); }
  [[nodiscard]] Result<void> save() const;

 private:
  std::string path_, recipe_, hosts_;
  std::map<std::string, int> ends_;
};

}  // namespace gpustrap
