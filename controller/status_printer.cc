#include "controller/status_printer.h"

#include <algorithm>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/display_width.h"
#include "controller/host_text.h"

namespace gpustrap {
namespace {

using std::chrono::milliseconds;

/// Ten frames a second: fast enough for the eye, cheap on a slow link.
constexpr milliseconds kFrame{100};
/// Off a terminal something is said at least this often, so that a CI job is not taken for dead.
constexpr milliseconds kPlainHeartbeat{30'000};
constexpr std::size_t kLastLines = 20;
/// A plan shows more of what a step says: diffs and package lists are its point.
constexpr std::size_t kPlanLines = 200;

constexpr std::string_view kGreen = "32", kRed = "31", kYellow = "33", kCyan = "36", kDim = "2", kBold = "1";

std::string clock_text(milliseconds time) {
  const auto seconds = std::max<std::int64_t>(time.count(), 0) / 1000;
  if (seconds < 3600) return fmt::format("{}:{:02}", seconds / 60, seconds % 60);
  return fmt::format("{}:{:02}:{:02}", seconds / 3600, seconds % 3600 / 60, seconds % 60);
}

/// "78.4/91.2 MB": both numbers in the unit of the second.
std::string byte_fraction(std::uint64_t done, std::uint64_t total) {
  const std::string whole = human_bytes(total);
  const std::size_t space = whole.find(' ');
  const std::string part = human_bytes(done);
  const std::size_t part_space = part.find(' ');
  if (part.substr(part_space) == whole.substr(space)) return part.substr(0, part_space) + "/" + whole;
  return part + "/" + whole;
}

std::string plural(std::uint64_t count, std::string_view noun) { return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s"); }

/// "9 changed, 2 unchanged": what is zero is left out.
std::string counts_text(const RunFinished& finished) {
  std::vector<std::string> parts;
  const auto add = [&](std::uint64_t count, std::string_view what) {
    if (count > 0) parts.push_back(fmt::format("{} {}", count, what));
  };
  add(finished.failed, "failed");
  add(finished.changed, "changed");
  add(finished.would_change, "would change");
  add(finished.unknown, "unknown until it runs");
  add(finished.unchanged, "unchanged");
  add(finished.skipped, "skipped");
  return parts.empty() ? "nothing to do" : join(parts, ", ");
}

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
  const bool is_new = !activity_ || activity_->text != activity.text;
  activity_ = activity;
  if (live_) return is_new ? redraw() : tick();
  if (is_new && detail_ != Detail::quiet && !activity.text.empty()) plain(clean(activity.text));
}

void StatusPrinter::event(const Event& event) {
  const std::int64_t offset = console_.now().count() - event.time_ms;
  clock_offset_ = clock_offset_ ? std::min(*clock_offset_, offset) : offset;
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
}

void StatusPrinter::take(const RunnerStarted& started) {
  if (started.incarnation > 1) notice(fmt::format("the run was taken up again on the host (start {})", started.incarnation));
}

void StatusPrinter::take(const StepStarted& started) { step(started.step).phase = StepView::Phase::running; }

void StatusPrinter::take(const StepChecked& checked) {
  StepView& view = step(checked.step);
  view.reason = checked.reason;
  if (!checked.satisfied || detail_ == Detail::verbose) plain(view, checked.satisfied ? "satisfied: " + checked.reason : checked.reason);
}

void StatusPrinter::take(const StepOutput& output) {
  StepView& view = step(output.step);
  std::string_view text = output.text;
  if (text.ends_with('\n')) text.remove_suffix(1);
  for (const std::string& line : split(text, '\n')) {
    view.last_lines.push_back(clean(line));
    if (view.last_lines.size() > (plan_ ? kPlanLines : kLastLines)) view.last_lines.pop_front();
    if (!trim(line).empty()) view.now = clean(trim(line));
    plain(view, line, " |");
  }
}

void StatusPrinter::take(const StepTruncated& truncated) {
  plain(step(truncated.step), fmt::format("its output beyond {} is not kept", human_size(truncated.kept)));
}

void StatusPrinter::take(const StepRetry& retry) {
  StepView& view = step(retry.step);
  view.now = fmt::format("attempt {} failed: {}; again in {}", retry.attempt, clean(first_line(retry.error.message)), human_duration(retry.wait));
  view.progress.reset();
  plain(view, view.now);
}

void StatusPrinter::take(const StepFinished& finished) {
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
  view.counts_bytes = view.counts_bytes || progress.bytes_per_s > 0;
  if (!progress.text.empty()) view.now = clean(first_line(progress.text));
  tick();
}

void StatusPrinter::connection_lost(const Error& why) {
  footer_ = fmt::format("connection lost ({}); the run goes on, trying to come back", clean(first_line(why.why())));
  plain(footer_);
  tick();
}

void StatusPrinter::connection_back() {
  footer_.clear();
  plain("connected again");
  tick();
}

void StatusPrinter::notice(std::string_view sentence) {
  if (live_) {
    printer_.record({cut_to_width(clean(sentence), console_.size().columns - 1, console_.unicode ? "…" : "..")});
  } else {
    plain(clean(sentence));
  }
}

void StatusPrinter::pause() {
  if (live_) printer_.draw({});
}

void StatusPrinter::tick() {
  const milliseconds now = console_.now();
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
  console_.write(fmt::format("{:>6}  {}\n", clock_text(since_start()), text));
}

void StatusPrinter::plain(const StepView& step, std::string_view text, std::string_view mark) {
  plain(fmt::format("{}{} {}", clean(step.id), mark, clean(text)));
}

void StatusPrinter::redraw() {
  last_frame_ = console_.now();
  printer_.draw(block(Extent::fits));
}

std::string StatusPrinter::clean(std::string_view text) const {
  std::string safe = strip_control(text);
  std::replace(safe.begin(), safe.end(), '\t', ' ');
  std::replace(safe.begin(), safe.end(), '\n', ' ');
  if (console_.unicode) return safe;
  std::string ascii;
  for (const char c : safe) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) ascii += c;
    else if (byte >= 0xC0) ascii += '?';  // one for each character
  }
  return ascii;
}

std::string StatusPrinter::paint(std::string_view colour, std::string text) const {
  if (!console_.colour || colour.empty() || text.empty()) return text;
  return fmt::format("\x1b[{}m{}\x1b[0m", colour, text);
}

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

milliseconds StatusPrinter::elapsed_of(const StepView& step) const {
  if (step.phase == StepView::Phase::finished) return step.elapsed;
  if (step.started_ms == 0 || !clock_offset_) return milliseconds{0};
  return milliseconds{std::max<std::int64_t>(console_.now().count() - *clock_offset_ - step.started_ms, 0)};
}

std::string StatusPrinter::amount_of(const StepView& step) const {
  if (!step.progress || !step.counts_bytes) return "";
  const Progress& p = *step.progress;
  std::string amount = p.total > 0 ? byte_fraction(p.done, p.total) : human_bytes(p.done);
  if (p.bytes_per_s > 0) amount += fmt::format(" {} {}/s", console_.unicode ? "·" : "-", human_bytes(p.bytes_per_s));
  return amount;
}

std::string StatusPrinter::header(std::size_t columns) const {
  const std::string_view ellipsis = console_.unicode ? "…" : "..";
  const std::string clock = clock_text(since_start());
  std::string title = clean(title_.recipe.empty() ? title_.destination
                                                  : fmt::format("{} {} {}", title_.recipe, console_.unicode ? "→" : "->", title_.destination));
  if (!console_.unicode && !title_.recipe.empty()) title = fmt::format("{} -> {}", clean(title_.recipe), clean(title_.destination));
  title = cut_to_width(title, columns > clock.size() + 2 ? columns - clock.size() - 2 : columns, ellipsis);
  const std::size_t used = display_width(title) + clock.size();
  std::string facts = run_ ? clean(join(describe_host(run_->facts), console_.unicode ? " · " : ", ")) : "";
  if (!console_.unicode && run_) facts = clean(join(describe_host(run_->facts), ", "));
  const std::size_t room = columns > used + 4 ? columns - used - 4 : 0;
  facts = room >= 8 && !facts.empty() ? "   " + cut_to_width(facts, room - 1, ellipsis) : "";
  const std::size_t gap = columns > used + display_width(facts) ? columns - used - display_width(facts) : 1;
  return paint(kBold, title) + facts + std::string(gap, ' ') + clock;
}

std::string StatusPrinter::line_of(const StepView& step, std::size_t columns) const {
  const std::string_view ellipsis = console_.unicode ? "…" : "..";
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
  std::string text = clean(first_line(running && !step.now.empty() ? step.now : step.reason, 400));
  const std::string amount = running ? amount_of(step) : "";
  if (!amount.empty() && display_width(amount) + 12 <= room) {
    text = cut_to_width(text, room - display_width(amount) - 1, ellipsis) + " " + amount;
  } else if (!amount.empty() && display_width(amount) <= room) {
    text = amount;
  }
  std::string name = fit_to_width(clean(step.id), name_columns, ellipsis);
  if (step.phase == StepView::Phase::pending) name = paint(kDim, name);
  return fmt::format("  {} {}  {} {}", paint(colour_of(step), std::string(mark_of(step))), name, fit_to_width(text, room, ellipsis), right);
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
  const std::size_t around = 2 + (footer_.empty() ? 0 : 1) + (activity_ ? 1 : 0);  // header, cursor
  const std::size_t room = extent == Extent::whole ? steps_.size() : size.rows > around + 3 ? size.rows - around : 3;
  const std::vector<bool> shown = shown_steps(room);
  std::size_t done_hidden = 0;
  std::size_t other_hidden = 0;
  std::vector<std::string> middle;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    if (shown[i]) middle.push_back(line_of(steps_[i], columns));
    else if (steps_[i].phase == StepView::Phase::finished) ++done_hidden;
    else ++other_hidden;
  }
  if (done_hidden > 0) lines.push_back(paint(kDim, fmt::format("  {} {} done", console_.unicode ? "✓" : "+", done_hidden)));
  lines.insert(lines.end(), middle.begin(), middle.end());
  if (other_hidden > 0) lines.push_back(paint(kDim, fmt::format("  {} {} more", console_.unicode ? "·" : ".", other_hidden)));
  if (activity_ && !activity_->text.empty()) {
    std::string text = clean(activity_->text);
    if (activity_->total > 0) text += fmt::format(" {}", byte_fraction(activity_->done, activity_->total));
    lines.push_back(fmt::format("  {} {}", paint(kCyan, console_.unicode ? "▸" : ">"), cut_to_width(text, columns - 4, console_.unicode ? "…" : "..")));
  }
  if (!footer_.empty()) lines.push_back(paint(kYellow, cut_to_width("  ! " + footer_, columns, console_.unicode ? "…" : "..")));
  return lines;
}

