#include "controller/run_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "agent/base/file.h"
#include "agent/protocol/event_line.h"
#include "agent/protocol/json.h"
#include "controller/report_files.h"
#include "controller/report_html.h"
#include "controller/report_text.h"
#include "controller/run_log.h"
#include "tests/support/folders.h"
#include "tests/support/golden_file.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

RunReport recorded(const std::string& name) {
  const auto reports = read_run_log({source_folder() + "/tests/golden/reports/" + name + ".jsonl", "ubuntu@203.0.113.7"});
  EXPECT_TRUE(reports.has_value()) << reports.error().sentence();
  return reports ? reports->front() : RunReport{};
}

Console console_of_width(std::size_t columns) {
  Console console;
  console.size = [columns] { return TerminalSize{columns, 24}; };
  return console;
}

/// A run of steps, with what they need and use as run_started says it.
class ARun {
 public:
  explicit ARun(const Json& steps) {
    RunStarted started;
    started.run = "20260801-141503-7f3a";
    started.recipe = "r";
    started.facts.boot_id = "b1";
    Json line = to_json(Event{++seq_, 1000, std::move(started)});
    line["steps"] = Json::array();
    for (Json step : steps) {
      step["kind"] = "command";
      step["name"] = step["id"];
      line["steps"].push_back(step);
    }
    EXPECT_TRUE(builder_.add_document(line).has_value());
  }
  ARun& add(std::int64_t at, decltype(Event::body) body) {
    builder_.add({++seq_, 1000 + at, std::move(body)});
    return *this;
  }
  ARun& step(const std::string& id, std::int64_t from, std::int64_t to) {
    return add(from, StepStarted{id}).add(to, StepFinished{id, Outcome::unchanged, "is so", milliseconds(to - from), {}});
  }
  ARun& end(std::int64_t at) { return add(at, RunFinished{}); }
  [[nodiscard]] RunReport report() const { return builder_.finish("h"); }

  RunReportBuilder builder_;
  std::uint64_t seq_ = 0;
};

std::vector<std::string> path_of(const RunReport& report) {
  std::vector<std::string> path;
  for (const CriticalPart& part : report.path) {
    path.push_back(part.what == CriticalPart::What::step       ? report.steps[part.index].title.id
                   : part.what == CriticalPart::What::download ? report.downloads[part.index].url
                                                               : "restart");
  }
  return path;
}

TEST(CriticalPath, IsTheLongestChainOfStepsThatWaitedForEachOther) {
  ARun run(Json::parse(R"([{"id":"a"},{"id":"slow","needs":["a"]},{"id":"quick","needs":["a"]},{"id":"z","needs":["slow","quick"]}])"));
  run.step("a", 10, 20).add(20, StepStarted{"slow"}).step("quick", 20, 30).add(90, StepFinished{"slow", Outcome::changed, "", {}, {}});
  const RunReport report = run.step("z", 95, 100).end(100).report();
  EXPECT_THAT(path_of(report), ElementsAre("a", "slow", "z"));
  EXPECT_EQ(report.path_length, milliseconds(10 + 70 + 5));
  EXPECT_EQ(report.wall, milliseconds(100));
  EXPECT_FALSE(report.steps[2].critical);
}

TEST(CriticalPath, GoesThroughWhatHadEndedWhereNobodySaysWhatIsNeeded) {
  ARun run(Json::parse(R"([{"id":"a"},{"id":"b"},{"id":"c"}])"));
  run.add(0, StepStarted{"a"}).step("b", 0, 10).add(50, StepFinished{"a", Outcome::changed, "", {}, {}});
  const RunReport report = run.step("c", 50, 60).end(60).report();
  EXPECT_THAT(path_of(report), ElementsAre("a", "c"));
}

TEST(CriticalPath, GoesThroughWhatOnlyOneStepMayUse) {
  ARun run(Json::parse(R"([{"id":"driver","needs":[],"uses":"dpkg"},{"id":"apt","needs":[],"uses":"dpkg"}])"));
  const RunReport report = run.step("driver", 0, 50).step("apt", 50, 60).end(60).report();
  EXPECT_THAT(path_of(report), ElementsAre("driver", "apt"));
  EXPECT_EQ(report.path_length, milliseconds(60));
}

TEST(CriticalPath, GoesThroughARestartAndTheStepThatItInterrupted) {
  ARun run(Json::parse(R"([{"id":"a"}])"));
  run.add(10, StepStarted{"a"}).add(40, Rebooting{"a", "a new kernel", "b1", 1});
  run.add(90, RunnerStarted{2, 3, 1, "b2", {"a"}}).step("a", 92, 100);
  const RunReport report = run.end(100).report();
  EXPECT_THAT(path_of(report), ElementsAre("a", "restart", "a"));
  EXPECT_EQ(report.path_length, milliseconds(30 + 50 + 8));
  ASSERT_EQ(report.restarts.size(), 1U);
  EXPECT_TRUE(report.restarts[0].of_host);
  EXPECT_EQ(report.restarts[0].reason, "a new kernel");
  EXPECT_TRUE(report.steps[0].spans.front().interrupted);
}

