#include "controller/recipe_test.h"

#include <sys/stat.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <pugixml.hpp>

#include <filesystem>
#include <fstream>

#include "agent/protocol/json.h"
#include "controller/throw_away_host.h"
#include "tests/support/child.h"
#include "tests/support/environment.h"
#include "tests/support/folders.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

ReportedStep step(const std::string& id, std::optional<Outcome> outcome, const std::string& reason) {
  ReportedStep step;
  step.title.id = id;
  step.outcome = outcome;
  step.reason = reason;
  return step;
}

RunReport report_of(std::vector<ReportedStep> steps) {
  RunReport report;
  report.steps = std::move(steps);
  report.wall = std::chrono::milliseconds(1500);
  return report;
}

TEST(RecipeTest, AFirstRunMayChangeWhatItLikes) {
  const RecipeTestRun run = judge_run(
      report_of({step("a", Outcome::changed, "made"), step("b", Outcome::skipped, "no GPU"), step("c", Outcome::unchanged, "there")}),
      RunOf::first);
  EXPECT_EQ(run.failures(), 0U);
  EXPECT_TRUE(run.cases[1].skipped);
}

TEST(RecipeTest, ASecondRunMayChangeNothing) {
  ReportedStep again = step("a", Outcome::changed, "made");
  again.wanted = "it has no `creates` and no `unless`";
  const RecipeTestRun run = judge_run(report_of({again, step("b", Outcome::unchanged, "there")}), RunOf::second);
  EXPECT_EQ(run.failures(), 1U);
  EXPECT_THAT(run.cases[0].failure, HasSubstr("changed the host again"));
  EXPECT_THAT(run.cases[0].failure, HasSubstr("no `creates`"));
}

TEST(RecipeTest, WhatFailedOrNeverEndedCounts) {
  ReportedStep failed = step("a", Outcome::failed, "");
  failed.error = ErrorText{ErrorCode::command, "it exited with 1", "look"};
  const RecipeTestRun run = judge_run(report_of({failed, step("b", std::nullopt, "")}), RunOf::first);
  EXPECT_EQ(run.failures(), 2U);
  EXPECT_EQ(run.cases[0].failure, "it exited with 1 -> look");
  EXPECT_THAT(recipe_test_text("lab.yaml", "Debian 12", {run}),
              HasSubstr("lab.yaml does not pass on Debian 12:\n  first run, a: it exited with 1"));
  EXPECT_EQ(broken_run(RunOf::first, "it ended").failures(), 1U);
}

TEST(RecipeTest, ThePersonIsToldOfAPass) {
  const RecipeTestRun run = judge_run(report_of({step("a", Outcome::unchanged, "there")}), RunOf::second);
  EXPECT_EQ(recipe_test_text("lab.yaml", "Debian 12", {run}),
            "lab.yaml passes on Debian 12: 1 step, and nothing to do the second time (1.5s).\n");
}

TEST(RecipeTest, ProgramsAreToldOfBothRuns) {
  RecipeTestRun first = judge_run(report_of({step("a", Outcome::changed, "made"), step("s", Outcome::skipped, "no GPU")}), RunOf::first);
  first.run = "20260801-141503-7f3a";
  first.log = "/state/tests/runs/20260801-141503-7f3a/events.jsonl";
  RecipeTestRun second = broken_run(RunOf::second, "it ended");
  second.exit = 4;
  const Json document = Json::parse(recipe_test_json("./lab.yaml", "Debian 12", {first, second}, std::nullopt));
  EXPECT_EQ(document.begin().key(), "test");
  EXPECT_EQ(document["passes"], false);
  EXPECT_EQ(document["host"], nullptr);
  EXPECT_EQ(document["runs"][0].dump(), R"({"title":"first run","run":"20260801-141503-7f3a","passes":true,"exit":0,"took_ms":1500,)"
                                        R"("log":"/state/tests/runs/20260801-141503-7f3a/events.jsonl","steps":[)"
                                        R"({"step":"a","outcome":"changed","reason":"made","failure":null,"took_ms":0},)"
                                        R"({"step":"s","outcome":"skipped","reason":"no GPU","failure":null,"took_ms":0}]})");
  EXPECT_EQ(document["runs"][1]["exit"], 4);
  EXPECT_EQ(document["runs"][1]["run"], nullptr);
  EXPECT_EQ(document["runs"][1]["steps"][0]["outcome"], nullptr);
  EXPECT_EQ(document["runs"][1]["steps"][0]["failure"], "it ended");
  const Json kept = Json::parse(recipe_test_json("lab", "", {first}, KeptHost{"ubuntu@10.2.0.2", "/k", "end it"}));
  EXPECT_EQ(kept["host"].dump(), R"({"destination":"ubuntu@10.2.0.2","key":"/k","ends_by":"end it"})");
  EXPECT_EQ(kept["passes"], true);
}

