#include "agent/runner.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/fetched_ahead.h"
#include "agent/live_step.h"
#include "agent/plan.h"
#include "agent/prefetcher.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/restarts.h"
#include "agent/run_life.h"
#include "agent/scout.h"
#include "agent/secret_gate.h"
#include "agent/step_process.h"
#include "agent/verdicts.h"

// What may follow what in the life of a run is a table of its own: run_life.h. Here is what is done in each phase.

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

/// How long a step's group has to end after SIGTERM.
constexpr auto kKillGrace = std::chrono::seconds(5);
/// Between attempts of a step: 2 s, 4 s, 8 s … at most this.
constexpr auto kLongestRetryWait = std::chrono::seconds(60);

/// Secrets follow the start of a run by one round trip. Only a step that waits for longer says so.
constexpr auto kSecretsOnTheWay = std::chrono::seconds(5);

/// Steps of these kinds pass or fail at once; they change nothing, whatever they find. (`wait` may go on for long, and then must be as
/// safe from a logout or a restart as what changes something.)
bool only_asks(StepKind kind) { return kind == StepKind::require || kind == StepKind::nvidia_smi; }

std::chrono::milliseconds since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
}

}  // namespace

class Runner::Loop {
 public:
  /// `before`: what earlier runners have taken, and the time between them.
  Loop(Runner& owner, std::vector<PlannedStep> plan, const Facts& facts, RunLife life, std::chrono::milliseconds before)
      : owner_(owner),
        facts_(facts),
        started_(Clock::now()),
        before_(before),
        life_(life),
        fetchers_(steps_, {facts, owner.run_.login, owner.run_.network.mirror, owner.secrets_,
                           [this](decltype(Event::body) body) { return say(std::move(body)); },
                           [this](Progress progress) { show(std::move(progress)); }}) {
    for (PlannedStep& step : plan) {
      OutputRelay relay(
          step.entry.id, [this](decltype(Event::body) body) { return say(std::move(body)); }, OutputRelay::kCap,
          &owner_.secrets_.masking());
      auto live = std::make_unique<LiveStep>(LiveStep{std::move(step), {}, std::move(relay)});
      const auto asked = history().asked_on_boot.find(live->plan.entry.id);
      if (asked != history().asked_on_boot.end()) live->plan.asked_on_boot = asked->second;
      const std::string& folder = owner_.run_.ahead_folder;
      if (!looks_only())
        live->plan.ahead = {folder.empty() ? ahead_folder(live->plan.identity) : folder, owner_.run_.id, live->plan.entry.id};
      if (!looks_only() && is_shared(live->plan.spec)) live->plan.shares = owner_.run_.shares;
      steps_.push_back(std::move(live));
    }
  }

