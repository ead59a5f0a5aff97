#include "agent/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Plan : public ::testing::Test {
 protected:
  Plan() {
    facts_.os = "debian";
    facts_.arch = "x86_64";
    facts_.cpus = 4;
    self_.name = "root";
    login_.uid = 1000;
    login_.name = "ann";
  }
  Result<std::vector<PlannedStep>> plan(const char* steps) {
    std::vector<FieldProblem> problems;
    const Recipe recipe = read_recipe(Json::parse(std::string(R"({"name":"r","steps":)") + steps + "}"), Placeholders::allowed, problems);
    EXPECT_TRUE(problems.empty()) << problems.front().message;
    return make_plan(recipe, facts_, login_, self_, choice_);
  }

  Facts facts_;
  Identity self_, login_;
  StepChoice choice_;
};

TEST_F(Plan, PutsFactsIntoFieldsAndEnvironment) {
  const auto steps = plan(R"([{"command":"echo ${{ facts.arch }}","env":{"CPUS":"${{ facts.cpus }}","OS":"on ${{ facts.os }}"}}])");
  ASSERT_TRUE(steps.has_value()) << steps.error().sentence();
  EXPECT_EQ(std::get<CommandSpec>(steps->at(0).spec).run.shell, "echo x86_64");
  EXPECT_THAT(steps->at(0).entry.env.items, ElementsAre(std::pair("CPUS", "4"), std::pair("OS", "on debian")));
}

TEST_F(Plan, AnUnknownUserIsAMistakeOfItsOwnStep) {
  std::vector<FieldProblem> problems;
  const Recipe recipe =
      read_recipe(Json::parse(R"({"name":"r","steps":[{"id":"a","command":"true"},{"id":"f","as":"sudo","command":"true"}]})"),
                  Placeholders::allowed, problems);
  std::string wrong;
  const auto steps = make_plan(recipe, facts_, login_, self_, choice_, &wrong);
  ASSERT_FALSE(steps.has_value());
  EXPECT_EQ(wrong, "f");
  EXPECT_THAT(steps.error().why(), HasSubstr("step `f`: no user \"sudo\""));
  EXPECT_EQ(steps.error().hint(), "write `as: root`");
  // What is left out of a run needs no user.
  choice_.left_out = {"f"};
  EXPECT_TRUE(make_plan(recipe, facts_, login_, self_, choice_).has_value());
}

TEST_F(Plan, DriverAndToolkitKnowOfEachOtherAndOfTheTables) {
  std::vector<FieldProblem> problems;
  Recipe recipe = read_recipe(
      Json::parse(
          R"({"name":"r","steps":[{"nvidia_driver":"580"},{"cuda":{"version":"12.4"}},{"id":"other","nvidia_driver":{"cuda":"11.8"}}]})"),
      Placeholders::allowed, problems);
  ASSERT_THAT(problems, IsEmpty());
  recipe.compat = std::make_shared<const Compat>();
  const auto steps = make_plan(recipe, facts_, login_, self_, choice_);
  ASSERT_TRUE(steps.has_value()) << steps.error().sentence();
  const auto& driver = std::get<NvidiaDriverSpec>(steps->at(0).spec);
  EXPECT_EQ(driver.cuda, "12.4");
  EXPECT_EQ(driver.tables, recipe.compat);
  EXPECT_EQ(std::get<CudaSpec>(steps->at(1).spec).driver_branch, "580");
  EXPECT_EQ(std::get<CudaSpec>(steps->at(1).spec).tables, recipe.compat);
  EXPECT_EQ(std::get<NvidiaDriverSpec>(steps->at(2).spec).cuda, "11.8");
}

TEST_F(Plan, AFactOfAnotherTypeIsAMistakeBeforeAnythingIsChanged) {
  const auto steps = plan(R"([{"wait":{"port":"${{ facts.os }}"}},{"command":"echo ${{ facts.memroy }}"}])");
  ASSERT_FALSE(steps.has_value());
  EXPECT_THAT(steps.error().why(), HasSubstr("step `wait`: `port` of wait is `debian`: expected a port number, 1 to 65535"));
  EXPECT_THAT(steps.error().why(), HasSubstr("step `command`: there is no fact `memroy`; did you mean `memory`?"));
}

TEST_F(Plan, WhatOnlyTheControllerKnowsIsNotKnownOnTheHost) {
  const auto steps = plan(R"([{"command":"echo ${{ vars.port }}"}])");
  ASSERT_FALSE(steps.has_value());
  EXPECT_EQ(steps.error().code(), ErrorCode::recipe);
  EXPECT_THAT(steps.error().why(), HasSubstr("step `command`: `vars.port` cannot be known on the host; only facts and secrets can"));
}

TEST_F(Plan, AsGoesBeforeTheKindsDefault) {
  const auto steps = plan(
      R"([{"command":"a"},{"id":"b","command":"b","as":"root"},{"id":"c","file":{"path":"/c","content":""},"as":"login"},{"id":"d","file":{"path":"/d","content":""}}])");
  ASSERT_TRUE(steps.has_value()) << steps.error().sentence();
  EXPECT_EQ(steps->at(0).identity.name, "ann");
  EXPECT_EQ(steps->at(1).identity.name, "root");
  EXPECT_EQ(steps->at(2).identity.name, "ann");
  EXPECT_EQ(steps->at(3).identity.name, "root");
}