TEST(RecipeTest, AFailureSaysWhereItsLogIs) {
  RecipeTestRun run = judge_run(report_of({step("a", std::nullopt, "")}), RunOf::first);
  EXPECT_THAT(recipe_test_text("lab.yaml", "", {run}), Not(HasSubstr("report")));
  run.log = "/tests/runs/1/events.jsonl";
  EXPECT_THAT(recipe_test_text("lab.yaml", "", {run}), HasSubstr("\n  more of it: gpustrap report /tests/runs/1/events.jsonl\n"));
}

TEST(JunitDocument, IsXmlWithACaseForEachStep) {
  ReportedStep failed = step("<odd>&\"", Outcome::failed, "");
  failed.error = ErrorText{ErrorCode::command, "said \x1b[31m ]]> & <b>\x01\xff", ""};
  const RecipeTestRun first =
      judge_run(report_of({step("a", Outcome::changed, "made"), step("s", Outcome::skipped, "no GPU")}), RunOf::first);
  const std::string text = junit_document("./lab.yaml", {first, judge_run(report_of({failed}), RunOf::second)});
  pugi::xml_document document;
  ASSERT_TRUE(document.load_string(text.c_str(), pugi::parse_full)) << text;
  const pugi::xml_node suites = document.child("testsuites");
  const pugi::xml_node suite = suites.child("testsuite");
  EXPECT_STREQ(suite.attribute("name").value(), "./lab.yaml: first run");
  EXPECT_EQ(suite.attribute("tests").as_int(), 2);
  EXPECT_EQ(suite.attribute("skipped").as_int(), 1);
  EXPECT_STREQ(suite.attribute("time").value(), "1.500");
  const pugi::xml_node entry = suite.next_sibling().child("testcase");
  EXPECT_STREQ(entry.attribute("name").value(), "<odd>&\"");
  EXPECT_THAT(entry.child("failure").text().get(), HasSubstr("]]> & <b>"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, Not(HasSubstr("\x01")));
}

TEST(ThrowAwayHost, ItsTestbedLiesBesideTheProgramOrInTheSources) {
  const fs::path folder = fs::path(::testing::TempDir()) / "find_testbed";
  fs::remove_all(folder);
  const auto put = [&](const fs::path& path) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << "#!/bin/sh\n";
    ::chmod(path.c_str(), 0755);
    return path.string();
  };
  EXPECT_FALSE(find_testbed("", (folder / "bin/gpustrap").string()));
  const std::string sources = put(folder / "tests/testbed/testbed");
  EXPECT_EQ(find_testbed("", (folder / "build/release/gpustrap").string()).value_or(""), sources);
  const std::string release = put(folder / "build/release/share/gpustrap/testbed/testbed");
  EXPECT_EQ(find_testbed("", (folder / "build/release/gpustrap").string()).value_or(""), release);
  EXPECT_EQ(find_testbed((folder / "tests/testbed").string(), "/nowhere/gpustrap").value_or(""), sources);
  EXPECT_EQ(find_testbed(sources, "/nowhere/gpustrap").value_or(""), sources);
  const auto wrong = find_testbed("/nowhere", (folder / "build/release/gpustrap").string());
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().why(), HasSubstr("GPUSTRAP_TESTBED is /nowhere"));
  fs::remove_all(folder);
}

