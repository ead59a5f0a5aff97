#include "controller/idle_status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

Json told(const char* state) {
  return {{"idle", 1},           {"at_ms", 1717236900000}, {"at_s", 880},       {"state", state},  {"busy_with", Json::array()},
          {"last_use", "x"},     {"idle_for_s", 720},      {"after_s", 1800},   {"warn_s", 300},   {"stops_in_s", 1080},
          {"stops_for", "idle"}, {"kept_for_s", 0},        {"budget", nullptr}, {"spot", nullptr}, {"last_stop", nullptr}};
}

/// What `status` shows of it, read twenty seconds after the guard has looked.
std::vector<std::pair<std::string, std::string>> lines_of(const Json& document, std::uint64_t uptime_s = 900) {
  const auto status = read_idle_status(document.dump(), uptime_s);
  return status ? idle_lines(*status) : std::vector<std::pair<std::string, std::string>>();
}

TEST(IdleStatusTest, CountsOnFromTheGuardsLastLook) {
  EXPECT_THAT(lines_of(told("quiet")), ElementsAre(Pair("idle", "nothing done for 12m20s; stops in 17m40s")));
  EXPECT_THAT(lines_of(told("warned")), ElementsAre(Pair("idle", "nothing done for 12m20s; stops in 17m40s")));
  Json busy = told("busy");
  busy["busy_with"] = {"GPU 0 is 97 % busy", "somebody types"};
  EXPECT_THAT(lines_of(busy), ElementsAre(Pair("idle", "GPU 0 is 97 % busy; stops 30m00s after the last use")));
  Json kept = told("kept");
  kept["kept_for_s"] = 7200;
  EXPECT_THAT(lines_of(kept), ElementsAre(Pair("idle", "kept on for 1h59m; nothing done for 12m20s")));
}

TEST(IdleStatusTest, OneWordForATable) {
  const auto word_of = [](const Json& document) { return idle_word(*read_idle_status(document.dump(), 900)); };
  EXPECT_EQ(word_of(told("busy")), "busy");
  EXPECT_EQ(word_of(told("quiet")), "12m20s");
  EXPECT_EQ(word_of(told("warned")), "stops in 17m40s");
  EXPECT_EQ(word_of(told("stopping")), "stops now");
  Json kept = told("kept");
  kept["kept_for_s"] = 7200;
  EXPECT_EQ(word_of(kept), "kept 1h59m");
}

TEST(IdleStatusTest, ShowsTheBudgetTheSpotNoticeAndTheLastStop) {
  Json document = told("warned");
  document["stops_for"] = "budget";
  document["budget"] = {{"currency", "USD"},          {"limit", 5.0},     {"spent", 1.052}, {"per_hour", 0.526},
                        {"price_from", "the recipe"}, {"powered_s", 7200}};
  document["spot"] = {{"action", "terminate"}, {"time", "2026-11-22T12:05:00Z"}, {"seen_ms", 7}, {"this_boot", true}};
  document["last_stop"] = {{"why", "nothing was done for 30m00s"}, {"at_ms", 7}};
  EXPECT_THAT(lines_of(document), ElementsAre(Pair("idle", "nothing done for 12m20s; stops in 17m40s, at work or not"),
                                              Pair("budget", "1.05 of 5.00 USD spent, at 0.526 USD/h (the recipe)"),
                                              Pair("spot", "AWS takes it back at 2026-11-22T12:05:00Z (terminate)"),
                                              Pair("stopped", "last time because nothing was done for 30m00s")));
  document["spot"]["this_boot"] = false;
  EXPECT_EQ(lines_of(document)[2].second, "AWS took it back at 2026-11-22T12:05:00Z (terminate)");
  document["spot"]["action"] = "";
  EXPECT_EQ(lines_of(document)[2].second, "AWS advised at 2026-11-22T12:05:00Z to move away");
}

TEST(IdleStatusTest, AGuardThatHasNotLookedForLongIsNotBelieved) {
  EXPECT_THAT(lines_of(told("quiet"), 880 + 3600)[1].second, HasSubstr("its guard has not looked for 1h00m"));
}

TEST(IdleStatusTest, AHostsWordIsBoundedAndPrintable) {
  for (const char* text : {"", "[]", "{}", "{\"idle\":2}", "{\"idle\":\"1\"}", "nonsense"}) EXPECT_FALSE(read_idle_status(text, 7)) << text;
  const auto status = read_idle_status(R"({"idle":1,"state":"busy","busy_with":["\u001b[31mred\nline"],"idle_for_s":-5,"stops_in_s":1e300,
    "budget":{"spent":1e300,"currency":7},"spot":[],"last_stop":{"why":"x"}})",
                                       7);
  ASSERT_TRUE(status);
  EXPECT_EQ(status->busy_with, "red");
  EXPECT_EQ(status->idle_for_s, std::nullopt);
  EXPECT_EQ(status->stops_in_s, std::nullopt);
  EXPECT_EQ(status->budget->spent, 0);
  EXPECT_FALSE(status->spot);
}

TEST(IdleStatusTest, ProgramsGetTheSame) {
  const Json document = idle_document(*read_idle_status(told("quiet").dump(), 900));
  EXPECT_EQ(document.at("state"), "quiet");
  EXPECT_EQ(document.at("age_s"), 20);
  EXPECT_EQ(document.at("stops_in_s"), 1080);
  EXPECT_TRUE(document.at("budget").is_null());
}

TEST(IdleStatusTest, KeepSaysUntilWhenAndWhatItDoesNotPutOff) {
  const Json kept = {{"kept_for_s", 7200}, {"until_ms", 1717244100000}, {"after_s", 1800}, {"budget", nullptr}};
  EXPECT_EQ(keep_text("ubuntu@gpu1", kept), "ubuntu@gpu1 stays on for 2h00m, whatever is done there.\n");
  EXPECT_EQ(keep_document("ubuntu@gpu1", kept).dump(), R"({"keep":1,"host":"ubuntu@gpu1","kept_for_s":7200,"until_ms":1717244100000})");
  const Json off = {{"kept_for_s", 0}, {"until_ms", nullptr}, {"after_s", 1800}, {"budget", "5 USD"}};
  EXPECT_EQ(keep_text("ubuntu@gpu1", off),
            "The stop of ubuntu@gpu1 is not put off: it stops after 30m00s without use.\n"
            "Its budget of 5 USD still stops it: a larger `budget` in the recipe, run again, puts that off.\n");
  EXPECT_TRUE(keep_document("ubuntu@gpu1", off).at("until_ms").is_null());
}

}  // namespace
}  // namespace gpustrap
