// How the end of many hosts is said: the second half of FleetPrinter.
#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/display_width.h"
#include "controller/fleet_printer.h"
#include "controller/screen_text.h"

namespace gpustrap {
namespace {

bool is_good(const HostEnd& end) { return end.exit == ExitCode::ok || end.exit == ExitCode::plan_changes; }

void append(std::vector<std::string>& lines, const std::vector<std::string>& more) { lines.insert(lines.end(), more.begin(), more.end()); }

std::vector<std::string> wrapped(const std::string& text, std::size_t columns, std::string_view indent) {
  if (columns == 0) return {text};
  return wrap_to_width(text, columns, indent);
}

}  // namespace

std::string_view end_name(const HostEnd& end) {
  if (!end.begun) return "not begun";
  switch (end.exit) {
    case ExitCode::ok:
    case ExitCode::plan_changes: return "ok";
    case ExitCode::unreachable: return "unreachable";
    case ExitCode::host_key: return "host key";
    case ExitCode::authentication: return "login";
    case ExitCode::detached: return "goes on";
    case ExitCode::busy: return "busy";
    case ExitCode::cancelled: return "cancelled";
    default: return "failed";
  }
}

std::vector<std::string> summary_table(const std::vector<std::string>& hosts, const std::vector<HostEnd>& ends, const SummaryLook& look) {
  std::size_t widest = 4;
  std::vector<std::size_t> order;
  std::vector<std::string> left_alone;
  for (const bool good : {true, false}) {  // what did not end well comes last, next to the prompt
    for (std::size_t i = 0; i < ends.size(); ++i) {
      if (is_good(ends[i]) != good || (good && look.only_bad)) continue;
      if (!ends[i].begun) {
        left_alone.push_back(shown_on(look.console, hosts[i]));
        continue;
      }
      order.push_back(i);
      widest = std::max(widest, display_width(hosts[i]));
    }
  }
  std::vector<std::string> lines;
  const auto add_left_alone = [&] {
    if (!left_alone.empty()) append(lines, wrapped("  not begun: " + join(left_alone, ", "), look.columns, "    "));
  };
  if (order.empty()) {
    add_left_alone();
    return lines;
  }
  const std::size_t columns = look.columns;
  widest = std::min<std::size_t>(widest, columns == 0 ? 40 : std::max<std::size_t>(columns / 3, 8));
  const std::string_view ellipsis = ellipsis_of(look.console);
  lines.push_back(painted(look.console, kDim,
                          fmt::format("  {}  {:<11}  {:>7}  {:>7}", fit_to_width("host", widest, ellipsis), "result",
                                      look.plan ? "differ" : "changed", "time")));
  for (const std::size_t i : order) {
    const HostEnd& end = ends[i];
    std::string changed = "-";
    if (end.finished) changed = fmt::format("{}", look.plan ? end.finished->would_change + end.finished->unknown : end.finished->changed);
    const std::string_view colour = is_good(end) ? kGreen : end.exit == ExitCode::detached ? kYellow : kRed;
    lines.push_back(fmt::format("  {}  {}  {:>7}  {:>7}", fit_to_width(hosts[i], widest, ellipsis),
                                painted(look.console, colour, fmt::format("{:<11}", end_name(end))), changed, human_duration(end.elapsed)));
    if (is_good(end)) continue;
    if (!end.why.empty()) append(lines, wrapped("    " + shown_on(look.console, first_line(end.why, 300)), columns, "    "));
    if (!end.hint.empty()) {
      append(lines,
             wrapped(fmt::format("    {} {}", look.console.unicode ? "→" : "->", shown_on(look.console, end.hint)), columns, "      "));
    }
  }
  add_left_alone();
  return lines;
}

std::string summary_counts(const std::vector<HostEnd>& ends, bool plan) {
  std::size_t good = 0;
  std::size_t changed = 0;
  std::map<std::string_view, std::size_t> bad;
  for (const HostEnd& end : ends) {
    if (is_good(end)) {
      ++good;
      if (end.finished && (plan ? end.finished->would_change + end.finished->unknown : end.finished->changed) > 0) ++changed;
    } else {
      ++bad[end_name(end)];
    }
  }
  const std::string hosts = ends.size() == 1 ? "host" : "hosts";
  std::string text = good == ends.size() && good > 1 ? fmt::format("All {} hosts {}", good, plan ? "looked at" : "done")
                                                     : fmt::format("{} of {} {} {}", good, ends.size(), hosts, plan ? "looked at" : "done");
  for (const auto& [name, count] : bad) text += fmt::format(", {} {}", count, name);
  if (plan) return text + (changed == 0 ? "; nothing would change" : fmt::format("; {} would change", changed));
  if (good > 0) text += changed == 0 ? "; nothing changed" : fmt::format("; {} changed", changed);
  return text;
}

void FleetPrinter::summary(const std::vector<HostEnd>& ends, const std::vector<std::string>& next) {
  resume();
  over_ = true;
  if (live_) printer_.draw({});
  const std::size_t columns = console_.person ? std::max<std::size_t>(console_.size().columns, 40) - 1 : 0;
  std::vector<std::string> names;
  for (const Host& host : hosts_) names.push_back(host.name);
  std::vector<std::string> lines;
  if (live_) lines.push_back(paint(kBold, cut_to_width(clean(recipe_), columns, ellipsis_of(console_))));
  if (plan_ && detail_ != Detail::quiet && !changes_.empty()) {
    const auto looked_at = static_cast<std::size_t>(std::count_if(ends.begin(), ends.end(), is_good));
    lines.emplace_back("Would change:");
    for (const std::string& line : changes_.lines(looked_at, columns, ellipsis_of(console_))) lines.push_back(clean(line));
    lines.emplace_back();
  }
  append(lines, summary_table(names, ends, {console_, columns, plan_, detail_ == Detail::quiet}));
  const bool all_good = std::all_of(ends.begin(), ends.end(), is_good);
  const std::string counts = fmt::format("{}, in {}.", summary_counts(ends, plan_), human_duration(since_start()));
  for (std::string& line : wrapped(counts, columns, "  ")) lines.push_back(all_good ? std::move(line) : paint(kRed, std::move(line)));
  for (const std::string& line : next) append(lines, wrapped("  " + clean(line), columns, "    "));
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  console_.write(text);
}

}  // namespace gpustrap
