#include "agent/prefetcher.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/fetch.h"
#include "agent/fetched_ahead.h"
#include "agent/identity.h"

namespace gpustrap {
namespace {

constexpr auto kRoomEvery = std::chrono::seconds(1);
constexpr auto kShareEvery = std::chrono::milliseconds(100);
constexpr std::size_t kNeverAgain = std::numeric_limits<std::size_t>::max();
/// Killed, a process is gone within milliseconds, unless it waits for a disk that does not answer: the run does not wait with it.
constexpr auto kEndLimit = std::chrono::seconds(2);
/// Removing what nobody wants any more is many files at most.
constexpr auto kTidyLimit = std::chrono::seconds(20);
/// How the process ends that looks at how much room is left.
constexpr int kIsShort = 1;

/// Kinds that fetch one file whose address the recipe has, and those that apt and pip fetch packages for.
bool fetches_files(StepKind kind) {
  return kind == StepKind::apt || kind == StepKind::download || kind == StepKind::archive || kind == StepKind::deb ||
         kind == StepKind::conda || kind == StepKind::cuda || kind == StepKind::pip;
}

bool may_be_fetched(const PlannedStep& step) {
  return fetches_files(step.entry.kind) && step.skip_reason.empty() && step.secrets.empty() && !step.ahead.folder.empty();
}

/// Somebody waits for its file, and can be made to wait a little longer.
bool is_awaited(const LiveStep& step) {
  return step.is(StepPhase::running) && step.fetches && !step.must_finish && step.kill_at == LineShare::Clock::time_point{};
}

}  // namespace

void Prefetcher::start_what_can() {
  // From when dpkg is at work for one step, the lists are as the next one will find them, and the network has nothing to do.
  const bool dpkg_works =
      std::any_of(steps_.begin(), steps_.end(), [](const auto& step) { return step->is(StepPhase::running) && step->must_finish; });
  if (fetchers_.size() >= kAtOnce) return;
  const std::size_t ended_now = ended();
  std::vector<std::size_t> wanted;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const auto& step = steps_[i];
    const StepKind kind = step->plan.entry.kind;
    if ((kind == StepKind::require || kind == StepKind::wait) && !step->is(StepPhase::ended)) break;
    if (!step->is(StepPhase::waiting) || !may_be_fetched(step->plan)) continue;
    const auto tried = tried_.find(step.get());
    if ((kind == StepKind::apt && !dpkg_works) || (tried != tried_.end() && tried->second >= ended_now)) continue;
    wanted.push_back(i);
  }
  if (wanted.empty()) return;
  const std::vector<std::chrono::seconds> behind = work_behind();
  std::stable_sort(wanted.begin(), wanted.end(), [&](std::size_t a, std::size_t b) { return behind[a] > behind[b]; });
  for (const std::size_t index : wanted) {
    if (fetchers_.size() >= kAtOnce) return;
    const LiveStep* step = steps_[index].get();
    tried_[step] = kNeverAgain;
    Result<StepProcess> process =
        start_step_process(step->plan, StepWork::fetch_ahead, context_.facts, context_.login, context_.mirror, context_.secrets);
    if (!process) return;  // the step's own process will say why none can be started
    process->output.reset();
    process->errors.reset();
    OutputRelay relay(step->plan.entry.id, context_.say, OutputRelay::kCap, &context_.secrets.masking());
    fetchers_.push_back(std::make_unique<Fetcher>(Fetcher{step, std::move(*process), std::move(relay), ended_now}));
    start_room_watch();
    share_anew();
  }
}

void Prefetcher::make_way(const LiveStep& step) {
  tried_[&step] = kNeverAgain;
  come_.erase(&step);
  const Fetcher* fetcher = fetcher_of(step);
  if (fetcher != nullptr && !fetcher->has_begun) end(*fetcher);
}

void Prefetcher::watch(std::vector<pollfd>& polled) const {
  for (const auto& fetcher : fetchers_) {
    if (fetcher->process.records.valid()) polled.push_back({fetcher->process.records.get(), POLLIN, 0});
  }
}

Result<void> Prefetcher::listen() {
  for (std::size_t i = 0; i < fetchers_.size();) {
    Fetcher& fetcher = *fetchers_[i];
    std::vector<StepRecord> records;
    if (const Result<bool> came = fetcher.relay.read(fetcher.process, records); !came) return fail(came.error());
    for (StepRecord& record : records) {
      if (Result<void> taken = take(fetcher, std::move(record)); !taken) return taken;
    }
    if (fetcher.process.records.valid()) {
      ++i;
      continue;
    }
    // What it needs may be there only once a step before it is done: the Python of an environment, a list of packages.
    if (!fetcher.has_said && fetcher.step->plan.entry.kind == StepKind::pip) tried_[fetcher.step] = fetcher.ended_before;
    end(fetcher);  // it closes its records by ending
    share_anew();
  }
  if (const auto now = std::chrono::steady_clock::now(); room_watch_ > 0 && now >= next_look_) {
    next_look_ = now + kRoomEvery;
    make_room();
  }
  share_line();
  return {};
}

