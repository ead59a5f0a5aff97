#include "agent/runner.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/plan.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/step_process.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

/// Output kept per step; what comes after is counted as truncated.
constexpr std::uint64_t kOutputCap = std::uint64_t{256} << 20U;
/// One output event carries at most this much, so that a line of JSON stays far below kMaxLine even when every byte is escaped.
constexpr std::size_t kOutputChunk = 64U << 10U;
/// A line without an end is cut here.
constexpr std::size_t kLongestOutputLine = 16U << 10U;
/// How long a step's group has to end after SIGTERM.
constexpr auto kKillGrace = std::chrono::seconds(5);
/// Between attempts of a step: 2 s, 4 s, 8 s … at most this.
constexpr auto kLongestRetryWait = std::chrono::seconds(60);

/// A look that leaves no event, when room is short.
constexpr auto kQuietLookLimit = std::chrono::seconds(30);

/// asking: it has done its part and wants the host restarted; no step starts until that is settled.
enum class Phase { waiting, running, pausing, asking, ended };

struct Live {
  PlannedStep plan;
  Phase phase = Phase::waiting;
  Outcome outcome = Outcome::skipped;
  std::int64_t attempt = 1;
  Clock::time_point started{};  ///< first attempt
  Clock::time_point attempt_started{};
  Clock::time_point last_sign{};  ///< output, record or progress: for `stall`
  Clock::time_point resume_at{};  ///< while pausing between attempts
  Clock::time_point kill_at{};    ///< SIGKILL after SIGTERM; zero: not being killed
  std::optional<Error> killed_for;
  StepProcess process;
  std::string out_rest, err_rest, record_rest;
  std::uint64_t output_bytes = 0;
  bool truncated = false;
  std::optional<StepFinished> finished;  ///< said by the process, not yet an event
  std::optional<RebootWish> wish;        ///< the same
};

/// Steps of these kinds pass or fail at once; they change nothing, whatever they find. (`wait` may go on for long, and then must be as
/// safe from a logout or a restart as what changes something.)
bool only_asks(StepKind kind) { return kind == StepKind::require || kind == StepKind::nvidia_smi; }

std::chrono::milliseconds since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
}

}  // namespace

class Runner::Loop {
 public:
  Loop(Runner& owner, std::vector<PlannedStep> plan, const Facts& facts)
      : owner_(owner), facts_(facts), started_(Clock::now()), cancel_said_(!owner.run_.history.cancelled_by.empty()) {
    for (PlannedStep& step : plan) {
      auto live = std::make_unique<Live>();
      live->plan = std::move(step);
      const auto asked = history().asked_on_boot.find(live->plan.entry.id);
      if (asked != history().asked_on_boot.end()) live->plan.asked_on_boot = asked->second;
      steps_.push_back(std::move(live));
    }
  }

  ~Loop() {
    // A journal that cannot be written ends the run; its steps must not go on unseen.
    for (const auto& step : steps_) {
      if (step->phase == Phase::running) ::kill(-step->process.pid, SIGKILL);
    }
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  Result<RunFinished> run() {
    while (true) {
      if (Result<void> started = start_what_can(); !started) return fail(std::move(started).error());
      if (going_down_ && !any(Phase::running))
        return fail(ErrorCode::cancelled, "the host is shutting down; the run goes on when it is back");
      if (Live* asking = first(Phase::asking); asking != nullptr && !any(Phase::running)) {
        if (Result<void> settled = restart_for(*asking); !settled) return fail(std::move(settled).error());
        continue;
      }
      if (!any(Phase::asking) && !any(Phase::running) && !any(Phase::pausing) && !(any(Phase::waiting) && !stopping())) break;
      if (Result<void> turned = turn(); !turned) return fail(std::move(turned).error());
    }
    return finish();
  }

 private:
  bool any(Phase phase) const {
    return std::any_of(steps_.begin(), steps_.end(), [&](const auto& step) { return step->phase == phase; });
  }
  Live* first(Phase phase) const {
    const auto found = std::find_if(steps_.begin(), steps_.end(), [&](const auto& step) { return step->phase == phase; });
    return found == steps_.end() ? nullptr : found->get();
  }
  /// After a failure or a cancel no new step starts.
  bool stopping() const { return failed_ || !owner_.cancelled_by_.empty(); }
  bool looks_only() const { return owner_.run_.mode == RunMode::plan; }

  Result<void> say(decltype(Event::body) body, Journal::Durability durability = Journal::Durability::lazy) {
    Result<std::string> line = owner_.journal_.append(std::move(body), durability);
    if (!line) return fail(std::move(line).error());
    if (owner_.hooks_.on_event) owner_.hooks_.on_event(*line);
    return {};
  }

  // ---- starting

  Result<void> start_what_can() {
    if (going_down_ || any(Phase::asking)) return {};  // a restart is a barrier to all steps
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      Live& step = *steps_[i];
      if (step.phase == Phase::pausing && Clock::now() >= step.resume_at) {
        if (Result<void> begun = begin_attempt(step); !begun) return begun;
      }
      if (step.phase != Phase::waiting) continue;
      const auto ended = [&](std::size_t before) { return steps_[before]->phase == Phase::ended; };
      if (!std::all_of(step.plan.after.begin(), step.plan.after.end(), ended)) continue;
      if (!step.plan.skip_reason.empty()) {
        if (Result<void> skipped = skip(step, step.plan.skip_reason); !skipped) return skipped;
        continue;
      }
      if (stopping() || resource_is_taken(step)) continue;
      if (Result<void> started = start(step); !started) return started;
    }
    return {};
  }

