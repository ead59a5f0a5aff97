#include "controller/report_text.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/display_width.h"
#include "controller/host_text.h"
#include "controller/screen_text.h"

namespace gpustrap {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kNarrowest = 40;
constexpr std::size_t kLongestName = 30;
/// Of the steps that took longest, of downloads and of gaps.
constexpr std::size_t kListed = 5, kDownloadsListed = 10;

struct Glyphs {
  std::string_view critical, work, look, download, restart, step_mark, download_mark, arrow, axis;
};
constexpr Glyphs kUnicode = {"█", "▒", "─", "░", "╳", "*", "↓", "→", "│"};
constexpr Glyphs kAscii = {"#", "=", "-", "~", "x", "*", "v", "->", "|"};

std::string plain(std::string_view text) {
  std::string safe = strip_control(text);
  std::replace(safe.begin(), safe.end(), '\n', ' ');
  std::replace(safe.begin(), safe.end(), '\t', ' ');
  return safe;
}

class Page {
 public:
  Page(const RunReport& report, const Console& console)
      : report_(report),
        console_(console),
        glyphs_(console.unicode ? kUnicode : kAscii),
        width_(std::max(console.size().columns - 1, kNarrowest)) {
    std::size_t longest = 4;
    for (const ReportedStep& step : report.steps) longest = std::max(longest, display_width(plain(step.title.id)));
    for (const ReportedDownload& one : report.downloads) longest = std::max(longest, display_width(file_of_url(one.url)) + 2);
    name_ = std::min({longest, kLongestName, width_ / 4});
    bar_ = width_ - name_ - kFixed;
  }

  std::string text() {
    head();
    waterfall();
    path();
    slowest();
    downloads();
    retries();
    restarts();
    gaps();
    changes();
    failures();
    return std::move(text_);
  }

 private:
  /// Mark, blank, name, blank, "took" (7), blank, two axes.
  static constexpr std::size_t kFixed = 2 + 1 + 7 + 1 + 2;

  std::string shown(std::string_view words) const { return shown_on(console_, words); }
  std::string_view ellipsis() const { return ellipsis_of(console_); }
  std::string paint(std::string_view colour, std::string words) const { return painted(console_, colour, std::move(words)); }

  void line(const std::string& words) { text_ += cut_to_width(words, width_, ellipsis()) + "\n"; }
  void title(const std::string& words) { text_ += "\n" + paint(kBold, words) + "\n"; }
  void wrapped(const std::string& words) {
    for (const std::string& one : wrap_to_width(words, width_, "    ")) text_ += one + "\n";
  }

  /// On one line where both fit.
  void together(const std::string& first, const std::string& second) {
    const std::string both = shown(first + (second.empty() ? "" : "   " + second));
    if (display_width(both) <= width_) return line(both);
    line(shown(first));
    line("  " + shown(second));
  }

  void head() {
    const std::string arrow = console_.unicode ? "→" : "->";
    together(fmt::format("{} {} {}", report_.recipe, arrow, host_of(report_)), join(describe_host(report_.facts), ", "));
    together((report_.mode == RunMode::plan ? "plan, " : "") + outcome_of(report_), "run " + report_.run);
    for (const std::string& share : shares_of(report_)) line(shown(share));
  }

  // ---- the waterfall

  std::size_t column(RunTime time) const {
    if (report_.wall.count() <= 0) return 0;
    return static_cast<std::size_t>(time.count() * static_cast<std::int64_t>(bar_) / report_.wall.count());
  }

  /// Everything that took time is one column wide at least, so that it can be seen.
  void fill(std::vector<std::string_view>& cells, RunTime from, RunTime to, std::string_view glyph) const {
    const std::size_t first = std::min(column(from), bar_ - 1);
    const std::size_t last = std::max(first + 1, std::min(column(to), bar_));
    for (std::size_t i = first; i < last; ++i) cells[i] = glyph;
  }

