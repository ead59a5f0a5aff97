#include "controller/run_log.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <random>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/event_line.h"
#include "agent/protocol/json.h"
#include "controller/host_text.h"
#include "controller/user_config.h"

namespace gpustrap {
namespace {

constexpr std::size_t kRunsKept = 100;
/// Of a run's id in the name of another host's folder, which has to be an id as well.
constexpr std::size_t kLongestOriginal = 56;
/// Of a step's name, which stands before each of its lines; and as many steps as a recipe may have are counted each for itself.
constexpr std::size_t kLongestStep = 100, kMostSteps = 1000;
/// What may wait to be written, where somebody else says when.
constexpr std::size_t kMostKept = 64U << 10U;
/// The ids of the runs that one command began on many hosts have this much in common.
constexpr std::string_view kCommandId = "20260801-141503-7f3a";

std::tm utc(std::time_t seconds) {
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return parts;
}

std::vector<std::string> runs_in(const std::string& directory) {
  std::vector<std::string> runs;
  const std::unique_ptr<DIR, int (*)(DIR*)> handle(::opendir(directory.c_str()), ::closedir);
  if (!handle) return runs;
  while (const dirent* entry = ::readdir(handle.get())) {
    if (is_run_id(entry->d_name)) runs.emplace_back(entry->d_name);
  }
  std::sort(runs.begin(), runs.end());
  return runs;
}

/// Only names that this file writes are removed; a folder with anything else in it stays.
void forget_oldest_in(const std::string& directory) {
  std::vector<std::string> runs = runs_in(directory);
  std::size_t kept = 0;
  while (!runs.empty()) {
    const std::string command = runs.back().substr(0, kCommandId.size());
    const auto first = std::find_if(runs.begin(), runs.end(), [&](const std::string& run) { return run.starts_with(command); });
    if (++kept > kRunsKept) break;
    runs.erase(first, runs.end());
  }
  for (const std::string& name : runs) {
    const std::string run = directory + "/" + name;
    ::unlink((run + "/events.jsonl").c_str());
    ::unlink((run + "/log.txt").c_str());
    ::unlink((run + "/host").c_str());
    ::rmdir(run.c_str());
  }
}

std::string noted_host(const std::string& directory) { return std::string(trim(read_file(directory + "/host", 4096).value_or(""))); }

/// Whether a run's folder may be this host's: nobody's is everybody's. Another user of a host sees the same runs there.
bool is_of(std::string_view host, const std::string& directory) {
  const auto name_of = [](std::string_view one) { return one.substr(one.rfind('@') + 1); };
  const std::string noted = noted_host(directory);
  return noted.empty() || host.empty() || name_of(noted) == name_of(host);
}

Result<UniqueFd> start_file(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return fail(errno_error(errno, "writing " + path));
  return fd;
}

}  // namespace

Result<std::string> state_directory() {
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && state[0] == '/') return std::string(state) + "/gpustrap";
  if (const char* home = std::getenv("HOME"); home != nullptr && home[0] == '/') return std::string(home) + "/.local/state/gpustrap";
  return fail(ErrorCode::io, "neither XDG_STATE_HOME nor HOME names a folder for the logs of runs", "set HOME");
}

Result<void> make_own_directories(const std::string& path) {
  Result<void> made = make_directories(path, 0700);
  if (!made)
    return fail(
        std::move(made).error().with_hint("gpustrap keeps logs and known hosts below HOME: set it to a folder that you may write to"));
  return {};
}

std::string make_run_id() {
  const std::tm now = utc(std::time(nullptr));
  std::random_device random;
  return fmt::format("{:04}{:02}{:02}-{:02}{:02}{:02}-{:04x}", now.tm_year + 1900, now.tm_mon + 1, now.tm_mday, now.tm_hour, now.tm_min,
                     now.tm_sec, random() & 0xFFFFU);
}

bool is_run_id(std::string_view name) {
  const auto is_plain = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); };
  return !name.empty() && name.size() <= 64 && is_plain(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return is_plain(c) || c == '.' || c == '_' || c == '-'; });
}