  ~Loop() {
    fetchers_.stop();
    // A journal that cannot be written ends the run; its steps must not go on unseen, but for one that changes dpkg's database.
    for (const auto& step : steps_) {
      if (!step->is(StepPhase::running)) continue;
      if (step->must_finish)
        await_end_unheard(step->process);
      else
        ::kill(-step->process.pid, SIGKILL);
    }
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  Result<RunFinished> run() {
    // Cancelled while an earlier runner had it: that is in the journal already.
    if (cancel_said_ = !history().cancelled_by.empty(); cancel_said_) {
      if (Result<void> met = life_.meet(RunSign::cancelled); !met) return fail(std::move(met).error());
    }
    while (true) {
      const RunPhase phase = life_.phase();
      if (Result<void> done = act(); !done) return fail(std::move(done).error());
      if (life_.phase() != phase) continue;  // the new phase has its say before anything is waited for
      if (phase == RunPhase::ended) return finish();
      if (phase == RunPhase::left) {
        return fail(ErrorCode::cancelled, "it was told to end; the run goes on when the host is back",
                    "or now, by the same command, or by `gpustrap-agent resume` on the host");
      }
      if (Result<void> turned = turn(); !turned) return fail(std::move(turned).error());
    }
  }

 private:
  // ---- what each phase of the run does

  Result<void> act() {
    if (life_.phase() != RunPhase::going) scout_.reset();
    if (life_.phase() != RunPhase::going) fetchers_.stop();
    switch (life_.phase()) {
      case RunPhase::going: return go_on();
      case RunPhase::stopping: return stop_going_on();
      case RunPhase::holding: return any(StepPhase::running) ? Result<void>() : restart_for(*first(StepPhase::asking));
      case RunPhase::restarting: return Clock::now() < restart_deadline_ ? Result<void>() : refuse_restart(restart_overdue(wish_));
      case RunPhase::leaving: return any(StepPhase::running) ? Result<void>() : life_.meet(RunSign::nothing_runs);
      case RunPhase::opening:
      case RunPhase::left:
      case RunPhase::ended: return {};
    }
    return {};
  }

  Result<void> go_on() {
    send_scout();
    if (scout_) return {};
    if (Result<void> started = start_what_can(); !started) return started;
    if (has_work_) fetchers_.start_what_can();
    const bool is_over = !any(StepPhase::waiting) && !any(StepPhase::running) && !any(StepPhase::pausing) && !any(StepPhase::asking);
    return is_over && life_.phase() == RunPhase::going ? life_.meet(RunSign::nothing_is_left) : Result<void>();
  }

  /// What waits stays where it is; what was asked for comes too late.
  Result<void> stop_going_on() {
    while (!any(StepPhase::running) && any(StepPhase::asking)) {
      if (Result<void> skipped = skip(*first(StepPhase::asking), "not restarted, because the run ends here"); !skipped) return skipped;
    }
    if (any(StepPhase::asking)) return {};
    if (Result<void> started = start_what_can(); !started) return started;
    return any(StepPhase::running) || any(StepPhase::pausing) ? Result<void>() : life_.meet(RunSign::nothing_is_left);
  }

  /// Journalled before it happens. This process normally ends here: the next one finds the journal and looks at the step again.
  Result<void> restart_for(LiveStep& step) {
    asking_ = &step;
    wish_ = *step.wish;
    if (const auto refused = restart_refusal(history(), wish_, static_cast<bool>(owner_.hooks_.reboot))) return refuse_restart(*refused);
    if (Result<void> said = say(restart_event(history(), step.plan.entry.id, wish_, facts_.boot_id), Journal::Durability::synced); !said)
      return said;
    if (Result<void> asked = owner_.hooks_.reboot(wish_); !asked) return refuse_restart(Error(asked.error()).in("restarting the host"));
    restart_deadline_ = Clock::now() + wish_.limit;
    return life_.meet(RunSign::restart_begun);
  }

  Result<void> refuse_restart(const Error& why) { return end(*asking_, failure_of(asking_->plan.entry.id, why)); }

  // ---- what the run meets beside its steps

  Result<void> notice() {
    if (Result<void> noticed = notice_leave(); !noticed) return noticed;
    if (Result<void> noticed = notice_cancel(); !noticed) return noticed;
    return notice_full_disk();
  }

  Result<void> notice_leave() {
    if (told_to_leave_ || !owner_.hooks_.is_told_to_leave || !owner_.hooks_.is_told_to_leave()) return {};
    told_to_leave_ = true;
    for (const auto& step : steps_) {
      if (step->is(StepPhase::running) && !step->must_finish) terminate(*step);
    }
    return life_.meet(RunSign::host_goes_down);
  }

  Result<void> notice_cancel() {
    if (owner_.cancel_now_) {
      owner_.cancel_now_ = false;  // who asks again reaches a step that dpkg has let go meanwhile
      for (const auto& step : steps_) {
        if (!step->is(StepPhase::running) || step->kill_at != Clock::time_point{}) continue;
        Error why(ErrorCode::cancelled, "it was stopped: the run was cancelled by " + owner_.cancelled_by_,
                  "the same command takes up what is left");
        if (Result<void> stopped = stop(*step, std::move(why)); !stopped) return stopped;
      }
    }
    if (owner_.cancelled_by_.empty() || cancel_said_) return {};
    cancel_said_ = true;
    if (Result<void> said = say(CancelRequested{owner_.cancelled_by_}, Journal::Durability::synced); !said) return said;
    return life_.meet(RunSign::cancelled);
  }

  Result<void> notice_full_disk() {
    if (!owner_.journal_.is_short_of_room() || disk_is_full_) return {};
    disk_is_full_ = true;
    return life_.meet(RunSign::no_room);
  }

  // ---- looking ahead

  /// As long as nothing was found to do, this may be a host where all is done: then one process looks at many steps.
  void send_scout() {
    const bool may_be_done = !changed_something_ && history().incarnations == 0;
    if (scout_ || !may_be_done || any(StepPhase::running) || any(StepPhase::pausing) || any(StepPhase::asking)) return;
    std::vector<std::size_t> looked_at = steps_to_scout(steps_, not_scouted_);
    if (looked_at.size() < 2) return;
    Result<Scout> scout = Scout::send(steps_, looked_at, facts_, owner_.run_.login, owner_.run_.network.mirror);
    if (!scout) return;  // each step gets a process of its own, then
    scout_.emplace(*std::move(scout));
    looked_at_ = {looked_at.rbegin(), looked_at.rend()};
    looked_since_ = Clock::now();
  }

  Result<void> hear_scout() {
    for (const Scout::Found& found : scout_->found()) {
      if (Result<void> skipped = skip_what_is_left_out(); !skipped) return skipped;
      LiveStep& step = *steps_.at(found.step);
      step.started = std::exchange(looked_since_, Clock::now());
      if (Result<void> said = say(StepStarted{step.plan.entry.id}); !said) return said;
      if (Result<void> said = say(StepChecked{step.plan.entry.id, true, found.reason}); !said) return said;
      StepFinished finished;
      finished.step = step.plan.entry.id;
      finished.outcome = Outcome::unchanged;
      finished.reason = found.reason;
      if (Result<void> ended = end(step, std::move(finished)); !ended) return ended;
      std::erase(looked_at_, found.step);
    }
    // One that has told all is not waited for.
    if (!scout_->is_over() && !looked_at_.empty()) return {};
    scout_.reset();
    // Where it ended there is something to do, or to be said: by a process of that step's own.
    if (!looked_at_.empty()) not_scouted_ = static_cast<std::ptrdiff_t>(looked_at_.back());
    return {};
  }

  // ---- starting

  bool may_start(const LiveStep& step) const {
    return step.is(StepPhase::waiting) && std::all_of(step.plan.after.begin(), step.plan.after.end(),
                                                      [&](std::size_t before) { return steps_[before]->is(StepPhase::ended); });
  }

  Result<void> skip_what_is_left_out() {
    for (const auto& step : steps_) {
      if (step->plan.skip_reason.empty() || !may_start(*step)) continue;
      if (Result<void> skipped = skip(*step, step->plan.skip_reason); !skipped) return skipped;
    }
    return {};
  }

  Result<void> start_what_can() {
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      LiveStep& step = *steps_[i];
      if (step.is(StepPhase::pausing) && Clock::now() >= step.resume_at) {
        if (Result<void> begun = begin_attempt(step); !begun) return begun;
      }
      if (!may_start(step)) continue;
      if (!step.plan.skip_reason.empty()) {
        if (Result<void> skipped = skip(step, step.plan.skip_reason); !skipped) return skipped;
        continue;
      }
      if (Result<void> noticed = notice(); !noticed) return noticed;
      if (life_.phase() != RunPhase::going || resource_is_taken(step)) continue;
      if (Result<void> started = start_with_secrets(step); !started) return started;
    }
    return {};
  }

