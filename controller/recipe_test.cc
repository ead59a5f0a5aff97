#include "controller/recipe_test.h"

#include <algorithm>
#include <sstream>

#include <fmt/format.h>
#include <pugixml.hpp>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"

namespace gpustrap {
namespace {

const char* title_of(RunOf run) { return run == RunOf::first ? "first run" : "second run"; }

std::string seconds(std::chrono::milliseconds time) { return fmt::format("{:.3f}", static_cast<double>(time.count()) / 1000); }

RecipeTestCase judge_step(const ReportedStep& step, RunOf run) {
  RecipeTestCase judged{step.title.id, step.reason, {}, false, step.busy(), step.outcome};
  if (!step.outcome) {
    judged.failure = "the run ended before it did";
  } else if (*step.outcome == Outcome::failed) {
    judged.failure = step.error ? step.error->message : step.reason;
    if (step.error && !step.error->hint.empty()) judged.failure += " -> " + step.error->hint;
  } else if (*step.outcome == Outcome::skipped) {
    judged.skipped = true;
  } else if (*step.outcome == Outcome::changed && run == RunOf::second) {
    judged.failure =
        fmt::format("it changed the host again, with nothing changed in between: {}", step.wanted.empty() ? step.reason : step.wanted);
  }
  return judged;
}

}  // namespace

std::size_t RecipeTestRun::failures() const {
  return static_cast<std::size_t>(
      std::count_if(cases.begin(), cases.end(), [](const RecipeTestCase& one) { return !one.failure.empty(); }));
}

RecipeTestRun judge_run(const RunReport& report, RunOf run) {
  RecipeTestRun judged{title_of(run), {}, report.wall, report.run};
  for (const ReportedStep& step : report.steps) judged.cases.push_back(judge_step(step, run));
  return judged;
}

RecipeTestRun broken_run(RunOf run, const std::string& why) { return {title_of(run), {{"(the run)", "", why}}, {}}; }

std::string junit_document(const std::string& recipe, const std::vector<RecipeTestRun>& runs) {
  pugi::xml_document document;
  pugi::xml_node declaration = document.append_child(pugi::node_declaration);
  declaration.append_attribute("version") = "1.0";
  declaration.append_attribute("encoding") = "UTF-8";
  pugi::xml_node suites = document.append_child("testsuites");
  suites.append_attribute("name") = "gpustrap recipe test";
  // What a host said may hold characters that XML has no way to write.
  const auto clean = [](const std::string& text) { return strip_control(to_utf8(text)); };
  for (const RecipeTestRun& run : runs) {
    pugi::xml_node suite = suites.append_child("testsuite");
    suite.append_attribute("name") = (clean(recipe) + ": " + run.title).c_str();
    suite.append_attribute("tests") = static_cast<unsigned>(run.cases.size());
    suite.append_attribute("failures") = static_cast<unsigned>(run.failures());
    suite.append_attribute("skipped") =
        static_cast<unsigned>(std::count_if(run.cases.begin(), run.cases.end(), [](const RecipeTestCase& one) { return one.skipped; }));
    suite.append_attribute("time") = seconds(run.took).c_str();
    for (const RecipeTestCase& one : run.cases) {
      pugi::xml_node entry = suite.append_child("testcase");
      entry.append_attribute("classname") = (clean(recipe) + "." + run.title).c_str();
      entry.append_attribute("name") = clean(one.step).c_str();
      entry.append_attribute("time") = seconds(one.took).c_str();
      if (one.skipped) entry.append_child("skipped").append_attribute("message") = clean(one.reason).c_str();
      if (one.failure.empty()) continue;
      pugi::xml_node failure = entry.append_child("failure");
      failure.append_attribute("message") = clean(first_line(one.failure)).c_str();
      failure.text().set(clean(one.failure).c_str());
    }
  }
  std::ostringstream text;
  document.save(text, "  ");
  return text.str();
}

std::string recipe_test_json(const std::string& recipe, const std::string& system, const std::vector<RecipeTestRun>& runs,
                             const std::optional<KeptHost>& host) {
  const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  Json list = Json::array();
  std::size_t failures = 0;
  for (const RecipeTestRun& run : runs) {
    Json steps = Json::array();
    for (const RecipeTestCase& one : run.cases) {
      steps.push_back({{"step", one.step},
                       {"outcome", one.outcome ? Json(outcome_name(*one.outcome)) : Json()},
                       {"reason", one.reason},
                       {"failure", or_null(one.failure)},
                       {"took_ms", one.took.count()}});
    }
    failures += run.failures();
    list.push_back({{"title", run.title},
                    {"run", or_null(run.run)},
                    {"passes", run.failures() == 0},
                    {"exit", run.exit},
                    {"took_ms", run.took.count()},
                    {"log", or_null(run.log)},
                    {"steps", std::move(steps)}});
  }
  return to_line({{"test", 1},
                  {"recipe", recipe},
                  {"system", or_null(system)},
                  {"passes", failures == 0},
                  {"runs", std::move(list)},
                  {"host", host ? Json{{"destination", host->destination}, {"key", host->key}, {"ends_by", host->ends_by}} : Json()}});
}

std::string recipe_test_text(const std::string& recipe, const std::string& system, const std::vector<RecipeTestRun>& runs) {
  std::string text;
  std::size_t failures = 0, steps = 0;
  std::chrono::milliseconds took{0};
  for (const RecipeTestRun& run : runs) {
    for (const RecipeTestCase& one : run.cases) {
      if (!one.failure.empty()) text += strip_control(fmt::format("  {}, {}: {}\n", run.title, one.step, one.failure));
    }
    if (run.failures() > 0 && !run.log.empty()) text += fmt::format("  more of it: gpustrap report {}\n", shell_quote(run.log));
    failures += run.failures();
    steps = std::max(steps, run.cases.size());
    took += run.took;
  }
  const std::string where = system.empty() ? "" : " on " + system;
  if (failures > 0) return strip_control(fmt::format("{} does not pass{}:\n", recipe, where)) + text;
  return strip_control(fmt::format("{} passes{}: {} {}, and nothing to do the second time ({}).\n", recipe, where, steps,
                                   steps == 1 ? "step" : "steps", human_duration(took)));
}

}  // namespace gpustrap