RunLog::RunLog(UniqueFd events, UniqueFd text, std::string path)
    : events_(std::move(events)), text_(std::move(text)), path_(std::move(path)) {}

void RunLog::forget_oldest(const std::string& state) { forget_oldest_in(state + "/runs"); }

Result<RunLog> RunLog::create(const std::string& state, const std::string& run, std::string_view host, Forget forget) {
  if (!is_run_id(run))
    return fail(ErrorCode::protocol, fmt::format("`{}` is not the id of a run", strip_control(first_line(run, 60))),
                "the host says so of itself: `gpustrap doctor HOST` looks at it");
  const std::string runs = state + "/runs";
  std::string directory = runs + "/" + run;
  for (int copy = 2; !is_of(host, directory); ++copy) directory = fmt::format("{}/{}-{}", runs, run.substr(0, kLongestOriginal), copy);
  if (Result<void> made = make_own_directories(directory); !made) return fail(std::move(made).error().in("keeping the log of the run"));
  if (forget == Forget::oldest) forget_oldest_in(runs);
  Result<UniqueFd> events = start_file(directory + "/events.jsonl");
  if (!events) return fail(std::move(events).error());
  Result<UniqueFd> text = start_file(directory + "/log.txt");
  if (!text) return fail(std::move(text).error());
  if (!host.empty()) {
    // No disk is waited for, so that a rerun is not slower for it.
    if (const Result<UniqueFd> file = start_file(directory + "/host"))
      static_cast<void>(write_all(file->get(), std::string(host) + "\n").has_value());
  }
  return RunLog(*std::move(events), *std::move(text), directory + "/log.txt");
}

std::string host_of_run(const std::string& state, const std::string& run) {
  return is_run_id(run) ? noted_host(state + "/runs/" + run) : std::string();
}

void RunLog::say(std::int64_t time_ms, std::string_view step, std::string_view mark, std::string_view text) {
  const std::tm at = utc(static_cast<std::time_t>(time_ms / 1000));
  const std::string head = fmt::format("{:02}:{:02}:{:02}Z {}{}", at.tm_hour, at.tm_min, at.tm_sec,
                                       step.empty() ? "" : fmt::format("[{}] ", strip_control(first_line(step, kLongestStep))), mark);
  if (text.ends_with('\n')) text.remove_suffix(1);
  const std::string safe = strip_control(text);
  for (std::string_view rest = safe;;) {
    const std::size_t newline = rest.find('\n');
    text_kept_.append(head).append(rest.substr(0, newline)).append(1, '\n');
    text_end_ += static_cast<std::int64_t>(head.size() + std::min(newline, rest.size()) + 1);
    if (newline == std::string_view::npos) break;
    rest.remove_prefix(newline + 1);
  }
}

void RunLog::flush() {
  // A log that cannot be written (a full disk here) must not end the run there.
  if (!text_kept_.empty()) static_cast<void>(write_all(text_.get(), text_kept_).has_value());
  if (!events_kept_.empty()) static_cast<void>(write_all(events_.get(), events_kept_).has_value());
  text_kept_.clear();
  events_kept_.clear();
}

bool RunLog::takes(const Event& event) {
  const std::int64_t kept = end_ + text_end_;
  if (kept >= limits_.run) {
    if (!std::exchange(is_full_, true)) {
      say(event.time_ms, "", "",
          fmt::format("what follows is not kept: the host has said more than {}", human_size(static_cast<std::uint64_t>(limits_.run))));
    }
    const bool is_end = std::holds_alternative<StepFinished>(event.body) || std::holds_alternative<RunFinished>(event.body);
    return is_end && kept < limits_.run + limits_.ends;
  }
  const auto* output = std::get_if<StepOutput>(&event.body);
  if (output == nullptr) return true;
  const bool is_known = output_.size() < kMostSteps || output_.contains(output->step);
  std::int64_t& said = output_[is_known ? output->step : ""];
  if (said > limits_.step) return false;
  said += static_cast<std::int64_t>(output->text.size());
  if (said <= limits_.step) return true;
  say(event.time_ms, output->step, "", fmt::format("output beyond {} is not kept", human_size(static_cast<std::uint64_t>(limits_.step))));
  return false;
}

