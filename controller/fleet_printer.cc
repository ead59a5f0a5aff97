#include "controller/fleet_printer.h"

#include <algorithm>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/display_width.h"
#include "controller/host_text.h"
#include "controller/screen_text.h"

namespace gpustrap {
namespace {

using std::chrono::milliseconds;

/// Five frames a second: many lines change at once, and nobody reads them faster.
constexpr milliseconds kFrame{200};
/// Off a terminal something is said at least this often, so that a CI job is not taken for dead.
constexpr milliseconds kPlainHeartbeat{30'000};
constexpr std::size_t kPlainColumns = 160;
constexpr std::size_t kKeptText = 200;

}  // namespace

FleetPrinter::FleetPrinter(Console console, std::string recipe, std::vector<std::string> hosts, Detail detail)
    : console_(std::move(console)),
      recipe_(std::move(recipe)),
      detail_(detail),
      live_(console_.live && detail == Detail::normal),
      printer_(console_.write, console_.size),
      started_(console_.now()),
      last_frame_(started_ - kFrame),
      last_line_(started_) {
  hosts_.resize(hosts.size());
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    hosts_[i].name = clean(hosts[i]);
    longest_name_ = std::max(longest_name_, display_width(hosts_[i].name));
  }
}

// ---- what happened

void FleetPrinter::begin(std::size_t index) {
  Host& host = hosts_[index];
  host.phase = Host::Phase::connecting;
  host.since = console_.now();
  host.text = "connecting";
  host.steps = host.done = 0;
  host.running.clear();
}

void FleetPrinter::activity(std::size_t index, const Activity& activity) {
  Host& host = hosts_[index];
  const std::string text = clean(first_line(activity.text, kKeptText));
  const bool is_new = !host.text.starts_with(text);
  host.text = activity.total > 0 ? fmt::format("{} {}", text, byte_fraction(activity.done, activity.total)) : text;
  if (is_new && !text.empty() && !text.starts_with("connecting to")) plain(host, text);
}

void FleetPrinter::event(std::size_t index, const Event& event) {
  Host& host = hosts_[index];
  if (host.phase != Host::Phase::ended) host.phase = Host::Phase::running;
  std::visit([&](const auto& body) { take(host, body); }, event.body);
}

void FleetPrinter::take(Host& host, const RunStarted& started) {
  plan_ = plan_ || started.mode == RunMode::plan;
  host.steps = started.steps.size();
  most_steps_ = std::max(most_steps_, host.steps);
  host.text = clean(join(describe_host(started.facts), ", "));
  if (detail_ == Detail::verbose) plain(host, host.text);
}

void FleetPrinter::take(Host& host, const RunnerStarted& started) {
  if (started.incarnation <= 1) return;
  host.running.clear();
  host.text = "back after a restart";
  plain(host, host.text);
}

void FleetPrinter::take(Host& host, const StepStarted& started) {
  host.running.push_back({clean(started.step), "", std::nullopt});
  host.text.clear();
}

FleetPrinter::Running* FleetPrinter::now_at(Host& host, const std::string& step) {
  const std::string name = clean(step);
  const auto found = std::find_if(host.running.begin(), host.running.end(), [&](const Running& one) { return one.step == name; });
  if (found == host.running.end()) return nullptr;
  std::rotate(found, found + 1, host.running.end());
  return &host.running.back();
}

void FleetPrinter::take(Host& host, const StepOutput& output) {
  if (detail_ == Detail::verbose) {
    std::string_view text = output.text;
    if (text.ends_with('\n')) text.remove_suffix(1);
    for (const std::string& line : split(text, '\n')) plain(host, fmt::format("{} | {}", clean(output.step), clean(line)));
  }
  // Only the last line that says something is looked at: a thousand may come at once.
  const std::string last = last_lines(trim(output.text), 1);
  if (Running* running = now_at(host, output.step); running != nullptr && !trim(last).empty())
    running->now = clean(first_line(trim(last), kKeptText));
}

void FleetPrinter::take(Host& host, const StepRetry& retry) {
  const std::string text =
      fmt::format("attempt {} failed: {}; again in {}", retry.attempt, clean(first_line(retry.error.message)), human_duration(retry.wait));
  if (Running* running = now_at(host, retry.step)) {
    running->now = text;
    running->progress.reset();
  }
  plain(host, fmt::format("{}: {}", clean(retry.step), text));
}

void FleetPrinter::take(Host& host, const StepFinished& finished) {
  ++host.done;
  std::erase_if(host.running, [&](const Running& one) { return one.step == clean(finished.step); });
  if (plan_) changes_.take(host.name, finished);
  if (finished.outcome == Outcome::unchanged && detail_ != Detail::verbose) return;
  const std::string why = finished.reason.empty() && finished.error ? finished.error->message : finished.reason;
  const std::string_view name = finished.outcome == Outcome::would_change ? "would change" : outcome_name(finished.outcome);
  plain(host, fmt::format("{}: {}{}{} ({})", clean(finished.step), name, why.empty() ? "" : ": ", clean(first_line(why)),
                          human_duration(finished.elapsed)));
}

void FleetPrinter::take(Host& host, const Rebooting& rebooting) {
  host.text = "rebooting";
  host.running.clear();
  plain(host, fmt::format("rebooting ({})", clean(first_line(rebooting.reason))));
}

void FleetPrinter::take(Host& host, const WaitingForSecret& waiting) {
  host.text = fmt::format("{} waits for the secret {}", clean(waiting.step), clean(join(waiting.secrets, ", ")));
  plain(host, host.text);
}

void FleetPrinter::progress(std::size_t index, const Progress& progress) {
  Running* running = now_at(hosts_[index], progress.step);
  if (running == nullptr) return;
  running->progress = progress;
  if (!progress.text.empty()) running->now = clean(first_line(progress.text, kKeptText));
}

void FleetPrinter::connection_lost(std::size_t index, const Error& why) {
  Host& host = hosts_[index];
  if (host.text == "rebooting") return;  // as was said
  host.lost = clean(first_line(why.why(), kKeptText));
  plain(host, fmt::format("connection lost ({}); the run goes on, trying to come back", host.lost));
}

void FleetPrinter::connection_back(std::size_t index) {
  Host& host = hosts_[index];
  if (host.lost.empty()) return;
  host.lost.clear();
  plain(host, "connected again");
}

void FleetPrinter::rewound(std::size_t index, std::uint64_t seen, std::uint64_t to) {
  notice(index, fmt::format("The host lost its last {} events when it went down; what follows takes their place.", seen - to));
}

void FleetPrinter::notice(std::size_t index, std::string_view sentence) {
  if (live_)
    announce(fmt::format("{}: {}", hosts_[index].name, clean(sentence)));
  else
    plain(hosts_[index], clean(sentence));
}

void FleetPrinter::announce(std::string_view sentence) {
  if (over_) return;
  const std::string text = clean(sentence);
  if (!live_) return plain(text);
  const std::vector<std::string> lines = wrap_to_width(text, std::max<std::size_t>(console_.size().columns, 20) - 1, "  ");
  if (paused_)
    kept_back_.insert(kept_back_.end(), lines.begin(), lines.end());
  else
    printer_.record(lines);
}

void FleetPrinter::ended(std::size_t index, const HostEnd& end) {
  Host& host = hosts_[index];
  host.phase = Host::Phase::ended;
  host.exit = end.exit;
  host.begun = end.begun;
  host.elapsed = end.elapsed;
  host.running.clear();
  host.lost.clear();
  host.text = !end.why.empty() ? clean(first_line(end.why, kKeptText)) : end.finished ? counts_text(*end.finished) : "";
  if (!end.begun) return;
  // The step that failed has been told as it did.
  const std::string how = end.finished ? counts_text(*end.finished) : host.text;
  plain(host, fmt::format("{}{}{} ({})", end_name(end), how.empty() ? "" : ": ", how, human_duration(end.elapsed)));
}

void FleetPrinter::pause() {
  if (paused_) return;
  paused_ = true;
  if (live_) printer_.draw({});
}

void FleetPrinter::resume() {
  if (!std::exchange(paused_, false)) return;
  const std::vector<std::string> lines = std::exchange(kept_back_, {});
  if (lines.empty()) return;
  if (live_) return printer_.record(lines);
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  console_.write(text);
}

void FleetPrinter::tick() {
  if (over_ || paused_) return;
  const milliseconds now = console_.now();
  if (!live_) {
    if (detail_ != Detail::quiet && now - last_line_ >= kPlainHeartbeat) heartbeat();
    return;
  }
  if (now - last_frame_ < kFrame) return;
  last_frame_ = now;
  printer_.draw(block());
}

void FleetPrinter::plain(const Host& host, const std::string& text) {
  if (live_ || detail_ == Detail::quiet || over_) return;  // before the line is put together
  plain(fmt::format("{}  {}", fit_to_width(host.name, name_columns(kPlainColumns), ellipsis_of(console_)), text));
}

void FleetPrinter::plain(const std::string& text) {
  if (live_ || detail_ == Detail::quiet || over_) return;
  last_line_ = console_.now();
  const std::string whole = fmt::format("{:>6}  {}", clock_text(since_start()), text);
  const std::string line = detail_ == Detail::verbose ? whole : cut_to_width(whole, kPlainColumns, ellipsis_of(console_));
  if (paused_)
    kept_back_.push_back(line);
  else
    console_.write(line + "\n");
}

/// Who runs, and the first few with what they do.
void FleetPrinter::heartbeat() {
  std::vector<std::string> some;
  for (const Host& host : hosts_) {
    if (host.phase != Host::Phase::running || host.running.empty()) continue;
    if (some.size() == 3) {
      some.emplace_back(ellipsis_of(console_));
      break;
    }
    some.push_back(fmt::format("{} {}", host.name, text_of(host, 60)));
  }
  plain(counts(nullptr) + (some.empty() ? "" : ": " + join(some, "; ")));
}

// ---- how it is drawn

std::string FleetPrinter::clean(std::string_view text) const { return shown_on(console_, text); }

std::string FleetPrinter::paint(std::string_view colour, std::string text) const { return painted(console_, colour, std::move(text)); }

bool FleetPrinter::has_failed(const Host& host) const {
  const bool apart = host.exit == ExitCode::ok || host.exit == ExitCode::plan_changes || host.exit == ExitCode::detached || !host.begun;
  return host.phase == Host::Phase::ended && !apart;
}

std::size_t FleetPrinter::name_columns(std::size_t columns) const { return std::min(longest_name_, std::max<std::size_t>(columns / 4, 8)); }

std::string FleetPrinter::counts(const std::vector<bool>* hidden) const {
  std::size_t done = 0, failed = 0, running = 0, waiting = 0;
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    if (hidden != nullptr && !(*hidden)[i]) continue;
    const Host& host = hosts_[i];
    if (host.phase == Host::Phase::waiting)
      ++waiting;
    else if (host.phase != Host::Phase::ended)
      ++running;
    else
      ++(has_failed(host) ? failed : done);
  }
  std::vector<std::string> parts;
  const auto add = [&](std::size_t count, std::string_view what) {
    if (count > 0) parts.push_back(fmt::format("{} {}", count, what));
  };
  add(failed, "failed");
  add(running, "running");
  add(done, "done");
  add(waiting, "waiting");
  return join(parts, ", ");
}