TEST(IdleGaps, AreTheTimesInWhichNothingRan) {
  ARun run(Json::parse(R"([{"id":"a"},{"id":"b"}])"));
  const RunReport report = run.step("a", 5, 20).add(30, WaitingForSecret{"b", {"token"}}).step("b", 50, 60).end(61).report();
  ASSERT_EQ(report.gaps.size(), 3U);
  EXPECT_EQ(report.gaps[0].after, "a");
  EXPECT_EQ(report.gaps[1].before, "a");
  EXPECT_EQ(report.gaps[1].after, "b");
  EXPECT_EQ(report.gaps[1].length(), milliseconds(30));
  EXPECT_TRUE(report.gaps[1].for_secret);
  EXPECT_FALSE(report.gaps[0].for_secret);
  EXPECT_EQ(report.idle, milliseconds(5 + 30 + 1));
}

TEST(RunReport, ForgetsWhatTheHostHasLost) {
  ARun run(Json::parse(R"([{"id":"a"}])"));
  run.add(10, StepStarted{"a"}).add(11, StepOutput{"a", "out", "one\ntwo\n"}).add(12, StepFinished{"a", Outcome::failed, "lost", {}, {}});
  ASSERT_TRUE(run.builder_.add_document(Json{{"rewound", {{"to", 2}}}}).has_value());
  run.seq_ = 2;
  run.add(20, StepOutput{"a", "out", "three\n"}).add(21, StepFinished{"a", Outcome::changed, "kept", {}, {}});
  const RunReport report = run.end(22).report();
  EXPECT_EQ(report.steps[0].outcome, Outcome::changed);
  EXPECT_EQ(report.steps[0].spans.front().to, milliseconds(21));
}

TEST(RunReport, CountsWhatStepsPrinted) {
  ARun run(Json::parse(R"([{"id":"a"}])"));
  run.add(10, StepStarted{"a"}).add(11, StepOutput{"a", "out", "one\ntwo\n"}).add(12, StepOutput{"a", "err", "three\n"});
  const RunReport report = run.report();
  EXPECT_EQ(report.steps[0].output_lines, 3U);
  EXPECT_EQ(report.steps[0].output_bytes, 14U);
  EXPECT_TRUE(report.steps[0].spans.front().interrupted) << "the log ends while it runs";
  EXPECT_EQ(report.wall, milliseconds(12));
  EXPECT_FALSE(report.finished.has_value());
}

TEST(RunReport, AClockThatIsSetBackTakesNoTimeAway) {
  ARun run(Json::parse(R"([{"id":"a"},{"id":"b"}])"));
  const RunReport report = run.step("a", 10, 50).step("b", 20, 60).end(70).report();
  EXPECT_EQ(report.steps[1].spans.front().from, milliseconds(50));
  EXPECT_EQ(report.wall, milliseconds(70));
}

TEST(ReportText, OfAFirstRun) {
  const RunReport report = recorded("first_run");
  expect_golden("reports/first_run_60.txt", report_text(report, console_of_width(60)));
  expect_golden("reports/first_run_120.txt", report_text(report, console_of_width(120)));
  Console ascii = console_of_width(80);
  ascii.unicode = false;
  expect_golden("reports/first_run_ascii.txt", report_text(report, ascii));
}

TEST(ReportText, ColoursOnlyWhereTheTerminalHasThem) {
  Console console = console_of_width(80);
  EXPECT_THAT(report_text(recorded("hostile_host"), console), Not(HasSubstr("\x1b")));
  console.colour = true;
  EXPECT_THAT(report_text(recorded("hostile_host"), console), HasSubstr("\x1b[31m"));
}

TEST(ReportJson, HasEverythingThatTheOtherFormsShow) {
  expect_golden("reports/first_run.json", report_document({recorded("first_run")}).dump(2) + "\n");
}

TEST(ReportHtml, WhatAHostSaysIsText) {
  const std::string page = report_html({recorded("hostile_host"), recorded("first_run")});
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(1)&lt;/script&gt;"));
  EXPECT_THAT(page,
              AllOf(Not(HasSubstr("<script")), Not(HasSubstr("<img")), Not(HasSubstr("onload=\"")), Not(HasSubstr("href=\"javascript"))));
  EXPECT_THAT(page, AllOf(Not(HasSubstr("\x1b")), Not(HasSubstr("<link")), Not(HasSubstr("src=")), Not(HasSubstr("url("))));
  EXPECT_EQ(page.find("</style>"), page.rfind("</style>"));
}