std::chrono::steady_clock::time_point Prefetcher::wakes_at() const {
  const bool is_due = is_shared_ || next_share_ == std::chrono::steady_clock::time_point{};
  return is_due ? next_share_ : std::chrono::steady_clock::time_point::max();
}

Result<void> Prefetcher::take(Fetcher& fetcher, StepRecord record) {
  fetcher.has_said = true;
  if (std::holds_alternative<StepIsFetched>(record.body)) fetcher.has_begun = true;
  if (auto* downloaded = std::get_if<Downloaded>(&record.body)) {
    downloaded->ahead = true;
    return context_.say(std::move(*downloaded));
  }
  if (auto* wanted = std::get_if<FileWanted>(&record.body)) return context_.say(std::move(*wanted));
  if (const auto* said = std::get_if<StepSaid>(&record.body)) return fetcher.relay.say("log", "fetching ahead: " + said->line + "\n");
  // A step that runs shows the same by itself.
  auto* progress = std::get_if<Progress>(&record.body);
  if (progress != nullptr) fetcher.come.count(*progress);
  if (progress != nullptr && fetcher.step->is(StepPhase::waiting)) {
    progress->text = "fetching ahead " + progress->text;
    context_.show(std::move(*progress));
  }
  return {};
}

/// The first that is told of a file may count what an earlier run has left of it.
void Prefetcher::Come::count(const Progress& progress) {
  if (file == progress.text && progress.done >= file_at) bytes += progress.done - file_at;
  file = progress.text;
  file_at = progress.done;
  file_total = progress.total;
  counted_at = LineShare::Clock::now();
}

std::size_t Prefetcher::ended() const {
  return static_cast<std::size_t>(std::count_if(steps_.begin(), steps_.end(), [](const auto& step) { return step->is(StepPhase::ended); }));
}

std::vector<std::chrono::seconds> Prefetcher::work_behind() const {
  std::vector<BranchStep> steps;
  for (const auto& step : steps_)
    steps.push_back({step->plan.entry.kind, step->plan.after, step->is(StepPhase::ended) || !step->plan.skip_reason.empty()});
  return gpustrap::work_behind(steps);
}

Prefetcher::Fetcher* Prefetcher::fetcher_of(const LiveStep& step) const {
  const auto found = std::find_if(fetchers_.begin(), fetchers_.end(), [&](const auto& fetcher) { return fetcher->step == &step; });
  return found == fetchers_.end() ? nullptr : found->get();
}

/// Not of what programs fetch, such as apt and git: of that nothing is known.
std::vector<Transfer> Prefetcher::transfers() const {
  std::vector<Transfer> transfers;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const LiveStep& step = *steps_[i];
    const Fetcher* fetcher = fetcher_of(step);
    const auto own = come_.find(&step);
    if (fetcher == nullptr && !is_awaited(step)) continue;
    const Come come = fetcher != nullptr ? fetcher->come : own != come_.end() ? own->second : Come{};
    transfers.push_back(
        {i, {}, is_awaited(step) ? LineShare::Awaited::yes : LineShare::Awaited::no, come.bytes, come.missing(), come.counted_at});
  }
  if (transfers.size() < 2) return transfers;
  const std::vector<std::chrono::seconds> behind = work_behind();
  for (Transfer& transfer : transfers) transfer.behind = behind[transfer.step];
  return transfers;
}

void Prefetcher::share_line() {
  const auto now = LineShare::Clock::now();
  if (now < next_share_) return;
  next_share_ = now + kShareEvery;
  std::vector<Transfer> transfers = this->transfers();
  is_shared_ = transfers.size() > 1;
  const std::size_t may_go = order_.look(transfers, now);
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    LiveStep& step = *steps_[i];
    const auto transfer = std::find_if(transfers.begin(), transfers.end(), [&](const Transfer& one) { return one.step == i; });
    const auto place = static_cast<std::size_t>(transfer - transfers.begin());
    // Who passes its file on to other hosts is not held back: a step may wait for it there.
    const bool has_turn = transfer == transfers.end() || place < may_go || step.plan.shares >= 0;
    const auto goes = [&](LineShare::Clock::time_point stopped_at) { return has_turn || now - stopped_at >= kBreathEvery; };
    if (Fetcher* fetcher = fetcher_of(step)) {
      let(*fetcher, has_turn || (fetcher->is_stopped && goes(fetcher->stopped_at)), now);
    } else if (step.held_since != LineShare::Clock::time_point{}) {
      let(step, goes(step.held_since), now);
    } else if (!has_turn) {
      let(step, false, now);
      Come& come = come_[&step];
      const std::string text = fmt::format("{}, after {}", come.file, steps_[transfers.front().step]->plan.entry.id);
      if (!come.file.empty()) context_.show({step.plan.entry.id, text, come.file_at, come.file_total, 0});
    }
  }
}