std::string FleetPrinter::text_of(const Host& host, std::size_t room) const {
  if (!host.lost.empty()) return fmt::format("connection lost ({}); trying to come back", host.lost);
  if (host.running.empty()) return host.text;
  const Running& now = host.running.back();
  std::string text = now.step;
  if (!now.now.empty()) text += ": " + now.now;
  if (!now.progress || now.progress->bytes_per_s == 0) return text;
  const Progress& p = *now.progress;
  const std::string amount = fmt::format("{} {} {}/s", p.total > 0 ? byte_fraction(p.done, p.total) : human_bytes(p.done),
                                         console_.unicode ? "·" : "-", human_bytes(p.bytes_per_s));
  if (display_width(amount) + 14 > room) return text;
  return cut_to_width(text, room - display_width(amount) - 1, ellipsis_of(console_)) + " " + amount;
}

std::string FleetPrinter::line_of(const Host& host, std::size_t columns) const {
  const bool u = console_.unicode;
  std::string_view mark = u ? "▸" : ">";
  std::string_view colour = kCyan;
  if (host.phase == Host::Phase::waiting) {
    mark = u ? "·" : ".";
    colour = kDim;
  } else if (!host.lost.empty()) {
    mark = "!";
    colour = kYellow;
  } else if (host.phase == Host::Phase::ended) {
    const bool failed = has_failed(host);
    const bool apart = !host.begun || host.exit == ExitCode::detached;
    mark = apart ? "-" : failed ? (u ? "✗" : "x") : (u ? "✓" : "+");
    colour = apart ? kYellow : failed ? kRed : kGreen;
  }
  const std::size_t name_width = name_columns(columns);
  std::string name = fit_to_width(host.name, name_width, ellipsis_of(console_));
  if (host.phase == Host::Phase::waiting) return fmt::format("  {} {}", paint(colour, std::string(mark)), paint(kDim, name));

  const std::size_t digits = fmt::format("{}", most_steps_).size();  // "5/12" in as many columns as any host's
  const std::string steps = host.steps == 0 ? std::string(2 * digits + 1, ' ')
                                            : fmt::format("{:>{}}/{:<{}}", std::min(host.done, host.steps), digits, host.steps, digits);
  const milliseconds time = host.phase == Host::Phase::ended ? host.elapsed : console_.now() - host.since;
  std::string right =
      fmt::format("{:>6}", time < milliseconds(60'000) && host.phase == Host::Phase::ended ? human_duration(time) : clock_text(time));
  if (!host.running.empty() && host.lost.empty() && host.running.back().progress && host.running.back().progress->total > 0) {
    const Progress& p = *host.running.back().progress;
    right = fmt::format(
        "{:>3}% {}", static_cast<unsigned>(100.0 * static_cast<double>(std::min(p.done, p.total)) / static_cast<double>(p.total)), right);
  }
  const std::size_t fixed = 4 + name_width + 2 + steps.size() + 2 + 1 + right.size();
  const std::size_t room = columns > fixed ? columns - fixed : 0;
  return fmt::format("  {} {}  {}  {} {}", paint(colour, std::string(mark)), name, paint(kDim, steps),
                     fit_to_width(text_of(host, room), room, ellipsis_of(console_)), right);
}

/// Indexes of the hosts that have a line where there is room for so many: all in their order, or first what failed, then what runs, then
/// what ended.
std::vector<std::size_t> FleetPrinter::shown(std::size_t room) const {
  std::vector<std::size_t> chosen;
  if (hosts_.size() <= room) {
    for (std::size_t i = 0; i < hosts_.size(); ++i) chosen.push_back(i);
    return chosen;
  }
  std::vector<std::size_t> failed, running, done;
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    if (has_failed(hosts_[i]))
      failed.push_back(i);
    else if (hosts_[i].phase == Host::Phase::ended)
      done.push_back(i);
    else if (hosts_[i].phase != Host::Phase::waiting)
      running.push_back(i);
  }
  room = room > 1 ? room - 1 : 1;  // for the rest
  // Neither crowds out the other.
  const std::size_t least = std::min(running.size(), room / 2);
  for (const auto& [from, limit] : {std::pair(&failed, room - least), std::pair(&running, room), std::pair(&done, room)}) {
    for (const std::size_t i : *from) {
      if (chosen.size() < limit) chosen.push_back(i);
    }
  }
  return chosen;
}

std::vector<std::string> FleetPrinter::block() const {
  const TerminalSize size = console_.size();
  const std::size_t columns = std::max<std::size_t>(size.columns, 20) - 1;  // the last column would wrap
  const std::string clock = clock_text(since_start());
  std::string title = fmt::format("{} {} {} hosts", clean(recipe_), console_.unicode ? "→" : "->", hosts_.size());
  title = cut_to_width(title, columns > clock.size() + 2 ? columns - clock.size() - 2 : columns, ellipsis_of(console_));
  std::size_t used = display_width(title) + clock.size();
  std::string all = columns > used + 6 ? "   " + cut_to_width(counts(nullptr), columns - used - 5, ellipsis_of(console_)) : "";
  used += display_width(all);
  std::vector<std::string> lines = {paint(kBold, title) + all + std::string(columns > used ? columns - used : 1, ' ') + clock};
  // Header, cursor, and a row above: some terminals keep what is cleared from the very top on.
  const std::size_t room = size.rows > 6 ? size.rows - 3 : 3;
  std::vector<bool> hidden(hosts_.size(), true);
  for (const std::size_t i : shown(room)) {
    hidden[i] = false;
    lines.push_back(line_of(hosts_[i], columns));
  }
  if (const std::string rest = counts(&hidden); !rest.empty()) {
    lines.push_back(paint(kDim, cut_to_width(fmt::format("  {} and {}", ellipsis_of(console_), rest), columns, ellipsis_of(console_))));
  }
  return lines;
}

}  // namespace gpustrap
