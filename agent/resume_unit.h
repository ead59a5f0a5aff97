#pragma once

#include <string>

#include "agent/base/result.h"

namespace gpustrap {

/// `gpustrap-resume.service`: what starts `gpustrap-agent resume` when the host boots while a run is not over. There from before the
/// first change of a run until its end. Enabled by its link, as `systemctl enable` would do, so that nothing need be started for it.
class ResumeUnit {
 public:
  static constexpr const char* kName = "gpustrap-resume.service";

  /// `root` is "" but in tests.
  explicit ResumeUnit(std::string root = {}) : root_(std::move(root)) {}

  /// Writes and enables the unit for this very program. A copy of it is put where the unit may name it, where it runs from elsewhere (an
  /// image build). Synced: it is there after a power loss.
  [[nodiscard]] Result<void> install() const;
  /// Success where there is none.
  [[nodiscard]] Result<void> remove() const;
  [[nodiscard]] bool is_there() const;

 private:
  [[nodiscard]] std::string unit_path() const { return root_ + "/etc/systemd/system/" + kName; }
  [[nodiscard]] std::string link_path() const { return root_ + "/etc/systemd/system/multi-user.target.wants/" + kName; }
  [[nodiscard]] Result<std::string> agent_path() const;

  std::string root_;
};

}  // namespace gpustrap
