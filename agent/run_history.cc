#include "agent/run_history.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "agent/base/file.h"
#include "agent/journal.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/wire.h"

namespace gpustrap {
namespace {

/// Between two events that are no output. What is longer is a clock that was set, or a night in which the host was off: neither is a time
/// that the run has taken.
constexpr std::int64_t kLongestGapMs = std::int64_t{6} * 3600 * 1000;

}  // namespace

void RunHistory::add(const Event& event) {
  const std::int64_t before = std::exchange(last_ms, event.time_ms);
  const std::int64_t gap = before == 0 ? 0 : event.time_ms - before;
  if (gap > 0 && gap <= kLongestGapMs) elapsed_ms += gap;
  if (!std::holds_alternative<StepOutput>(event.body)) is_rebooting = std::holds_alternative<Rebooting>(event.body);
  if (const auto* runner = std::get_if<RunnerStarted>(&event.body)) {
    ++incarnations;
    if (incarnations > 1) ++fruitless_starts;
    if (!boot_id.empty() && runner->boot_id != boot_id) ++fruitless_boots;
    boot_id = runner->boot_id;
    open.clear();
  } else if (const auto* started = std::get_if<StepStarted>(&event.body)) {
    open.push_back(started->step);
  } else if (const auto* finished_step = std::get_if<StepFinished>(&event.body)) {
    open.erase(std::remove(open.begin(), open.end(), finished_step->step), open.end());
    if (finished_step->outcome == Outcome::changed) changed.insert(finished_step->step);
    const bool is_done = finished_step->outcome == Outcome::changed || finished_step->outcome == Outcome::unchanged;
    if (is_done && done.insert(finished_step->step).second) fruitless_boots = fruitless_starts = 0;
  } else if (const auto* rebooting = std::get_if<Rebooting>(&event.body)) {
    ++reboots_asked;
    asked_on_boot[rebooting->step] = rebooting->boot_id;
    // It has done its part: the restart does not interrupt it.
    open.erase(std::remove(open.begin(), open.end(), rebooting->step), open.end());
  } else if (const auto* cancel = std::get_if<CancelRequested>(&event.body)) {
    cancelled_by = cancel->by.empty() ? "someone" : cancel->by;
  } else if (std::holds_alternative<RunFinished>(event.body)) {
    finished = true;
  }
}

Result<RunHistory> RunHistory::read(const std::string& journal_path) {
  RunHistory history;
  if (!path_exists(journal_path)) return history;
  Result<JournalTail> tail = JournalTail::open(journal_path, 0, JournalTail::Growth::ignored);
  if (!tail) return fail(std::move(tail).error());
  while (true) {
    Result<std::string> lines = tail->next();
    if (!lines) return fail(std::move(lines).error());
    if (lines->empty()) return history;
    std::string_view rest = *lines;
    while (!rest.empty()) {
      const std::size_t newline = rest.find('\n');
      const std::string_view line = rest.substr(0, newline);
      rest.remove_prefix(newline + 1);
      // Output is nearly all of a journal and says nothing here.
      if (line.find("\"event\":\"step_output\"") < 64) continue;
      const Result<Json> document = parse_line(line);
      if (!document) continue;
      if (const Result<Event> event = event_from_json(*document)) history.add(*event);
    }
  }
}

}  // namespace gpustrap
