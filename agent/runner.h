#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/journal.h"
#include "agent/paths.h"
#include "agent/protocol/event.h"
#include "agent/protocol/network.h"
#include "agent/protocol/recipe.h"
#include "agent/protocol/request.h"
#include "agent/run_history.h"
#include "agent/secret_store.h"

namespace gpustrap {

/// One run on this host, as kept in its folder.
struct RunDescription {
  std::string id;
  RunMode mode = RunMode::apply;
  Recipe recipe;
  Identity login;   ///< with the proxies that hold for the run
  Network network;  ///< as it was asked for
  StepChoice choice;
  std::string ahead_folder;  ///< where fetchers put what they bring; empty: ahead_folder() of each step's user
  int shares = -1;           ///< SharedFiles::controller
  RunHistory history;        ///< of the runners before this one; empty for the first
};

struct RunnerHooks {
  /// Every line that was added to the journal, after it was written.
  std::function<void(const std::string& line)> on_event;
  /// Called once, when the run's last event is written and before anything is tidied up.
  std::function<void()> on_end;
  /// A droppable line.
  std::function<void(const std::string& line)> on_signal;
  /// Descriptors that the loop shall watch beside its own (control socket), and what to do when one is readable.
  std::function<void(std::vector<int>& descriptors)> watched;
  std::function<void(int descriptor)> on_readable;
  /// Called once, before the first step that changes something goes on to do so: moves the runner and its steps out of the login's
  /// session, and sees to it that the run survives a restart of the host.
  std::function<void(const std::vector<pid_t>& steps)> before_first_change;
  /// Restarts the host; returns once that is under way. None: a restart is refused.
  std::function<Result<void>(const RebootWish& wish)> reboot;
  /// Whether the host is being shut down: what fails then has not failed for a reason of its own.
  std::function<bool()> is_shutting_down;
  /// Whether this process was told to end, as at a shutdown. What changes packages comes to its end first, the rest is interrupted.
  std::function<bool()> is_told_to_leave;
};

/// Runs the steps of a recipe in order: the only place that knows it. One thread, one poll loop, no network and no heavy work:
/// each step is a process. Steps that use the same thing (dpkg) never overlap.
class Runner {
 public:
  Runner(RunDescription run, Journal journal, RunnerHooks hooks);
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  /// To the end of the run. An error only where the journal cannot be written; a failed step is a result.
  [[nodiscard]] Result<RunFinished> run(const Facts& facts, const Identity& self);
  /// Values of secrets that the recipe declares; others are not kept. May be called from a hook, and more than once.
  void take_secrets(const SecretValues& values);
  /// No further step starts; running ones end. May be called from a hook.
  void cancel(const std::string& by, bool now = false);

 private:
  class Loop;
  /// Behind the run's last event: who listens reads on while this tidies up.
  void let_go() {
    if (hooks_.on_end) hooks_.on_end();
    journal_.close_room();
  }
  RunDescription run_;
  Journal journal_;
  RunnerHooks hooks_;
  std::string cancelled_by_;
  bool cancel_now_ = false;  ///< asked for, and not yet done
  SecretStore secrets_;
};

}  // namespace gpustrap
