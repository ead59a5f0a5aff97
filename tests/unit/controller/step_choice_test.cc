#include "controller/step_choice.h"

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Recipe recipe_of(const std::string& steps) {
  std::vector<FieldProblem> problems;
  Recipe recipe =
      read_recipe(Json::parse(R"({"name": "lab", "description": "", "steps": )" + steps + "}"), Placeholders::allowed, problems);
  EXPECT_THAT(problems, IsEmpty());
  return recipe;
}

/// apt, conda, pip (needs apt and conda), notes, motd (behind notes)
Recipe lab() {
  return recipe_of(R"([{"id": "apt", "command": {"run": "true"}}, {"id": "conda", "needs": [], "command": {"run": "true"}},
                       {"id": "pip", "needs": ["apt", "conda"], "command": {"run": "true"}, "tags": ["python"]},
                       {"id": "notes", "needs": [], "command": {"run": "true"}, "tags": ["text"]}, {"id": "motd", "command": {"run": "true"}}])");
}

Result<ChosenSteps> choose(const StepWishes& wishes) {
  static const Recipe recipe = lab();
  return choose_steps({&recipe}, wishes);
}

struct Wish {
  StepWishes wishes;
  std::vector<std::string> left_out;
  std::string notice;
};

TEST(StepChoice, LeavesOut) {
  const std::vector<Wish> wishes = {
      {{}, {}, ""},
      {{.from = "pip"}, {"apt", "conda"}, "apt (for pip), conda (for pip)"},
      {{.from = "apt"}, {}, ""},
      {{.only = {"pip"}}, {"apt", "conda", "notes", "motd"}, "apt (for pip), conda (for pip)"},
      {{.only = {"apt"}}, {"conda", "pip", "notes", "motd"}, ""},
      {{.only = {"motd"}}, {"apt", "conda", "pip", "notes"}, "notes (for motd)"},
      {{.skip = {"conda"}}, {"conda"}, "conda (for pip)"},
      {{.from = "pip", .only = {"pip", "apt"}}, {"apt", "conda", "notes", "motd"}, "apt (for pip), conda (for pip)"},
      {{.skip = {"pip", "motd"}, .force = {"apt"}}, {"pip", "motd"}, ""},
  };
  for (const Wish& wish : wishes) {
    const Result<ChosenSteps> chosen = choose(wish.wishes);
    ASSERT_TRUE(chosen) << chosen.error().sentence();
    EXPECT_EQ(chosen->choice.left_out, wish.left_out) << words_of(wish.wishes);
    EXPECT_EQ(chosen->choice.forced, wish.wishes.force);
    EXPECT_EQ(chosen->notices.size(), wish.notice.empty() ? 0U : 1U) << words_of(wish.wishes);
    if (wish.notice.empty() || chosen->notices.empty()) continue;
    EXPECT_THAT(chosen->notices[0], HasSubstr(": " + wish.notice + "."));
  }
}

struct WrongWish {
  StepWishes wishes;
  std::string why, hint;
};

TEST(StepChoice, RefusesWithWhatThereIs) {
  const std::string steps = "its steps: apt, conda, pip, notes, motd";
  const std::vector<WrongWish> wrong = {
      {{.from = "pipp"}, "--from pipp: the recipe has no step of that id; did you mean `pip`?", steps},
      {{.only = {"pip", "jupyter"}}, "--only jupyter: the recipe has no step of that id", steps},
      {{.skip = {"cond"}}, "did you mean `conda`?", steps},
      {{.force = {"x"}}, "--force x", steps},
      {{.tags = {"pyton"}}, "--tag pyton: no step of the recipe has that tag; did you mean `python`?", "its tags: python, text"},
      {{.only = {"pip"}, .skip = {"pip"}}, "--skip pip and --only pip contradict each other", "leave one"},
      {{.from = "pip", .skip = {"pip"}}, "--skip pip and --from pip contradict", "leave one"},
      {{.only = {"pip"}, .force = {"apt"}}, "--force apt: apt is left out of this run", "--only apt"},
      {{.from = "pip", .force = {"apt"}}, "--force apt: apt is left out", "--from begins behind it"},
      {{.from = "pip", .only = {"apt"}}, "no step is left to do", "leave one of --from pip --only apt out"},
  };
  for (const WrongWish& wish : wrong) {
    const Result<ChosenSteps> chosen = choose(wish.wishes);
    ASSERT_FALSE(chosen) << wish.why;
    EXPECT_EQ(chosen.error().code(), ErrorCode::usage);
    EXPECT_THAT(chosen.error().why(), HasSubstr(wish.why));
    EXPECT_THAT(chosen.error().hint(), HasSubstr(wish.hint));
  }
}

// A hosts file's recipes may differ: the head has a step that workers have not.
TEST(StepChoice, OfManyHostsCountsAStepThatSomeOfThemHave) {
  const Recipe head = recipe_of(
      R"([{"id": "apt", "command": {"run": "true"}}, {"id": "head", "command": {"run": "true"}}, {"id": "end", "command": {"run": "true"}}])");
  const Recipe worker = recipe_of(R"([{"id": "apt", "command": {"run": "true"}}, {"id": "end", "command": {"run": "true"}}])");
  const Result<ChosenSteps> chosen = choose_steps({&worker, &head}, {.from = "head"});
  ASSERT_TRUE(chosen) << chosen.error().sentence();
  EXPECT_THAT(chosen->choice.left_out, ElementsAre("apt"));
  EXPECT_FALSE(choose_steps({&worker, &worker}, {.from = "head"}));
}

TEST(StepChoice, IsSaidAgainAsOptions) {
  EXPECT_EQ(words_of({}), "");
  EXPECT_EQ(words_of({.from = "a", .only = {"b", "c d"}, .skip = {"e"}, .force = {"f"}, .tags = {"g"}}),
            " --from a --only b --only 'c d' --skip e --force f --tag g");
}

TEST(StepChoice, PartHasWhatIsLookedAt) {
  StepChoice choice;
  choice.left_out = {"apt"};
  choice.tags = {"python"};
  std::vector<std::string> ids;
  for (const StepEntry& step : chosen_part(lab(), choice).steps) ids.push_back(step.id);
  EXPECT_THAT(ids, ElementsAre("conda", "pip", "motd")) << "notes has another tag, apt is left out";
}

}  // namespace
}  // namespace gpustrap