  bool resource_is_taken(const LiveStep& step) const {
    if (step.plan.type->uses == StepType::Uses::nothing) return false;
    return std::any_of(steps_.begin(), steps_.end(), [&](const auto& other) {
      const bool active = other->is(StepPhase::running) || other->is(StepPhase::pausing);
      return active && other->plan.type->uses == step.plan.type->uses;
    });
  }

  Result<void> start_with_secrets(LiveStep& step) {
    const SecretUse use = looks_only()                                  ? SecretUse::looking
                          : history().done.contains(step.plan.entry.id) ? SecretUse::done_before
                                                                        : SecretUse::acting;
    auto answer = ask_for_secrets(step.plan, owner_.secrets_, use);
    if (std::holds_alternative<StepMayStart>(answer)) return start(step);
    if (auto* settled = std::get_if<StepIsSettled>(&answer)) {
      step.started = Clock::now();
      if (Result<void> said = say(StepStarted{step.plan.entry.id}); !said) return said;
      return end(step, std::move(settled->finished));
    }
    if (step.said_waiting || since(started_) < kSecretsOnTheWay) return {};
    step.said_waiting = true;
    prepare_for_long();
    return say(WaitingForSecret{step.plan.entry.id, std::get<StepMustWait>(answer).secrets}, Journal::Durability::synced);
  }

