#pragma once

#include <poll.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/line_order.h"
#include "agent/live_step.h"
#include "agent/output_relay.h"
#include "agent/protocol/event.h"
#include "agent/secret_store.h"
#include "agent/step_process.h"

namespace gpustrap {

/// Has what later steps will fetch fetched while earlier ones run: a process for each step, beside the step processes and much like them,
/// at most kAtOnce of them, those first that have the longest branch of the recipe behind them. Such a process gets one file after the
/// other, packages of apt and wheels kFetchesAtOnce at a time. Fetches only what is certain: of steps without secrets, behind no `require`
/// or `wait` that has still to end, and not done already. Where the line is too narrow for all, it comes in the order of LineOrder: who is
/// behind is stopped meanwhile, a step that stands still for its own file as well. Nothing depends on it: a step whose file did not come
/// fetches it itself. The runner calls it from its loop.
class Prefetcher {
 public:
  static constexpr std::size_t kAtOnce = 4;
  /// Who is stopped goes on for a moment from time to time: many servers give up a client that takes nothing for a minute.
  static constexpr std::chrono::seconds kBreathEvery{10};

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
  /// A step has begun or ended to stand still for a file.
  void share_anew() { next_share_ = {}; }
  /// How far the file has come for which a step stands still.
  void count(const LiveStep& step, const Progress& progress) { come_[&step].count(progress); }
  void watch(std::vector<pollfd>& polled) const;
  /// When listen() has something to do even where nobody has said anything.
  [[nodiscard]] std::chrono::steady_clock::time_point wakes_at() const;
  /// Says what fetchers told, and looks after those that ended. An error only where the journal cannot be written.
  [[nodiscard]] Result<void> listen();
  /// Ends all fetchers, and lets all steps go on; what has come so far is kept.
  void stop();
  /// Removes what was fetched and not taken, and what earlier runs began to fetch and nobody wants any more.
  void clear();

 private:
  /// Of what comes, one file after the other.
  struct Come {
    std::uint64_t bytes = 0;  ///< in all
    std::string file;         ///< the one that comes
    std::uint64_t file_at = 0, file_total = 0;
    LineShare::Clock::time_point counted_at{};
    [[nodiscard]] std::uint64_t missing() const { return file_total > file_at ? file_total - file_at : 0; }
    void count(const Progress& progress);
  };
  struct Fetcher {
    const LiveStep* step;
    StepProcess process;
    OutputRelay relay;
    std::size_t ended_before = 0;  ///< steps, when it was started
    bool has_begun = false;
    bool has_said = false;  ///< anything: it was not in vain
    bool is_stopped = false;
    LineShare::Clock::time_point stopped_at{};
    Come come;
  };
  /// Of a step that has been tried: how many steps had ended by then. It is tried again when more have, or never.
  using Tries = std::map<const LiveStep*, std::size_t>;
  Result<void> take(Fetcher& fetcher, StepRecord record);
  void make_room();
  void share_line();
  void end(const Fetcher& fetcher);
  [[nodiscard]] Fetcher* fetcher_of(const LiveStep& step) const;
  [[nodiscard]] std::vector<Transfer> transfers() const;
  [[nodiscard]] std::vector<std::chrono::seconds> work_behind() const;
  [[nodiscard]] std::size_t ended() const;
  static void let(Fetcher& fetcher, bool go, LineShare::Clock::time_point now);
  static void let(LiveStep& step, bool go, LineShare::Clock::time_point now);
  void start_room_watch();
  static void tidy(const std::string& folder, const Identity& identity);

  const LiveSteps& steps_;
  Context context_;
  std::vector<std::unique_ptr<Fetcher>> fetchers_;
  Tries tried_;
  std::chrono::steady_clock::time_point next_look_{};  ///< at how much room is left
  std::chrono::steady_clock::time_point next_share_{};
  LineOrder order_;
  bool is_shared_ = false;                ///< the line: more than one takes of it
  std::map<const LiveStep*, Come> come_;  ///< for steps, by their own processes
  pid_t room_watch_ = -1;                 ///< a process that ends when other steps come near the end of the disk
};

}  // namespace gpustrap
