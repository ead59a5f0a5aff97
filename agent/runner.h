#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/journal.h"
#include "agent/paths.h"
#include "agent/protocol/event.h"
#include "agent/protocol/recipe.h"

namespace gpustrap {

/// One run on this host, as kept in its folder.
struct RunDescription {
  std::string id;
  RunMode mode = RunMode::apply;
  Recipe recipe;
  Identity login;
  std::vector<std::string> tags;
  std::uint64_t incarnation = 1;  ///< 2 and more: takes up the journal of a runner that died
};

struct RunnerHooks {
  /// Every line that was added to the journal, after it was written.
  std::function<void(const std::string& line)> on_event;
  /// A droppable line.
  std::function<void(const std::string& line)> on_signal;
  /// Descriptors that the loop shall watch beside its own (control socket), and what to do when one is readable.
  std::function<void(std::vector<int>& descriptors)> watched;
  std::function<void(int descriptor)> on_readable;
  /// Called once, before the first step that changes something: moves the runner out of the login's session.
  std::function<void()> before_first_change;
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
  /// No further step starts; running ones end. May be called from a hook.
  void cancel(const std::string& by);

 private:
  class Loop;
  RunDescription run_;
  Journal journal_;
  RunnerHooks hooks_;
  std::string cancelled_by_;
};

}  // namespace gpustrap
