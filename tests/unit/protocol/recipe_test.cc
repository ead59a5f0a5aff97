#include "agent/protocol/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/protocol/json.h"
#include "agent/protocol/placeholders.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> texts_of(const std::vector<FieldProblem>& problems) {
  std::vector<std::string> texts;
  for (const FieldProblem& problem : problems) texts.push_back(problem.pointer + " " + problem.message);
  return texts;
}

Recipe read(const std::string& steps, std::vector<std::string>& texts) {
  std::vector<FieldProblem> problems;
  const Recipe recipe = read_recipe(Json::parse(R"({"name":"r","steps":)" + steps + "}"), Placeholders::allowed, problems);
  texts = texts_of(problems);
  return recipe;
}

std::vector<std::string> problems_of(const std::string& steps) {
  std::vector<std::string> texts;
  (void)read(steps, texts);
  return texts;
}

TEST(Recipe, SurvivesTheWire) {
  std::vector<std::string> texts;
  const Recipe recipe = read(R"([{"require":{"gpu":true},"name":"A GPU"},
    {"id":"conda","needs":["require"],"when":{"arch":"x86_64","os_version":">=22.04"},"as":"root","env":{"A":"${{ facts.arch }}"},
     "retries":2,"timeout":"10m","stall":"90s","tags":["py"],"command":"make"},
    {"needs":[],"file":{"path":"/a","content":"${{ facts.os }}"}}])",
                             texts);
  ASSERT_THAT(texts, IsEmpty());
  EXPECT_EQ(recipe.steps[0].id, "require");
  EXPECT_FALSE(recipe.steps[0].needs.has_value());
  EXPECT_EQ(recipe.steps[2].needs, std::vector<std::string>());
  EXPECT_EQ(recipe.steps[1].env.items[0].second, "${{ facts.arch }}");
  std::vector<FieldProblem> problems;
  const Recipe again = read_recipe(Json::parse(write_recipe(recipe).dump()), Placeholders::allowed, problems);
  EXPECT_TRUE(problems.empty());
  EXPECT_EQ(write_recipe(again), write_recipe(recipe));
  EXPECT_EQ(digest_of(again), digest_of(recipe));
}

TEST(Recipe, DigestFollowsTheContent) {
  std::vector<std::string> texts;
  EXPECT_NE(digest_of(read(R"([{"command":"a"}])", texts)), digest_of(read(R"([{"command":"b"}])", texts)));
}

TEST(Recipe, KindsAreOneAStep) {
  EXPECT_THAT(problems_of(R"([{"comand":"a"}])"), ElementsAre("/steps/0/comand `comand` is not a kind of step; did you mean `command`?"));
  EXPECT_THAT(problems_of(R"([{"command":"a","apt":"git"}])"),
              ElementsAre("/steps/0/apt a step with 2 kinds, command and apt: expected one; begin another step with `- `"));
  EXPECT_THAT(problems_of(R"([{"command":"a","need":[]}])"),
              ElementsAre("/steps/0/need `need` is not a field of a step; did you mean `needs`?"));
  EXPECT_THAT(problems_of(R"(["nvidia_smi"])"),
              ElementsAre("/steps/0 a step is `nvidia_smi`: expected a mapping with one kind; did you mean `nvidia_smi:`?"));
  EXPECT_THAT(problems_of(R"([{"shell":"a"}])"), ElementsAre("/steps/0/shell `shell` is not a kind of step; did you mean `command`?"));
  EXPECT_THAT(problems_of(R"([{"command":"a","if":"x"}])"), ElementsAre("/steps/0/if `if` is not a field of a step; did you mean `when`?"));
  EXPECT_THAT(problems_of(R"([{"symlink":{"src":"/a","dest":"/b"}}])"),
              ElementsAre("/steps/0/symlink/src `src` is not a field of symlink; did you mean `target`?",
                          "/steps/0/symlink/dest `dest` is not a field of symlink; did you mean `path`?"));
  EXPECT_EQ(problems_of(R"([{"id":"a"}])").size(), 1U);
  EXPECT_EQ(problems_of("[]").size(), 1U);
}