  bool resource_is_taken(const Live& step) const {
    if (step.plan.type->uses == StepType::Uses::nothing) return false;
    return std::any_of(steps_.begin(), steps_.end(), [&](const auto& other) {
      const bool active = other->phase == Phase::running || other->phase == Phase::pausing;
      return active && other->plan.type->uses == step.plan.type->uses;
    });
  }

  Result<void> start(Live& step) {
    step.started = Clock::now();
    if (Result<void> said = say(StepStarted{step.plan.entry.id}); !said) return said;
    return begin_attempt(step);
  }

  Result<void> begin_attempt(Live& step) {
    step.attempt_started = step.last_sign = Clock::now();
    step.kill_at = {};
    step.killed_for.reset();
    step.finished.reset();
    step.wish.reset();
    step.out_rest.clear();
    step.err_rest.clear();
    step.record_rest.clear();
    const StepWork work = looks_only()                                  ? StepWork::look
                          : history().done.contains(step.plan.entry.id) ? StepWork::done_before
                                                                        : StepWork::work;
    Result<StepProcess> process = start_step_process(step.plan, work, facts_, owner_.run_.login);
    if (!process) {
      StepFinished finished;
      finished.step = step.plan.entry.id;
      finished.outcome = Outcome::failed;
      finished.reason = process.error().sentence();
      finished.error = error_text(process.error());
      return end(step, std::move(finished));
    }
    step.process = std::move(*process);
    step.phase = Phase::running;
    return {};
  }

