#pragma once

#include <poll.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/live_step.h"
#include "agent/output_relay.h"
#include "agent/protocol/event.h"
#include "agent/secret_store.h"
#include "agent/step_process.h"

namespace gpustrap {

/// Has what later steps will fetch fetched while earlier ones run: a process for each file, beside the step processes and much like them,
/// at most kAtOnce of them, in the order of the recipe. Fetches only what is certain: of steps without secrets, behind no `require` or
/// `wait` that has still to end, and not done already. Nothing depends on it: a step whose file did not come fetches it itself. The runner
/// calls it from its loop.
class Prefetcher {
 public:
  /// Connections over all. One server gets no more of them than browsers open to one.
  static constexpr std::size_t kAtOnce = 4;

  struct Context {
    const Facts& facts;
    const Identity& login;
    const Mirror& mirror;
    SecretStore& secrets;
    std::function<Result<void>(decltype(Event::body) body)> say;
    std::function<void(Progress progress)> show;
  };
  /// `steps` outlive it; their `plan.ahead` says where to.
  Prefetcher(const LiveSteps& steps, Context context) : steps_(steps), context_(std::move(context)) {}
  ~Prefetcher() { stop(); }
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  void start_what_can();
  /// Before the process of a step starts: its fetcher has begun, and is waited for by the step, or ends here.
  void make_way(const LiveStep& step);
  void watch(std::vector<pollfd>& polled) const;
  /// Says what fetchers told, and looks after those that ended. An error only where the journal cannot be written.
  [[nodiscard]] Result<void> listen();
  /// Ends all fetchers; what they have got so far is kept.
  void stop();
  /// Removes what was fetched and not taken.
  void clear();

 private:
  struct Fetcher {
    const LiveStep* step;
    StepProcess process;
    OutputRelay relay;
    bool has_begun = false;
  };
  Result<void> take(Fetcher& fetcher, StepRecord record);
  void make_room();
  static void end(StepProcess& process);

  const LiveSteps& steps_;
  Context context_;
  std::vector<std::unique_ptr<Fetcher>> fetchers_;
  std::set<const LiveStep*> tried_;
  std::chrono::steady_clock::time_point next_look_{};  ///< at how much room is left
};

}  // namespace gpustrap
