#include <utility>

#include "agent/protocol/json.h"
#include "agent/protocol/wire.h"
#include "controller/run_report.h"

namespace gpustrap {
namespace {

Json spans_of(const ReportedStep& step) {
  Json spans = Json::array();
  for (const StepSpan& span : step.spans) {
    Json one = {{"from_ms", span.from.count()}, {"looked_ms", span.looked.count()}, {"to_ms", span.to.count()}, {"acted", span.acted}};
    if (span.interrupted) one["interrupted"] = true;
    spans.push_back(std::move(one));
  }
  return spans;
}

Json to_json(const ReportedStep& step) {
  Json document = {{"id", step.title.id},
                   {"kind", step.title.kind},
                   {"name", step.title.name},
                   {"spans", spans_of(step)},
                   {"busy_ms", step.busy().count()},
                   {"critical", step.critical},
                   {"output_bytes", step.output_bytes},
                   {"output_lines", step.output_lines}};
  if (step.needs) document["needs"] = *step.needs;
  if (!step.title.uses.empty()) document["uses"] = step.title.uses;
  if (step.outcome) {
    document["outcome"] = std::string(outcome_name(*step.outcome));
    document["reason"] = step.reason;
  }
  if (!step.wanted.empty()) document["wanted"] = step.wanted;
  if (step.error) document["error"] = to_json(*step.error);
  for (const ReportedRetry& retry : step.retries) {
    document["retries"].push_back(
        {{"at_ms", retry.at.count()}, {"attempt", retry.attempt}, {"why", retry.why}, {"wait_ms", retry.wait.count()}});
  }
  return document;
}

Json to_json(const ReportedDownload& one) {
  return {{"step", one.step},        {"url", one.url},
          {"bytes", one.bytes},      {"from_ms", one.from.count()},
          {"to_ms", one.to.count()}, {"bytes_per_s", one.bytes_per_s()},
          {"ahead", one.ahead},      {"critical", one.critical}};
}

Json to_json(const ReportedRestart& one) {
  Json document = {
      {"from_ms", one.from.count()}, {"to_ms", one.to.count()}, {"of", one.of_host ? "host" : "runner"}, {"critical", one.critical}};
  if (!one.step.empty()) document["step"] = one.step;
  if (!one.reason.empty()) document["reason"] = one.reason;
  return document;
}

Json path_of(const RunReport& report) {
  Json path = Json::array();
  for (const CriticalPart& part : report.path) {
    Json link = {{"from_ms", part.from.count()}, {"to_ms", part.to.count()}};
    switch (part.what) {
      case CriticalPart::What::step: link["step"] = report.steps[part.index].title.id; break;
      case CriticalPart::What::download: link["download"] = report.downloads[part.index].url; break;
      case CriticalPart::What::restart: link["restart"] = report.restarts[part.index].of_host ? "host" : "runner"; break;
    }
    path.push_back(std::move(link));
  }
  return path;
}

Json to_json(const RunReport& report) {
  Json document = {{"host", report.host},
                   {"hostname", report.facts.hostname},
                   {"run", report.run},
                   {"recipe", report.recipe},
                   {"agent", report.agent},
                   {"mode", report.mode == RunMode::plan ? "plan" : "apply"},
                   {"began_ms", report.began_ms},
                   {"wall_ms", report.wall.count()},
                   {"critical_path_ms", report.path_length.count()},
                   {"idle_ms", report.idle.count()},
                   {"critical_path", path_of(report)},
                   {"steps", Json::array()},
                   {"downloads", Json::array()},
                   {"restarts", Json::array()},
                   {"gaps", Json::array()}};
  if (report.finished) {
    constexpr const char* kEnds[] = {"ok", "failed", "cancelled"};
    document["end"] = kEnds[static_cast<std::size_t>(report.finished->end)];
    document["notes"] = report.finished->notes;
  }
  for (const ReportedStep& step : report.steps) document["steps"].push_back(to_json(step));
  for (const ReportedDownload& one : report.downloads) document["downloads"].push_back(to_json(one));
  for (const ReportedRestart& one : report.restarts) document["restarts"].push_back(to_json(one));
  for (const IdleGap& gap : report.gaps) {
    Json one = {{"from_ms", gap.from.count()}, {"to_ms", gap.to.count()}, {"before", gap.before}, {"after", gap.after}};
    if (gap.for_secret) one["for_secret"] = true;
    document["gaps"].push_back(std::move(one));
  }
  return document;
}

}  // namespace

Json report_document(const std::vector<RunReport>& reports) {
  Json document = {{"report", 1}, {"runs", Json::array()}};
  for (const RunReport& report : reports) document["runs"].push_back(to_json(report));
  return document;
}

}  // namespace gpustrap
