#include "agent/protocol/secrets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "agent/base/file.h"
#include "agent/protocol/json.h"
#include "agent/protocol/recipe.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class Secrets : public ::testing::Test {
 protected:
  Recipe read(const std::string& steps, const std::string& secrets = R"({"token":{"env":"TOKEN"},"key":{"file":"~/key"}})") {
    problems_.clear();
    return read_recipe(Json::parse(R"({"name":"r","secrets":)" + secrets + R"(,"steps":)" + steps + "}"), Placeholders::allowed, problems_);
  }
  /// The problems of one step, one a line.
  std::string wrong(const std::string& step) {
    (void)read("[" + step + "]");
    std::string all;
    for (const FieldProblem& problem : problems_) all += problem.pointer + " " + problem.message + "\n";
    return all;
  }
  std::vector<FieldProblem> problems_;
};

TEST_F(Secrets, StandInEnvAndInTheContentOfFilesAndBlocks) {
  const Recipe recipe = read(R"([{"file":{"path":"/f","content":"a=${{ secrets.token }}\n"}},
    {"block":{"path":"/b","marker":"m","content":"${{ secrets.key }}"}},
    {"pip":{"venv":"~/e","packages":["x"]},"env":{"PIP_INDEX_URL":"https://u:${{ secrets.token }}@example.org"}}])");
  ASSERT_TRUE(problems_.empty()) << problems_.front().message;
  EXPECT_THAT(secrets_of(recipe.steps[0]).in_spec, ElementsAre("token"));
  EXPECT_THAT(secrets_of(recipe.steps[1]).all, ElementsAre("key"));
  EXPECT_TRUE(secrets_of(recipe.steps[2]).in_spec.empty());
  EXPECT_THAT(secrets_of(recipe.steps[2]).all, ElementsAre("token"));
}

TEST_F(Secrets, ANotebookThatIsOpenToTheNetworkNeedsOneAsItsPassword) {
  const std::string jupyter = R"({"jupyter":{"venv":"~/e","public":true})";
  for (const char* env : {"", R"(,"env":{"JUPYTER_PASSWORD":"correct horse battery"})",
                          R"(,"env":{"JUPYTER_PASSWORD":"1234${{ secrets.key }}"})", R"(,"env":{"PASSWORD":"${{ secrets.key }}"})"}) {
    EXPECT_THAT(wrong(jupyter + env + "}"), HasSubstr("/steps/0/jupyter/public needs a password that is a secret")) << env;
  }
  EXPECT_EQ(wrong(jupyter + R"(,"env":{"JUPYTER_PASSWORD":"${{ secrets.key }}"}})"), "");
  EXPECT_EQ(wrong(R"({"jupyter":{"venv":"~/e","public":false}})"), "");
  EXPECT_THAT(wrong(R"({"jupyter":{"venv":"~/e","certificate":"~/c.pem","key":"~/k.pem"}})"), HasSubstr("goes with `public: true`"));
  EXPECT_THAT(wrong(R"({"jupyter":{"venv":"~/e","public":true,"key":"~/k.pem"},"env":{"JUPYTER_PASSWORD":"${{ secrets.key }}"}})"),
              HasSubstr("needs `certificate` too"));
}

TEST_F(Secrets, AFileWithASecretIsItsOwnersAloneUnlessTheRecipeSaysOtherwise) {
  const Recipe recipe = read(R"([{"id":"a","file":{"path":"/f","content":"${{ secrets.token }}"}},
    {"id":"b","file":{"path":"/f","content":"${{ secrets.token }}","mode":"0640"}},{"id":"c","file":{"path":"/f","content":"x"}}])");
  EXPECT_EQ((*recipe.steps[0].spec)["mode"], "0600");
  EXPECT_EQ((*recipe.steps[1].spec)["mode"], "0640");
  EXPECT_FALSE(recipe.steps[2].spec->contains("mode"));
}