TEST(ThrowAwayHost, NamesThePackagesThatAreMissing) {
  const fs::path folder = fs::path(::testing::TempDir()) / "programs_of_testbed";
  fs::remove_all(folder);
  fs::create_directories(folder);
  EXPECT_THAT(missing_packages({folder.string()}), Contains("systemd-container"));
  EXPECT_THAT(missing_packages({folder.string()}), Contains("openssh-client"));
  for (const char* name : {"mmdebstrap", "systemd-nspawn", "ip", "nft", "ssh", "ssh-keygen", "openssl", "nsenter", "apt-get"}) {
    std::ofstream(folder / name) << "#!/bin/sh\n";
    ::chmod((folder / name).c_str(), 0755);
  }
  EXPECT_THAT(missing_packages({"/nowhere", folder.string()}), IsEmpty());
  fs::remove_all(folder);
}

/// A machine's programs, as far as throw-away hosts need them.
class ThrowAwayHostTest : public ::testing::Test {
 protected:
  ThrowAwayHostTest() { EXPECT_EQ(::chmod(folder_.path().c_str(), 0755), 0); }
  void program(const std::string& name, const std::string& does = "exit 0") {
    std::ofstream(folder_ / name) << "#!/bin/sh\n" << does << "\n";
    ASSERT_EQ(::chmod((folder_ / name).c_str(), 0755), 0);
  }
  void all_programs() {
    for (const char* name : {"mmdebstrap", "systemd-nspawn", "ip", "nft", "ssh", "ssh-keygen", "openssl", "nsenter", "apt-get", "sudo"})
      program(name);
  }
  Error failure() {
    const Result<ThrowAwayHost> host = ThrowAwayHost::boot(folder_ / "testbed", {});
    EXPECT_FALSE(host);
    return host ? Error(ErrorCode::internal, "it booted") : host.error();
  }
  TemporaryDirectory folder_;
  EnvironmentVariable path_{"PATH", folder_.path()};
};

TEST_F(ThrowAwayHostTest, WhatTheMachineLacksIsNamed) {
  Error error = failure();
  EXPECT_EQ(error.code(), ErrorCode::usage);
  EXPECT_EQ(error.why(), "throw-away hosts are made of Debian's or Ubuntu's packages, and this machine has no apt");
  EXPECT_THAT(error.hint(), HasSubstr("against a host of your own"));
  program("apt-get");
  error = failure();
  EXPECT_EQ(error.code(), ErrorCode::usage);
  EXPECT_THAT(error.why(), HasSubstr("this machine cannot boot throw-away hosts yet: it lacks mmdebstrap, systemd-container"));
  EXPECT_THAT(error.hint(), HasSubstr("sudo apt-get install mmdebstrap systemd-container"));
}

TEST_F(ThrowAwayHostTest, WhoIsNotRootNeedsSudo) {
  all_programs();
  program("sudo", "exit 1");
  const std::string said = in_child([&] {
    if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) return std::string("root stays root");
    const Error error = failure();
    return error.why() + " -> " + error.hint();
  });
  EXPECT_EQ(said,
            "throw-away hosts need root: mounts, network namespaces and systemd-nspawn -> run it as root, or as a user who may use sudo");
}

TEST_F(ThrowAwayHostTest, ATestbedThatFailsIsQuoted) {
  all_programs();
  program("testbed", "test \"$1\" = boot || exit 0; echo 'E: Failed to fetch the package lists' >&2; exit 100");
  Error error = failure();
  EXPECT_EQ(error.code(), ErrorCode::io);
  EXPECT_EQ(error.sentence(), "booting a throw-away host: E: Failed to fetch the package lists");
  EXPECT_THAT(error.hint(), HasSubstr("does `apt-get update` work here?"));
  program("testbed", "exit 0");
  EXPECT_EQ(failure().why(), "the testbed said nothing");
}

}  // namespace
}  // namespace gpustrap
