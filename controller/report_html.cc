#include "controller/report_html.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "controller/host_text.h"
#include "controller/report_text.h"

namespace gpustrap {
namespace {

constexpr std::string_view kHeading = "<h1>Where time went</h1>";

using std::chrono::milliseconds;

/// Narrower bars are drawn as wide as this share of the lane, so that they can be seen and pointed at.
constexpr double kNarrowestBar = 0.3;
constexpr std::size_t kMostTicks = 6;
/// The digest of a policy's source, which is base64 of the bytes.
std::string base64_of_hex(const std::string& hex) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = (group << 8U) | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    for (std::size_t k = 0; k < 4; ++k) text += i + k > bytes.size() ? '=' : kDigits[(group >> (18U - 6U * k)) & 63U];
  }
  return text;
}

std::string utc_text(std::int64_t time_ms) {
  const std::time_t seconds = static_cast<std::time_t>(time_ms / 1000);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
                     parts.tm_min, parts.tm_sec);
}

/// Distances of the ticks on the axis, in milliseconds, of which the first is taken that is not too close.
milliseconds tick_distance(milliseconds wall) {
  constexpr std::array<std::int64_t, 26> kDistances = {
      1,      2,      5,      10,      20,      50,      100,     200,       500,       1000,      2000,       5000,       10'000,
      15'000, 30'000, 60'000, 120'000, 300'000, 600'000, 900'000, 1'800'000, 3'600'000, 7'200'000, 21'600'000, 43'200'000, 86'400'000};
  for (const std::int64_t distance : kDistances) {
    if (wall.count() / distance <= static_cast<std::int64_t>(kMostTicks)) return milliseconds(distance);
  }
  // A host's clock may have been set by years in the middle of a run: there are never more than so many.
  return std::max(milliseconds(kDistances.back() * 7), wall / static_cast<std::int64_t>(kMostTicks));
}

/// A lane of bars over the time of one run.
class Lane {
 public:
  explicit Lane(milliseconds wall) : wall_(wall) {
    if (wall.count() <= 0) return;
    const milliseconds distance = tick_distance(wall);
    for (milliseconds at = distance; at < wall; at += distance)
      svg_ += fmt::format("<line class=\"tick\" x1=\"{0:.2f}%\" x2=\"{0:.2f}%\" y1=\"0\" y2=\"100%\"/>", share(at));
  }

  void bar(RunTime from, RunTime to, std::string_view classes, const std::string& what) {
    const double x = share(from);
    const double width = std::min(std::max(share(to) - x, kNarrowestBar), 100.0);
    svg_ += fmt::format("<rect class=\"{}\" x=\"{:.2f}%\" width=\"{:.2f}%\" y=\"15%\" height=\"70%\" rx=\"2\"><title>{}</title></rect>",
                        classes, std::min(x, 100.0 - width), width, html_text(what));
  }

  std::string svg() const { return "<svg class=\"lane\" role=\"img\">" + svg_ + "</svg>"; }

  double share(milliseconds at) const {
    return wall_.count() <= 0 ? 0 : 100.0 * static_cast<double>(at.count()) / static_cast<double>(wall_.count());
  }

 private:
  milliseconds wall_;
  std::string svg_;
};

std::string axis_of(milliseconds wall) {
  std::string svg = "<svg class=\"lane\" aria-hidden=\"true\"><text x=\"0\" y=\"75%\">0</text>";
  const Lane scale(wall);
  const milliseconds distance = tick_distance(wall);
  for (milliseconds at = distance; at < wall; at += distance) {
    if (scale.share(at) > 94) break;  // it would stand outside
    svg += fmt::format("<text x=\"{:.2f}%\" y=\"75%\" text-anchor=\"middle\">{}</text>", scale.share(at), took_text(at));
  }
  return "<div class=\"axis\"><span>step</span>" + svg + "</svg><span class=\"took\">took</span></div>\n";
}

std::string span_text(RunTime from, RunTime to) { return fmt::format("{} to {}", took_text(from), took_text(to)); }

std::string detail(std::string_view what, std::string_view value) {
  return value.empty() ? "" : fmt::format("<dt>{}</dt><dd>{}</dd>", what, html_text(value));
}

std::string row(std::string_view classes, const std::string& name, bool critical, const Lane& lane, const std::string& took,
                const std::string& details) {
  return fmt::format(
      "<details class=\"row {}\"><summary><span class=\"name\" title=\"{}\">{}{}</span>{}<span "
      "class=\"took\">{}</span></summary><dl>{}</dl></details>\n",
      classes, html_text(name), critical ? "<span title=\"on the critical path\">◆ </span>" : "", html_text(name), lane.svg(),
      html_text(took), details);
}

std::string step_row(const RunReport& report, const ReportedStep& step) {
  Lane lane(report.wall);
  std::vector<std::string> times;
  for (const StepSpan& span : step.spans) {
    const std::string critical = step.critical ? "b-critical " : "";
    const RunTime looked = span.acted ? span.looked : span.to;
    if (looked > span.from || !span.acted)
      lane.bar(span.from, looked, critical + "b-look", fmt::format("{}: looking, {}", step.title.id, span_text(span.from, looked)));
    if (span.acted) {
      const bool failed = step.outcome == Outcome::failed;
      lane.bar(looked, span.to,
               failed          ? "b-failed"
               : step.critical ? "b-critical"
                               : "b-work",
               fmt::format("{}: {}", step.title.id, span_text(looked, span.to)));
    }
    times.push_back(fmt::format("{}{}{}", span_text(span.from, span.to),
                                span.acted ? fmt::format(", of that looking {}", took_text(span.looked - span.from)) : "",
                                span.interrupted ? ", interrupted" : ""));
  }
  std::string details = detail("kind", step.title.kind);
  if (step.title.name != step.title.id) details += detail("name", step.title.name);
  details += detail("outcome", step.outcome ? outcome_name(*step.outcome) : "not over");
  details += detail("because", step.reason) + detail("wanted", step.wanted);
  if (step.error) details += detail("error", step.error->message) + detail("what to do", step.error->hint);
  details += detail("time", join(times, "\n")) + detail("waits for", step.needs ? join(*step.needs, ", ") : "");
  for (const ReportedRetry& retry : step.retries)
    details += detail("tried again", fmt::format("attempt {} failed at {}: {}; again after {}", retry.attempt, took_text(retry.at),
                                                 retry.why, took_text(retry.wait)));
  if (step.output_bytes > 0) details += detail("printed", fmt::format("{} lines, {}", step.output_lines, human_bytes(step.output_bytes)));
  const std::string classes = std::string(step.critical ? "critical " : "") + (step.outcome == Outcome::failed ? "failed" : "");
  return row(classes, step.title.id, step.critical, lane, took_text(step.busy()), details);
}

std::string download_row(const RunReport& report, const ReportedDownload& one) {
  Lane lane(report.wall);
  lane.bar(one.from, one.to, one.critical ? "b-critical" : "b-download",
           fmt::format("{}: {}", file_of_url(one.url), span_text(one.from, one.to)));
  const std::uint64_t rate = one.bytes_per_s();
  const std::string details = detail("from", one.url) + detail("for", one.step + (one.ahead ? ", before its turn" : "")) +
                              detail("size", human_bytes(one.bytes)) + detail("rate", rate == 0 ? "" : human_bytes(rate) + "/s") +
                              detail("time", span_text(one.from, one.to));
  return row(one.critical ? "download critical" : "download", "↓ " + file_of_url(one.url), one.critical, lane,
             rate == 0 ? took_text(one.to - one.from) : human_bytes(rate) + "/s", details);
}

std::string rest_rows(const RunReport& report) {
  std::string rows;
  if (!report.restarts.empty()) {
    Lane lane(report.wall);
    std::string details;
    milliseconds sum{0};
    bool critical = false;
    for (const ReportedRestart& one : report.restarts) {
      const std::string what = one.of_host ? "the host restarted" : "the run was taken up again";
      lane.bar(one.from, one.to, "b-restart", fmt::format("{}: {}", what, span_text(one.from, one.to)));
      details += detail(span_text(one.from, one.to),
                        what + (one.step.empty() ? "" : ", asked for by " + one.step) + (one.reason.empty() ? "" : ": " + one.reason));
      sum += one.to - one.from;
      critical = critical || one.critical;
    }
    rows += row(critical ? "rest critical" : "rest", "restarts", critical, lane, took_text(sum), details);
  }
  if (!report.gaps.empty()) {
    Lane lane(report.wall);
    std::string details;
    for (const IdleGap& gap : report.gaps) {
      lane.bar(gap.from, gap.to, "b-idle", "nothing ran: " + span_text(gap.from, gap.to));
      if (gap.length() < least_gap_told(report.wall)) continue;
      details += detail(took_text(gap.length()),
                        fmt::format("at {}{}{}{}", took_text(gap.from), gap.before.empty() ? "" : ", after " + gap.before,
                                    gap.after.empty() ? "" : ", before " + gap.after, gap.for_secret ? "; it waited for a secret" : ""));
    }
    if (details.empty())
      details = detail("gaps", fmt::format("{}, each shorter than {}", report.gaps.size(), took_text(least_gap_told(report.wall))));
    rows += row("rest", "nothing ran", false, lane, took_text(report.idle), details);
  }
  return rows;
}

std::string figure(std::string_view classes, const std::string& value, const std::string& what) {
  return fmt::format("<li class=\"{}\"><b>{}</b>{}</li>", classes, html_text(value), html_text(what));
}

std::string percent_of(milliseconds part, milliseconds whole) {
  return whole.count() <= 0 ? "" : fmt::format("{:.0f}%", 100.0 * static_cast<double>(part.count()) / static_cast<double>(whole.count()));
}

std::string figures(const RunReport& report) {
  std::string list = "<ul class=\"figures\">";
  const bool bad = report.finished && report.finished->end != RunFinished::End::ok;
  constexpr std::array<const char*, 3> kEnds = {"ok", "failed", "cancelled"};
  list +=
      figure(bad ? "bad" : "", took_text(report.wall),
             report.finished ? fmt::format("in all, {}", kEnds.at(static_cast<std::size_t>(report.finished->end))) : "so far; not over");
  if (!report.path.empty())
    list += figure("path", took_text(report.path_length), "critical path, " + percent_of(report.path_length, report.wall));
  list += figure("", took_text(report.idle), fmt::format("nothing ran, {} gap{}", report.gaps.size(), report.gaps.size() == 1 ? "" : "s"));
  std::uint64_t bytes = 0;
  for (const ReportedDownload& one : report.downloads) bytes += one.bytes;
  if (!report.downloads.empty())
    list += figure("", human_bytes(bytes), fmt::format("{} download{}", report.downloads.size(), report.downloads.size() == 1 ? "" : "s"));
  milliseconds down{0};
  for (const ReportedRestart& one : report.restarts) down += one.to - one.from;
  if (!report.restarts.empty())
    list += figure("", took_text(down), fmt::format("{} restart{}", report.restarts.size(), report.restarts.size() == 1 ? "" : "s"));
  if (report.finished) {
    const RunFinished& end = *report.finished;
    for (const auto& [count, what] :
         {std::pair(end.failed, "failed"), std::pair(end.changed, "changed"), std::pair(end.would_change, "would change"),
          std::pair(end.unchanged, "unchanged"), std::pair(end.skipped, "skipped")}) {
      if (count > 0) list += figure(std::string_view(what) == "failed" ? "bad" : "", fmt::format("{}", count), what);
    }
  }
  return list + "</ul>\n";
}

std::string legend(const RunReport& report) {
  std::string list = "<ul class=\"legend\">";
  const auto say = [&](bool is_there, const char* colour, const char* what) {
    if (is_there)
      list += fmt::format("<li><svg aria-hidden=\"true\"><rect class=\"{}\" width=\"100%\" height=\"100%\" rx=\"2\"/></svg>{}</li>", colour,
                          what);
  };
  say(!report.path.empty(), "b-critical", "critical path (◆)");
  say(true, "b-work", "other work");
  say(true, "b-look", "looking");
  say(!report.downloads.empty(), "b-download", "download");
  say(!report.restarts.empty(), "b-restart", "restart");
  say(!report.gaps.empty(), "b-idle", "nothing ran");
  return list + "</ul>\n";
}

std::string path_list(const RunReport& report) {
  if (report.path.empty()) return "";
  std::string list = "<h3>Critical path</h3><ol class=\"chain\">";
  for (const CriticalPart& part : report.path) {
    std::string name;
    switch (part.what) {
      case CriticalPart::What::step: name = report.steps[part.index].title.id; break;
      case CriticalPart::What::download: name = file_of_url(report.downloads[part.index].url); break;
      case CriticalPart::What::restart: name = "restart"; break;
    }
    list += fmt::format("<li>{} <span>{}</span></li>", html_text(name), took_text(part.to - part.from));
  }
  return list + "</ol>\n";
}

/// A titled list; nothing where it has no items.
std::string listed(std::string_view title, const std::vector<std::pair<std::string, std::string>>& items) {
  if (items.empty()) return "";
  std::string list = fmt::format("<div><h3>{}</h3><ul class=\"list\">", title);
  for (const auto& [head, rest] : items)
    list += fmt::format("<li><b>{}</b> <span class=\"soft\">{}</span></li>", html_text(head), html_text(rest));
  return list + "</ul></div>\n";
}

std::string lists(const RunReport& report) {
  using Items = std::vector<std::pair<std::string, std::string>>;
  Items failed, changed, retried, downloads, notes;
  for (const ReportedStep& step : report.steps) {
    if (step.outcome == Outcome::failed)
      failed.emplace_back(step.title.id, step.error ? step.error->message + " " + step.error->hint : step.reason);
    if (step.outcome == Outcome::changed || step.outcome == Outcome::would_change) changed.emplace_back(step.title.id, step.reason);
    for (const ReportedRetry& retry : step.retries)
      retried.emplace_back(step.title.id, fmt::format("attempt {} failed at {}: {}; again after {}", retry.attempt, took_text(retry.at),
                                                      retry.why, took_text(retry.wait)));
  }
  for (const ReportedDownload& one : report.downloads) {
    const std::uint64_t rate = one.bytes_per_s();
    downloads.emplace_back(human_bytes(one.bytes), fmt::format("in {}{}{} {}", took_text(one.to - one.from),
                                                               rate == 0 ? "" : fmt::format(", {}/s", human_bytes(rate)),
                                                               one.ahead ? ", before its turn," : ",", one.url));
  }
  if (report.finished) {
    for (const std::string& note : report.finished->notes) notes.emplace_back("", note);
  }
  return "<div class=\"columns\">" + listed("Failed", failed) + listed("What changed", changed) + listed("Downloads", downloads) +
         listed("Tried again", retried) + listed("Notes", notes) + "</div>\n";
}

std::string section_of(const RunReport& report, std::size_t number) {
  std::string text = fmt::format("<section id=\"run-{}\"><h2>{} <span class=\"at\">on {}</span></h2>\n<p class=\"about\">{}</p>\n", number,
                                 html_text(report.recipe), html_text(host_of(report)),
                                 html_text(fmt::format(
                                     "{}{}began {}, run {}", report.mode == RunMode::plan ? "a plan, nothing was changed; " : "",
                                     [&] {
                                       const std::string about = join(describe_host(report.facts), ", ");
                                       return about.empty() ? about : about + "; ";
                                     }(),
                                     utc_text(report.began_ms), report.run)));
  text += figures(report) + "<div class=\"chart\">\n" + axis_of(report.wall);
  std::vector<std::string> skipped;
  for (const ReportedStep& step : report.steps) {
    if (step.spans.empty())
      skipped.push_back(step.title.id);
    else
      text += step_row(report, step);
    for (const ReportedDownload& one : report.downloads) {
      if (one.step == step.title.id) text += download_row(report, one);
    }
  }
  text += rest_rows(report) + "</div>\n" + legend(report);
  if (!skipped.empty()) text += fmt::format("<p class=\"about\">Skipped: {}</p>\n", html_text(join(skipped, ", ")));
  return text + path_list(report) + lists(report) + "</section>\n";
}

std::string overview(const std::vector<RunReport>& reports) {
  milliseconds longest{0};
  for (const RunReport& report : reports) longest = std::max(longest, report.wall);
  std::string table =
      "<table class=\"hosts\"><thead><tr><th>host</th><th class=\"wide\">recipe</th><th>end</th><th>took</th><th class=\"wide\">critical "
      "path</th><th "
      "class=\"wide\">nothing ran</th>"
      "<th class=\"wide\"></th></tr></thead><tbody>\n";
  for (std::size_t i = 0; i < reports.size(); ++i) {
    const RunReport& report = reports[i];
    Lane lane(longest);
    const bool ok = report.finished && report.finished->end == RunFinished::End::ok;
    lane.bar(RunTime(0), report.wall, ok ? "b-work" : "b-failed", outcome_of(report));
    constexpr std::array<const char*, 3> kEnds = {"ok", "failed", "cancelled"};
    table += fmt::format(
        "<tr><td><a href=\"#run-{}\">{}</a></td><td class=\"wide\">{}</td><td>{}</td><td>{}</td><td class=\"wide\">{}</td><td "
        "class=\"wide\">{}</td><td "
        "class=\"wide\">{}</td></tr>\n",
        i + 1, html_text(host_of(report)), html_text(report.recipe),
        report.finished ? kEnds.at(static_cast<std::size_t>(report.finished->end)) : "not over", took_text(report.wall),
        took_text(report.path_length), took_text(report.idle), lane.svg());
  }
  return table + "</tbody></table>\n";
}

}  // namespace