  /// Before the first change, and before a wait of unknown length: the run must outlive this login and this boot.
  void prepare_for_long() {
    if (std::exchange(changed_something_, true)) return;
    if (owner_.hooks_.before_first_change) owner_.hooks_.before_first_change(running_processes());
  }

  Result<void> start(LiveStep& step) {
    step.started = Clock::now();
    if (Result<void> said = say(StepStarted{step.plan.entry.id}); !said) return said;
    return begin_attempt(step);
  }

  Result<void> begin_attempt(LiveStep& step) {
    step.attempt_started = step.last_sign = Clock::now();
    step.kill_at = {};
    step.killed_for.reset();
    step.must_finish = false;
    step.fetches = false;
    step.held_since = {};
    step.finished.reset();
    step.wish.reset();
    step.relay.begin();
    fetchers_.make_way(step);
    const StepWork work = looks_only()                                  ? StepWork::look
                          : history().done.contains(step.plan.entry.id) ? StepWork::done_before
                                                                        : StepWork::work;
    Result<StepProcess> process =
        start_step_process(step.plan, work, facts_, owner_.run_.login, owner_.run_.network.mirror, owner_.secrets_);
    if (!process) return end(step, failure_of(step.plan.entry.id, process.error()));
    step.process = std::move(*process);
    return step.life.enter(StepPhase::running);
  }

  Result<void> skip(LiveStep& step, const std::string& reason) {
    if (Result<void> ended = step.life.enter(StepPhase::ended); !ended) return ended;
    step.outcome = Outcome::skipped;
    StepFinished finished;
    finished.step = step.plan.entry.id;
    finished.outcome = Outcome::skipped;
    finished.reason = reason;
    return say(std::move(finished));
  }

  // ---- one turn of the loop

  Result<void> turn() {
    std::vector<pollfd> polled;
    const auto watch = [&](int fd) {
      if (fd >= 0) polled.push_back({fd, POLLIN, 0});
    };
    for (const auto& step : steps_) {
      if (!step->is(StepPhase::running)) continue;
      watch(step->process.output.get());
      watch(step->process.errors.get());
      watch(step->process.records.get());
    }
    std::vector<int> others;
    if (owner_.hooks_.watched) owner_.hooks_.watched(others);
    for (const int fd : others) watch(fd);
    if (scout_) watch(scout_->descriptor());
    fetchers_.watch(polled);
    const int ready = ::poll(polled.data(), polled.size(), poll_timeout());
    if (ready < 0 && errno != EINTR) return fail(errno_error(errno, "waiting for steps"));
    for (const pollfd& entry : polled) {
      if (ready > 0 && entry.revents != 0 && std::find(others.begin(), others.end(), entry.fd) != others.end()) {
        owner_.hooks_.on_readable(entry.fd);
      }
    }
    if (Result<void> noticed = notice(); !noticed) return noticed;
    if (scout_) {
      if (Result<void> heard = hear_scout(); !heard) return heard;
    }
    if (Result<void> heard = fetchers_.listen(); !heard) return heard;
    for (const auto& step : steps_) {
      if (!step->is(StepPhase::running)) continue;
      if (Result<void> heard = listen(*step); !heard) return heard;
      if (Result<void> watched = watch_limits(*step); !watched) return watched;
      if (Result<void> reaped = reap(*step); !reaped) return reaped;
    }
    return {};
  }

  /// Up to the nearest limit, retry or kill; 1 s at most where a process may end without closing its pipes.
  int poll_timeout() const {
    const Clock::time_point now = Clock::now();
    Clock::time_point next = std::min(now + std::chrono::seconds(1), fetchers_.wakes_at());
    for (const auto& step : steps_) {
      if (step->is(StepPhase::pausing)) next = std::min(next, step->resume_at);
      if (step->is(StepPhase::running) && step->kill_at != Clock::time_point{}) next = std::min(next, step->kill_at);
      // Its record pipe is closed: the process is about to be reaped.
      if (step->is(StepPhase::running) && !step->process.records.valid()) next = std::min(next, now + std::chrono::milliseconds(2));
    }
    const auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(next - now).count();
    return static_cast<int>(std::max<std::int64_t>(wait, 0));
  }

