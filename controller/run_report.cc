#include "controller/run_report.h"

#include <algorithm>
#include <map>
#include <utility>
#include <variant>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/members.h"

namespace gpustrap {

std::chrono::milliseconds ReportedStep::busy() const {
  std::chrono::milliseconds sum{0};
  for (const StepSpan& span : spans) sum += span.to - span.from;
  return sum;
}

std::uint64_t ReportedDownload::bytes_per_s() const {
  const std::int64_t took = (to - from).count();
  return took <= 0 ? 0 : static_cast<std::uint64_t>(static_cast<double>(bytes) * 1000.0 / static_cast<double>(took));
}

// ---- the events

void RunReportBuilder::forget_after(std::uint64_t seq) {
  while (!noted_.empty() && noted_.back().event.seq > seq) noted_.pop_back();
}

void RunReportBuilder::count_output(const Event& event, const StepOutput& output) {
  Noted& last = noted_.back();
  last.last_ms = std::max(last.last_ms, event.time_ms);
  last.last_seq = event.seq;
  auto entry = std::find_if(last.printed.begin(), last.printed.end(), [&](const Printed& one) { return one.step == output.step; });
  if (entry == last.printed.end()) entry = last.printed.insert(last.printed.end(), Printed{output.step});
  entry->bytes += output.text.size();
  entry->lines += static_cast<std::uint64_t>(std::count(output.text.begin(), output.text.end(), '\n'));
}

void RunReportBuilder::add(const Event& event) {
  if (event.seq == 0) return;
  if (!noted_.empty() && event.seq <= std::max(noted_.back().event.seq, noted_.back().last_seq)) forget_after(event.seq - 1);
  if (const auto* output = std::get_if<StepOutput>(&event.body)) {
    if (!noted_.empty()) count_output(event, *output);
    return;
  }
  noted_.push_back({event, {}, event.time_ms, event.seq});
}

Result<void> RunReportBuilder::add_document(const Json& document) {
  if (const auto rewound = document.find("rewound"); rewound != document.end() && rewound->is_object()) {
    std::uint64_t to = 0;
    Members members(*rewound, "rewound");
    members.must("to", to);
    if (members.error()) return fail(*members.error());
    forget_after(to);
    return {};
  }
  const auto type = document.find("event");
  if (type == document.end()) return {};
  Result<Event> event = event_from_json(document);
  if (!event) return fail(std::move(event).error());
  add(*event);
  return {};
}

bool RunReportBuilder::has_run() const { return !noted_.empty() && std::holds_alternative<RunStarted>(noted_.front().event.body); }

// ---- the report

namespace {

/// A century: sums of such times are far from what a number holds.
constexpr RunTime kLongestRun = std::chrono::hours(24 * 365 * 100);

/// Turns events into the parts of a report; time comes with each.
class Telling {
 public:
  explicit Telling(RunReport& report) : report_(report) {}

  /// Times never go backwards: the host's clock may have been set meanwhile. They say what the host likes.
  void at(std::int64_t time_ms) {
    if (time_ms <= report_.began_ms) return;
    const std::uint64_t since = static_cast<std::uint64_t>(time_ms) - static_cast<std::uint64_t>(report_.began_ms);
    now_ = std::max(now_, RunTime(std::min<std::uint64_t>(since, kLongestRun.count())));
  }

  void tell(const Event& event) {
    at(event.time_ms);
    std::visit([this](const auto& body) { take(body); }, event.body);
  }

  void printed(const std::string& id, std::uint64_t bytes, std::uint64_t lines) {
    ReportedStep& one = step(id);
    one.output_bytes += bytes;
    one.output_lines += lines;
  }

  void end() {
    close_all(now_);
    report_.wall = now_;
  }

 private:
  ReportedStep& step(const std::string& id) {
    const auto known = index_of_.find(id);
    if (known != index_of_.end()) return report_.steps[known->second];
    index_of_.emplace(id, report_.steps.size());
    report_.steps.emplace_back().title.id = id;
    return report_.steps.back();
  }

  StepSpan* open_span(const std::string& id) {
    const auto open = open_.find(id);
    return open == open_.end() ? nullptr : &step(id).spans.back();
  }

  void close_all(RunTime when) {
    for (const auto& [id, began] : open_) {
      StepSpan& span = step(id).spans.back();
      span.to = std::max(span.from, when);
      span.looked = std::min(span.looked, span.to);
      span.interrupted = true;
    }
    open_.clear();
  }