std::string html_text(std::string_view text) {
  std::string safe;
  for (const char c : strip_control(to_utf8(text))) {
    switch (c) {
      case '&': safe += "&amp;"; break;
      case '<': safe += "&lt;"; break;
      case '>': safe += "&gt;"; break;
      case '"': safe += "&quot;"; break;
      case '\'': safe += "&#39;"; break;
      default: safe += c;
    }
  }
  return safe;
}

bool is_report_page(std::string_view text) {
  return text.starts_with("<!doctype html>") && text.find(fmt::format("<header>{}</header>", kHeading)) != std::string_view::npos;
}

std::string report_html(const std::vector<RunReport>& reports) {
  const std::string css(report_css());
  std::string title = "Where time went";
  if (reports.size() == 1)
    title = fmt::format("{} on {}: {}", reports.front().recipe, host_of(reports.front()), took_text(reports.front().wall));
  std::string page = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action "
      "'none'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"referrer\" content=\"no-referrer\">\n"
      "<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n<header>{}</header>\n<main>\n",
      base64_of_hex(sha256_hex(css)), html_text(title), css, kHeading);
  if (reports.size() > 1) page += overview(reports);
  for (std::size_t i = 0; i < reports.size(); ++i) page += section_of(reports[i], i + 1);
  page +=
      "</main>\n<footer>Each row opens: click it, or press Enter on it. Times are by the host's own clock. The critical path is the "
      "longest chain "
      "of steps that waited for each other.</footer>\n</body>\n</html>\n";
  return page;
}

}  // namespace gpustrap