  Result<void> listen(LiveStep& step) {
    std::vector<StepRecord> records;
    const Result<bool> came = step.relay.read(step.process, records);
    if (!came) return fail(came.error());
    if (*came) step.last_sign = Clock::now();
    for (StepRecord& record : records) {
      if (Result<void> taken = take(step, std::move(record)); !taken) return taken;
    }
    return {};
  }

  Result<void> take(LiveStep& step, StepRecord record) {
    if (auto* checked = std::get_if<StepChecked>(&record.body)) {
      const bool satisfied = checked->satisfied;
      if (!satisfied && !looks_only() && !only_asks(step.plan.entry.kind)) {
        prepare_for_long();
        has_work_ = true;
      }
      if (Result<void> said = say(std::move(*checked), satisfied ? Journal::Durability::lazy : Journal::Durability::synced); !said)
        return said;
      // It waits for this byte before it changes anything. Where it is gone already, its end tells.
      if (!satisfied && !looks_only()) (void)write_all(step.process.go_ahead.get(), "+");
      return {};
    }
    if (auto* said = std::get_if<StepSaid>(&record.body)) {
      return step.relay.say("log", said->line.ends_with('\n') ? said->line : said->line + "\n");
    }
    if (auto* progress = std::get_if<Progress>(&record.body)) {
      if (step.fetches) fetchers_.count(step, *progress);
      show(std::move(*progress));
      return {};
    }
    if (auto* downloaded = std::get_if<Downloaded>(&record.body)) return say(std::move(*downloaded));
    if (auto* wanted = std::get_if<FileWanted>(&record.body)) return say(std::move(*wanted));
    if (std::holds_alternative<StepIsFetched>(record.body)) return {};  // of fetchers alone
    if (const auto* stands = std::get_if<StepStandsStill>(&record.body)) {
      step.fetches = stands->is_so;
      fetchers_.share_anew();
      return {};
    }
    if (std::holds_alternative<StepMustFinish>(record.body)) {
      // Being killed, it waits for an answer that will not come.
      step.must_finish = step.kill_at == Clock::time_point{};
      if (step.must_finish) (void)write_all(step.process.go_ahead.get(), "+");
      return {};
    }
    if (auto* wish = std::get_if<RebootWish>(&record.body)) {
      step.wish = std::move(*wish);
      return {};
    }
    step.finished = std::get<StepFinished>(std::move(record.body));
    return {};
  }

  std::vector<pid_t> running_processes() const {
    std::vector<pid_t> pids;
    for (const auto& step : steps_) {
      if (step->is(StepPhase::running)) pids.push_back(step->process.pid);
    }
    return pids;
  }

  // ---- limits and ends

  Result<void> watch_limits(LiveStep& step) {
    const Clock::time_point now = Clock::now();
    if (step.kill_at != Clock::time_point{}) {
      if (now >= step.kill_at) ::kill(-step.process.pid, SIGKILL);
      return {};
    }
    if (step.held_since != Clock::time_point{}) return {};  // it is not the one that takes so long
    const auto& timeout = step.plan.entry.timeout;
    const auto& stall = step.plan.entry.stall;
    if (timeout && now - step.attempt_started > timeout->time) {
      return stop(step, Error(ErrorCode::timeout, fmt::format("it was still not done after {}", human_duration(timeout->time)),
                              "raise the step's `timeout`, or look at its output for what it waited for"));
    }
    if (stall && now - step.last_sign > stall->time) {
      return stop(step, Error(ErrorCode::timeout, fmt::format("it was silent for {}", human_duration(stall->time)),
                              "raise the step's `stall`, or look at its output for where it hangs"));
    }
    return {};
  }

  /// A process that changes dpkg's database is never killed; its limit is said and it goes on.
  Result<void> stop(LiveStep& step, Error why) {
    if (step.must_finish) {
      const std::string line = why.sentence() + "; packages are being installed, so it is left to finish\n";
      step.plan.entry.timeout.reset();
      step.plan.entry.stall.reset();
      return step.relay.say("log", line);
    }
    step.killed_for = std::move(why);
    terminate(step);
    return {};
  }

