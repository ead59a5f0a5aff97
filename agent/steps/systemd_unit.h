#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/host.h"
#include "agent/steps/step.h"

namespace gpustrap {

/// What systemd says of a unit now.
struct UnitState {
  bool exists = false;
  bool masked = false;
  bool unreadable = false;        ///< systemd does not understand its file
  bool reload_needed = false;     ///< its file was changed since systemd read it
  std::string enabled;            ///< UnitFileState: enabled, disabled, static …
  std::string active, sub;        ///< ActiveState, SubState
  std::string type, result;       ///< Type (simple, oneshot …), Result (success, exit-code …)
  std::int64_t active_since = 0;  ///< seconds since 1970; 0: not since the boot
  std::string main_pid;
};

/// A service, as the steps that make one see it: of the host's systemd, or, where there is none, of gpustrap's own supervision
/// (agent/supervise.h), which speaks of it in systemd's words. `name` is without `.service`.
class SystemdUnit {
 public:
  explicit SystemdUnit(std::string name) : name_(std::move(name)) {}

  [[nodiscard]] std::string service() const { return name_ + ".service"; }
  /// Of the file that a step writes.
  [[nodiscard]] std::string path(const Host& host) const;
  Result<void> write(Host& host, const std::string& text) const;
  /// An error (unsupported) where nothing on this host can run such a unit.
  [[nodiscard]] static Result<void> check_text(const Host& host, const std::string& text);
  /// What a state's reason ends with where the service does not outlive a restart of the host.
  [[nodiscard]] static std::string_view caveat(const Host& host);

  /// Whether it comes back by itself: it is started at boot, or it is being supervised.
  [[nodiscard]] Result<bool> is_kept_up(const Host& host) const;
  /// Whether its file was written after what runs was started: by a run that ended in between. Not by a clock that has been set back.
  [[nodiscard]] bool runs_an_older_unit(const Host& host, const UnitState& state) const;
  /// Errors: command (systemctl fails), unsupported (it is not there).
  [[nodiscard]] Result<UnitState> state(const Host& host) const;
  /// Runs systemctl, or its like, with these words; a failing exit is an error.
  [[nodiscard]] static Result<void> control(Host& host, StepLog& log, const std::vector<std::string>& words);
  /// `what: the most telling line that the service wrote of late`, and where all of it is.
  [[nodiscard]] Error failure(const Host& host, const std::string& what) const;

 private:
  std::string name_;
};

/// A unit file's word in double quotes: systemd reads %, $ and quotes in it.
[[nodiscard]] std::string unit_word(const std::string& text);

}  // namespace gpustrap