/// A stopped process takes nothing from its connection, whose server then waits, too.
void Prefetcher::let(Fetcher& fetcher, bool go, LineShare::Clock::time_point now) {
  if (fetcher.is_stopped != go) return;
  fetcher.is_stopped = !go;
  fetcher.stopped_at = now;
  ::kill(-fetcher.process.pid, go ? SIGCONT : SIGSTOP);
}

/// The time that it is held back counts neither for its timeout nor as silence.
void Prefetcher::let(LiveStep& step, bool go, LineShare::Clock::time_point now) {
  const bool is_held = step.held_since != LineShare::Clock::time_point{};
  if (is_held != go) return;
  ::kill(-step.process.pid, go ? SIGCONT : SIGSTOP);
  if (go) {
    step.attempt_started += now - step.held_since;
    step.last_sign = now;
  }
  step.held_since = go ? LineShare::Clock::time_point{} : now;
}

/// Looks at the disk from a process of its own: a login's home may be on a network disk that has stopped to answer.
void Prefetcher::start_room_watch() {
  if (room_watch_ > 0) return;
  std::vector<std::string> folders;
  for (const auto& step : steps_) {
    const std::string& folder = step->plan.ahead.folder;
    if (may_be_fetched(step->plan) && std::find(folders.begin(), folders.end(), folder) == folders.end()) folders.push_back(folder);
  }
  const pid_t runner = ::getpid();
  room_watch_ = ::fork();
  if (room_watch_ > 0) ::setpgid(room_watch_, room_watch_);  // it may be ended before it has run at all
  if (room_watch_ != 0) return;
  begin_step_process(runner);
  context_.secrets.clear();
  close_descriptors_from(0);
  while (std::none_of(folders.begin(), folders.end(), is_short_of_room)) std::this_thread::sleep_for(kRoomEvery);
  ::_exit(kIsShort);
}

/// What steps need now comes before what later ones will.
void Prefetcher::make_room() {
  int status = 0;
  if (::waitpid(room_watch_, &status, WNOHANG) != room_watch_) return;
  room_watch_ = -1;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != kIsShort) return;
  for (const auto& step : steps_) tried_[step.get()] = kNeverAgain;
  stop();
  clear();
}

void Prefetcher::stop() {
  const auto now = LineShare::Clock::now();
  for (const auto& step : steps_) let(*step, true, now);
  next_share_ = LineShare::Clock::time_point::max();  // until somebody stands still for a file again
  std::vector<pid_t> pids;
  for (const auto& fetcher : fetchers_) pids.push_back(fetcher->process.pid);
  if (room_watch_ > 0) pids.push_back(std::exchange(room_watch_, -1));
  fetchers_.clear();
  for (const pid_t pid : pids) ::kill(-pid, SIGKILL);
  (void)await_end(pids, kEndLimit);
}

void Prefetcher::clear() {
  std::map<std::string, const Identity*> folders;
  for (const auto& step : steps_) {
    if (!step->plan.ahead.folder.empty()) folders.emplace(step->plan.ahead.folder, &step->plan.identity);
  }
  for (const auto& [folder, identity] : folders) tidy(folder, *identity);
}

/// With the user's own rights: a link planted in a home leads root nowhere.
void Prefetcher::tidy(const std::string& folder, const Identity& identity) {
  const auto remove = [&] {
    clear_ahead(folder);
    remove_old_parts(parent_of(folder));
  };
  if (identity.uid == ::geteuid()) return remove();
  const pid_t child = ::fork();
  if (child == 0) {
    if (become(identity)) remove();
    ::_exit(0);
  }
  std::vector<pid_t> pids{child};
  if (child > 0) (void)await_end(pids, kTidyLimit);
}

void Prefetcher::end(const Fetcher& fetcher) {
  const auto found = std::find_if(fetchers_.begin(), fetchers_.end(), [&](const auto& one) { return one.get() == &fetcher; });
  std::vector<pid_t> pids{fetcher.process.pid};
  ::kill(-pids.front(), SIGKILL);
  fetchers_.erase(found);
  (void)await_end(pids, kEndLimit);
}

}  // namespace gpustrap
