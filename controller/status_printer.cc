#include "controller/status_printer.h"

#include <algorithm>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/display_width.h"
#include "controller/host_text.h"
#include "controller/screen_text.h"
#include "controller/user_config.h"

namespace gpustrap {
namespace {

using std::chrono::milliseconds;

/// Ten frames a second: fast enough for the eye, cheap on a slow link.
constexpr milliseconds kFrame{100};
/// Off a terminal something is said at least this often, so that a CI job is not taken for dead.
constexpr milliseconds kPlainHeartbeat{30'000};
/// Off a terminal nobody has said how wide a line may be; this is a long one that an editor still shows.
constexpr std::size_t kPlainColumns = 160;
/// The rate of a transfer that has said nothing for this long is no longer true.
constexpr milliseconds kRateIsOld{3'000};
constexpr std::size_t kLastLines = 20;
/// A plan shows more of what a step says: diffs and package lists are its point.
constexpr std::size_t kPlanLines = 200;

}  // namespace

StatusPrinter::StatusPrinter(Console console, Title title, Detail detail)
    : console_(std::move(console)),
      title_(std::move(title)),
      detail_(detail),
      live_(console_.live && detail == Detail::normal),
      printer_(console_.write, console_.size),
      started_(console_.now()),
      last_frame_(started_ - kFrame),
      last_line_(started_) {}

// ---- what happened

void StatusPrinter::activity(const Activity& activity) {
  resume();
  const bool is_new = !activity_ || activity_->text != activity.text;
  activity_ = activity;
  if (live_) return is_new ? redraw() : tick();
  if (is_new && detail_ != Detail::quiet && !activity.text.empty()) plain(clean(activity.text));
}

void StatusPrinter::event(const Event& event) {
  resume();
  last_event_ms_ = std::exchange(event_ms_, event.time_ms);
  const std::int64_t offset = console_.now().count() - event.time_ms;
  clock_offset_ = clock_offset_ ? std::min(*clock_offset_, offset) : offset;
  if (std::holds_alternative<RunStarted>(event.body)) run_started_ms_ = event.time_ms;
  if (const auto* start = std::get_if<StepStarted>(&event.body)) step(start->step).started_ms = event.time_ms;
  std::visit([this](const auto& body) { take(body); }, event.body);
  tick();
}

void StatusPrinter::take(const RunStarted& started) {
  run_ = started;
  plan_ = started.mode == RunMode::plan;
  if (title_.recipe.empty()) title_.recipe = started.recipe;
  activity_.reset();
  for (const StepTitle& title : started.steps) step(title.id).kind = title.kind;
  std::string host = join(describe_host(started.facts), ", ");
  plain(fmt::format("{} on {}{}", clean(title_.recipe), clean(title_.destination), host.empty() ? "" : ": " + clean(host)));
  for (const std::string& line : describe_network(started.network)) plain(clean(line));
}

void StatusPrinter::take(const RunnerStarted& started) {
  const std::string boot = std::exchange(boot_id_, started.boot_id);
  if (started.incarnation <= 1) return;
  const std::int64_t away = event_ms_ - rebooting_ms_.value_or(last_event_ms_);
  const bool was_expected = rebooting_ms_.has_value();
  rebooting_ms_.reset();
  footer_.clear();
  if (boot == started.boot_id) {
    notice(fmt::format("the run was taken up again on the host (start {})", started.incarnation));
  } else {
    const std::string after =
        away < 120'000 ? fmt::format("{} s", std::max<std::int64_t>(away, 0) / 1000) : human_duration(milliseconds{away});
    notice(was_expected ? fmt::format("back after {}", after) : fmt::format("the host was restarted; back after {}", after));
  }
  for (const std::string& id : started.interrupted) {
    StepView& view = step(id);
    view.phase = StepView::Phase::pending;
    view.progress.reset();
    view.reason = "interrupted";
    view.now.clear();
    plain(view, "interrupted; it is looked at afresh");
  }
}

void StatusPrinter::take(const Rebooting& rebooting) {
  rebooting_ms_ = event_ms_;
  StepView& view = step(rebooting.step);
  view.now = clean(first_line(rebooting.reason));
  view.progress.reset();
  plain(view, fmt::format("rebooting{} ({})", ellipsis(), rebooting.reason));
}

void StatusPrinter::take(const WaitingForSecret& waiting) {
  StepView& view = step(waiting.step);
  view.reason = fmt::format("waiting for the secret{} {}", waiting.secrets.size() == 1 ? "" : "s", join(waiting.secrets, ", "));
  plain(view, view.reason);
}

void StatusPrinter::take(const StepStarted& started) {
  StepView& view = step(started.step);
  view.phase = StepView::Phase::running;
  view.progress.reset();  // of what was fetched ahead of it
  view.now.clear();
}

void StatusPrinter::take(const StepChecked& checked) {
  StepView& view = step(checked.step);
  view.reason = checked.reason;
  if (plan_ && detail_ != Detail::verbose) return;  // the same is said at once, with what would be done about it
  if (!checked.satisfied || detail_ == Detail::verbose) plain(view, checked.satisfied ? "satisfied: " + checked.reason : checked.reason);
}

void StatusPrinter::take(const StepOutput& output) {
  StepView& view = step(output.step);
  std::string_view text = output.text;
  if (text.ends_with('\n')) text.remove_suffix(1);
  plain_output(view, text);
  // A step may print a million lines; only the last are ever shown.
  const std::size_t kept = plan_ ? kPlanLines : kLastLines;
  std::size_t begin = text.size();
  for (std::size_t lines = 0; begin > 0 && (text[begin - 1] != '\n' || ++lines < kept); --begin) {}
  for (const std::string& line : split(text.substr(begin), '\n')) {
    view.last_lines.push_back(clean(line));
    if (view.last_lines.size() > kept) view.last_lines.pop_front();
    if (!trim(line).empty()) view.now = clean(trim(line));
  }
}

void StatusPrinter::take(const StepTruncated& truncated) {
  plain(step(truncated.step), fmt::format("its output beyond {} is not kept", human_size(truncated.kept)));
}

void StatusPrinter::take(const Downloaded& downloaded) {
  StepView& view = step(downloaded.step);
  if (!downloaded.ahead || view.phase != StepView::Phase::pending) return;
  view.progress.reset();
  view.now = fmt::format("fetched ahead, {}", human_bytes(downloaded.bytes));
}

void StatusPrinter::take(const StepRetry& retry) {
  StepView& view = step(retry.step);
  view.now =
      fmt::format("attempt {} failed: {}; again in {}", retry.attempt, clean(first_line(retry.error.message)), human_duration(retry.wait));
  view.progress.reset();
  plain(view, view.now);
}

void StatusPrinter::take(const StepFinished& finished) {
  rebooting_ms_.reset();  // it came to nothing
  StepView& view = step(finished.step);
  view.phase = StepView::Phase::finished;
  view.outcome = finished.outcome;
  view.reason = finished.reason.empty() && finished.error ? finished.error->message : finished.reason;
  view.elapsed = finished.elapsed;
  view.error = finished.error;
  view.progress.reset();
  std::string_view name = outcome_name(finished.outcome);
  if (finished.outcome == Outcome::would_change) name = "would change";
  plain(view, fmt::format("{}{}{} ({})", name, view.reason.empty() ? "" : ": ", first_line(view.reason), human_duration(view.elapsed)));
}

void StatusPrinter::take(const CancelRequested& cancel) {
  footer_ = fmt::format("cancelled{}; ends after the current step", cancel.by.empty() ? "" : " by " + clean(first_line(cancel.by, 80)));
  plain(footer_);
}

void StatusPrinter::take(const RunFinished&) { footer_.clear(); }

void StatusPrinter::progress(const Progress& progress) {
  StepView& view = step(progress.step);
  if (view.phase == StepView::Phase::finished) return;
  view.progress = progress;
  view.progress_at = console_.now();
  view.counts_bytes = view.counts_bytes || progress.bytes_per_s > 0;
  if (!progress.text.empty()) view.now = clean(first_line(progress.text));
  tick();
}

void StatusPrinter::connection_lost(const Error& why) {
  if (rebooting_ms_ && !ended_) return tick();  // as was said
  if (ended_) return notice(fmt::format("Connection lost ({}); trying to come back.", first_line(why.why())));
  footer_ = fmt::format("connection lost ({}); the run goes on, trying to come back", clean(first_line(why.why())));
  plain(footer_);
  tick();
}

void StatusPrinter::connection_back() {
  if (rebooting_ms_ && !ended_) return tick();  // the run itself says when it goes on
  if (ended_) return notice("Connected again.");
  footer_.clear();
  plain("connected again");
  tick();
}

void StatusPrinter::rewound(std::uint64_t seen, std::uint64_t to) {
  notice(fmt::format("The host lost its last {} events when it went down; what follows takes their place.", seen - to));
}

void StatusPrinter::notice(std::string_view sentence) {
  resume();
  if (live_)
    printer_.record(this->sentence(clean(sentence), "  "));
  else
    plain(clean(sentence));
}

void StatusPrinter::pause() {
  if (live_) printer_.draw({});
  if (!paused_) paused_ = console_.now();
}

void StatusPrinter::resume() {
  if (!paused_) return;
  started_ += console_.now() - *paused_;
  last_line_ = console_.now();
  paused_.reset();
}

void StatusPrinter::tick() {
  resume();
  const milliseconds now = console_.now();
  if (ended_) return;
  if (live_) {
    if (now - last_frame_ >= kFrame) redraw();
    return;
  }
  if (detail_ == Detail::quiet || now - last_line_ < kPlainHeartbeat) return;
  std::vector<std::string> running;
  for (const StepView& view : steps_) {
    if (view.phase != StepView::Phase::running) continue;
    const std::string amount = amount_of(view);
    running.push_back(fmt::format("{} ({}{}{})", clean(view.id), human_duration(elapsed_of(view)), amount.empty() ? "" : ", ", amount));
  }
  plain(running.empty() ? "still waiting" : "still running: " + join(running, ", "));
}

void StatusPrinter::ending(const Ending& ending) {
  if (ended_) return;
  ended_ = true;
  resume();
  activity_.reset();
  footer_.clear();
  std::vector<std::string> lines;
  if (live_) {
    printer_.draw({});
    if (run_) lines = block(Extent::whole);
  }
  for (auto part : {plan_details(), summary(ending)}) lines.insert(lines.end(), part.begin(), part.end());
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  if (!text.empty()) console_.write(text);
}

// ---- how it is drawn

StepView& StatusPrinter::step(const std::string& id) {
  const auto [place, is_new] = index_.try_emplace(id, steps_.size());
  if (is_new) {
    steps_.emplace_back();
    steps_.back().id = id;
  }
  return steps_[place->second];
}

void StatusPrinter::plain(std::string_view text) {
  if (live_ || detail_ == Detail::quiet) return;
  last_line_ = console_.now();
  console_.write(fmt::format("{:>6}  {}\n", clock_text(so_far()), text));
}

void StatusPrinter::plain_output(const StepView& step, std::string_view text) {
  if (live_ || detail_ == Detail::quiet) return;
  const std::string id = clean(step.id);
  const std::string head = fmt::format("{:>6}  {} | ", clock_text(so_far()), id);
  std::size_t room = std::string_view::npos;
  if (detail_ != Detail::verbose) {
    const std::size_t columns = console_.person ? std::max<std::size_t>(console_.size().columns, 40) - 1 : kPlainColumns;
    const std::size_t used = display_width(id) + std::string_view("h:mm:ss   | ").size();
    room = columns > used + 20 ? columns - used : 20;
  }
  std::string lines;  // written at once: an event may hold a thousand of them
  lines.reserve(text.size() * 2);
  while (true) {
    const std::size_t newline = text.find('\n');
    const std::string_view line = text.substr(0, newline);
    const bool is_simple = line.size() <= room && std::all_of(line.begin(), line.end(), [](char c) { return c >= 0x20 && c < 0x7F; });
    lines += head;
    if (is_simple)
      lines += line;
    else
      lines += room == std::string_view::npos ? clean(line) : cut_to_width(clean(line), room, ellipsis());
    lines += '\n';
    if (newline == std::string_view::npos) break;
    text.remove_prefix(newline + 1);
  }
  last_line_ = console_.now();
  console_.write(lines);
}

void StatusPrinter::plain(const StepView& step, std::string_view text, std::string_view mark) {
  plain(fmt::format("{}{} {}", clean(step.id), mark, clean(text)));
}

void StatusPrinter::redraw() {
  last_frame_ = console_.now();
  printer_.draw(block(Extent::fits));
}

std::string StatusPrinter::clean(std::string_view text) const { return shown_on(console_, text); }

std::string StatusPrinter::paint(std::string_view colour, std::string text) const { return painted(console_, colour, std::move(text)); }

std::string_view StatusPrinter::mark_of(const StepView& step) const {
  const bool u = console_.unicode;
  if (step.phase == StepView::Phase::pending) return u ? "·" : ".";
  if (step.phase == StepView::Phase::running) return u ? "▸" : ">";
  switch (step.outcome) {
    case Outcome::unchanged: return u ? "✓" : "=";
    case Outcome::changed: return u ? "✓" : "+";
    case Outcome::would_change: return "~";
    case Outcome::unknown: return "?";
    case Outcome::failed: return u ? "✗" : "x";
    case Outcome::skipped: return "-";
  }
  return " ";
}

std::string_view StatusPrinter::colour_of(const StepView& step) const {
  if (step.phase == StepView::Phase::pending) return kDim;
  if (step.phase == StepView::Phase::running) return kCyan;
  switch (step.outcome) {
    case Outcome::unchanged:
    case Outcome::changed: return kGreen;
    case Outcome::failed: return kRed;
    case Outcome::would_change:
    case Outcome::unknown: return kYellow;
    case Outcome::skipped: return kDim;
  }
  return "";
}

milliseconds StatusPrinter::so_far() const {
  if (run_started_ms_ == 0 || !clock_offset_) return since_start();
  return std::max(since_start(), milliseconds{console_.now().count() - *clock_offset_ - run_started_ms_});
}

std::vector<std::string> StatusPrinter::sentence(const std::string& text, std::string_view indent) const {
  if (!live_) return {text};
  return wrap_to_width(text, std::max<std::size_t>(console_.size().columns, 20) - 1, indent);
}

milliseconds StatusPrinter::elapsed_of(const StepView& step) const {
  if (step.phase == StepView::Phase::finished) return step.elapsed;
  if (step.started_ms == 0 || !clock_offset_) return milliseconds{0};
  return milliseconds{std::max<std::int64_t>(console_.now().count() - *clock_offset_ - step.started_ms, 0)};
}

std::string StatusPrinter::amount_of(const StepView& step) const {
  if (!step.progress || !step.counts_bytes) return "";
  const Progress& p = *step.progress;
  std::string amount = p.total > 0 ? byte_fraction(p.done, p.total) : human_bytes(p.done);
  const milliseconds silent = console_.now() - step.progress_at;
  if (silent > kRateIsOld)
    amount += fmt::format(" {} nothing for {}s", console_.unicode ? "·" : "-", silent.count() / 1000);
  else if (p.bytes_per_s > 0)
    amount += fmt::format(" {} {}/s", console_.unicode ? "·" : "-", human_bytes(p.bytes_per_s));
  return amount;
}

std::string StatusPrinter::footer() const {
  if (!rebooting_ms_ || !clock_offset_) return footer_;
  return fmt::format("rebooting{} {}", ellipsis(), clock_text(milliseconds{console_.now().count() - *clock_offset_ - *rebooting_ms_}));
}

std::string StatusPrinter::header(std::size_t columns) const {
  const std::string clock = clock_text(so_far());
  std::string title =
      clean(title_.recipe.empty() ? title_.destination
                                  : fmt::format("{} {} {}", title_.recipe, console_.unicode ? "→" : "->", title_.destination));
  if (!console_.unicode && !title_.recipe.empty()) title = fmt::format("{} -> {}", clean(title_.recipe), clean(title_.destination));
  title = cut_to_width(title, columns > clock.size() + 2 ? columns - clock.size() - 2 : columns, ellipsis());
  const std::size_t used = display_width(title) + clock.size();
  std::string facts = run_ ? clean(join(describe_host(run_->facts), console_.unicode ? " · " : ", ")) : "";
  if (!console_.unicode && run_) facts = clean(join(describe_host(run_->facts), ", "));
  const std::size_t room = columns > used + 4 ? columns - used - 4 : 0;
  facts = room >= 8 && !facts.empty() ? "   " + cut_to_width(facts, room - 1, ellipsis()) : "";
  const std::size_t gap = columns > used + display_width(facts) ? columns - used - display_width(facts) : 1;
  return paint(kBold, title) + facts + std::string(gap, ' ') + clock;
}

std::string StatusPrinter::line_of(const StepView& step, std::size_t columns) const {
  std::size_t longest = 0;
  for (const StepView& other : steps_) longest = std::max(longest, display_width(clean(other.id)));
  const std::size_t name_columns = std::min(longest, std::max<std::size_t>(columns / 4, 8));
  const bool running = step.phase == StepView::Phase::running;

  std::string time;
  if (step.phase != StepView::Phase::pending && !(step.phase == StepView::Phase::finished && step.outcome == Outcome::skipped)) {
    time = running ? human_duration(milliseconds{elapsed_of(step).count() / 1000 * 1000}) : human_duration(step.elapsed);
    if (running && elapsed_of(step) < milliseconds{10'000}) time = fmt::format("{}s", elapsed_of(step).count() / 1000);
  }
  std::string right = fmt::format("{:>6}", time);
  if (running && step.progress && step.progress->total > 0) {
    const std::uint64_t done = std::min(step.progress->done, step.progress->total);
    const auto percent = static_cast<unsigned>(100.0 * static_cast<double>(done) / static_cast<double>(step.progress->total));
    right = fmt::format("{:>3}% {}", percent, right);
  }

  const std::size_t fixed = 4 + name_columns + 2 + 1 + right.size();
  const std::size_t room = columns > fixed ? columns - fixed : 0;
  const bool active = running || step.phase == StepView::Phase::pending;  // a step to come may be fetched ahead
  std::string text = clean(first_line(active && !step.now.empty() ? step.now : step.reason, 400));
  const std::string amount = active ? amount_of(step) : "";
  if (!amount.empty() && display_width(amount) + 12 <= room) {
    text = cut_to_width(text, room - display_width(amount) - 1, ellipsis()) + " " + amount;
  } else if (!amount.empty() && display_width(amount) <= room) {
    text = amount;
  }
  std::string name = fit_to_width(clean(step.id), name_columns, ellipsis());
  if (step.phase == StepView::Phase::pending) name = paint(kDim, name);
  return fmt::format("  {} {}  {} {}", paint(colour_of(step), std::string(mark_of(step))), name, fit_to_width(text, room, ellipsis()),
                     right);
}

std::vector<bool> StatusPrinter::shown_steps(std::size_t room) const {
  std::vector<bool> shown(steps_.size(), steps_.size() <= room);
  if (steps_.size() <= room) return shown;
  room -= std::min<std::size_t>(room, 2);  // "12 done" above, "9 to come" below
  const auto show = [&](std::size_t i) {
    if (room > 0 && !shown[i]) {
      shown[i] = true;
      --room;
    }
  };
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const bool failed = steps_[i].phase == StepView::Phase::finished && steps_[i].outcome == Outcome::failed;
    if (failed || steps_[i].phase == StepView::Phase::running) show(i);
  }
  // Then what comes next, and what was done last.
  std::size_t next = 0;
  std::size_t last = steps_.size();
  while (room > 0 && (next < steps_.size() || last > 0)) {
    while (next < steps_.size() && steps_[next].phase != StepView::Phase::pending) ++next;
    if (next < steps_.size()) show(next++);
    while (last > 0 && steps_[last - 1].phase != StepView::Phase::finished) --last;
    if (last > 0) show(--last);
  }
  return shown;
}

std::vector<std::string> StatusPrinter::block(Extent extent) const {
  const TerminalSize size = console_.size();
  const std::size_t columns = std::max<std::size_t>(size.columns, 20) - 1;  // the last column would wrap
  std::vector<std::string> lines = {header(columns)};
  if (run_) {
    for (const std::string& way : describe_network(run_->network))
      lines.push_back(paint(kDim, cut_to_width("  " + clean(way), columns, ellipsis())));
  }
  const std::string last_line = footer();
  const std::size_t around = 1 + lines.size() + (last_line.empty() ? 0 : 1) + (activity_ ? 1 : 0);  // header, cursor
  const std::size_t room = extent == Extent::whole ? steps_.size() : size.rows > around + 3 ? size.rows - around : 3;
  const std::vector<bool> shown = shown_steps(room);
  std::size_t done_hidden = 0;
  std::size_t other_hidden = 0;
  std::vector<std::string> middle;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    if (shown[i])
      middle.push_back(line_of(steps_[i], columns));
    else if (steps_[i].phase == StepView::Phase::finished)
      ++done_hidden;
    else
      ++other_hidden;
  }
  if (done_hidden > 0) lines.push_back(paint(kDim, fmt::format("  {} {} done", console_.unicode ? "✓" : "+", done_hidden)));
  lines.insert(lines.end(), middle.begin(), middle.end());
  if (other_hidden > 0) lines.push_back(paint(kDim, fmt::format("  {} {} more", console_.unicode ? "·" : ".", other_hidden)));
  if (activity_ && !activity_->text.empty()) {
    std::string text = clean(activity_->text);
    if (activity_->total > 0) text += fmt::format(" {}", byte_fraction(activity_->done, activity_->total));
    lines.push_back(fmt::format("  {} {}", paint(kCyan, console_.unicode ? "▸" : ">"), cut_to_width(text, columns - 4, ellipsis())));
  }
  if (!last_line.empty()) lines.push_back(paint(kYellow, cut_to_width("  ! " + last_line, columns, ellipsis())));
  return lines;
}

}  // namespace gpustrap