TEST(ReportHtml, AClockThatWasSetByAgesMakesNoLongPage) {
  for (const std::int64_t jump : {std::int64_t{9'000'000'000'000'000'000}, INT64_MAX - 1000, INT64_MIN, std::int64_t{-5000}}) {
    ARun run(Json::parse(R"([{"id":"a"},{"id":"b"}])"));
    const RunReport report = run.step("a", 10, 20).step("b", 20, jump).end(jump).report();
    EXPECT_LT(report_html({report}).size(), 100'000U) << jump;
    EXPECT_THAT(report_text(report, console_of_width(80)), HasSubstr("a")) << jump;
  }
}

TEST(ReportHtml, ForbidsEverythingButItsOwnStyle) {
  const std::string page = report_html({recorded("first_run")});
  // The policy allows the style by its digest, which is over exactly these bytes.
  const std::size_t begin = page.find("<style>") + 7;
  const std::string style = page.substr(begin, page.find("</style>") - begin);
  EXPECT_EQ(style, report_css());
  EXPECT_THAT(page, HasSubstr("content=\"default-src 'none'; style-src 'sha256-"));
  EXPECT_THAT(page, Not(HasSubstr("unsafe-inline")));
  EXPECT_THAT(page, Not(HasSubstr(" style=\"")));
}

class ReportFiles : public ::testing::Test {
 protected:
  void log(const std::string& run, const std::string& host) const {
    auto made = RunLog::create(state_.path(), run, host);
    ASSERT_TRUE(made.has_value());
    RunStarted started;
    started.run = run;
    const Event event{1, 1000, std::move(started)};
    made->event(event, to_line(event));
  }
  [[nodiscard]] std::vector<std::string> found(const std::string& word) const {
    const auto files = find_run_logs(state_.path(), word);
    std::vector<std::string> runs;
    if (!files) return {files.error().sentence()};
    for (const RunFile& file : *files) {
      const auto reports = read_run_log(file);
      runs.push_back(reports ? reports->front().run + " of " + reports->front().host : reports.error().sentence());
    }
    return runs;
  }
  TemporaryDirectory state_;
};

TEST_F(ReportFiles, ARunIsNamedByItsIdItsCommandOrItsHost) {
  log("20260801-141503-0001", "ann@gpu1");
  log("20260801-141504-0002", "ann@gpu2");
  log("20260801-141505-0003-001", "ann@gpu1");
  log("20260801-141505-0003-002", "bob@gpu3");
  EXPECT_THAT(found("20260801-141503-0001"), ElementsAre("20260801-141503-0001 of ann@gpu1"));
  EXPECT_THAT(found("gpu2"), ElementsAre("20260801-141504-0002 of ann@gpu2"));
  EXPECT_THAT(found("ann@gpu1"), ElementsAre("20260801-141505-0003-001 of ann@gpu1"));
  EXPECT_THAT(found("20260801-141505-0003"), ElementsAre("20260801-141505-0003-001 of ann@gpu1", "20260801-141505-0003-002 of bob@gpu3"));
  EXPECT_THAT(found(""), ElementsAre("20260801-141505-0003-001 of ann@gpu1", "20260801-141505-0003-002 of bob@gpu3"));
  EXPECT_THAT(found("gpu9"), ElementsAre(HasSubstr("no run of `gpu9`")));
  EXPECT_THAT(found("eve@gpu1"), ElementsAre(HasSubstr("no run of `eve@gpu1`")));
}

TEST_F(ReportFiles, SaysWhatIsWrongWithAFile) {
  const std::string path = state_ / "mixed.jsonl";
  ASSERT_TRUE(write_file_atomically(path, "{\"hello\":1}\nnot json\n").has_value());
  EXPECT_THAT(found(path), ElementsAre(HasSubstr("line 2")));
  ASSERT_TRUE(write_file_atomically(path, "{\"signal\":\"heartbeat\"}\n").has_value());
  EXPECT_THAT(found(path), ElementsAre(HasSubstr("no run begins")));
  EXPECT_THAT(found("./nowhere.jsonl"), ElementsAre(HasSubstr("nowhere.jsonl")));
  EXPECT_THAT(found(""), ElementsAre(HasSubstr("no run is logged")));
}

TEST_F(ReportFiles, TheLinesOfManyHostsAreToldApart) {
  const std::string path = state_ / "fleet.jsonl";
  std::string lines;
  for (const std::string host : {"gpu1", "gpu2"}) {
    RunStarted started;
    started.run = "20260801-141505-0003-" + host;
    Json line = to_json(Event{1, 1000, started});
    line["host"] = host;
    lines += line.dump() + "\n";
  }
  ASSERT_TRUE(write_file_atomically(path, lines).has_value());
  const auto reports = read_run_log({path, ""});
  ASSERT_TRUE(reports.has_value()) << reports.error().sentence();
  ASSERT_EQ(reports->size(), 2U);
  EXPECT_EQ(reports->at(1).host, "gpu2");
}

}  // namespace
}  // namespace gpustrap
