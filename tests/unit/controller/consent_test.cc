#include "controller/consent.h"

#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct Planned {
  std::string kind;
  Outcome outcome;
  std::string reason = "a reason";
};

/// The events of a plan; a step is called after its kind and place.
std::vector<Event> plan(const std::vector<Planned>& steps) {
  RunStarted started;
  started.mode = RunMode::plan;
  std::vector<Event> events;
  for (const Planned& step : steps) started.steps.push_back({step.kind + std::to_string(started.steps.size()), step.kind, ""});
  events.push_back({1, 0, started});
  for (std::size_t i = 0; i < steps.size(); ++i) {
    StepFinished finished;
    finished.step = started.steps[i].id;
    finished.outcome = steps[i].outcome;
    finished.reason = steps[i].reason;
    events.push_back({i + 2, 0, finished});
  }
  return events;
}

Recipe recipe_of(StepKind kind) {
  Recipe recipe;
  recipe.steps.emplace_back();
  recipe.steps.back().kind = kind;
  return recipe;
}

TEST(Consent, IsAskedOnlyWhereAStepCouldDisrupt) {
  EXPECT_TRUE(may_disrupt(recipe_of(StepKind::reboot)));
  EXPECT_FALSE(may_disrupt(recipe_of(StepKind::apt)));
}

TEST(Consent, ToDisruptOthersIsAllowedToTheStepsThatCould) {
  Recipe recipe = recipe_of(StepKind::reboot);
  recipe.steps.back().spec = std::make_shared<const Json>(Json{{"mode", "always"}});
  recipe.steps.push_back(recipe_of(StepKind::apt).steps.back());
  recipe.steps.back().spec = std::make_shared<const Json>(Json{{"install", {"git"}}});
  recipe.steps.push_back(recipe_of(StepKind::reboot).steps.back());
  recipe.steps.back().spec = std::make_shared<const Json>("always");  // as short as it may be written
  allow_disruption(recipe);
  EXPECT_EQ(*recipe.steps[0].spec, (Json{{"mode", "always"}, {"allow_disruption", true}}));
  EXPECT_EQ(*recipe.steps[1].spec, (Json{{"install", {"git"}}}));
  EXPECT_EQ(*recipe.steps[2].spec, (Json{{"mode", "always"}, {"allow_disruption", true}}));
}

TEST(Consent, NothingToDoNeedsNoYes) {
  EXPECT_EQ(disruption_in(plan({{"apt", Outcome::unchanged}, {"nvidia_driver", Outcome::unchanged}, {"reboot", Outcome::unchanged}})).what,
            "");
  EXPECT_EQ(disruption_in(plan({{"reboot", Outcome::skipped}, {"apt", Outcome::would_change}})).what, "");
  EXPECT_EQ(disruption_in(plan({{"apt", Outcome::would_change}, {"file", Outcome::unknown}})).what, "");
}

TEST(Consent, ADriverAndARestartNeedAYes) {
  EXPECT_EQ(disruption_in(plan({{"reboot", Outcome::would_change}})).what, "would restart the host");
  EXPECT_EQ(disruption_in(plan({{"nvidia_driver", Outcome::would_change}})).what, "would install a driver and may restart the host");
  EXPECT_EQ(disruption_in(plan({{"nvidia_driver", Outcome::unknown}, {"reboot", Outcome::would_change}})).what,
            "would install a driver and restart the host");
}

TEST(Consent, PackagesMayAskForARestartThatNothingAsksForYet) {
  EXPECT_EQ(disruption_in(plan({{"apt", Outcome::would_change}, {"reboot", Outcome::unchanged}})).what, "may restart the host");
  EXPECT_EQ(disruption_in(plan({{"reboot", Outcome::unknown}})).what, "may restart the host");
  // What comes after the restart cannot ask for it.
  EXPECT_EQ(disruption_in(plan({{"reboot", Outcome::unchanged}, {"apt", Outcome::would_change}})).what, "");
}

TEST(Consent, ShowsWhatWouldChangeWithoutTheHostsEscapeCodes) {
  const Disruption disruption = disruption_in(plan({{"apt", Outcome::would_change, "would install \x1b[2Jgcc\nand more"},
                                                    {"file", Outcome::unchanged, "as it is"},
                                                    {"reboot", Outcome::would_change, std::string(300, 'x')}}));
  EXPECT_THAT(disruption.steps, AllOf(HasSubstr("apt0"), HasSubstr("gcc\n"), HasSubstr("reboot2"), Not(HasSubstr("file1")),
                                      Not(HasSubstr("and more")), Not(HasSubstr("\x1b"))));
  EXPECT_LT(disruption.steps.size(), 200U);
}

}  // namespace
}  // namespace gpustrap