  Result<void> skip(Live& step, const std::string& reason) {
    step.phase = Phase::ended;
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
      if (step->phase != Phase::running) continue;
      watch(step->process.output.get());
      watch(step->process.errors.get());
      watch(step->process.records.get());
    }
    std::vector<int> others;
    if (owner_.hooks_.watched) owner_.hooks_.watched(others);
    for (const int fd : others) watch(fd);
    const int ready = ::poll(polled.data(), polled.size(), poll_timeout());
    if (ready < 0 && errno != EINTR) return fail(errno_error(errno, "waiting for steps"));
    for (const pollfd& entry : polled) {
      if (ready > 0 && entry.revents != 0 && std::find(others.begin(), others.end(), entry.fd) != others.end()) {
        owner_.hooks_.on_readable(entry.fd);
      }
    }
    if (!owner_.cancelled_by_.empty() && !cancel_said_) {
      cancel_said_ = true;
      if (Result<void> said = say(CancelRequested{owner_.cancelled_by_}, Journal::Durability::synced); !said) return said;
    }
    for (const auto& step : steps_) {
      if (step->phase != Phase::running) continue;
      if (Result<void> read = read_from(*step); !read) return read;
      if (Result<void> watched = watch_limits(*step); !watched) return watched;
      if (Result<void> reaped = reap(*step); !reaped) return reaped;
    }
    return {};
  }

  /// Up to the nearest limit, retry or kill; 1 s at most where a process may end without closing its pipes.
  int poll_timeout() const {
    const Clock::time_point now = Clock::now();
    Clock::time_point next = now + std::chrono::seconds(1);
    for (const auto& step : steps_) {
      if (step->phase == Phase::pausing) next = std::min(next, step->resume_at);
      if (step->phase == Phase::running && step->kill_at != Clock::time_point{}) next = std::min(next, step->kill_at);
      // Its record pipe is closed: the process is about to be reaped.
      if (step->phase == Phase::running && !step->process.records.valid()) next = std::min(next, now + std::chrono::milliseconds(2));
    }
    const auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(next - now).count();
    return static_cast<int>(std::max<std::int64_t>(wait, 0));
  }

  Result<void> read_from(Live& step) {
    if (Result<void> read = read_output(step, step.process.output, "out", step.out_rest); !read) return read;
    if (Result<void> read = read_output(step, step.process.errors, "err", step.err_rest); !read) return read;
    return read_records(step);
  }

  Result<void> read_output(Live& step, UniqueFd& fd, std::string_view stream, std::string& rest) {
    std::array<char, kOutputChunk> buffer{};
    // A few pieces a turn: one loud step does not keep the others waiting.
    for (int piece = 0; piece < 4 && fd.valid(); ++piece) {
      const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
      if (got < 0) return {};
      if (got == 0) {
        fd.reset();
        return {};
      }
      step.last_sign = Clock::now();
      rest.append(buffer.data(), static_cast<std::size_t>(got));
      if (Result<void> said = say_whole_lines(step, stream, rest); !said) return said;
    }
    return {};
  }

  Result<void> say_whole_lines(Live& step, std::string_view stream, std::string& rest) {
    while (true) {
      std::size_t end = rest.size() > kOutputChunk ? rest.rfind('\n', kOutputChunk) : rest.rfind('\n');
      if (end == std::string::npos) {
        if (rest.size() < kLongestOutputLine) return {};
        end = kLongestOutputLine - 1;
      }
      if (Result<void> said = say_output(step, stream, rest.substr(0, end + 1)); !said) return said;
      rest.erase(0, end + 1);
    }
  }

  Result<void> say_output(Live& step, std::string_view stream, std::string_view text) {
    if (step.truncated) return {};
    if (step.output_bytes + text.size() > kOutputCap) {
      step.truncated = true;
      return say(StepTruncated{step.plan.entry.id, step.output_bytes});
    }
    step.output_bytes += text.size();
    return say(StepOutput{step.plan.entry.id, std::string(stream), to_utf8(text)});
  }

  Result<void> read_records(Live& step) {
    std::array<char, 16 * 1024> buffer{};
    while (step.process.records.valid()) {
      const ssize_t got = ::read(step.process.records.get(), buffer.data(), buffer.size());
      if (got < 0) break;
      if (got == 0) {
        step.process.records.reset();
        break;
      }
      step.last_sign = Clock::now();
      step.record_rest.append(buffer.data(), static_cast<std::size_t>(got));
    }
    for (std::size_t newline = step.record_rest.find('\n'); newline != std::string::npos; newline = step.record_rest.find('\n')) {
      const std::string line = step.record_rest.substr(0, newline);
      step.record_rest.erase(0, newline + 1);
      Result<StepRecord> record = step_record_from_line(line, step.plan.entry.id);
      if (!record) continue;  // a process that says something odd has failed; reap() says so when no outcome came
      if (Result<void> taken = take(step, std::move(*record)); !taken) return taken;
    }
    return {};
  }

  Result<void> take(Live& step, StepRecord record) {
    if (auto* checked = std::get_if<StepChecked>(&record.body)) {
      const bool satisfied = checked->satisfied;
      if (!satisfied && !looks_only() && !changed_something_ && !only_asks(step.plan.entry.kind)) {
        changed_something_ = true;
        if (owner_.hooks_.before_first_change) owner_.hooks_.before_first_change(running_processes());
      }
      if (Result<void> said = say(std::move(*checked), satisfied ? Journal::Durability::lazy : Journal::Durability::synced); !said)
        return said;
      // It waits for this byte before it changes anything. Where it is gone already, its end tells.
      if (!satisfied && !looks_only()) (void)write_all(step.process.go_ahead.get(), "+");
      return {};
    }
    if (auto* said = std::get_if<StepSaid>(&record.body)) {
      return say_output(step, "log", said->line.ends_with('\n') ? said->line : said->line + "\n");
    }
    if (auto* progress = std::get_if<Progress>(&record.body)) {
      if (owner_.hooks_.on_signal) owner_.hooks_.on_signal(to_line(to_json(Signal{std::move(*progress)})));
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
      if (step->phase == Phase::running) pids.push_back(step->process.pid);
    }
    return pids;
  }

  // ---- restarts of the host

  Result<void> end_unrestarted(Live& step, const Error& why) {
    StepFinished finished;
    finished.step = step.plan.entry.id;
    finished.outcome = Outcome::failed;
    finished.reason = why.sentence();
    finished.error = error_text(why);
    return end(step, std::move(finished));
  }

  /// Journalled before it happens. This process normally ends here: the next one finds the journal and looks at the step again.
  Result<void> restart_for(Live& step) {
    const RebootWish wish = std::move(*step.wish);
    if (stopping()) {
      step.phase = Phase::ended;
      return skip(step, "not restarted, because the run ends here");
    }
    if (history().reboots_asked >= kMostReboots) {
      return end_unrestarted(step, Error(ErrorCode::unsupported,
                                         fmt::format("this run has restarted the host {} times already, and it still wants: {}",
                                                     history().reboots_asked, wish.reason),
                                         "look at why a restart does not settle it; a run restarts its host at most 3 times"));
    }
    if (!owner_.hooks_.reboot) {
      return end_unrestarted(step, Error(ErrorCode::unsupported, "this agent cannot take up its run after a restart",
                                         "restart the host by hand, and run the same command again"));
    }
    Rebooting rebooting;
    rebooting.step = step.plan.entry.id;
    rebooting.reason = wish.reason;
    rebooting.boot_id = facts_.boot_id;
    rebooting.number = history().reboots_asked + 1;
    if (Result<void> said = say(std::move(rebooting), Journal::Durability::synced); !said) return said;
    if (Result<void> asked = owner_.hooks_.reboot(wish); !asked)
      return end_unrestarted(step, Error(asked.error()).in("restarting the host"));
    const Clock::time_point deadline = Clock::now() + wish.limit;
    while (Clock::now() < deadline) {
      if (Result<void> turned = turn(); !turned) return turned;
    }
    return end_unrestarted(
        step, Error(ErrorCode::timeout, fmt::format("the host was asked to restart, and is still up after {}", human_duration(wish.limit)),
                    "look at what holds up its shutdown (systemctl list-jobs), or raise the step's `limit`"));
  }

  // ---- limits and ends

  Result<void> watch_limits(Live& step) {
    const Clock::time_point now = Clock::now();
    if (step.kill_at != Clock::time_point{}) {
      if (now >= step.kill_at) ::kill(-step.process.pid, SIGKILL);
      return {};
    }
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
  Result<void> stop(Live& step, Error why) {
    if (step.plan.type->uses == StepType::Uses::dpkg) {
      const std::string line = why.sentence() + "; packages are being installed, so it is left to finish\n";
      step.plan.entry.timeout.reset();
      step.plan.entry.stall.reset();
      return say_output(step, "log", line);
    }
    step.killed_for = std::move(why);
    step.kill_at = Clock::now() + kKillGrace;
    ::kill(-step.process.pid, SIGTERM);
    return {};
  }

  Result<void> reap(Live& step) {
    int status = 0;
    const pid_t ended = ::waitpid(step.process.pid, &status, WNOHANG);
    if (ended != step.process.pid) return {};
    // What it had written before it ended is still in the pipes.
    if (Result<void> read = read_from(step); !read) return read;
    while (step.process.output.valid() && has_input(step.process.output.get())) {
      if (Result<void> read = read_output(step, step.process.output, "out", step.out_rest); !read) return read;
    }
    while (step.process.errors.valid() && has_input(step.process.errors.get())) {
      if (Result<void> read = read_output(step, step.process.errors, "err", step.err_rest); !read) return read;
    }
    for (const auto& [stream, rest] : {std::pair<std::string_view, std::string*>{"out", &step.out_rest}, {"err", &step.err_rest}}) {
      if (rest->empty()) continue;
      if (Result<void> said = say_output(step, stream, *rest + "\n"); !said) return said;
      rest->clear();
    }
    const pid_t group = step.process.pid;
    step.process = StepProcess{};
    if (step.wish && !step.killed_for) {
      step.phase = Phase::asking;
      return {};
    }
    const bool went_well = step.finished && step.finished->outcome != Outcome::failed;
    if (!went_well && !step.killed_for && owner_.hooks_.is_shutting_down && owner_.hooks_.is_shutting_down()) {
      // No failure of its own: left open in the journal, it is looked at afresh when the host is back.
      going_down_ = true;
      step.phase = Phase::ended;
      ::kill(-group, SIGKILL);
      return say_output(step, "log", "the host is shutting down; this step is interrupted\n");
    }
    if (step.finished && !step.killed_for) return retry_or_end(step, std::move(*step.finished));
    // It ended without saying how: nothing of it may go on.
    ::kill(-group, SIGKILL);
    StepFinished finished;
    finished.step = step.plan.entry.id;
    finished.outcome = Outcome::failed;
    const Error why = step.killed_for ? *step.killed_for : crashed(status);
    finished.reason = why.sentence();
    finished.error = error_text(why);
    return retry_or_end(step, std::move(finished));
  }

  static bool has_input(int fd) {
    pollfd entry{fd, POLLIN, 0};
    return ::poll(&entry, 1, 0) > 0 && (entry.revents & (POLLIN | POLLHUP)) != 0;
  }

  static Error crashed(int status) {
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
      return {ErrorCode::internal, "its process was killed (SIGKILL)",
              "if memory ran out (dmesg | grep -i oom), use a larger instance or add swap; then run the same command again"};
    }
    if (WIFSIGNALED(status)) {
      return {ErrorCode::internal, fmt::format("its process crashed (signal {})", WTERMSIG(status)), "please report it with the run's log"};
    }
    return {ErrorCode::internal, fmt::format("its process ended without a word (exit {})", WEXITSTATUS(status)),
            "please report it with the run's log"};
  }

  Result<void> retry_or_end(Live& step, StepFinished finished) {
    const bool may_retry = finished.outcome == Outcome::failed && step.attempt <= step.plan.entry.retries && !stopping();
    if (!may_retry) return end(step, std::move(finished));
    const auto exponential = std::chrono::seconds(std::int64_t{1} << std::min<std::int64_t>(step.attempt, 20));
    const std::chrono::milliseconds wait = std::min<std::chrono::seconds>(exponential, kLongestRetryWait);
    StepRetry retry;
    retry.step = step.plan.entry.id;
    retry.attempt = static_cast<std::uint64_t>(++step.attempt);
    if (finished.error) retry.error = *finished.error;
    retry.wait = wait;
    step.phase = Phase::pausing;
    step.resume_at = Clock::now() + wait;
    return say(std::move(retry));
  }

  /// The nearest earlier step whose change this one builds on; empty where nothing before it would change.
  std::string pending_before(const Live& step) const {
    for (const std::size_t before : step.plan.after) {
      const Live& earlier = *steps_[before];
      if (earlier.outcome == Outcome::would_change || earlier.outcome == Outcome::unknown) return earlier.plan.entry.id;
      if (std::string pending = pending_before(earlier); !pending.empty()) return pending;
    }
    return {};
  }

  /// Whether every other step is satisfied already, by looks that leave no event.
  bool others_are_satisfied(const Live& asking) const {
    return std::all_of(steps_.begin(), steps_.end(), [&](const auto& step) {
      if (step.get() == &asking || !step->plan.skip_reason.empty()) return true;
      if (step->phase == Phase::ended) return step->outcome == Outcome::unchanged || step->outcome == Outcome::skipped;
      return look_quietly(step->plan) == Outcome::unchanged;
    });
  }

  Outcome look_quietly(const PlannedStep& plan) const {
    Result<StepProcess> process = start_step_process(plan, StepWork::look, facts_, owner_.run_.login);
    if (!process) return Outcome::failed;
    const Clock::time_point deadline = Clock::now() + kQuietLookLimit;
    std::string records;
    std::array<char, 16 * 1024> buffer{};
    while (Clock::now() < deadline) {
      std::array<pollfd, 3> polled = {pollfd{process->records.get(), POLLIN, 0}, pollfd{process->output.get(), POLLIN, 0},
                                      pollfd{process->errors.get(), POLLIN, 0}};
      if (::poll(polled.data(), polled.size(), 1000) < 0 && errno != EINTR) break;
      for (UniqueFd* unread : {&process->output, &process->errors}) {
        if (unread->valid() && ::read(unread->get(), buffer.data(), buffer.size()) == 0) unread->reset();
      }
      const ssize_t got = ::read(process->records.get(), buffer.data(), buffer.size());
      if (got == 0) break;
      if (got > 0) records.append(buffer.data(), static_cast<std::size_t>(got));
    }
    ::kill(-process->pid, SIGKILL);
    ::waitpid(process->pid, nullptr, 0);
    for (const std::string& line : split(records, '\n')) {
      const Result<StepRecord> record = step_record_from_line(line, plan.entry.id);
      if (!record) continue;
      if (const auto* finished = std::get_if<StepFinished>(&record->body)) return finished->outcome;
    }
    return Outcome::failed;
  }

  Result<void> end(Live& step, StepFinished finished) {
    finished.elapsed = since(step.started);
    // Room is for what has still to be done: a converged host is not told to make some.
    const bool wants_room = step.plan.entry.kind == StepKind::require && finished.error && finished.error->code == ErrorCode::no_space;
    if (wants_room && others_are_satisfied(step)) {
      finished.outcome = Outcome::unchanged;
      finished.reason = "less room than asked for, but nothing is left to do: " + finished.reason;
      finished.error.reset();
    }
    if (looks_only() && finished.outcome == Outcome::failed) {
      // A look that fails because its ground is not laid yet says nothing about the run: unknown, not failed.
      if (const std::string pending = pending_before(step); !pending.empty()) {
        finished.outcome = Outcome::unknown;
        finished.reason = fmt::format("unknown until {} has run ({})", pending, finished.reason);
        finished.error.reset();
      }
    }
    if (looks_only() && step.plan.entry.kind == StepKind::reboot && finished.outcome == Outcome::unchanged) {
      // What comes before may bring a new kernel.
      if (const std::string pending = pending_before(step); !pending.empty()) {
        finished.outcome = Outcome::unknown;
        finished.reason = fmt::format("unknown until {} has run ({})", pending, finished.reason);
      }
    }
    step.phase = Phase::ended;
    step.outcome = finished.outcome;
    if (finished.outcome == Outcome::failed && !looks_only()) failed_ = true;
    const bool changed = finished.outcome != Outcome::unchanged;
    return say(std::move(finished), changed ? Journal::Durability::synced : Journal::Durability::lazy);
  }

  Result<RunFinished> finish() {
    RunFinished finished;
    std::string failed_step;
    for (const auto& step : steps_) {
      if (step->phase == Phase::ended && step->outcome == Outcome::failed && failed_step.empty()) failed_step = step->plan.entry.id;
    }
    for (const auto& step : steps_) {
      if (step->phase == Phase::waiting) {
        const std::string why = failed_step.empty() ? "the run was cancelled" : fmt::format("not started, because {} failed", failed_step);
        if (Result<void> skipped = skip(*step, why); !skipped) return fail(std::move(skipped).error());
      }
      switch (step->outcome) {
        // What an earlier runner of this run has changed was changed by the run.
        case Outcome::unchanged: ++(history().changed.contains(step->plan.entry.id) ? finished.changed : finished.unchanged); break;
        case Outcome::changed: ++finished.changed; break;
        case Outcome::would_change: ++finished.would_change; break;
        case Outcome::unknown: ++finished.unknown; break;
        case Outcome::failed: ++finished.failed; break;
        case Outcome::skipped: ++finished.skipped; break;
      }
    }
    if (finished.failed > 0)
      finished.end = RunFinished::End::failed;
    else if (!owner_.cancelled_by_.empty())
      finished.end = RunFinished::End::cancelled;
    finished.elapsed = std::max(since(started_), since_run_started());
    if (Result<void> said = say(finished, Journal::Durability::synced); !said) return fail(std::move(said).error());
    return finished;
  }

  const RunHistory& history() const { return owner_.run_.history; }
  /// By the host's clock, which may jump; 0 where that says nothing, and for the first runner.
  std::chrono::milliseconds since_run_started() const {
    if (history().started_ms == 0) return std::chrono::milliseconds(0);
    const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch());
    return std::max(now - std::chrono::milliseconds(history().started_ms), std::chrono::milliseconds(0));
  }

  Runner& owner_;
  const Facts& facts_;
  Clock::time_point started_;
  std::vector<std::unique_ptr<Live>> steps_;
  bool failed_ = false;
  bool cancel_said_ = false;
  bool changed_something_ = false;
  bool going_down_ = false;
};

