#include "agent/prefetcher.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "agent/base/file.h"
#include "agent/fetch.h"
#include "agent/fetched_ahead.h"
#include "agent/identity.h"

namespace gpustrap {
namespace {

constexpr auto kRoomEvery = std::chrono::seconds(1);
constexpr auto kShareEvery = std::chrono::milliseconds(100);
constexpr std::size_t kNeverAgain = std::numeric_limits<std::size_t>::max();

/// Kinds that fetch one file whose address the recipe has, and those that apt and pip fetch packages for.
bool fetches_files(StepKind kind) {
  return kind == StepKind::apt || kind == StepKind::download || kind == StepKind::archive || kind == StepKind::deb ||
         kind == StepKind::conda || kind == StepKind::cuda || kind == StepKind::pip;
}

bool may_be_fetched(const PlannedStep& step) {
  return fetches_files(step.entry.kind) && step.skip_reason.empty() && step.secrets.empty() && !step.ahead.folder.empty();
}

/// Folders where something may lie, each with one whose it is.
std::map<std::string, const Identity*> places(const LiveSteps& steps) {
  std::map<std::string, const Identity*> places;
  for (const auto& step : steps) {
    if (may_be_fetched(step->plan) && path_exists(step->plan.ahead.folder)) places.emplace(step->plan.ahead.folder, &step->plan.identity);
  }
  return places;
}

}  // namespace

void Prefetcher::start_what_can() {
  // From when dpkg is at work for one step, the lists are as the next one will find them, and the network has nothing to do.
  const bool dpkg_works =
      std::any_of(steps_.begin(), steps_.end(), [](const auto& step) { return step->is(StepPhase::running) && step->must_finish; });
  if (fetchers_.size() >= kAtOnce) return;
  const std::size_t ended_now = ended();
  std::vector<const LiveStep*> wanted;
  for (const auto& step : steps_) {
    const StepKind kind = step->plan.entry.kind;
    if ((kind == StepKind::require || kind == StepKind::wait) && !step->is(StepPhase::ended)) break;
    if (!step->is(StepPhase::waiting) || !may_be_fetched(step->plan)) continue;
    const auto tried = tried_.find(step.get());
    if ((kind == StepKind::apt && !dpkg_works) || (tried != tried_.end() && tried->second >= ended_now)) continue;
    wanted.push_back(step.get());
  }
  if (wanted.empty()) return;
  const std::vector<std::size_t> far = distances();
  std::stable_sort(wanted.begin(), wanted.end(), [&](const auto* a, const auto* b) { return far[index_of(*a)] < far[index_of(*b)]; });
  for (const LiveStep* step : wanted) {
    if (fetchers_.size() >= kAtOnce) return;
    tried_[step] = kNeverAgain;
    Result<StepProcess> process =
        start_step_process(step->plan, StepWork::fetch_ahead, context_.facts, context_.login, context_.mirror, context_.secrets);
    if (!process) return;  // the step's own process will say why none can be started
    process->output.reset();
    process->errors.reset();
    OutputRelay relay(step->plan.entry.id, context_.say, OutputRelay::kCap, &context_.secrets.masking());
    fetchers_.push_back(std::make_unique<Fetcher>(Fetcher{step, std::move(*process), std::move(relay), ended_now}));
    share_anew();
  }
}

void Prefetcher::make_way(const LiveStep& step) {
  tried_[&step] = kNeverAgain;
  const auto found = std::find_if(fetchers_.begin(), fetchers_.end(), [&](const auto& fetcher) { return fetcher->step == &step; });
  if (found == fetchers_.end() || (*found)->has_begun) return;
  end((*found)->process);
  fetchers_.erase(found);
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
    end(fetcher.process);  // it closes its records by ending
    fetchers_.erase(fetchers_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  if (const auto now = std::chrono::steady_clock::now(); !tried_.empty() && now >= next_look_) {
    next_look_ = now + kRoomEvery;
    make_room();
  }
  share_line();
  return {};
}

std::chrono::steady_clock::time_point Prefetcher::wakes_at() const {
  return fetchers_.empty() ? std::chrono::steady_clock::time_point::max() : next_share_;
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
  if (progress != nullptr) count(fetcher, *progress);
  if (progress != nullptr && fetcher.step->is(StepPhase::waiting)) {
    progress->text = "fetching ahead " + progress->text;
    context_.show(std::move(*progress));
  }
  return {};
}

/// The first that is told of a file may count what an earlier run has left of it.
void Prefetcher::count(Fetcher& fetcher, const Progress& progress) {
  const bool goes_on = fetcher.file == progress.text && progress.done >= fetcher.file_at;
  const std::uint64_t came = goes_on ? progress.done - fetcher.file_at : 0;
  fetcher.file = progress.text;
  fetcher.file_at = progress.done;
  fetcher.file_total = progress.total;
  fetcher.bytes += came;
  if (!fetcher.step->fetches) for_later_ += came;
}

std::size_t Prefetcher::index_of(const LiveStep& step) const {
  const auto found = std::find_if(steps_.begin(), steps_.end(), [&](const auto& one) { return one.get() == &step; });
  return static_cast<std::size_t>(found - steps_.begin());
}

std::size_t Prefetcher::ended() const {
  return static_cast<std::size_t>(std::count_if(steps_.begin(), steps_.end(), [](const auto& step) { return step->is(StepPhase::ended); }));
}

/// For each step how many must still come one after the other before it can begin.
std::vector<std::size_t> Prefetcher::distances() const {
  std::vector<std::size_t> far(steps_.size());
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    for (const std::size_t before : steps_[i]->plan.after) {
      if (!steps_[before]->is(StepPhase::ended)) far[i] = std::max(far[i], far[before] + 1);
    }
  }
  return far;
}

/// Those that may have to hold still, the one that is needed next first, and how many of them need not. Who passes its file on to other
/// hosts is none of them: a step may wait for it there.
std::vector<Prefetcher::Fetcher*> Prefetcher::for_later(std::size_t& may_go) {
  const auto now = LineShare::Clock::now();
  may_go = LineShare::kAll;
  std::vector<Fetcher*> later;
  for (const auto& fetcher : fetchers_) {
    if (!fetcher->step->fetches && fetcher->step->plan.shares < 0) later.push_back(fetcher.get());
  }
  const std::vector<std::size_t> far = distances();
  std::stable_sort(later.begin(), later.end(),
                   [&](const auto* a, const auto* b) { return far[index_of(*a->step)] < far[index_of(*b->step)]; });
  const auto works = [](const auto& step) { return step->is(StepPhase::running) && !step->must_finish; };
  // Not for what programs fetch, such as apt and pip: of that nothing is known but what the interfaces count, which is more than files
  // have.
  const auto first = std::find_if(steps_.begin(), steps_.end(), [&](const auto& step) { return works(step) && step->fetches; });
  if (later.empty() || first == steps_.end()) {
    steps_first_.forget();
  } else {
    // What its own fetcher has brought is known; what the step fetches itself is the rest of what the interfaces count. The others are
    // heard of a little late, and what they have brought meanwhile would count for the step.
    const auto own = std::find_if(fetchers_.begin(), fetchers_.end(), [&](const auto& fetcher) { return fetcher->step == first->get(); });
    LineShare::First awaited{static_cast<std::size_t>(first - steps_.begin()), LineShare::Awaited::yes};
    if (own != fetchers_.end()) {
      awaited.bytes = (*own)->bytes;
      awaited.missing = (*own)->missing();
    } else {
      const std::uint64_t received = context_.received();
      awaited.bytes = received - std::min(received, for_later_);
      awaited.counted = LineShare::First::Counted::by_host;
    }
    may_go = steps_first_.look(awaited, now);
  }
  if (may_go != LineShare::kAll || later.size() < 2) {
    next_first_.forget();
    return later;
  }
  const std::size_t beside = next_first_.look({index_of(*later[0]->step), LineShare::Awaited::no, later[0]->bytes}, now);
  if (beside != LineShare::kAll) may_go = 1 + beside;
  return later;
}

void Prefetcher::share_line() {
  const auto now = LineShare::Clock::now();
  if (fetchers_.empty() || now < next_share_) return;
  next_share_ = now + kShareEvery;
  std::size_t may_go = 0;
  const std::vector<Fetcher*> later = for_later(may_go);
  for (const auto& fetcher : fetchers_) {
    const auto place = static_cast<std::size_t>(std::find(later.begin(), later.end(), fetcher.get()) - later.begin());
    const bool breathes = fetcher->is_stopped && now - fetcher->stopped_at >= kBreathEvery;  // until the next look
    let(*fetcher, place == later.size() || place < may_go || breathes, now);
  }
}

/// A stopped process takes nothing from its connection, whose server then waits, too.
void Prefetcher::let(Fetcher& fetcher, bool go, LineShare::Clock::time_point now) {
  if (fetcher.is_stopped != go) return;
  fetcher.is_stopped = !go;
  fetcher.stopped_at = now;
  ::kill(-fetcher.process.pid, go ? SIGCONT : SIGSTOP);
}

/// What steps need now comes before what later ones will.
void Prefetcher::make_room() {
  const auto there = places(steps_);
  if (std::none_of(there.begin(), there.end(), [](const auto& place) { return is_short_of_room(place.first); })) return;
  for (const auto& step : steps_) tried_[step.get()] = kNeverAgain;
  stop();
  clear();
}

void Prefetcher::stop() {
  for (const auto& fetcher : fetchers_) end(fetcher->process);
  fetchers_.clear();
}

void Prefetcher::clear() {
  for (const auto& [folder, identity] : places(steps_)) tidy(folder, *identity, clear_ahead);
  std::map<std::string, const Identity*> caches;
  for (const auto& step : steps_) {
    if (!step->plan.ahead.folder.empty()) caches.emplace(parent_of(step->plan.ahead.folder), &step->plan.identity);
  }
  for (const auto& [folder, identity] : caches) {
    if (!old_parts(folder).empty()) tidy(folder, *identity, remove_old_parts);
  }
}

/// With the user's own rights: a link planted in a home leads root nowhere.
void Prefetcher::tidy(const std::string& folder, const Identity& identity, void (*act)(const std::string& folder)) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (become(identity)) act(folder);
    ::_exit(0);
  }
  while (child > 0 && ::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {}
}

void Prefetcher::end(StepProcess& process) {
  ::kill(-process.pid, SIGKILL);
  while (::waitpid(process.pid, nullptr, 0) < 0 && errno == EINTR) {}
  process = StepProcess{};
}

}  // namespace gpustrap