  void row(std::string_view mark, const std::string& name, milliseconds took, const std::vector<std::string_view>& cells,
           std::string_view colour) {
    std::string bar;
    for (const std::string_view cell : cells) bar += cell;
    text_ += fmt::format("{} {} {:>7} {}{}{}\n", mark, fit_to_width(shown(name), name_, ellipsis()), took_text(took), glyphs_.axis,
                         paint(colour, bar), glyphs_.axis);
  }

  std::vector<std::string_view> empty_bar() const { return std::vector<std::string_view>(bar_, " "); }

  void waterfall() {
    text_ += "\n";
    const std::string end = took_text(report_.wall);
    const std::string middle = took_text(report_.wall / 2);
    std::string axis = "0";
    if (bar_ > 30) axis += std::string(bar_ / 2 - axis.size() - middle.size() / 2, ' ') + middle;
    axis += std::string(bar_ + 1 - std::min(bar_, axis.size() + end.size()), ' ') + end;
    text_ += fmt::format("  {} {:>7}  {}\n", fit_to_width("step", name_), "took", axis);
    bool has_look = false, has_work = false, has_path = false;
    std::vector<std::string> skipped;
    for (const ReportedStep& step : report_.steps) {
      if (step.spans.empty()) {
        skipped.push_back(shown(step.title.id));
        continue;
      }
      std::vector<std::string_view> cells = empty_bar();
      const std::string_view glyph = step.critical ? glyphs_.critical : glyphs_.work;
      for (const StepSpan& span : step.spans) {
        fill(cells, span.from, span.to, span.acted || step.critical ? glyph : glyphs_.look);
        if (span.acted && span.looked > span.from && column(span.looked) > column(span.from))
          fill(cells, span.from, span.looked, step.critical ? glyph : glyphs_.look);
        has_look = has_look || !step.critical;
        has_work = has_work || (!step.critical && span.acted);
      }
      has_path = has_path || step.critical;
      const bool failed = step.outcome == Outcome::failed;
      row(step.critical ? glyphs_.step_mark : " ", step.title.id, step.busy(), cells,
          failed          ? kRed
          : step.critical ? kYellow
                          : std::string_view{});
      for (const ReportedDownload& one : report_.downloads) {
        if (one.step != step.title.id) continue;
        std::vector<std::string_view> fetched = empty_bar();
        fill(fetched, one.from, one.to, one.critical ? glyphs_.critical : glyphs_.download);
        row(one.critical ? glyphs_.step_mark : " ", fmt::format("{} {}", glyphs_.download_mark, file_of_url(one.url)), one.to - one.from,
            fetched, one.critical ? kYellow : kCyan);
      }
    }
    for (const ReportedRestart& restart : report_.restarts) {
      std::vector<std::string_view> cells = empty_bar();
      fill(cells, restart.from, restart.to, glyphs_.restart);
      row(restart.critical ? glyphs_.step_mark : " ", restart.of_host ? "(host down)" : "(taken up)", restart.to - restart.from, cells,
          kDim);
    }
    std::vector<std::string> legend;
    const auto say = [&](bool is_there, std::string_view glyph, std::string_view what) {
      if (is_there) legend.push_back(fmt::format("{} {}", glyph, what));
    };
    say(has_path, glyphs_.critical, "critical path (*)");
    say(has_work, glyphs_.work, "other work");
    say(has_look, glyphs_.look, "looking");
    say(!report_.downloads.empty(), glyphs_.download, "download");
    say(!report_.restarts.empty(), glyphs_.restart, "restart");
    wrapped("  " + join(legend, "   "));
    if (!skipped.empty()) wrapped("  skipped: " + join(skipped, ", "));
  }

  // ---- lists

  void path() {
    std::vector<std::string> links;
    for (const CriticalPart& part : report_.path) {
      const std::string took = took_text(part.to - part.from);
      switch (part.what) {
        case CriticalPart::What::step: links.push_back(shown(report_.steps[part.index].title.id) + " " + took); break;
        case CriticalPart::What::download: links.push_back(shown(file_of_url(report_.downloads[part.index].url)) + " " + took); break;
        case CriticalPart::What::restart:
          links.push_back((report_.restarts[part.index].of_host ? "host down " : "taken up ") + took);
          break;
      }
    }
    if (links.empty()) return;
    title("Critical path");
    wrapped("  " + join(links, fmt::format(" {} ", glyphs_.arrow)));
  }