TEST(Recipe, IdsAreUniqueAndGivenWhereTheKindIs) {
  EXPECT_THAT(problems_of(R"([{"command":"a"},{"command":"b"}])"),
              ElementsAre("/steps/0/command `id` is required: another step without id is of kind `command` too",
                          "/steps/1/command `id` is required: another step without id is of kind `command` too"));
  EXPECT_THAT(problems_of(R"([{"command":"a"},{"command":"b","id":"b"}])"), IsEmpty());
  EXPECT_THAT(problems_of(R"([{"command":"a","id":"x"},{"apt":"git","id":"x"}])"),
              ElementsAre("/steps/1/id id `x` is taken by step 1: expected another"));
  EXPECT_THAT(
      problems_of(R"([{"command":"a","id":"-x"}])"),
      ElementsAre(
          "/steps/0/id `id` of a step is `-x`: expected letters, digits, `.`, `_` and `-`, at most 64, beginning with a letter or digit"));
}

TEST(Recipe, NeedsNameEarlierSteps) {
  EXPECT_THAT(
      problems_of(
          R"([{"command":"a","needs":["apt"]},{"apt":"git","needs":["comand"]},{"pip":{"venv":"~/e","packages":"a"},"needs":["pip","zzz"]}])"),
      ElementsAre("/steps/0/needs/0 `needs` names `apt`, which comes later: expected an earlier step",
                  "/steps/1/needs/0 `needs` names `comand`, but no step has that id; did you mean `command`?",
                  "/steps/2/needs/0 `needs` names `pip`, which is the step itself: expected an earlier step",
                  "/steps/2/needs/1 `needs` names `zzz`, but no step has that id; earlier steps are command, apt"));
}

TEST(Recipe, CommonFieldsAreChecked) {
  EXPECT_THAT(
      problems_of(R"([{"command":"a","retries":-1,"timeout":"soon","stall":"0s","as":"me too","when":{"gpus":true},"env":{"A-B":"c"}}])"),
      ElementsAre("/steps/0/env/A-B `A-B` in `env` of a step is not a name for a variable: expected letters, digits and _, not beginning "
                  "with a digit",
                  "/steps/0/retries `retries` of a step is `-1`: expected a whole number, 0 or more",
                  "/steps/0/timeout `timeout` of a step is `soon`: expected a time with its unit, such as 90s, 10m, 2h or 1d",
                  "/steps/0/as `as` of a step is `me too`: expected login, root or a user name",
                  "/steps/0/stall `stall` of a step is no time at all: expected 1s or more",
                  "/steps/0/when/gpus `gpus` is not a field of when; did you mean `gpu`?"));
}

