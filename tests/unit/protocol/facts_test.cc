#include "agent/protocol/facts.h"

#include <gtest/gtest.h>

#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

Facts some_facts() {
  Facts facts;
  facts.hostname = "gpu1";
  facts.os = "ubuntu";
  facts.os_version = "24.04";
  facts.arch = "x86_64";
  facts.memory = std::uint64_t{16} << 30U;
  facts.systemd = true;
  facts.gpus.push_back({"0000:00:1e.0", "1eb8", "12a2", "nvidia"});
  return facts;
}

TEST(Facts, SurviveTheWire) {
  const Json written = to_json(some_facts());
  const auto read = facts_from_json(Json::parse(written.dump()));
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(to_json(*read), written);
}

TEST(Facts, MissingMembersKeepDefaultsAndWrongTypesAreErrors) {
  EXPECT_TRUE(facts_from_json(Json::object()).has_value());
  const auto wrong = facts_from_json({{"cpus", "many"}});
  ASSERT_FALSE(wrong.has_value());
  EXPECT_EQ(wrong.error().code(), ErrorCode::protocol);
  EXPECT_EQ(wrong.error().why(), "`cpus` of facts is not a whole number, 0 or more");
  EXPECT_FALSE(facts_from_json({{"memory", -1}}).has_value());
  EXPECT_FALSE(facts_from_json({{"gpus", {{{"device", 7}}}}}).has_value());
}

TEST(Facts, EveryNameHasAValue) {
  for (const std::string& name : fact_names()) EXPECT_TRUE(fact(some_facts(), name).has_value()) << name;
  EXPECT_EQ(fact(some_facts(), "gpu.count"), Json(1));
  EXPECT_EQ(fact(some_facts(), "os"), Json("ubuntu"));
  EXPECT_FALSE(fact(some_facts(), "gpus").has_value());
}

TEST(Versions, CompareByNumbers) {
  EXPECT_EQ(compare_versions("22.04", "24.04"), -1);
  EXPECT_EQ(compare_versions("9", "12"), -1);
  EXPECT_EQ(compare_versions("535.161.08", "535.161.8"), 0);
  EXPECT_EQ(compare_versions("550", "550.0"), 0);
  EXPECT_EQ(compare_versions("550.54", "550"), 1);
  EXPECT_EQ(compare_versions("1.2rc1", "1.2"), 1);
  EXPECT_EQ(compare_versions("99999999999999999999", "100000000000000000000"), -1);
}

TEST(Versions, MatchConditions) {
  EXPECT_TRUE(*version_matches("24.04", ">=22.04"));
  EXPECT_TRUE(*version_matches("24.04", " >= 24.04 "));
  EXPECT_FALSE(*version_matches("24.04", "<24"));
  EXPECT_TRUE(*version_matches("12", "== 12"));
  EXPECT_FALSE(*version_matches("12", "13"));
  EXPECT_TRUE(*version_matches("", ">=13")) << "testing has no version and is newer than any release";
  EXPECT_FALSE(version_matches("12", "~>12").has_value());
  EXPECT_FALSE(version_matches("12", ">=").has_value());
}

}  // namespace
}  // namespace gpustrap