  void slowest() {
    std::vector<const ReportedStep*> steps;
    for (const ReportedStep& step : report_.steps) {
      if (step.busy().count() > 0) steps.push_back(&step);
    }
    std::stable_sort(steps.begin(), steps.end(), [](const ReportedStep* a, const ReportedStep* b) { return a->busy() > b->busy(); });
    if (steps.size() < 2) return;
    title("Slowest");
    for (std::size_t i = 0; i < std::min(steps.size(), kListed); ++i) {
      const ReportedStep& step = *steps[i];
      const double share =
          report_.wall.count() > 0 ? 100.0 * static_cast<double>(step.busy().count()) / static_cast<double>(report_.wall.count()) : 0;
      line(fmt::format("  {:>7} {:>4.0f}%  {}  {}", took_text(step.busy()), share, fit_to_width(shown(step.title.id), name_, ellipsis()),
                       shown(first_line(step.reason))));
    }
  }

  void downloads() {
    if (report_.downloads.empty()) return;
    std::vector<const ReportedDownload*> all;
    for (const ReportedDownload& one : report_.downloads) all.push_back(&one);
    std::stable_sort(all.begin(), all.end(),
                     [](const ReportedDownload* a, const ReportedDownload* b) { return a->to - a->from > b->to - b->from; });
    title("Downloads");
    for (std::size_t i = 0; i < std::min(all.size(), kDownloadsListed); ++i) {
      const std::string whole = "  " + shown(download_text(*all[i]));
      ReportedDownload short_form = *all[i];
      short_form.url = file_of_url(short_form.url);
      line(display_width(whole) <= width_ ? whole : "  " + shown(download_text(short_form)));
    }
    if (all.size() > kDownloadsListed) line(fmt::format("  and {} that took less time", all.size() - kDownloadsListed));
  }

  void retries() {
    bool first = true;
    for (const ReportedStep& step : report_.steps) {
      for (const ReportedRetry& retry : step.retries) {
        if (std::exchange(first, false)) title("Tried again");
        wrapped(shown(fmt::format("  {}: attempt {} failed at {}: {}; again after {}", step.title.id, retry.attempt, took_text(retry.at),
                                  first_line(retry.why), took_text(retry.wait))));
      }
    }
  }

  void restarts() {
    if (report_.restarts.empty()) return;
    title("Restarts");
    for (const ReportedRestart& one : report_.restarts) {
      wrapped(shown(fmt::format("  {} at {}, for {}{}{}", one.of_host ? "the host" : "the run was taken up again", took_text(one.from),
                                took_text(one.to - one.from), one.step.empty() ? "" : ", asked for by " + one.step,
                                one.reason.empty() ? "" : ": " + one.reason)));
    }
  }

  void gaps() {
    std::vector<const IdleGap*> all;
    for (const IdleGap& gap : report_.gaps) {
      if (gap.length() >= least_gap_told(report_.wall)) all.push_back(&gap);
    }
    if (all.empty()) return;
    std::stable_sort(all.begin(), all.end(), [](const IdleGap* a, const IdleGap* b) { return a->length() > b->length(); });
    title("Nothing ran");
    for (std::size_t i = 0; i < std::min(all.size(), kListed); ++i) {
      const IdleGap& gap = *all[i];
      line(shown(fmt::format("  {:>7}  at {}{}{}{}", took_text(gap.length()), took_text(gap.from),
                             gap.before.empty() ? "" : ", after " + gap.before, gap.after.empty() ? "" : ", before " + gap.after,
                             gap.for_secret ? " (it waited for a secret)" : "")));
    }
  }

  void changes() {
    bool first = true;
    for (const ReportedStep& step : report_.steps) {
      const bool changed = step.outcome == Outcome::changed || step.outcome == Outcome::would_change;
      if (!changed) continue;
      if (std::exchange(first, false)) title(step.outcome == Outcome::changed ? "Changed" : "Would change");
      line(fmt::format("  {}  {}", fit_to_width(shown(step.title.id), name_, ellipsis()), shown(first_line(step.reason))));
    }
  }