TEST(Recipe, IdentitiesFollowKindAndPath) {
  const auto identity = [](const std::string& step) {
    std::vector<std::string> texts;
    return default_identity(read("[" + step + "]", texts).steps.at(0));
  };
  EXPECT_EQ(identity(R"({"command":"a"})"), "login");
  EXPECT_EQ(identity(R"({"apt":"git"})"), "root");
  EXPECT_EQ(identity(R"({"directory":"~/notebooks"})"), "login");
  EXPECT_EQ(identity(R"({"directory":{"path":"/srv"}})"), "root");
  EXPECT_EQ(identity(R"({"archive":{"url":"https://x.org/a","to":"~"}})"), "login");
  EXPECT_EQ(identity(R"({"environment":{"A":"b"}})"), "login");
  EXPECT_EQ(identity(R"({"environment":{"A":"b","scope":"system"}})"), "root");
  EXPECT_EQ(identity(R"({"jupyter":{"venv":"~/e"}})"), "root");
  EXPECT_EQ(identity(R"({"wait":{"cloud_init":true}})"), "login");
  EXPECT_EQ(identity(R"({"wait":{"apt":true}})"), "root");
  std::vector<std::string> texts;
  EXPECT_FALSE(needs_root(read(R"([{"require":{"disk_free":"1GiB"}},{"venv":"~/e"}])", texts)));
  EXPECT_TRUE(needs_root(read(R"([{"venv":"~/e"},{"command":"a","as":"root"}])", texts)));
}

TEST(Condition, SaysWhyItDoesNotHold) {
  Facts facts;
  facts.os = "debian";
  facts.os_version = "12";
  facts.arch = "aarch64";
  EXPECT_EQ(unmet_reason({}, facts), "");
  Condition condition;
  condition.gpu = true;
  EXPECT_EQ(unmet_reason(condition, facts), "gpu: true, but no NVIDIA GPU is on the PCI bus");
  condition = {};
  condition.os.items = {"ubuntu", "fedora"};
  EXPECT_EQ(unmet_reason(condition, facts), "os: ubuntu or fedora, but this is debian");
  condition = {};
  condition.os_version = ">=13";
  EXPECT_EQ(unmet_reason(condition, facts), "os_version: >=13, but this is debian 12");
}

Result<std::optional<Json>> lookup(const std::string& name) {
  if (name == "vars.port") return Json(8888);
  if (name == "vars.text") return Json("a b");
  if (name == "vars.list") return Json::parse("[1,2]");
  if (name == "vars.words") return Json::parse(R"(["a b","c"])");
  if (name == "vars.map") return Json::parse(R"({"a":1})");
  if (name.starts_with("facts.")) return std::nullopt;
  return fail(ErrorCode::recipe, "no " + name);
}

TEST(Placeholders, KeepTheTypeOfALoneValue) {
  Json value = Json::parse(
      R"({"port":"${{ vars.port }}","url":"http://localhost:${{vars.port}}/","list":"${{ vars.list }}","later":"${{ facts.os }}"})");
  std::vector<FieldProblem> problems;
  fill_placeholders(value, "", lookup, problems);
  EXPECT_TRUE(problems.empty());
  EXPECT_EQ(value, Json::parse(R"({"port":8888,"url":"http://localhost:8888/","list":[1,2],"later":"${{ facts.os }}"})"));
}

TEST(Placeholders, AreShellQuotedInShellTextOnly) {
  Json value = Json::parse(
      R"({"run":"echo ${{ vars.text }} # it's\necho ${{ vars.text }}","unless":"${{ vars.text }}","creates":"/x/${{ vars.text }}"})");
  std::vector<FieldProblem> problems;
  fill_step_placeholders(StepKind::command, value, "", lookup, problems);
  EXPECT_TRUE(problems.empty());
  EXPECT_EQ(value["run"], "echo 'a b' # it's\necho 'a b'");
  EXPECT_EQ(value["unless"], "'a b'");
  EXPECT_EQ(value["creates"], "/x/a b");
  value = Json("echo \"$HOME/${{ vars.port }}\"");
  fill_step_placeholders(StepKind::command, value, "", lookup, problems);
  EXPECT_TRUE(problems.empty());
  EXPECT_EQ(value, "echo \"$HOME/8888\"");
  value = Json::parse(R"(["echo","${{ vars.text }}"])");
  fill_step_placeholders(StepKind::command, value, "", lookup, problems);
  EXPECT_EQ(value[1], "a b");
}

TEST(Placeholders, InsideQuotesAValueThatNeedsQuotesIsRefused) {
  for (const char* text : {"echo '${{ vars.text }}'", "echo \"${{ vars.text }}\"", "echo don\\'t \"a\\\" ${{ vars.text }}\""}) {
    Json value(text);
    std::vector<FieldProblem> problems;
    fill_step_placeholders(StepKind::command, value, "", lookup, problems);
    EXPECT_EQ(problems.size(), 1U) << text;
  }
}

TEST(Placeholders, AListInATextIsItsItems) {
  Json value = Json::parse(R"({"content":"{ ${{ vars.list }} }","whole":"${{ vars.list }}"})");
  std::vector<FieldProblem> problems;
  fill_step_placeholders(StepKind::file, value, "", lookup, problems);
  EXPECT_EQ(value["content"], "{ 1,2 }");
  EXPECT_TRUE(value["whole"].is_array());
  value = Json("for i in ${{ vars.words }}; do echo $i; done");
  fill_step_placeholders(StepKind::command, value, "", lookup, problems);
  EXPECT_EQ(value, "for i in 'a b' c; do echo $i; done");
  EXPECT_TRUE(problems.empty());
}

TEST(Placeholders, ProblemsNameThePlace) {
  Json value = Json::parse(R"({"a":["${{ vars.prot }}"],"b":"x ${{ vars.map }}","c":"${{ vars.port","d":"${{ a b }}"})");
  std::vector<FieldProblem> problems;
  fill_placeholders(value, "/x", lookup, problems);
  EXPECT_THAT(texts_of(problems),
              ElementsAre("/x/a/0 no vars.prot",
                          "/x/b `vars.map` is `{\"a\":1}`: expected a text, a number, a boolean or a list of them inside a text",
                          "/x/c `${{ vars.port` is not closed: expected }}",
                          "/x/d `${{ a b }}` is not a placeholder: expected a name such as ${{ vars.port }} or ${{ facts.arch }}"));
}

}  // namespace
}  // namespace gpustrap