  static void terminate(LiveStep& step) {
    if (step.kill_at == Clock::time_point{}) step.kill_at = Clock::now() + kKillGrace;
    ::kill(-step.process.pid, SIGTERM);
    if (std::exchange(step.held_since, {}) != Clock::time_point{}) ::kill(-step.process.pid, SIGCONT);
  }

  Result<void> reap(LiveStep& step) {
    int status = 0;
    const pid_t ended = ::waitpid(step.process.pid, &status, WNOHANG);
    if (ended != step.process.pid) return {};
    // What it had written before it ended is still in the pipes.
    if (Result<void> heard = listen(step); !heard) return heard;
    if (Result<void> drained = step.relay.drain(step.process); !drained) return drained;
    const pid_t group = step.process.pid;
    step.process = StepProcess{};
    step.fetches = false;
    step.held_since = {};
    if (step.wish && !step.killed_for) {
      if (Result<void> asks = step.life.enter(StepPhase::asking); !asks) return asks;
      return life_.meet(RunSign::restart_wished);
    }
    const bool went_well = step.finished && step.finished->outcome != Outcome::failed;
    const bool host_goes_down = !went_well && !step.killed_for && owner_.hooks_.is_shutting_down && owner_.hooks_.is_shutting_down();
    if (host_goes_down || (!went_well && !step.killed_for && told_to_leave_)) {
      // No failure of its own: left open in the journal, it is looked at afresh when the host is back.
      ::kill(-group, SIGKILL);
      if (Result<void> interrupted = step.life.enter(StepPhase::interrupted); !interrupted) return interrupted;
      if (Result<void> met = life_.meet(RunSign::host_goes_down); !met) return met;
      return step.relay.say("log", fmt::format("{}; this step is interrupted\n",
                                               host_goes_down ? "the host is shutting down" : "this run's process was told to end"));
    }
    if (step.finished && !step.killed_for) return retry_or_end(step, std::move(*step.finished));
    // It ended without saying how: nothing of it may go on.
    ::kill(-group, SIGKILL);
    return retry_or_end(step, failure_of(step.plan.entry.id, step.killed_for ? *step.killed_for : crashed(status)));
  }

  Result<void> retry_or_end(LiveStep& step, StepFinished finished) {
    const bool may_retry =
        finished.outcome == Outcome::failed && step.attempt <= step.plan.entry.retries && life_.phase() != RunPhase::stopping;
    if (!may_retry) return end(step, std::move(finished));
    const auto exponential = std::chrono::seconds(std::int64_t{1} << std::min<std::int64_t>(step.attempt, 20));
    const std::chrono::milliseconds wait = std::min<std::chrono::seconds>(exponential, kLongestRetryWait);
    StepRetry retry;
    retry.step = step.plan.entry.id;
    retry.attempt = static_cast<std::uint64_t>(++step.attempt);
    if (finished.error) retry.error = *finished.error;
    retry.wait = wait;
    step.resume_at = Clock::now() + wait;
    if (Result<void> pauses = step.life.enter(StepPhase::pausing); !pauses) return pauses;
    return say(std::move(retry));
  }

  Result<void> end(LiveStep& step, StepFinished finished) {
    finished.elapsed = since(step.started);
    weigh(finished, step, steps_, {looks_only(), facts_, owner_.run_.login, owner_.run_.network.mirror, owner_.secrets_});
    step.outcome = finished.outcome;
    if (Result<void> ended = step.life.enter(StepPhase::ended); !ended) return ended;
    if (finished.outcome == Outcome::failed && !looks_only()) {
      if (Result<void> met = life_.meet(RunSign::step_failed); !met) return met;
    }
    const bool changed = finished.outcome != Outcome::unchanged;
    // The end of the run is synced right behind the end of its last step, and nothing happens in between.
    const bool is_last = changed_something_ && life_.phase() == RunPhase::going &&
                         std::all_of(steps_.begin(), steps_.end(), [](const auto& one) { return one->is(StepPhase::ended); });
    return say(std::move(finished), changed && !is_last ? Journal::Durability::synced : Journal::Durability::lazy);
  }

