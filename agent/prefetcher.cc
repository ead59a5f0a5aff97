#include "agent/prefetcher.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "agent/base/file.h"
#include "agent/fetched_ahead.h"
#include "agent/identity.h"

namespace gpustrap {
namespace {

constexpr auto kRoomEvery = std::chrono::seconds(1);

/// Kinds that fetch one file whose address the recipe has, and those that apt fetches packages for.
bool fetches_files(StepKind kind) {
  return kind == StepKind::apt || kind == StepKind::download || kind == StepKind::archive || kind == StepKind::deb ||
         kind == StepKind::conda || kind == StepKind::cuda;
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
  for (const auto& step : steps_) {
    const StepKind kind = step->plan.entry.kind;
    if (fetchers_.size() >= kAtOnce) return;
    if ((kind == StepKind::require || kind == StepKind::wait) && !step->is(StepPhase::ended)) return;
    if (!step->is(StepPhase::waiting) || !may_be_fetched(step->plan)) continue;
    if ((kind == StepKind::apt && !dpkg_works) || !tried_.insert(step.get()).second) continue;
    Result<StepProcess> process =
        start_step_process(step->plan, StepWork::fetch_ahead, context_.facts, context_.login, context_.mirror, context_.secrets);
    if (!process) return;  // the step's own process will say why none can be started
    process->output.reset();
    process->errors.reset();
    OutputRelay relay(step->plan.entry.id, context_.say, OutputRelay::kCap, &context_.secrets.masking());
    fetchers_.push_back(std::make_unique<Fetcher>(Fetcher{step.get(), std::move(*process), std::move(relay)}));
  }
}

void Prefetcher::make_way(const LiveStep& step) {
  tried_.insert(&step);
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
    end(fetcher.process);  // it closes its records by ending
    fetchers_.erase(fetchers_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  if (const auto now = std::chrono::steady_clock::now(); !tried_.empty() && now >= next_look_) {
    next_look_ = now + kRoomEvery;
    make_room();
  }
  return {};
}

Result<void> Prefetcher::take(Fetcher& fetcher, StepRecord record) {
  if (std::holds_alternative<StepIsFetched>(record.body)) fetcher.has_begun = true;
  if (auto* downloaded = std::get_if<Downloaded>(&record.body)) {
    downloaded->ahead = true;
    return context_.say(std::move(*downloaded));
  }
  if (auto* wanted = std::get_if<FileWanted>(&record.body)) return context_.say(std::move(*wanted));
  if (const auto* said = std::get_if<StepSaid>(&record.body)) return fetcher.relay.say("log", "fetching ahead: " + said->line + "\n");
  // A step that runs shows the same by itself.
  if (auto* progress = std::get_if<Progress>(&record.body); progress != nullptr && fetcher.step->is(StepPhase::waiting)) {
    progress->text = "fetching ahead " + progress->text;
    context_.show(std::move(*progress));
  }
  return {};
}

/// What steps need now comes before what later ones will.
void Prefetcher::make_room() {
  const auto there = places(steps_);
  if (std::none_of(there.begin(), there.end(), [](const auto& place) { return is_short_of_room(place.first); })) return;
  for (const auto& step : steps_) tried_.insert(step.get());
  stop();
  clear();
}

void Prefetcher::stop() {
  for (const auto& fetcher : fetchers_) end(fetcher->process);
  fetchers_.clear();
}

void Prefetcher::clear() {
  for (const auto& [folder, identity] : places(steps_)) {
    const pid_t child = ::fork();
    if (child == 0) {
      // With the user's own rights: a link planted in a home leads root nowhere.
      if (become(*identity)) clear_ahead(folder);
      ::_exit(0);
    }
    while (child > 0 && ::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {}
  }
}

void Prefetcher::end(StepProcess& process) {
  ::kill(-process.pid, SIGKILL);
  while (::waitpid(process.pid, nullptr, 0) < 0 && errno == EINTR) {}
  process = StepProcess{};
}

}  // namespace gpustrap
