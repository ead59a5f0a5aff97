#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "controller/console.h"
#include "controller/report_files.h"
#include "controller/report_html.h"
#include "controller/report_text.h"
#include "controller/run_catalogue.h"
#include "controller/run_log.h"
#include "controller/verbs.h"

namespace gpustrap {

namespace {

/// A page of an earlier report may be written anew; nothing else is overwritten.
Result<void> may_write_page(const std::string& file) {
  const Result<std::string> there = read_file(file, 64U << 20U);
  if (!there && there.error().code() == ErrorCode::not_found) return {};
  if (there && is_report_page(*there)) return {};
  return fail(ErrorCode::usage, there ? fmt::format("{} is there already, and is no report of gpustrap", file) : there.error().sentence(),
              "name another file: --html FILE");
}

}  // namespace

VerbResult verb_report(const Options& options) {
  const Result<std::string> state = state_directory();
  if (!state) return fail(state.error());
  std::vector<std::string> words = options.hosts;
  if (words.empty()) words.emplace_back();
  std::vector<RunReport> reports;
  for (const std::string& word : words) {
    Result<std::vector<RunFile>> files = find_run_logs(*state, word);
    if (!files) return fail(std::move(files).error());
    for (const RunFile& file : *files) {
      Result<std::vector<RunReport>> read = read_run_log(file);
      if (!read) return fail(std::move(read).error());
      for (RunReport& report : *read) reports.push_back(std::move(report));
    }
  }
  if (!options.html.empty()) {
    if (Result<void> free = may_write_page(options.html); !free) return fail(std::move(free).error());
    if (Result<void> written = write_file_atomically(options.html, report_html(reports)); !written) return fail(std::move(written).error());
    const std::string said = fmt::format("{}\n", strip_control(options.html));
    return write_all(STDERR_FILENO, said).has_value() ? ExitCode::ok : ExitCode::step_failed;
  }
  const Console console = console_of(STDOUT_FILENO, options.colour);
  std::string text;
  if (options.json) {
    text = to_line(report_document(reports));
  } else {
    for (const RunReport& report : reports) text += (text.empty() ? "" : "\n") + report_text(report, console);
  }
  if (Result<void> written = write_all(STDOUT_FILENO, text); !written) return fail(std::move(written).error());
  return ExitCode::ok;
}

VerbResult verb_history(const Options& options) {
  const Result<std::string> state = state_directory();
  if (!state) return fail(state.error());
  const Result<std::vector<PastRun>> runs = past_runs(*state, options.hosts);
  if (!runs) return fail(runs.error());
  const Console console = console_of(STDOUT_FILENO, options.colour);
  const std::string text =
      options.json ? to_line(history_document(*runs)) : history_text(*runs, console.person ? console.size().columns : 0);
  if (Result<void> written = write_all(STDOUT_FILENO, text); !written) return fail(std::move(written).error());
  return ExitCode::ok;
}

}  // namespace gpustrap