  void take(const RunStarted& started) {
    report_.run = started.run;
    report_.recipe = started.recipe;
    report_.agent = started.agent;
    report_.login = started.login;
    report_.mode = started.mode;
    report_.facts = started.facts;
    boot_id_ = started.facts.boot_id;
    for (const StepTitle& title : started.steps) step(title.id).title = title;
  }

  void take(const RunnerStarted& runner) {
    if (runner.incarnation > 1) {
      ReportedRestart restart;
      restart.from = asked_ ? asked_->first : before_;
      restart.to = now_;
      restart.of_host = runner.boot_id != boot_id_;
      if (asked_) {
        restart.step = asked_->second.step;
        restart.reason = asked_->second.reason;
      }
      close_all(restart.from);
      report_.restarts.push_back(std::move(restart));
    }
    asked_.reset();
    boot_id_ = runner.boot_id;
  }

  void take(const StepStarted& started) {
    ReportedStep& one = step(started.step);
    if (StepSpan* span = open_span(started.step)) span->to = now_;
    StepSpan span;
    span.from = span.looked = span.to = now_;
    one.spans.push_back(span);
    open_[started.step] = now_;
  }

  void take(const StepChecked& checked) {
    ReportedStep& one = step(checked.step);
    if (!checked.satisfied && one.wanted.empty()) one.wanted = checked.reason;
    StepSpan* span = open_span(checked.step);
    if (span == nullptr) return;
    if (span->looked == span->from) span->looked = now_;
    span->acted = span->acted || !checked.satisfied;
  }

  void take(const StepRetry& retry) { step(retry.step).retries.push_back({now_, retry.attempt, retry.error.message, retry.wait}); }

  void take(const StepFinished& finished) {
    ReportedStep& one = step(finished.step);
    if (StepSpan* span = open_span(finished.step)) {
      span->to = now_;
      if (finished.outcome == Outcome::unchanged && !span->acted) span->looked = now_;
      open_.erase(finished.step);
    }
    // What an earlier runner of the run has changed counts as changed.
    const bool changed_before = one.outcome == Outcome::changed && finished.outcome == Outcome::unchanged;
    if (!changed_before) {
      one.outcome = finished.outcome;
      one.reason = finished.reason;
    }
    one.error = finished.error;
  }

  void take(const Rebooting& rebooting) { asked_ = {now_, rebooting}; }

  void take(const WaitingForSecret& waiting) { report_.gaps.push_back({now_, now_, "", waiting.step, true}); }

  void take(const RunFinished& finished) { report_.finished = finished; }

  void take(const Downloaded& downloaded) {
    ReportedDownload one;
    one.step = downloaded.step;
    one.url = downloaded.url;
    one.bytes = downloaded.bytes;
    one.ahead = downloaded.ahead;
    one.to = now_;
    one.from = now_ - std::clamp(downloaded.elapsed, RunTime(0), now_);
    report_.downloads.push_back(std::move(one));
  }

  template <class Other> void take(const Other&) {}

 public:
  /// Everything up to now has happened; the next event may be a later runner's.
  void pass() { before_ = now_; }

 private:
  RunReport& report_;
  RunTime now_{0}, before_{0};
  std::map<std::string, std::size_t> index_of_;
  std::map<std::string, RunTime> open_;
  std::optional<std::pair<RunTime, Rebooting>> asked_;
  std::string boot_id_;
};

/// A log where no step has `needs` or `uses` is an agent's that did not tell them, or of a recipe whose steps all need the one before.
void add_needs(RunReport& report) {
  const auto is_told = [](const ReportedStep& step) { return step.title.needs || !step.title.uses.empty(); };
  if (std::none_of(report.steps.begin(), report.steps.end(), is_told)) return;
  std::vector<std::string> usual;
  for (ReportedStep& step : report.steps) {
    step.needs = step.title.needs.value_or(usual);
    usual = {step.title.id};
  }
}

}  // namespace

RunReport RunReportBuilder::finish(std::string host) const {
  RunReport report;
  report.host = std::move(host);
  if (noted_.empty()) return report;
  report.began_ms = noted_.front().event.time_ms;
  Telling telling(report);
  for (const Noted& noted : noted_) {
    telling.tell(noted.event);
    for (const Printed& printed : noted.printed) telling.printed(printed.step, printed.bytes, printed.lines);
    telling.at(noted.last_ms);
    telling.pass();
  }
  telling.end();
  add_needs(report);
  find_where_time_went(report);
  return report;
}

}  // namespace gpustrap