void RunLog::event(const Event& event, std::string_view line) {
  if (event.seq > 0 && event.seq <= begins_.size()) {
    say(event.time_ms, "", "", fmt::format("the host went down and lost what followed event {}; from there it goes on", event.seq - 1));
    flush();
    end_ = begins_[event.seq - 1];
    begins_.resize(event.seq - 1);
    is_full_ = false;
    static_cast<void>(::ftruncate(events_.get(), end_) == 0 && ::lseek(events_.get(), end_, SEEK_SET) == end_);
  }
  // Behind what was left out for good no event has its place by its number.
  if (!is_full_) begins_.push_back(end_);
  if (!takes(event)) return flush();
  events_kept_ += line;
  end_ += static_cast<std::int64_t>(line.size());
  const auto lines = [&](std::string_view step, std::string_view mark, std::string_view text) { say(event.time_ms, step, mark, text); };
  if (const auto* run = std::get_if<RunStarted>(&event.body)) {
    lines("", "", fmt::format("run {} of {} as {}: {}", run->run, run->recipe, run->login, join(describe_host(run->facts), ", ")));
    for (const std::string& way : describe_network(run->network)) lines("", "", way);
  } else if (const auto* started = std::get_if<StepStarted>(&event.body)) {
    lines(started->step, "", "started");
  } else if (const auto* checked = std::get_if<StepChecked>(&event.body)) {
    lines(checked->step, "", (checked->satisfied ? "satisfied: " : "wanted: ") + checked->reason);
  } else if (const auto* output = std::get_if<StepOutput>(&event.body)) {
    lines(output->step, "| ", output->text);
  } else if (const auto* truncated = std::get_if<StepTruncated>(&event.body)) {
    lines(truncated->step, "", fmt::format("output beyond {} was not kept", human_size(truncated->kept)));
  } else if (const auto* downloaded = std::get_if<Downloaded>(&event.body)) {
    lines(downloaded->step, "",
          fmt::format("fetched {}{}: {} in {}", downloaded->ahead ? "ahead " : "", downloaded->url, human_bytes(downloaded->bytes),
                      human_duration(downloaded->elapsed)));
  } else if (const auto* retry = std::get_if<StepRetry>(&event.body)) {
    lines(retry->step, "",
          fmt::format("attempt {} failed: {}; again in {}", retry->attempt, retry->error.message, human_duration(retry->wait)));
  } else if (const auto* finished = std::get_if<StepFinished>(&event.body)) {
    lines(finished->step, "",
          fmt::format("{}: {} ({})", outcome_name(finished->outcome), finished->reason, human_duration(finished->elapsed)));
    if (finished->error)
      lines(finished->step, "", finished->error->message + (finished->error->hint.empty() ? "" : "\n" + finished->error->hint));
  } else if (const auto* runner = std::get_if<RunnerStarted>(&event.body); runner != nullptr && runner->incarnation > 1) {
    lines("", "", fmt::format("taken up again after event {} (start {}, boot {})", runner->after, runner->incarnation, runner->boot_id));
    for (const std::string& step : runner->interrupted) lines(step, "", "interrupted; it is looked at afresh");
  } else if (const auto* rebooting = std::get_if<Rebooting>(&event.body)) {
    lines(rebooting->step, "", "the host restarts: " + rebooting->reason);
  } else if (const auto* waiting = std::get_if<WaitingForSecret>(&event.body)) {
    lines(waiting->step, "", "waiting for secrets: " + join(waiting->secrets, ", "));
  } else if (const auto* cancel = std::get_if<CancelRequested>(&event.body)) {
    lines("", "", "cancel asked for by " + cancel->by);
  } else if (const auto* end = std::get_if<RunFinished>(&event.body)) {
    lines("", "",
          fmt::format("run finished after {}: {} changed, {} unchanged, {} failed, {} skipped", human_duration(end->elapsed), end->changed,
                      end->unchanged, end->failed, end->skipped));
  }
  if (writes_ == Writes::at_once || events_kept_.size() + text_kept_.size() > kMostKept) flush();
}

}  // namespace gpustrap