  Result<RunFinished> finish() {
    const auto was_stopped = [](const auto& step) { return step->killed_for && step->killed_for->code() == ErrorCode::cancelled; };
    const auto failed = std::find_if(steps_.begin(), steps_.end(), [&](const auto& step) {
      return step->is(StepPhase::ended) && step->outcome == Outcome::failed && !was_stopped(step);
    });
    std::string why = "the run was cancelled";
    if (failed != steps_.end()) {
      why = fmt::format("not started, because {} failed", (*failed)->plan.entry.id);
    } else if (LiveStep* next = disk_is_full_ ? first(StepPhase::waiting) : nullptr; next != nullptr) {
      // No step has failed of itself, so the first that could not start carries the reason, where people look for it.
      if (Result<void> ended = next->life.enter(StepPhase::ended); !ended) return fail(std::move(ended).error());
      next->outcome = Outcome::failed;
      const Error full = errno_error(ENOSPC, "writing the journal");
      if (Result<void> said = say(failure_of(next->plan.entry.id, full), Journal::Durability::synced); !said)
        return fail(std::move(said).error());
      why = fmt::format("not started, because {} failed", next->plan.entry.id);
    }
    while (LiveStep* waiting = first(StepPhase::waiting)) {
      if (Result<void> skipped = skip(*waiting, why); !skipped) return fail(std::move(skipped).error());
    }
    RunFinished finished = tally(steps_, history());
    const auto stopped = std::count_if(steps_.begin(), steps_.end(), was_stopped);
    if (finished.failed == static_cast<std::uint64_t>(stopped) && !owner_.cancelled_by_.empty()) finished.end = RunFinished::End::cancelled;
    finished.elapsed = before_ + since(started_);
    // What a run that failed has got is there for the next one.
    if (finished.end == RunFinished::End::ok && !looks_only()) fetchers_.clear();
    // A run that found nothing to do may be lost with the power: it can be had again.
    const auto durability = changed_something_ || history().incarnations > 0 ? Journal::Durability::synced : Journal::Durability::lazy;
    if (Result<void> said = say(finished, durability); !said) return fail(std::move(said).error());
    owner_.let_go();
    return finished;
  }

  bool any(StepPhase phase) const { return first(phase) != nullptr; }
  LiveStep* first(StepPhase phase) const {
    const auto found = std::find_if(steps_.begin(), steps_.end(), [&](const auto& step) { return step->is(phase); });
    return found == steps_.end() ? nullptr : found->get();
  }
  bool looks_only() const { return owner_.run_.mode == RunMode::plan; }

  Result<void> say(decltype(Event::body) body, Journal::Durability durability = Journal::Durability::lazy) {
    owner_.secrets_.mask(body);
    Result<std::string> line = owner_.journal_.append(std::move(body), durability);
    if (!line) return fail(std::move(line).error());
    if (owner_.hooks_.on_event) owner_.hooks_.on_event(*line);
    return {};
  }

  void show(Progress progress) {
    progress.text = owner_.secrets_.masking().mask(progress.text);
    if (owner_.hooks_.on_signal) owner_.hooks_.on_signal(to_line(to_json(Signal{std::move(progress)})));
  }

  const RunHistory& history() const { return owner_.run_.history; }

  Runner& owner_;
  const Facts& facts_;
  Clock::time_point started_;
  std::chrono::milliseconds before_;
  RunLife life_;
  LiveSteps steps_;
  Prefetcher fetchers_;
  bool cancel_said_ = false;
  bool told_to_leave_ = false;
  bool disk_is_full_ = false;
  bool changed_something_ = false;
  std::optional<Scout> scout_;
  std::vector<std::size_t> looked_at_;  ///< by the scout; what is found is taken from the end
  std::ptrdiff_t not_scouted_ = -1;     ///< up to this step, another scout looks at none
  Clock::time_point looked_since_{};
  bool has_work_ = false;  ///< a step was not as it should be: this is no run that only looks
  // While the run is holding and restarting:
  LiveStep* asking_ = nullptr;  ///< the step for which the host is restarted
  RebootWish wish_;
  Clock::time_point restart_deadline_{};
};

Runner::Runner(RunDescription run, Journal journal, RunnerHooks hooks)
    : run_(std::move(run)), journal_(std::move(journal)), hooks_(std::move(hooks)), cancelled_by_(run_.history.cancelled_by) {}
Runner::~Runner() = default;

