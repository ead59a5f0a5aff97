#include "agent/idle_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "agent/base/file.h"
#include "agent/idle_guard.h"
#include "agent/protocol/json.h"
#include "agent/spot_notice.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

IdleRules rules() {
  return {seconds(1800), seconds(300),
          IdleBudget{{5'000'000, "USD"}, {{526'000, "USD"}}, "g4dn.xlarge on demand in us-east-1, 2026-07-20"}};
}

IdleRecord record() {
  IdleRecord record;
  record.memory = {"boot",        seconds(700), seconds(600), "GPU 0 is 97 % busy", IdleMemory::Warning{StopCause::budget, seconds(650)},
                   seconds(7200), true};
  record.notes = {{"/home/ubuntu/GPUSTRAP-STOPS-AT-1405-UTC.txt", 1000, "boot", false}};
  record.spot = {{"stop", "2026-11-22T12:05:00Z"}, 1717236900000, "boot"};
  record.last_stop = {"nothing was done for 30m00s", 1717236900000};
  return record;
}

TEST(IdleStore, EverythingComesBackAsItWas) {
  EXPECT_EQ(rules_text(*rules_in(rules_text(rules()))), rules_text(rules()));
  EXPECT_EQ(record_text(record_in(record_text(record()))), record_text(record()));
  const Postponement keep{"boot", seconds(8000), 1717236900000};
  EXPECT_EQ(keep_text(*keep_in(keep_text(keep))), keep_text(keep));
  IdleSample sample;
  sample.boot = "boot";
  sample.at = std::chrono::milliseconds(60'001);
  sample.processes = {{812, 1, 4711, 42, 12, ""}};
  sample.network = {{"eth0", 1234}};
  sample.marks = {{{UseSign::Of::typing, "somebody types at pts/0 (ubuntu)"}, "17"}};
  EXPECT_EQ(sample_text(sample_in(sample_text(sample))), sample_text(sample));
}

TEST(IdleStore, WhatWasCutOffOrIsOlderReadsAsNothing) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("{}"), record_text(record()).substr(0, 80),
        std::string(R"({"boot":7})"), std::string(R"({"boot":"b","notes":[{"path":1}]})")}) {
    EXPECT_EQ(record_in(text).memory.boot, "") << text;
    EXPECT_FALSE(rules_in(text)) << text;
    EXPECT_FALSE(keep_in(text)) << text;
    if (text != "{}") { EXPECT_TRUE(sample_in(text).processes.empty()) << text; }
  }
  EXPECT_EQ(record_in(R"({"boot":"b","warned":{"cause":"hunger","at_s":1}})").memory.warned, std::nullopt);
}

TEST(IdleStore, TheStatusTellsWhatPeopleAskFor) {
  IdleVerdict verdict;
  verdict.is = IdleVerdict::Is::warned;
  verdict.cause = StopCause::budget;
  verdict.idle = seconds(100);
  verdict.stops_in = seconds(250);
  const IdleMoment moment{"boot", seconds(700), {{UseSign::Of::gpu, "GPU 0 is 97 % busy"}}, seconds(60)};
  const Json status = idle_status(rules(), record(), moment, verdict, 1717236900000);
  EXPECT_EQ(
      status.dump(),
      R"({"idle":1,"at_ms":1717236900000,"at_s":700,"state":"warned","busy_with":["GPU 0 is 97 % busy"],"last_use":"GPU 0 is 97 % busy",)"
      R"("idle_for_s":100,"after_s":1800,"warn_s":300,"stops_in_s":250,"stops_for":"budget","kept_for_s":60,)"
      R"("budget":{"currency":"USD","limit":5.0,"spent":1.052,"per_hour":0.526,"price_from":"g4dn.xlarge on demand in us-east-1, 2026-07-20",)"
      R"("powered_s":7200},"spot":{"action":"stop","time":"2026-11-22T12:05:00Z","seen_ms":1717236900000,"this_boot":true},)"
      R"("last_stop":{"why":"nothing was done for 30m00s","at_ms":1717236900000}})");
}

TEST(IdleStore, KeepNeedsAGuardAndSaysUntilWhen) {
  const TemporaryDirectory folder;
  const AgentPaths paths{folder.path() + "/state", folder.path() + "/run"};
  const Result<Json> without = keep_host(paths, 60);
  ASSERT_FALSE(without);
  EXPECT_THAT(without.error().sentence() + without.error().hint(), HasSubstr("idle"));
  const IdleFiles files{paths};
  ASSERT_TRUE(make_directories(files.folder()));
  ASSERT_TRUE(write_file_atomically(files.rules(), rules_text(rules())));
  EXPECT_EQ(keep_host(paths, std::nullopt)->at("kept_for_s"), 0);
  const Result<Json> kept = keep_host(paths, 7200);
  ASSERT_TRUE(kept) << kept.error().sentence();
  EXPECT_GE(kept->at("kept_for_s").get<int>(), 7195);
  EXPECT_TRUE(kept->at("until_ms").is_number());
  EXPECT_EQ(kept->at("budget"), "5 USD");
  EXPECT_GE(keep_host(paths, std::nullopt)->at("kept_for_s").get<int>(), 7195);
  const Result<Json> off = keep_host(paths, 0);
  ASSERT_TRUE(off);
  EXPECT_EQ(off->at("kept_for_s"), 0);
  EXPECT_TRUE(off->at("until_ms").is_null());
  EXPECT_TRUE(keep_host(paths, 0)) << "also where it was not put off";
}

TEST(IdleStore, AGuardWithoutRulesSaysWhatMakesThem) {
  const TemporaryDirectory folder;
  const AgentPaths paths{folder.path() + "/state", folder.path() + "/run"};
  const Result<void> guarded = guard_once(paths, "");
  ASSERT_FALSE(guarded);
  EXPECT_EQ(guarded.error().code(), ErrorCode::not_found);
  EXPECT_EQ(guarded.error().why(), "there are no rules in " + IdleFiles{paths}.rules());
  EXPECT_THAT(guarded.error().hint(), HasSubstr("`idle_stop`"));
}

TEST(SpotNoticeTest, IsReadFromWhatTheMetadataSay) {
  const auto notice = spot_action_in(R"({"action":"terminate","time":"2026-11-22T12:05:00Z"})");
  ASSERT_TRUE(notice);
  EXPECT_EQ(notice->action, "terminate");
  EXPECT_EQ(clock_of(notice->time), "12:05 UTC");
  EXPECT_EQ(clock_of("soon"), "soon");
  EXPECT_EQ(rebalance_in(R"({"noticeTime":"2026-11-22T12:03:00Z"})")->time, "2026-11-22T12:03:00Z");
  for (const char* text : {"", "<html>404</html>", "[]", "{}", R"({"action":7})"}) {
    EXPECT_FALSE(spot_action_in(text)) << text;
    EXPECT_FALSE(rebalance_in(text)) << text;
  }
  EXPECT_EQ(spot_action_in("{\"action\":\"stop\\u001b[31m\"}")->action, "stop");
}

}  // namespace
}  // namespace gpustrap
