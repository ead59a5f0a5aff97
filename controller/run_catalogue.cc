#include "controller/run_catalogue.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <numeric>
#include <string_view>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/wire.h"
#include "controller/display_width.h"
#include "controller/host_text.h"
#include "controller/report_files.h"
#include "controller/run_log.h"

namespace gpustrap {
namespace {

/// The first event names all steps; the last ones tell of those that failed or were skipped. What lies between is not read: it may be
/// a hundred megabytes.
constexpr std::size_t kBeginning = kMaxLine, kEnding = 256U << 10U;
constexpr std::size_t kLongestReason = 100;

std::string read_at(int fd, std::int64_t offset, std::size_t size) {
  std::string text(size, '\0');
  const ssize_t got = ::pread(fd, text.data(), size, offset);
  text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  return text;
}

std::optional<Event> event_in(std::string_view line) {
  const Result<Json> document = parse_line(line);
  Result<Event> event = document ? event_from_json(*document) : fail(document.error());
  return event ? std::optional(*std::move(event)) : std::nullopt;
}

std::optional<PastRun> read_past_run(const std::string& state, const std::string& run) {
  const UniqueFd fd(::open(run_log_path(state, run).c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (!fd.valid() || ::fstat(fd.get(), &info) != 0) return std::nullopt;
  const std::string beginning = read_at(fd.get(), 0, std::min(kBeginning, static_cast<std::size_t>(info.st_size)));
  const std::optional<Event> first = event_in(std::string_view(beginning).substr(0, beginning.find('\n')));
  const auto* started = first ? std::get_if<RunStarted>(&first->body) : nullptr;
  if (started == nullptr) return std::nullopt;
  PastRun past{run, host_of_run(state, run), started->recipe, started->login, started->mode, first->time_ms};
  const std::size_t end_size = std::min(kEnding, static_cast<std::size_t>(info.st_size));
  for (const std::string& line : split(read_at(fd.get(), info.st_size - static_cast<std::int64_t>(end_size), end_size), '\n')) {
    // Lines of output are many, and none of them is wanted; the first line may be cut.
    if (!line.starts_with("{\"event\":\"step_finished\"") && !line.starts_with("{\"event\":\"run_finished\"")) continue;
    const std::optional<Event> event = event_in(line);
    if (!event) continue;
    if (const auto* end = std::get_if<RunFinished>(&event->body)) past.finished = *end;
    const auto* step = std::get_if<StepFinished>(&event->body);
    if (step != nullptr && step->outcome == Outcome::failed && past.failed_step.empty())
      past.failed_step = fmt::format("{}: {}", step->step, step->error ? step->error->message : step->reason);
  }
  return past;
}

std::string local_time(std::int64_t time_ms) {
  const auto seconds = static_cast<std::time_t>(time_ms / 1000);
  std::tm parts{};
  ::localtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min);
}

std::string outcome_text(const PastRun& run) {
  if (!run.finished) return "not seen to its end";
  const RunFinished& end = *run.finished;
  std::string text = end.end == RunFinished::End::ok ? "ok" : end.end == RunFinished::End::failed ? "failed" : "cancelled";
  if (run.mode == RunMode::plan) text = "plan";
  text += " in " + human_duration(end.elapsed);
  std::vector<std::string> counts;
  for (const auto& [count, what] : {std::pair{end.changed, "changed"},
                                    {end.would_change, "would change"},
                                    {end.unknown, "unknown"},
                                    {end.unchanged, "unchanged"},
                                    {end.failed, "failed"},
                                    {end.skipped, "skipped"}}) {
    if (count > 0) counts.push_back(fmt::format("{} {}", count, what));
  }
  if (!counts.empty()) text += ": " + join(counts, ", ");
  if (!run.failed_step.empty()) text += "; " + first_line(run.failed_step, kLongestReason);
  return text;
}

}  // namespace

Result<std::vector<PastRun>> past_runs(const std::string& state, const std::vector<std::string>& hosts) {
  std::vector<PastRun> past;
  const std::vector<std::string> runs = logged_runs(state);
  for (auto run = runs.rbegin(); run != runs.rend(); ++run) {
    if (!hosts.empty()) {
      const std::string host = host_of_run(state, *run);
      if (std::none_of(hosts.begin(), hosts.end(), [&](const std::string& word) { return is_called(host, word); })) continue;
    }
    if (std::optional<PastRun> one = read_past_run(state, *run)) past.push_back(*std::move(one));
  }
  if (past.empty() && !hosts.empty()) {
    return fail(ErrorCode::not_found, fmt::format("no run on {} is logged on this machine", strip_control(join(hosts, ", "))),
                "`gpustrap history` shows those that are; `gpustrap attach HOST` brings a host's last run here");
  }
  return past;
}

std::string history_text(const std::vector<PastRun>& runs, std::size_t columns) {
  if (runs.empty()) return "No run is logged on this machine yet.\n";
  std::vector<std::vector<std::string>> rows;
  std::vector<std::size_t> widths(4, 0);
  for (const PastRun& run : runs) {
    rows.push_back({run.id, local_time(run.began_ms), run.host, run.recipe, outcome_text(run)});
    for (std::string& cell : rows.back()) cell = strip_control(cell);
    for (std::size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], display_width(rows.back()[i]));
  }
  std::string text;
  const std::size_t shortest_end = 20;
  const bool is_narrow = columns > 0 && std::accumulate(widths.begin(), widths.end(), 2 * widths.size()) + shortest_end > columns;
  for (const std::vector<std::string>& row : rows) {
    if (is_narrow) {
      text += fmt::format("{}  {}\n  {}  {}  {}\n", row[0], row[2], row[1], row[3], row[4]);
      continue;
    }
    for (std::size_t i = 0; i < widths.size(); ++i) {
      if (widths[i] > 0) text += fit_to_width(row[i], widths[i]) + "  ";
    }
    text += row.back() + "\n";
  }
  return text;
}

Json history_document(const std::vector<PastRun>& runs) {
  Json list = Json::array();
  for (const PastRun& run : runs) {
    Json one = {{"run", run.id},
                {"host", run.host},
                {"recipe", run.recipe},
                {"login", run.login},
                {"mode", run_mode_names().at(static_cast<std::size_t>(run.mode))},
                {"began_ms", run.began_ms},
                {"finished", nullptr}};
    if (run.finished) {
      one["finished"] = to_json(Event{0, 0, *run.finished});
      for (const char* of_event : {"event", "seq", "time_ms"}) one["finished"].erase(of_event);
    }
    if (!run.failed_step.empty()) one["failed_step"] = run.failed_step;
    list.push_back(std::move(one));
  }
  return {{"version", 1}, {"runs", std::move(list)}};
}

}  // namespace gpustrap