void Runner::take_secrets(const SecretValues& values) {
  SecretValues declared = values;
  std::erase_if(declared, [&](const auto& item) {
    const auto& secrets = run_.recipe.secrets;
    return std::none_of(secrets.begin(), secrets.end(), [&](const SecretSource& secret) { return secret.name == item.first; });
  });
  secrets_.put(declared);
  for (auto& [name, value] : declared) clear_text(value);
}

void Runner::cancel(const std::string& by, bool now) {
  if (cancelled_by_.empty()) cancelled_by_ = by.empty() ? "someone" : by;
  cancel_now_ = cancel_now_ || now;
}

Result<RunFinished> Runner::run(const Facts& facts, const Identity& self) {
  ::signal(SIGPIPE, SIG_IGN);  // a step may die before it reads its go-ahead
  const auto say = [&](decltype(Event::body) body) -> Result<void> {
    // Until something is changed, there is nothing that the disk would have to remember: the first change syncs what came before it.
    const auto durability = run_.history.incarnations > 0 ? Journal::Durability::synced : Journal::Durability::lazy;
    Result<std::string> line = journal_.append(std::move(body), durability);
    if (!line) return fail(std::move(line).error());
    if (hooks_.on_event) hooks_.on_event(*line);
    return {};
  };
  const std::uint64_t before = journal_.last();
  if (before == 0) {
    RunStarted started;
    started.run = run_.id;
    started.recipe = run_.recipe.name;
    started.digest = digest_of(run_.recipe);
    started.agent = GPUSTRAP_VERSION;
    started.mode = run_.mode;
    started.login = run_.login.name;
    started.network = run_.network;
    started.facts = facts;
    started.steps = titles_of(run_.recipe);
    if (Result<void> said = say(std::move(started)); !said) return fail(std::move(said).error());
  }
  RunnerStarted runner;
  runner.incarnation = run_.history.incarnations + 1;
  runner.after = before;
  runner.pid = ::getpid();
  runner.boot_id = facts.boot_id;
  runner.interrupted = run_.history.open;
  RunHistory so_far = run_.history;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  so_far.add(Event{before + 1, std::chrono::duration_cast<std::chrono::milliseconds>(now).count(), runner});
  if (Result<void> said = say(std::move(runner)); !said) return fail(std::move(said).error());

  RunLife life;
  // Nothing is started, or nothing more: what is left is skipped, and one step carries the reason so that it is seen where people look.
  const auto end_at_once = [&](const std::string& step, const Error& why) -> Result<RunFinished> {
    StepFinished first = failure_of(step, why);
    RunFinished finished;
    finished.end = RunFinished::End::failed;
    finished.failed = 1;
    finished.changed = so_far.changed.size();
    finished.unchanged = so_far.done.size() - so_far.changed.size();
    const std::size_t told = finished.failed + so_far.done.size() - so_far.done.count(first.step);
    finished.skipped = run_.recipe.steps.size() > told ? run_.recipe.steps.size() - told : 0;
    if (Result<void> met = life.meet(RunSign::given_up); !met) return fail(std::move(met).error());
    if (Result<void> said = say(std::move(first)); !said) return fail(std::move(said).error());
    if (Result<void> said = say(finished); !said) return fail(std::move(said).error());
    let_go();
    return finished;
  };
  const auto first_open = [&]() -> std::string {
    if (!run_.history.open.empty()) return run_.history.open.front();
    const auto& steps = run_.recipe.steps;
    const auto left = std::find_if(steps.begin(), steps.end(), [&](const StepEntry& step) { return !so_far.done.contains(step.id); });
    return left != steps.end() ? left->id : steps.empty() ? "" : steps.front().id;
  };
  if (const std::optional<Error> reason = reason_to_give_up(so_far)) return end_at_once(first_open(), *reason);
  std::string wrong = run_.recipe.steps.empty() ? "" : run_.recipe.steps.front().id;
  Result<std::vector<PlannedStep>> plan = make_plan(run_.recipe, facts, run_.login, self, run_.choice, &wrong);
  if (!plan) return end_at_once(wrong, plan.error());
  if (Result<void> opened = life.meet(RunSign::opened); !opened) return fail(std::move(opened).error());
  const std::chrono::milliseconds taken(run_.history.incarnations == 0 ? 0 : so_far.elapsed_ms);
  return Loop(*this, std::move(*plan), facts, life, taken).run();
}

}  // namespace gpustrap
