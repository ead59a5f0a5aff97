// How a run's end is said: the second half of StatusPrinter.
#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/display_width.h"
#include "controller/screen_text.h"
#include "controller/status_printer.h"

namespace gpustrap {
namespace {

std::string plural(std::uint64_t count, std::string_view noun) { return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s"); }

/// Rows of a terminal that one line of a failed step's output may take; the log has the rest.
constexpr std::size_t kRowsOfOneLine = 3;
constexpr std::size_t kPlainColumns = 240;

void append(std::vector<std::string>& lines, const std::vector<std::string>& more) { lines.insert(lines.end(), more.begin(), more.end()); }

}  // namespace

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
  for (const std::string& line : split(trim(why), '\n')) append(lines, sentence("  " + clean(line), "  "));
  if (step.error && !step.error->hint.empty()) {
    append(lines, sentence(fmt::format("  {} {}", console_.unicode ? "→" : "->", clean(step.error->hint)), "    "));
  }
  if (!step.last_lines.empty()) {
    lines.push_back(step.last_lines.size() == 1 ? "  Its last line:" : fmt::format("  Its last {} lines:", step.last_lines.size()));
    const std::size_t columns = console_.person ? console_.size().columns * kRowsOfOneLine : kPlainColumns;
    for (const std::string& line : step.last_lines) lines.push_back(cut_to_width("    " + line, columns - 1, ellipsis()));
  }
  return lines;
}

std::vector<std::string> StatusPrinter::summary(const Ending& ending) const {
  std::vector<std::string> lines;
  for (const StepView& view : steps_) {
    if (view.phase == StepView::Phase::finished && view.outcome == Outcome::failed) append(lines, failure(view));
  }
  if ((live_ && run_) || !lines.empty()) lines.emplace_back();

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
    for (const std::string& note : finished->notes) append(lines, sentence("  " + clean(note), "  "));
  }
  for (const std::string& line : ending.next) append(lines, sentence("  " + clean(line), "    "));
  if (!ending.not_proven.empty()) {
    lines.push_back(paint(kRed, "All steps are done, but the notebook did not answer:") + " " + clean(ending.not_proven));
    tell_log = true;
  }
  if (ending.notebook) {
    // A token belongs on a person's terminal only, never in the log of a job.
    if (console_.person)
      lines.push_back("  " + ending.notebook->url);
    else
      lines.push_back(fmt::format("  {}  (`gpustrap url` prints it with its token)", ending.notebook->url_without_token));
    if (!ending.notebook->network_url.empty()) {
      append(lines, sentence("  Open to the network: " + clean(ending.notebook->network_url) +
                                 " with its password, where the security group lets port and address through. Your browser warns of a "
                                 "certificate that nobody has signed: compare its SHA-256 fingerprint with the one of the step.",
                             "  "));
    }
    if (ending.notebook->held)
      lines.emplace_back("  Ctrl-C closes the tunnel; the notebook keeps running.");
    else
      lines.push_back("  The tunnel is closed; open it with: gpustrap tunnel " + clean(title_.destination));
  }
  if (ending.exit == ExitCode::ok && ending.notebook && run_ && !run_->facts.cloud_type.empty()) {
    lines.emplace_back("  This instance is billed until you stop it.");
  }
  if (tell_log && !ending.log.empty()) lines.push_back("  Full log:  " + ending.log);
  if (tell_log && !ending.again.empty()) lines.push_back("  Go on:     " + ending.again);
  return lines;
}

}  // namespace gpustrap
