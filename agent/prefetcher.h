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
#include "agent/line_share.h"
#include "agent/live_step.h"
#include "agent/output_relay.h"
#include "agent/protocol/event.h"
#include "agent/secret_store.h"
#include "agent/step_process.h"

namespace gpustrap {

/// Has what later steps will fetch fetched while earlier ones run: a process for each step, beside the step processes and much like them,
/// at most kAtOnce of them, those first that are needed first. Such a process gets one file after the other, packages of apt and wheels
/// kFetchesAtOnce at a time. Fetches only what is certain: of steps without secrets, behind no `require`
/// or `wait` that has still to end, and not done already. Where the line is too narrow for all, a step that waits for its own file has it
/// before them, and the file that is needed next before later ones: those processes are stopped meanwhile. Nothing depends on it: a step
/// whose file did not come fetches it itself. The runner calls it from its loop.
class Prefetcher {
 public:
  static constexpr std::size_t kAtOnce = 4;
  /// A fetcher that is stopped goes on for a moment from time to time: many servers give up a client that takes nothing for a minute.
  static constexpr std::chrono::seconds kBreathEvery{10};

  struct Context {
    const Facts& facts;
    const Identity& login;
    const Mirror& mirror;
    SecretStore& secrets;
    std::function<Result<void>(decltype(Event::body) body)> say;
    std::function<void(Progress progress)> show;
    std::function<std::uint64_t()> received = bytes_received_by_host;
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
  void watch(std::vector<pollfd>& polled) const;
  /// When listen() has something to do even where nobody has said anything.
  [[nodiscard]] std::chrono::steady_clock::time_point wakes_at() const;
  /// Says what fetchers told, and looks after those that ended. An error only where the journal cannot be written.
  [[nodiscard]] Result<void> listen();
  /// Ends all fetchers; what they have got so far is kept.
  void stop();
  /// Removes what was fetched and not taken, and what earlier runs began to fetch and nobody wants any more.
  void clear();

 private:
  struct Fetcher {
    const LiveStep* step;
    StepProcess process;
    OutputRelay relay;
    std::size_t ended_before = 0;  ///< steps, when it was started
    bool has_begun = false;
    bool has_said = false;  ///< anything: it was not in vain
    bool is_stopped = false;
    LineShare::Clock::time_point stopped_at{};
    std::uint64_t bytes = 0;  ///< that have come by it
    std::string file;         ///< the one that comes
    std::uint64_t file_at = 0, file_total = 0;
    [[nodiscard]] std::uint64_t missing() const { return file_total > file_at ? file_total - file_at : 0; }
  };
  /// Of a step that has been tried: how many steps had ended by then. It is tried again when more have, or never.
  using Tries = std::map<const LiveStep*, std::size_t>;
  Result<void> take(Fetcher& fetcher, StepRecord record);
  void count(Fetcher& fetcher, const Progress& progress);
  void make_room();
  void share_line();
  [[nodiscard]] std::vector<Fetcher*> for_later(std::size_t& may_go);
  [[nodiscard]] std::vector<std::size_t> distances() const;
  [[nodiscard]] std::size_t index_of(const LiveStep& step) const;
  [[nodiscard]] std::size_t ended() const;
  static void let(Fetcher& fetcher, bool go, LineShare::Clock::time_point now);
  static void end(StepProcess& process);
  static void tidy(const std::string& folder, const Identity& identity, void (*act)(const std::string& folder));

  const LiveSteps& steps_;
  Context context_;
  std::vector<std::unique_ptr<Fetcher>> fetchers_;
  Tries tried_;
  std::chrono::steady_clock::time_point next_look_{};  ///< at how much room is left
  std::chrono::steady_clock::time_point next_share_{};
  LineShare steps_first_, next_first_;  ///< what steps fetch before all fetchers; the file that is needed next before later ones
  std::uint64_t for_later_ = 0;         ///< bytes that have come by fetchers for which no step stood still
};

}  // namespace gpustrap