TEST_F(Secrets, AShellTextTakesThemFromItsEnvironment) {
  const Recipe recipe =
      read(R"([{"command":{"run":"login ${{ secrets.token }} \"as ${{ secrets.key }}\"","unless":"ask ${{ secrets.token }}"}}])");
  ASSERT_TRUE(problems_.empty()) << problems_.front().message;
  EXPECT_EQ((*recipe.steps[0].spec)["run"], R"(login "${GPUSTRAP_SECRET_token}" "as ${GPUSTRAP_SECRET_key}")");
  EXPECT_EQ((*recipe.steps[0].spec)["unless"], R"(ask "${GPUSTRAP_SECRET_token}")");
  EXPECT_THAT(recipe.steps[0].env.items, ElementsAre(std::pair("GPUSTRAP_SECRET_token", "${{ secrets.token }}"),
                                                     std::pair("GPUSTRAP_SECRET_key", "${{ secrets.key }}")));
  // What is written and read again is the same step: the host finds the recipe as it was sent.
  std::vector<FieldProblem> problems;
  const Json written = write_recipe(recipe);
  EXPECT_EQ(write_recipe(read_recipe(written, Placeholders::allowed, problems)), written);
  EXPECT_TRUE(problems.empty());
}

TEST_F(Secrets, MayNotStandWhereTheyWouldShow) {
  EXPECT_THAT(wrong(R"({"command":["login","${{ secrets.token }}"]})"),
              HasSubstr("/steps/0/command/1 `secrets.token` would show on a command line"));
  EXPECT_THAT(wrong(R"({"command":{"run":["login","${{ secrets.token }}"]}})"), HasSubstr("would show on a command line"));
  EXPECT_THAT(wrong(R"({"pip":{"venv":"~/e","packages":["${{ secrets.token }}"]}})"),
              HasSubstr("/steps/0/pip/packages/0 `secrets.token` may not stand here"));
  EXPECT_THAT(wrong(R"({"file":{"path":"/${{ secrets.token }}","content":""}})"), HasSubstr("may not stand here"));
  EXPECT_THAT(wrong(R"({"git":{"url":"https://x:${{ secrets.token }}@example.org/r","to":"~/r"}})"), HasSubstr("may not stand here"));
  EXPECT_THAT(wrong(R"({"command":"login '${{ secrets.token }}'"})"), HasSubstr("single quotes"));
  EXPECT_THAT(wrong(R"({"command":"cat <<EOF\n${{ secrets.token }}\nEOF"})"), HasSubstr("here-document"));
}

TEST_F(Secrets, AnUndeclaredNameIsNamed) {
  EXPECT_THAT(wrong(R"({"command":"x ${{ secrets.tokn }}"})"), HasSubstr("`secrets.tokn` is not declared; did you mean `secrets.token`?"));
  EXPECT_THAT(wrong(R"({"command":"x","env":{"A":"${{ secrets.password }}"}})"),
              HasSubstr("`secrets.password` is not declared: expected it in"));
}

TEST_F(Secrets, SayWhereTheyComeFrom) {
  (void)read(R"([{"command":"x"}])", R"({"a":{},"b":{"file":"key"},"c-d":{"env":"X"},"e":{"envv":"X"},"f":"text"})");
  std::string all;
  for (const FieldProblem& problem : problems_) all += problem.pointer + " " + problem.message + "\n";
  EXPECT_THAT(all, HasSubstr("/secrets/a the secret a needs one of `env`, `file` and `prompt`"));
  EXPECT_THAT(all, HasSubstr("expected an absolute path or one that starts with ~/"));
  EXPECT_THAT(all, HasSubstr("`c-d` is not a name for a secret"));
  EXPECT_THAT(all, HasSubstr("`envv` is not a field of the secret e; did you mean `env`?"));
  EXPECT_THAT(all, HasSubstr("/secrets/f `f` of secrets is a value: expected where it comes from, for instance `f: {env: VARIABLE}`"));
  EXPECT_THAT(all, Not(HasSubstr("text"))) << "a secret is not repeated";
}

TEST_F(Secrets, AResolvedRecipeAndItsDigestHaveNamesOnly) {
  const std::string steps = R"([{"command":"x ${{ secrets.token }}"}])";
  const Recipe one = read(steps, R"({"token":{"env":"TOKEN"}})");
  const Recipe other = read(steps, R"({"token":{"prompt":"Token"}})");
  EXPECT_EQ(write_recipe(one)["secrets"], Json::parse(R"(["token"])"));
  EXPECT_EQ(digest_of(one), digest_of(other));
}

class Collecting : public ::testing::Test {
 protected:
  Collecting() {
    around_.environment = [this](const std::string& name) {
      const auto found = environment_.find(name);
      return found == environment_.end() ? std::nullopt : std::optional<std::string>(found->second);
    };
    around_.home = ::testing::TempDir();
  }
  std::map<std::string, std::string> environment_;
  SecretSurroundings around_;
};

TEST_F(Collecting, TheFirstSourceThatHasAValueCounts) {
  ASSERT_TRUE(write_file_atomically(around_.home + "/secret_of_test", "from a file\n", 0600));
  around_.ask = [](const std::string& question) { return std::optional<std::string>("answer to " + question); };
  environment_["SET"] = "from the environment";
  const auto values =
      collect_secrets({{"a", "SET", "~/secret_of_test", "A"}, {"b", "UNSET", "~/secret_of_test", "B"}, {"c", "UNSET", "", "C"}}, around_);
  ASSERT_TRUE(values.has_value()) << values.error().sentence();
  EXPECT_EQ(values->at("a"), "from the environment");
  EXPECT_EQ(values->at("b"), "from a file");
  EXPECT_EQ(values->at("c"), "answer to C: ");
  std::remove((around_.home + "/secret_of_test").c_str());
}

TEST_F(Collecting, AllThatIsMissingIsSaidAtOnceWithWhereItWasLookedFor) {
  const auto values = collect_secrets({{"a", "HUB_TOKEN", "", ""}, {"b", "", "/nonexistent/key", ""}, {"c", "", "", "Password"}}, around_);
  ASSERT_FALSE(values.has_value());
  EXPECT_EQ(values.error().code(), ErrorCode::usage);
  EXPECT_THAT(values.error().why(), HasSubstr("the secret `a` has no value: the environment variable HUB_TOKEN is not set"));
  EXPECT_THAT(values.error().why(), HasSubstr("/nonexistent/key: No such file or directory"));
  EXPECT_THAT(values.error().why(), HasSubstr("the secret `c` has no value: there is no terminal to ask at"));
  EXPECT_THAT(values.error().hint(), HasSubstr("set HUB_TOKEN in the environment of this command"));
}

TEST_F(Collecting, AValueThatCannotBeKeptIsRefusedAndNotQuoted) {
  environment_ = {{"SHORT", "xyz"}, {"EMPTY", ""}, {"BYTES", "\xff\xfe\xfd\xfc"}, {"LONG", std::string(kLongestSecrets + 1, 'q')}};
  for (const auto& [name, expected] : std::map<std::string, std::string>{
           {"SHORT", "too few to be hidden"}, {"EMPTY", "is empty"}, {"BYTES", "is not a text"}, {"LONG", "is longer than"}}) {
    const auto values = collect_secrets({{"a", name, "", ""}}, around_);
    ASSERT_FALSE(values.has_value());
    EXPECT_THAT(values.error().why(), HasSubstr(expected));
    EXPECT_THAT(values.error().why(), Not(HasSubstr("xyz")));
    EXPECT_THAT(values.error().why(), Not(HasSubstr("qqq")));
  }
}

TEST_F(Collecting, AllTogetherHaveALimitToo) {
  environment_ = {{"ONE", std::string(kLongestSecrets / 2 + 1, 'q')}, {"TWO", std::string(kLongestSecrets / 2, 'q')}};
  EXPECT_TRUE(collect_secrets({{"a", "ONE", "", ""}}, around_).has_value());
  const auto values = collect_secrets({{"a", "ONE", "", ""}, {"b", "TWO", "", ""}}, around_);
  ASSERT_FALSE(values.has_value());
  EXPECT_EQ(values.error().code(), ErrorCode::usage);
  EXPECT_EQ(values.error().why(), "the secrets together are longer than 128 KiB");
  EXPECT_THAT(values.error().hint(), HasSubstr("gpustrap push"));
}

}  // namespace
}  // namespace gpustrap