Runner::Runner(RunDescription run, Journal journal, RunnerHooks hooks)
    : run_(std::move(run)), journal_(std::move(journal)), hooks_(std::move(hooks)), cancelled_by_(run_.history.cancelled_by) {}
Runner::~Runner() = default;

void Runner::cancel(const std::string& by) {
  if (cancelled_by_.empty()) cancelled_by_ = by.empty() ? "someone" : by;
}

Result<RunFinished> Runner::run(const Facts& facts, const Identity& self) {
  ::signal(SIGPIPE, SIG_IGN);  // a step may die before it reads its go-ahead
  const auto say = [&](decltype(Event::body) body) -> Result<void> {
    Result<std::string> line = journal_.append(std::move(body), Journal::Durability::synced);
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
    started.facts = facts;
    for (const StepEntry& step : run_.recipe.steps) started.steps.push_back({step.id, std::string(step_kind_name(step.kind)), step.name});
    if (Result<void> said = say(std::move(started)); !said) return fail(std::move(said).error());
  }
  RunnerStarted runner;
  runner.incarnation = run_.history.incarnations + 1;
  runner.after = before;
  runner.pid = ::getpid();
  runner.boot_id = facts.boot_id;
  runner.interrupted = run_.history.open;
  RunHistory so_far = run_.history;
  so_far.add(Event{before + 1, 0, runner});
  if (Result<void> said = say(std::move(runner)); !said) return fail(std::move(said).error());

  // Nothing is started, or nothing more: what is left is skipped, and one step carries the reason so that it is seen where people look.
  const auto end_at_once = [&](std::string step, const Error& why) -> Result<RunFinished> {
    StepFinished first;
    first.step = std::move(step);
    first.outcome = Outcome::failed;
    first.reason = why.sentence();
    first.error = error_text(why);
    RunFinished finished;
    finished.end = RunFinished::End::failed;
    finished.failed = 1;
    finished.changed = so_far.changed.size();
    finished.unchanged = so_far.done.size() - so_far.changed.size();
    const std::size_t told = finished.failed + so_far.done.size() - so_far.done.count(first.step);
    finished.skipped = run_.recipe.steps.size() > told ? run_.recipe.steps.size() - told : 0;
    if (Result<void> said = say(std::move(first)); !said) return fail(std::move(said).error());
    if (Result<void> said = say(finished); !said) return fail(std::move(said).error());
    return finished;
  };
  const auto first_open = [&]() -> std::string {
    if (!run_.history.open.empty()) return run_.history.open.front();
    const auto& steps = run_.recipe.steps;
    const auto left = std::find_if(steps.begin(), steps.end(), [&](const StepEntry& step) { return !so_far.done.contains(step.id); });
    return left != steps.end() ? left->id : steps.empty() ? "" : steps.front().id;
  };
  if (so_far.fruitless_boots > kMostReboots) {
    return end_at_once(first_open(),
                       Error(ErrorCode::internal, fmt::format("the host went down {} times in a row here", so_far.fruitless_boots),
                             "look at what this step does to the host (journalctl -b -1), then run the same command again"));
  }
  if (so_far.fruitless_starts > kMostFruitlessStarts) {
    return end_at_once(first_open(),
                       Error(ErrorCode::internal, fmt::format("the runner died {} times in a row here", so_far.fruitless_starts),
                             "look at the host's own log for what ends it (journalctl -b), then run the same command again"));
  }
  Result<std::vector<PlannedStep>> plan = make_plan(run_.recipe, facts, run_.login, self, {run_.tags});
  if (!plan) return end_at_once(run_.recipe.steps.empty() ? "" : run_.recipe.steps.front().id, plan.error());
  return Loop(*this, std::move(*plan), facts).run();
}

}  // namespace gpustrap