// ---- the end

std::vector<std::string> StatusPrinter::plan_details() const {
  std::vector<std::string> lines;
  if (!plan_ || !live_) return lines;
  for (const StepView& view : steps_) {
    if (view.last_lines.empty()) continue;
    lines.push_back("");
    lines.push_back(fmt::format("  {}:", clean(view.id)));
    for (const std::string& line : view.last_lines) lines.push_back("    " + line);
  }
  return lines;
}

std::vector<std::string> StatusPrinter::failure(const StepView& step) const {
  std::vector<std::string> lines = {"", paint(kRed, fmt::format("{} failed after {}", clean(step.id), human_duration(step.elapsed)))};
  const std::string why = step.error ? step.error->message : step.reason;
  for (const std::string& line : split(trim(why), '\n')) lines.push_back("  " + clean(line));
  if (step.error && !step.error->hint.empty()) lines.push_back(fmt::format("  {} {}", console_.unicode ? "→" : "->", clean(step.error->hint)));
  if (!step.last_lines.empty()) {
    lines.push_back(step.last_lines.size() == 1 ? "  Its last line:" : fmt::format("  Its last {} lines:", step.last_lines.size()));
    for (const std::string& line : step.last_lines) lines.push_back("    " + line);
  }
  return lines;
}

std::vector<std::string> StatusPrinter::summary(const Ending& ending) const {
  std::vector<std::string> lines;
  for (const StepView& view : steps_) {
    if (view.phase != StepView::Phase::finished || view.outcome != Outcome::failed) continue;
    const std::vector<std::string> failed = failure(view);
    lines.insert(lines.end(), failed.begin(), failed.end());
  }
  if (live_ || !lines.empty()) lines.emplace_back();

  const RunFinished* finished = ending.finished ? &*ending.finished : nullptr;
  const std::string took = human_duration(finished != nullptr ? std::max(finished->elapsed, since_start()) : since_start());
  const std::string counts = finished == nullptr ? "" : counts_text(*finished);
  bool tell_log = false;
  if (finished != nullptr && finished->end == RunFinished::End::failed) {
    lines.push_back(paint(kRed, fmt::format("Failed after {}.", took)) + " " + counts + ".");
    tell_log = true;
  } else if (finished != nullptr && finished->end == RunFinished::End::cancelled) {
    lines.push_back(fmt::format("Cancelled after {}. {}.", took, counts));
    tell_log = true;
  } else if (finished != nullptr && plan_) {
    lines.push_back(fmt::format("Plan: {}. Nothing was changed on the host.", counts));
  } else if (finished != nullptr && finished->changed == 0 && finished->skipped == 0) {
    lines.push_back(fmt::format("Unchanged, {}: {}.", took, plural(finished->unchanged, "step")));
  } else if (finished != nullptr) {
    lines.push_back(fmt::format("{} in {}. {}.", ending.notebook ? "Ready" : "Done", took, counts));
  } else if (ending.exit == ExitCode::detached || ending.exit == ExitCode::ok) {
    lines.emplace_back("The run goes on on the host.");
    lines.push_back("  Follow it: gpustrap attach " + clean(title_.destination));
    lines.push_back("  Stop it:   gpustrap cancel " + clean(title_.destination));
    return lines;
  } else {
    tell_log = run_.has_value();
  }
  if (finished != nullptr) {
    for (const std::string& note : finished->notes) lines.push_back("  " + clean(note));
  }
  if (!ending.not_proven.empty()) {
    lines.push_back(paint(kRed, "All steps are done, but the notebook did not answer:") + " " + clean(ending.not_proven));
    tell_log = true;
  }
  if (ending.notebook) {
    // A token belongs on a person's terminal only, never in the log of a job.
    if (console_.person) lines.push_back("  " + ending.notebook->url);
    else lines.push_back(fmt::format("  {}  (`gpustrap url` prints it with its token)", ending.notebook->url_without_token));
    if (ending.notebook->held) lines.emplace_back("  Ctrl-C closes the tunnel; the notebook keeps running.");
  }
  if (ending.exit == ExitCode::ok && ending.notebook && run_ && !run_->facts.cloud_type.empty()) {
    lines.emplace_back("  This instance is billed until you stop it.");
  }
  if (tell_log && !ending.log.empty()) lines.push_back("  Full log:  " + ending.log);
  if (tell_log && !ending.again.empty()) lines.push_back("  Go on:     " + ending.again);
  return lines;
}

}  // namespace gpustrap
