#include "agent/run_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/identity.h"
#include "agent/journal.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/members.h"

namespace gpustrap {
namespace {

/// Among so many of the newest runs the one that a request repeats is looked for: a few recipes may take turns on a host.
constexpr std::size_t kRunsLookedAt = 4;

constexpr std::int64_t kSecond = 1'000'000'000;

std::int64_t time_of(const struct stat& info) { return std::int64_t{info.st_mtim.tv_sec} * kSecond + info.st_mtim.tv_nsec; }

/// Runs by the time of their run.json, the oldest first. store_run() sees to it that a newer run has a later time.
std::vector<std::pair<std::int64_t, std::string>> runs_by_age(const AgentPaths& paths) {
  std::vector<std::pair<std::int64_t, std::string>> runs;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(paths.runs().c_str()), ::closedir);
  if (!directory) return runs;
  while (const dirent* entry = ::readdir(directory.get())) {
    struct stat info {};
    // run.json is written once, when the run is made. It is empty where the power went before anything was changed.
    if (!is_run_id(entry->d_name) || ::stat((paths.run(entry->d_name) + "/run.json").c_str(), &info) != 0 || info.st_size == 0) continue;
    runs.emplace_back(time_of(info), entry->d_name);
  }
  std::sort(runs.begin(), runs.end());
  return runs;
}

struct flock whole_file(short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

}  // namespace

bool is_run_id(const std::string& id) {
  const auto allowed = [](unsigned char c) { return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-'; };
  return !id.empty() && id.size() <= 64 && std::isalnum(static_cast<unsigned char>(id[0])) != 0 &&
         std::all_of(id.begin(), id.end(), allowed);
}

std::string journal_path(const AgentPaths& paths, const std::string& id) { return paths.run(id) + "/events.jsonl"; }

Result<void> store_run(const AgentPaths& paths, const RunDescription& run) {
  if (!is_run_id(run.id)) return fail(ErrorCode::protocol, fmt::format("\"{}\" cannot be a run's id", strip_control(run.id)));
  if (Result<void> made = make_directories(paths.runs(), 0700); !made) return made;
  if (::mkdir(paths.run(run.id).c_str(), 0700) != 0) {
    if (errno == EEXIST) return fail(ErrorCode::busy, fmt::format("there is a run {} already", run.id), "run the same command again");
    return fail(errno_error(errno, "making " + paths.run(run.id)));
  }
  Json document;
  document["id"] = run.id;
  document["mode"] = run.mode == RunMode::plan ? "plan" : "apply";
  write_choice(run.choice, document);
  document["login"] = to_json(run.login);
  write_network(run.network, document);
  document["recipe"] = write_recipe(run.recipe);
  // Not synced: a run that finds nothing to do needs no disk. See sync_run().
  const std::string path = paths.run(run.id) + "/run.json";
  const UniqueFd file(::open((path + ".new").c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return fail(errno_error(errno, "writing " + path));
  if (Result<void> wrote = write_all(file.get(), to_line(document)); !wrote) return fail(std::move(wrote).error().in("writing " + path));
  // A clock that was set back does not make this run an old one.
  struct stat info {};
  const auto earlier = runs_by_age(paths);
  if (!earlier.empty() && ::fstat(file.get(), &info) == 0 && time_of(info) <= earlier.back().first) {
    const timespec later{earlier.back().first / kSecond + 1, 0};  // some file systems keep no part of a second
    (void)::futimens(file.get(), std::array{later, later}.data());
  }
  if (::rename((path + ".new").c_str(), path.c_str()) != 0) return fail(errno_error(errno, "writing " + path));
  return {};
}

void sync_run(const AgentPaths& paths, const std::string& id) {
  for (const std::string& path : {paths.run(id) + "/run.json", paths.run(id), paths.runs()}) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.valid()) (void)::fsync(file.get());  // not every file system can sync a folder
  }
}

Result<RunDescription> read_run(const AgentPaths& paths, const std::string& id) {
  if (!is_run_id(id)) return fail(ErrorCode::protocol, fmt::format("\"{}\" cannot be a run's id", strip_control(id)));
  Result<std::string> text = read_file(paths.run(id) + "/run.json");
  if (!text) return fail(std::move(text).error());
  Result<Json> document = parse_line(*text);
  if (!document) return fail(std::move(document).error().in("reading run " + id));
  try {
    RunDescription run;
    run.id = document->at("id").get<std::string>();
    run.mode = document->at("mode") == "plan" ? RunMode::plan : RunMode::apply;
    Result<Identity> login = identity_from_json(document->at("login"));
    if (!login) return fail(std::move(login).error().in("reading run " + id));
    run.login = std::move(*login);
    std::vector<FieldProblem> problems;
    Members members(*document, "a run");
    read_choice(members, run.choice);
    read_network(members, run.network);
    if (members.error()) return fail(*members.error());
    run.recipe = read_recipe(document->at("recipe"), Placeholders::allowed, problems);
    if (!problems.empty()) return fail(Error(ErrorCode::recipe, problems.front().message).in("reading run " + id));
    return run;
  } catch (const Json::exception& error) {
    return fail(ErrorCode::protocol, fmt::format("run {} is not readable: {}", id, error.what()), "start it anew with `gpustrap up`");
  }
}

Result<RunDescription> load_run(const AgentPaths& paths, const std::string& id) {
  Result<RunDescription> run = read_run(paths, id);
  if (!run) return run;
  Result<RunHistory> history = RunHistory::read(journal_path(paths, id));
  if (!history) return fail(std::move(history).error().in("reading run " + id));
  run->history = std::move(*history);
  return run;
}

bool fill_from_earlier_run(const AgentPaths& paths, RunRequest& request) {
  const std::vector<std::string> ids = runs_newest_first(paths);
  for (std::size_t i = 0; i < std::min(ids.size(), kRunsLookedAt); ++i) {
    Result<RunDescription> earlier = read_run(paths, ids[i]);
    if (!earlier) continue;
    RunRequest same;
    same.mode = earlier->mode;
    same.recipe = std::move(earlier->recipe);
    same.choice = std::move(earlier->choice);
    same.network = std::move(earlier->network);
    if (digest_of(same) != request.same_as) continue;
    same.run = request.run;
    same.shares = request.shares;
    request = std::move(same);
    return true;
  }
  return false;
}

std::optional<std::string> newest_run(const AgentPaths& paths) {
  const auto runs = runs_by_age(paths);
  if (runs.empty()) return std::nullopt;
  return runs.back().second;
}

std::vector<std::string> runs_newest_first(const AgentPaths& paths) {
  std::vector<std::string> ids;
  for (const auto& [when, id] : runs_by_age(paths)) ids.push_back(id);
  std::reverse(ids.begin(), ids.end());
  return ids;
}

void drop_run(const AgentPaths& paths, const std::string& id) {
  if (is_run_id(id)) (void)remove_tree_at(AT_FDCWD, paths.run(id));  // it would be shown as interrupted, no more
}

void prune_runs(const AgentPaths& paths, std::size_t keep) {
  const auto runs = runs_by_age(paths);
  for (std::size_t i = 0; i + keep < runs.size(); ++i) {
    (void)remove_tree_at(AT_FDCWD, paths.run(runs[i].second));  // an old run that cannot be removed costs room, no more
  }
}

Result<RunSummary> summarize_run(const AgentPaths& paths, const std::string& id) {
  if (!is_run_id(id)) return fail(ErrorCode::protocol, fmt::format("\"{}\" cannot be a run's id", strip_control(id)));
  RunSummary summary;
  summary.run = id;
  Result<JournalTail> tail = JournalTail::open(journal_path(paths, id), 0, JournalTail::Growth::ignored);
  if (!tail) return fail(std::move(tail).error());
  bool finished = false;
  while (true) {
    Result<std::string> lines = tail->next();
    if (!lines) return fail(std::move(lines).error());
    if (lines->empty()) break;
    std::string_view rest = *lines;
    while (!rest.empty()) {
      const std::size_t newline = rest.find('\n');
      const std::string_view line = rest.substr(0, newline);
      rest.remove_prefix(newline + 1);
      ++summary.last;
      // Output is nearly all of a journal and says nothing here.
      if (line.find("\"event\":\"step_output\"") < 64) continue;
      Result<Json> document = parse_line(line);
      if (!document) continue;
      Result<Event> event = event_from_json(*document);
      if (!event) continue;
      if (const auto* started = std::get_if<RunStarted>(&event->body)) {
        summary.recipe = started->recipe;
        summary.digest = started->digest;
        summary.mode = started->mode;
        summary.since_ms = event->time_ms;
      } else if (std::get_if<RunnerStarted>(&event->body) != nullptr) {
        ++summary.incarnations;
        summary.steps.clear();
        summary.waiting.clear();
      } else if (const auto* waiting = std::get_if<WaitingForSecret>(&event->body)) {
        summary.waiting[waiting->step] = waiting->secrets;
      } else if (const auto* step = std::get_if<StepStarted>(&event->body)) {
        summary.step = step->step;
        summary.waiting.erase(step->step);
      } else if (auto* done = std::get_if<StepFinished>(&event->body)) {
        if (summary.step == done->step) summary.step.clear();
        summary.steps.push_back(std::move(*done));
      } else if (auto* cancel = std::get_if<CancelRequested>(&event->body)) {
        summary.cancelled_by = std::move(cancel->by);
      } else if (const auto* end = std::get_if<RunFinished>(&event->body)) {
        finished = true;
        summary.waiting.clear();
        summary.end = end->end == RunFinished::End::ok ? "ok" : end->end == RunFinished::End::failed ? "failed" : "cancelled";
      }
    }
  }
  const std::optional<RunLock::Holder> holder = RunLock::holder(paths);
  summary.state = finished ? "finished" : holder && holder->run == id ? "running" : "interrupted";
  return summary;
}

Json to_json(const RunSummary& summary) {
  Json document;
  document["run"] = summary.run;
  document["recipe"] = summary.recipe;
  document["digest"] = summary.digest;
  document["mode"] = summary.mode == RunMode::plan ? "plan" : "apply";
  document["state"] = summary.state;
  document["end"] = summary.end;
  document["since_ms"] = summary.since_ms;
  document["step"] = summary.step;
  if (!summary.cancelled_by.empty()) document["cancelled_by"] = summary.cancelled_by;
  if (!summary.waiting.empty()) document["waiting_for_secrets"] = summary.waiting;
  Json counts = Json::object();
  document["steps"] = Json::array();
  for (const StepFinished& step : summary.steps) {
    const std::string outcome(outcome_name(step.outcome));
    counts[outcome] = counts.value(outcome, 0) + 1;
    document["steps"].push_back({{"step", step.step}, {"outcome", outcome}, {"reason", step.reason}});
  }
  document["counts"] = std::move(counts);
  return document;
}

Result<std::optional<RunLock>> RunLock::take(const AgentPaths& paths, const std::string& run, const std::string& from) {
  if (Result<void> made = make_directories(paths.state, 0700); !made) return fail(std::move(made).error());
  UniqueFd file(::open(paths.lock().c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return fail(errno_error(errno, "opening " + paths.lock()));
  struct flock lock = whole_file(F_WRLCK);
  if (::fcntl(file.get(), F_SETLK, &lock) != 0) {
    if (errno == EACCES || errno == EAGAIN) return std::optional<RunLock>();
    return fail(errno_error(errno, "locking " + paths.lock()));
  }
  const std::string text = run + "\n" + from + "\n";
  if (Result<void> wrote = write_all(file.get(), text); !wrote) return fail(std::move(wrote).error().in("writing " + paths.lock()));
  // Only what is longer is cut: to give blocks back waits for the disk, and the text is nearly always as long as the one before.
  struct stat status {};
  if (::fstat(file.get(), &status) != 0 ||
      (status.st_size > static_cast<off_t>(text.size()) && ::ftruncate(file.get(), static_cast<off_t>(text.size())) != 0)) {
    return fail(errno_error(errno, "writing " + paths.lock()));
  }
  return std::optional<RunLock>(RunLock(std::move(file)));
}

std::optional<RunLock::Holder> RunLock::holder(const AgentPaths& paths) {
  const UniqueFd file(::open(paths.lock().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!file.valid()) return std::nullopt;
  struct flock lock = whole_file(F_WRLCK);
  if (::fcntl(file.get(), F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) return std::nullopt;
  Holder holder;
  holder.pid = lock.l_pid;
  if (Result<std::string> text = read_all(file.get(), 4096)) {
    const std::vector<std::string> lines = split(*text, '\n');
    if (!lines.empty()) holder.run = lines[0];
    if (lines.size() > 1) holder.from = lines[1];
  }
  return holder;
}

}  // namespace gpustrap