  void failures() {
    bool first = true;
    for (const ReportedStep& step : report_.steps) {
      if (step.outcome != Outcome::failed) continue;
      if (std::exchange(first, false)) title("Failed");
      wrapped(shown(fmt::format("  {}: {}", step.title.id, first_line(step.error ? step.error->message : step.reason, 400))));
    }
  }

  const RunReport& report_;
  const Console& console_;
  Glyphs glyphs_;
  std::size_t width_, name_ = 0, bar_ = 0;
  std::string text_;
};

}  // namespace

std::string report_text(const RunReport& report, const Console& console) { return Page(report, console).text(); }

milliseconds least_gap_told(milliseconds wall) { return std::max(milliseconds(20), wall / 1000); }

std::string took_text(milliseconds time) { return time.count() < 1000 ? fmt::format("{} ms", time.count()) : human_duration(time); }

std::string host_of(const RunReport& report) {
  if (!report.host.empty()) return report.host;
  return report.facts.hostname.empty() ? "a host"
         : report.login.empty()        ? report.facts.hostname
                                       : report.login + "@" + report.facts.hostname;
}

std::string outcome_of(const RunReport& report) {
  if (!report.finished) return "not over after " + took_text(report.wall);
  const RunFinished& end = *report.finished;
  std::vector<std::string> counts;
  for (const auto& [count, what] :
       {std::pair(end.failed, "failed"), std::pair(end.changed, "changed"), std::pair(end.would_change, "would change"),
        std::pair(end.unknown, "unknown"), std::pair(end.unchanged, "unchanged"), std::pair(end.skipped, "skipped")}) {
    if (count > 0) counts.push_back(fmt::format("{} {}", count, what));
  }
  constexpr const char* kEnds[] = {"ok", "failed", "cancelled"};
  return fmt::format("{} in {}: {}", kEnds[static_cast<std::size_t>(end.end)], took_text(report.wall),
                     counts.empty() ? "no steps" : join(counts, ", "));
}

std::vector<std::string> shares_of(const RunReport& report) {
  std::vector<std::string> shares;
  const auto share = [&](milliseconds time) {
    return report.wall.count() > 0 ? 100.0 * static_cast<double>(time.count()) / static_cast<double>(report.wall.count()) : 0.0;
  };
  if (!report.path.empty())
    shares.push_back(fmt::format("critical path {}, {:.0f}% of the time", took_text(report.path_length), share(report.path_length)));
  if (report.gaps.empty())
    shares.emplace_back("at no time did nothing run");
  else
    shares.push_back(fmt::format("nothing ran for {} ({:.1f}%), in {} gap{}", took_text(report.idle), share(report.idle),
                                 report.gaps.size(), report.gaps.size() == 1 ? "" : "s"));
  milliseconds down{0};
  for (const ReportedRestart& restart : report.restarts) down += restart.to - restart.from;
  if (!report.restarts.empty())
    shares.push_back(fmt::format("{} restart{}, {}", report.restarts.size(), report.restarts.size() == 1 ? "" : "s", took_text(down)));
  std::uint64_t bytes = 0;
  for (const ReportedDownload& one : report.downloads) bytes += one.bytes;
  if (!report.downloads.empty())
    shares.push_back(
        fmt::format("{} download{}, {}", report.downloads.size(), report.downloads.size() == 1 ? "" : "s", human_bytes(bytes)));
  return shares;
}

std::string file_of_url(std::string_view url) {
  std::string_view path = url.substr(0, url.find_first_of("?#"));
  while (path.ends_with('/')) path.remove_suffix(1);
  const std::size_t slash = path.rfind('/');
  return plain(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

std::string download_text(const ReportedDownload& one) {
  const std::uint64_t rate = one.bytes_per_s();
  return plain(fmt::format("{:>9} in {:>6}{}  {}{}", human_bytes(one.bytes), took_text(one.to - one.from),
                           rate == 0 ? std::string() : fmt::format(", {}/s", human_bytes(rate)), one.url, one.ahead ? "  (ahead)" : ""));
}

}  // namespace gpustrap
