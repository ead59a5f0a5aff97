#include "controller/guard_wish.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "agent/protocol/json.h"
#include "agent/protocol/recipe.h"

namespace gpustrap {
namespace {

using ::testing::IsEmpty;
using ::testing::Optional;

Recipe recipe_of(const char* steps) {
  std::vector<FieldProblem> problems;
  Recipe recipe = read_recipe({{"name", "lab"}, {"steps", Json::parse(steps)}}, Placeholders::refused, problems);
  EXPECT_THAT(problems, IsEmpty());
  return recipe;
}

TEST(GuardWish, AddsAStepThatNeedsNoOther) {
  Recipe recipe = recipe_of(R"([{"apt": ["git"]}, {"command": "false"}])");
  add_guard(recipe, {"30m", "5USD", ""});
  ASSERT_EQ(recipe.steps.size(), 3U);
  EXPECT_EQ(recipe.steps[2].id, "idle_stop");
  EXPECT_EQ(recipe.steps[2].kind, StepKind::idle_stop);
  EXPECT_THAT(recipe.steps[2].needs, Optional(IsEmpty()));
  EXPECT_EQ(*recipe.steps[2].spec, Json({{"after", "30m"}, {"budget", "5USD"}}));
}

TEST(GuardWish, IsSaidOverWhatTheRecipeSays) {
  Recipe brief = recipe_of(R"([{"idle_stop": "2h"}])");
  add_guard(brief, {"", "5USD", "0.2USD/h"});
  ASSERT_EQ(brief.steps.size(), 1U);
  EXPECT_EQ(*brief.steps[0].spec, Json({{"after", "2h"}, {"budget", "5USD"}, {"price", "0.2USD/h"}}));
  Recipe gone = recipe_of(R"([{"idle_stop": {"absent": true}}])");
  add_guard(gone, {"1h", "", ""});
  EXPECT_EQ(*gone.steps[0].spec, Json({{"after", "1h"}}));
}

TEST(GuardWish, ChangesNothingWhereNothingIsWished) {
  Recipe recipe = recipe_of(R"([{"idle_stop": "2h"}])");
  const std::string before = digest_of(recipe);
  add_guard(recipe, {});
  EXPECT_EQ(digest_of(recipe), before);
  EXPECT_EQ(words_of(GuardWish{}), "");
  EXPECT_EQ(guard_text({}), "");
}

TEST(GuardWish, TakesAnIdThatIsFree) {
  Recipe recipe = recipe_of(R"([{"apt": ["git"], "id": "idle_stop"}])");
  add_guard(recipe, {"30m", "", ""});
  EXPECT_EQ(recipe.steps[1].id, "idle_stop_too");
}

TEST(GuardWish, IsSaidInWordsAndAsTheCommandLine) {
  EXPECT_EQ(words_of(GuardWish{"30m", "5 USD", ""}), " --idle-stop 30m --budget '5 USD'");
  EXPECT_EQ(guard_text({"30m", "5 USD", ""}), "stops by itself after 30m without use, and once its hours have cost 5 USD");
}

}  // namespace
}  // namespace gpustrap
