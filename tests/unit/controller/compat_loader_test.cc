#include "controller/compat_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

/// The built-in text with one part replaced, and what the loader says of it.
std::string said_of(const std::string& part, const std::string& replacement) {
  std::string text(builtin_compat());
  const std::size_t at = text.find(part);
  EXPECT_NE(at, std::string::npos) << part;
  if (at == std::string::npos) return {};
  text.replace(at, part.size(), replacement);
  const auto loaded = load_compat(text, "compat.yaml");
  return loaded ? "nothing is wrong" : loaded.error().sentence();
}

TEST(CompatLoader, ReadsWhatIsBuiltIn) {
  const auto compat = load_builtin_compat();
  ASSERT_TRUE(compat.has_value()) << compat.error().sentence();
  EXPECT_EQ(compat->nvswitches.items, (std::vector<std::string>{"1af1", "22a3"}));
  EXPECT_EQ(compat->open_modules.only_from, "615");
}

TEST(CompatLoader, GivesAnAgentTheSameTablesAsJson) {
  const Compat compat = load_builtin_compat().value();
  const Json written = write_compat(compat);
  std::vector<FieldProblem> problems;
  const Compat again = read_compat(Json::parse(written.dump()), problems);
  EXPECT_TRUE(problems.empty()) << problems.front().pointer << " " << problems.front().message;
  EXPECT_EQ(write_compat(again), written);
  EXPECT_EQ(again.gpus.size(), compat.gpus.size());
}

TEST(CompatLoader, SendsTheTablesWithARecipeThatAsksThem) {
  const auto recipe_of = [](const char* steps) {
    std::vector<FieldProblem> problems;
    Recipe recipe = read_recipe(Json::parse(std::string(R"({"name":"r","steps":)") + steps + "}"), Placeholders::allowed, problems);
    EXPECT_TRUE(problems.empty());
    EXPECT_TRUE(add_compat(recipe).has_value());
    return recipe;
  };
  EXPECT_FALSE(write_recipe(recipe_of(R"([{"apt":"git"}])")).contains("compat"));
  const Recipe recipe = recipe_of(R"([{"cuda":"12.4"}])");
  std::vector<FieldProblem> problems;
  const Recipe again = read_recipe(Json::parse(write_recipe(recipe).dump()), Placeholders::allowed, problems);
  EXPECT_TRUE(problems.empty()) << problems.front().pointer;
  ASSERT_NE(again.compat, nullptr);
  EXPECT_EQ(write_compat(*again.compat), write_compat(*recipe.compat));
  EXPECT_EQ(digest_of(again), digest_of(recipe));
  // A line of the protocol holds at most 1 MiB, and the recipe must have room beside them.
  EXPECT_LT(write_compat(*recipe.compat).dump().size(), 100'000U);
  Json broken = write_recipe(recipe);
  broken["compat"]["gpus"][0]["ids"] = "nonsense";
  (void)read_recipe(broken, Placeholders::allowed, problems);
  ASSERT_FALSE(problems.empty());
  EXPECT_THAT(problems.front().pointer, HasSubstr("/compat/gpus/0/ids"));
}

TEST(CompatLoader, NamesThePlaceOfEveryMistake) {
  EXPECT_THAT(said_of("    aliases: [t4]", "    aliasses: [t4]"), HasSubstr("`aliasses` is not a field of a GPU; did you mean `aliases`?"));
  EXPECT_THAT(said_of("\ngpus:\n  - name: GRID K520\n    aliases: [k520]\n    ids: [\"118a\"]",
                      "\ngpus:\n  - name: GRID K520\n    aliases: [k520]\n    ids: [\"118G\"]"),
              ::testing::MatchesRegex("compat.yaml:[0-9]+:10: `118G` is wrong here: expected four hex digits, lower case"));
  EXPECT_THAT(said_of("ids: [\"1eb8\"]", "ids: [\"102d\"]"), HasSubstr("the PCI id `102d` is given twice"));
  EXPECT_THAT(said_of("aliases: [t4g]", "aliases: [t4]"), HasSubstr("the alias `t4` is given twice"));
  EXPECT_THAT(said_of("last_cuda: \"10.2\"", "last_cuda: \"12.7\""), HasSubstr("CUDA `12.7` is not in `cuda`"));
  EXPECT_THAT(said_of("compute: \"3.7\"\n", "compute: \"3.9\"\n"), HasSubstr("compute capability `3.9` is not in `architectures`"));
  EXPECT_THAT(said_of("compute: \"7.5\"\n", "compute: 7.5\n"), HasSubstr("put it in quotes"));
  EXPECT_THAT(said_of("modules: proprietary\n", "modules: closed\n"), HasSubstr("expected one of proprietary, open, open_required"));
  EXPECT_THAT(said_of("certainty: likely\n", "certainty: sure\n"), HasSubstr("expected one of confirmed, likely, open"));
  EXPECT_THAT(said_of("driver: \"550.54.14\"", "driver: \"550.x\""), HasSubstr("`550.x` is wrong here: expected a driver version"));
  EXPECT_THAT(said_of("\nmajors:", "\nmayors:"), HasSubstr("`mayors` is not a section; did you mean `majors`?"));
  EXPECT_THAT(said_of("\nmajors:", "\nmayors:"), HasSubstr("there is no section `majors`"));
  EXPECT_THAT(said_of("base: https:", "base: http:"), HasSubstr("expected https://…/"));
  EXPECT_THAT(said_of("updates: { u1:", "updates: { first:"), HasSubstr("`first` is not an update: expected u1, u2, …"));
}

TEST(CompatLoader, RefusesWhatIsNoTable) {
  EXPECT_THAT(load_compat("- a list\n", "compat.yaml").error().sentence(), HasSubstr("compat.yaml:1:1: the table is"));
  EXPECT_THAT(load_compat("", "compat.yaml").error().sentence(), HasSubstr("compat.yaml:1:1"));
}

}  // namespace
}  // namespace gpustrap