TEST_F(Plan, StepsThatNeedRootAreMistakesWithoutIt) {
  self_ = login_;
  EXPECT_FALSE(plan(R"([{"command":"a","as":"root"}])").has_value());
  EXPECT_TRUE(plan(R"([{"require":{"cpus":1}},{"wait":{"cloud_init":true}},{"venv":"~/e"}])").has_value());
}

TEST_F(Plan, OrderFollowsNeedsAndThePreviousStep) {
  const auto steps = plan(
      R"([{"id":"a","command":"a"},{"id":"b","command":"b"},{"id":"c","command":"c","needs":["a"]},{"id":"d","command":"d","needs":[]}])");
  ASSERT_TRUE(steps.has_value());
  EXPECT_THAT(steps->at(0).after, IsEmpty());
  EXPECT_THAT(steps->at(1).after, ElementsAre(0U));
  EXPECT_THAT(steps->at(2).after, ElementsAre(0U));
  EXPECT_THAT(steps->at(3).after, IsEmpty());
}

TEST_F(Plan, AKindMayHaveALimitOfSilenceThatTheRecipeCanChange) {
  const auto steps = plan(
      R"([{"id":"a","conda_env":{"name":"a","python":"3.11"}},{"id":"b","conda_env":{"name":"b","python":"3.11"},"stall":"2h"},{"command":"c"}])");
  ASSERT_TRUE(steps.has_value()) << steps.error().sentence();
  EXPECT_EQ(steps->at(0).entry.stall->time, std::chrono::minutes(20));
  EXPECT_EQ(steps->at(1).entry.stall->time, std::chrono::hours(2));
  EXPECT_FALSE(steps->at(2).entry.stall.has_value());
}

TEST_F(Plan, WhenAndTagsLeaveStepsOut) {
  choice_.tags = {"py"};
  const auto steps = plan(
      R"([{"id":"a","command":"a","when":{"gpu":true}},{"id":"b","command":"b","tags":["other"]},{"id":"c","command":"c","tags":["py"]},{"id":"d","command":"d"}])");
  ASSERT_TRUE(steps.has_value());
  EXPECT_EQ(steps->at(0).skip_reason, "gpu: true, but no NVIDIA GPU is on the PCI bus");
  EXPECT_NE(steps->at(1).skip_reason, "");
  EXPECT_EQ(steps->at(2).skip_reason, "");
  EXPECT_EQ(steps->at(3).skip_reason, "");
}

TEST_F(Plan, WhatIsLeftOutIsSkippedAndWhatIsForcedIsMarked) {
  choice_.left_out = {"a"};
  choice_.forced = {"b"};
  const auto steps = plan(R"([{"id":"a","command":"a"},{"id":"b","command":"b"},{"id":"c","command":"c"}])");
  ASSERT_TRUE(steps.has_value());
  EXPECT_EQ(steps->at(0).skip_reason, "left out of this run, as asked");
  EXPECT_EQ(steps->at(1).skip_reason, "");
  EXPECT_FALSE(steps->at(0).forced);
  EXPECT_TRUE(steps->at(1).forced);
  EXPECT_FALSE(steps->at(2).forced);
}

TEST(StepTitles, SayWhatEachStepWaitsForAndWhatItUsesAlone) {
  std::vector<FieldProblem> problems;
  const Recipe recipe = read_recipe(
      Json::parse(
          R"({"name":"r","steps":[{"require":{"disk_free":"1MB"}},{"apt":["git"]},{"id":"zip","needs":[],"download":{"url":"https://a.b/c","to":"/c"}},
              {"id":"all","needs":["apt","zip","require"],"directory":"/a"},{"wait":{"apt":true}},{"id":"last","needs":[],"directory":"/b"}]})"),
      Placeholders::allowed, problems);
  for (const FieldProblem& problem : problems) ADD_FAILURE() << problem.pointer << ": " << problem.message;
  const std::vector<StepTitle> titles = titles_of(recipe);
  ASSERT_EQ(titles.size(), 6U);
  EXPECT_EQ(titles[0].needs, std::nullopt);
  EXPECT_EQ(titles[1].needs, std::nullopt) << "the step before it";
  EXPECT_EQ(titles[1].uses, "dpkg");
  EXPECT_THAT(*titles[2].needs, ElementsAre("require")) << "a barrier";
  EXPECT_EQ(titles[2].uses, "");
  EXPECT_THAT(*titles[3].needs, ElementsAre("apt", "zip")) << "which wait for require themselves";
  EXPECT_EQ(titles[4].needs, std::nullopt) << "a barrier waits for all, and all is said by the last of them";
  EXPECT_EQ(titles[5].needs, std::nullopt);
}

}  // namespace
}  // namespace gpustrap
