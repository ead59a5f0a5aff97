#include "controller/lint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/compat_loader.h"
#include "controller/recipe_sources.h"
#include "tests/support/folders.h"
#include "tests/support/golden_file.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const Compat& tables() {
  static const Compat compat = load_builtin_compat().value();
  return compat;
}

LintReport lint(const std::string& name, LoadOptions options = {}) {
  Result<LintReport> report = lint_recipe(name, options, tables());
  EXPECT_TRUE(report.has_value()) << name;
  return report ? *std::move(report) : LintReport{};
}

std::vector<std::string> rules_of(const LintReport& report) {
  std::vector<std::string> rules;
  for (const LintFinding& finding : report.findings)
    rules.push_back(std::to_string(finding.place.line) + " " + std::string(finding.rule->id));
  return rules;
}

class LintFile : public ::testing::Test {
 protected:
  LintReport lint_text_of(const std::string& text) {
    std::ofstream(directory_.path() + "/recipe.yaml") << text;
    return lint(directory_.path() + "/recipe.yaml");
  }
  TemporaryDirectory directory_;
};

// tests/golden/lint/RULE.bad.yaml has it, RULE.good.yaml has nothing at all, RULE.txt is what people read of the bad one.
TEST(Lint, EveryRuleHasAGoodAndABadSample) {
  const std::string folder = source_folder() + "/tests/golden/lint/";
  for (const LintRule& rule : lint_rules()) {
    const std::string id(rule.id);
    if (id.starts_with("upstream-")) continue;  // what servers say: lint_upstream_test.cc
    LintReport bad = lint(folder + id + ".bad.yaml");
    std::vector<std::string> found;
    for (LintFinding& finding : bad.findings) {
      found.emplace_back(finding.rule->id);
      finding.place.file = id + ".bad.yaml";
    }
    bad.source = id + ".bad.yaml";
    EXPECT_THAT(found, Contains(id));
    expect_golden("lint/" + id + ".txt", lint_text({bad}, 0));
    EXPECT_THAT(rules_of(lint(folder + id + ".good.yaml")), IsEmpty()) << id;
  }
}

TEST(Lint, SamplesAreOfRulesThatExist) {
  for (const auto& entry : std::filesystem::directory_iterator(source_folder() + "/tests/golden/lint")) {
    const std::string name = entry.path().filename().string();
    EXPECT_NE(find_lint_rule(name.substr(0, name.find('.'))), nullptr) << name;
  }
}

TEST(Lint, BuiltinRecipesAreClean) {
  std::size_t allowed = 0;
  for (const BuiltinRecipe& builtin : builtin_recipes()) {
    const LintReport report = lint(std::string(builtin.name));
    EXPECT_THAT(rules_of(report), IsEmpty()) << lint_text({report}, 0);
    allowed += report.allowed;
  }
  EXPECT_GT(allowed, 0U) << "the ignores of the recipes that come with gpustrap are no longer understood";
}

TEST(Lint, TheDocumentNamesEveryRule) {
  const std::string path = source_folder() + "/docs/lint.md";
  constexpr std::string_view kMarker = "<!-- Everything below is made from controller/lint_rules.cc; the test Lint says how. -->\n\n";
  const std::string document = read_file(path).value_or("");
  const std::size_t marker = document.find(kMarker);
  ASSERT_NE(marker, std::string::npos) << path << " has lost its marker: " << kMarker;
  const std::string wanted = document.substr(0, marker + kMarker.size()) + lint_reference();
  if (std::getenv("GPUSTRAP_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << wanted;
    return;
  }
  EXPECT_EQ(document, wanted) << "docs/lint.md is stale; GPUSTRAP_UPDATE_GOLDEN=1 with --gtest_filter='Lint.*' writes it again";
}

TEST(Lint, IdsAreSingleAndPlain) {
  std::vector<std::string_view> ids;
  for (const LintRule& rule : lint_rules()) {
    EXPECT_EQ(rule.id.find_first_not_of("abcdefghijklmnopqrstuvwxyz-"), std::string_view::npos) << rule.id;
    EXPECT_EQ(std::count(ids.begin(), ids.end(), rule.id), 0) << rule.id;
    ids.push_back(rule.id);
    EXPECT_TRUE(rule.summary.ends_with('.') && rule.why.ends_with('.') && !rule.advice.ends_with('.')) << rule.id;
  }
}

TEST_F(LintFile, AnIgnoreIsAboutItsLineOrWhatStandsBelow) {
  const LintReport report = lint_text_of(
      "name: r\ndescription: d\nsteps:\n"
      "  # lint: allow command-unguarded it counts how often it runs\n"
      "  - id: one\n    command: make\n"
      "  - id: two\n    command: make   # lint: allow command-unguarded - make knows\n"
      "  - id: three\n    command: make\n"
      "  - id: four\n    command:\n      # lint: allow sudo-in-command the host has no root login\n      run: |\n        true\n        "
      "sudo make\n      creates: ~/a\n");
  EXPECT_THAT(rules_of(report), ElementsAre("10 command-unguarded"));
  EXPECT_EQ(report.allowed, 3U);
}

TEST_F(LintFile, AnIgnoreOfAnotherRuleIgnoresNothing) {
  const LintReport report = lint_text_of("name: r\ndescription: d\nsteps:\n  # lint: allow sudo-in-command why not\n  - command: make\n");
  EXPECT_THAT(rules_of(report), ElementsAre("4 allow-unused", "5 command-unguarded"));
}

TEST_F(LintFile, ARecipeThatDoesNotLoadCannotBeAllowed) {
  const LintReport report =
      lint_text_of("name: r\ndescription: d\nsteps:\n  # lint: allow recipe-error we like it\n  - apt: { packges: git }\n");
  EXPECT_THAT(rules_of(report), Contains("5 recipe-error"));
}

TEST_F(LintFile, WhatIsNoRecipeIsAFinding) {
  EXPECT_THAT(rules_of(lint_text_of("")), Contains("1 recipe-error"));
  EXPECT_THAT(rules_of(lint_text_of("- a\n")), Contains("1 recipe-error"));
  EXPECT_THAT(rules_of(lint_text_of("steps: {apt: git}\n")), Contains("1 recipe-error"));
}

TEST_F(LintFile, VarsWithoutADefaultStayOpen) {
  const LintReport report = lint_text_of(
      "name: r\ndescription: d\nvars: { url: ~, sum: ~, to: ~ }\nsteps:\n"
      "  - download: { url: \"${{ vars.url }}\", sha256: \"${{ vars.sum }}\", to: \"${{ vars.to }}\" }\n"
      "  - command: { run: \"ls ${{ vars.to }}\", creates: \"${{ vars.to }}/done\" }\n");
  EXPECT_THAT(rules_of(report), IsEmpty()) << lint_text({report}, 0);
}

TEST_F(LintFile, WhatAnIncludeDoesIsFoundInItsOwnFile) {
  std::ofstream(directory_.path() + "/part.yaml")
      << "name: part\ndescription: d\nsteps:\n  - command: make\n  - command: { run: sudo make, creates: ~/a }   # lint: allow "
         "sudo-in-command root has no password here\n    id: allowed\n";
  const LintReport report = lint_text_of("name: r\ndescription: d\nsteps:\n  - include: part.yaml\n");
  ASSERT_THAT(rules_of(report), ElementsAre("4 command-unguarded"));
  EXPECT_THAT(report.findings[0].place.file, HasSubstr("/part.yaml"));
  EXPECT_EQ(report.allowed, 1U);
}

// Whoever reads the output of a pipeline must not learn the secret from it.
TEST_F(LintFile, NoOutputShowsASecret) {
  const LintReport report = lint_text_of(
      "name: r\ndescription: d\nvars: { api_key: leak-number-1 }\nsteps:\n"
      "  - command: curl -u me:leak-number-2 https://example.org/a?k=${{ vars.api_key }}\n    env: { DB_PASSWORD: leak-number-3 }\n"
      "  - id: two\n    command: \"sudo tool --token=leak-number-4 \\\\\\n  --password leak-number-5\"\n"
      "  - file: { path: /a, content: \"-----BEGIN OPENSSH PRIVATE KEY-----\\nleak\\n\" }\n");
  const auto is_secret = [](const LintFinding& finding) { return finding.rule->id == "secret-in-text"; };
  EXPECT_EQ(std::count_if(report.findings.begin(), report.findings.end(), is_secret), 6) << lint_text({report}, 0);
  for (const std::string& output : {lint_text({report}, 0), lint_text({report}, 60), lint_json({report}), lint_sarif({report})})
    EXPECT_THAT(output, Not(HasSubstr("leak-number")));
}

// Where a newcomer writes a secret. One finding each, and never the secret in it.
TEST_F(LintFile, SecretsAreFoundWhereverProgramsTakeThem) {
  const std::string hex = "0123456789abcdef0123456789abcdef01234567";
  for (const std::string& step : std::vector<std::string>{
           "command: docker run -d -e POSTGRES_PASSWORD=leak-1 postgres:16",
           "command: sudo docker run --env=HUB_TOKEN=leak-1 image",
           "command: docker login -u me -p leak-1 registry.example.org",
           "command: wandb login " + hex,
           "command: [wandb, login, \"" + hex + "\"]",
           "command: \"echo 'ubuntu:leak-1' | sudo chpasswd\"",
           "command: chpasswd <<< ubuntu:leak-1",
           "command: \"echo leak-1 | sudo -S true\"",
           "command: jupyter lab --NotebookApp.token=leak-1",
           "command: jupyter lab --ServerApp.token='leak-1'",
           "command: jupyter lab --IdentityProvider.token=leak-1",
           "command: mysql -u root -pleak-1 -e 'show tables'",
           "command: sshpass -p leak-1 ssh me@example.org true",
           "command: PGPASSWORD=leak-1 psql -h localhost",
           "file: { path: ~/.kaggle/kaggle.json, content: '{\"username\":\"me\",\"key\":\"" + hex.substr(0, 32) + "\"}' }",
           "command: echo '{\"username\":\"me\",\"key\":\"" + hex.substr(0, 32) + "\"}' > ~/.kaggle/kaggle.json",
           "file: { path: ~/.netrc, content: machine api.example.org login user password leak-1 }",
           "file: { path: ~/lab/.env, content: \"MODE=fast\\nHUB_TOKEN=leak-1\\n\" }",
           "file: { path: ~/jupyter_config.py, content: \"c.NotebookApp.token = 'leak-1'\" }",
           "service: { name: lab, unit: \"[Service]\\nEnvironment=JUPYTER_TOKEN=leak-1\\nExecStart=/opt/lab\" }",
           "service: { name: lab, unit: \"[Service]\\nEnvironment=A=b 'JUPYTER_TOKEN=leak-1'\\nExecStart=/opt/lab\" }",
           "service: { name: lab, unit: \"[Service]\\nExecStart=/opt/lab --ServerApp.token=leak-1\" }",
       }) {
    const LintReport report = lint_text_of("name: r\ndescription: d\nsteps:\n  - " + step + "\n");
    EXPECT_EQ(std::count_if(report.findings.begin(), report.findings.end(),
                            [](const LintFinding& finding) { return finding.rule->id == "secret-in-text"; }),
              1)
        << step << "\n"
        << lint_text({report}, 0);
    for (const std::string& output : {lint_text({report}, 0), lint_json({report}), lint_sarif({report})}) {
      EXPECT_THAT(output, Not(HasSubstr("leak-1")));
      EXPECT_THAT(output, Not(HasSubstr(hex.substr(0, 32))));
    }
  }
}

TEST_F(LintFile, WhatIsNoSecretIsNotFound) {
  for (const std::string step : {
           "command: docker run -e POSTGRES_PASSWORD=${{ secrets.pw }} -e HUB_TOKEN=$HUB_TOKEN -e A=b -e PGPASSWORD image",
           "command: docker run -p 8080:80 --env-file .env image",
           "command: wandb login $WANDB_API_KEY",
           "command: wandb login --relogin",
           "command: \"echo \\\"ubuntu:$PASSWORD\\\" | chpasswd\"",
           "command: chpasswd < /root/users",
           "command: jupyter lab --NotebookApp.token='' --ServerApp.token=$TOKEN --NotebookApp.password=sha1:67c9e60bb8b6:9ffede0825894254",
           "command: mysql -p -P 3307 -u root",
           "command: sshpass -e ssh me@example.org true",
           "file: { path: ~/.kaggle/kaggle.json, content: '{\"username\":\"me\",\"key\":\"${{ secrets.pw }}\"}' }",
           "file: { path: ~/.netrc, content: \"machine api.example.org login user password ${{ secrets.pw }}\" }",
           "file: { path: ~/a.py, content: \"c.NotebookApp.token = ''\\ntoken = 'word'\\nMODE=fast\\nHUB_TOKEN=\\n\" }",
           "service: { name: lab, unit: \"[Service]\\nEnvironment=JUPYTER_TOKEN=${{ secrets.pw }}\\nExecStart=/opt/lab\" }",
       }) {
    const LintReport report =
        lint_text_of("name: r\ndescription: d\nsecrets: { pw: { env: PW } }\nsteps:\n  - " + std::string(step) + "\n");
    for (const LintFinding& finding : report.findings) EXPECT_NE(finding.rule->id, "secret-in-text") << step << "\n" << finding.message;
  }
}

// A driver and a CUDA are for one host, whichever step comes first; of several branches, one that runs it is enough.
TEST_F(LintFile, TheOrderOfDriverAndCudaDoesNotMatter) {
  const std::string head = "name: r\ndescription: d\nsteps:\n";
  const std::string old = "  - { id: old, nvidia_driver: \"470\" }\n", young = "  - { id: young, nvidia_driver: \"580\" }\n";
  const std::string cuda = "  - cuda: \"12.4\"\n";
  EXPECT_THAT(rules_of(lint_text_of(head + old + cuda)), ElementsAre("5 cuda-driver-unknown"));
  EXPECT_THAT(rules_of(lint_text_of(head + cuda + old)), ElementsAre("4 cuda-driver-unknown"));
  EXPECT_THAT(rules_of(lint_text_of(head + cuda + old + young)), IsEmpty());
  EXPECT_THAT(rules_of(lint_text_of(head + cuda + "  - nvidia_driver: auto\n")), IsEmpty());
}

TEST_F(LintFile, AnEmptyGuardIsNone) {
  EXPECT_THAT(rules_of(lint_text_of("name: r\ndescription: d\nsteps:\n  - command: { run: make, creates: [] }\n")),
              ElementsAre("4 command-unguarded"));
}

TEST_F(LintFile, JsonHasWhatPeopleSee) {
  const Json document = Json::parse(lint_json({lint_text_of("name: r\ndescription: d\nsteps:\n  - command: make\n")}));
  EXPECT_EQ(document["format"], "gpustrap-lint");
  EXPECT_EQ(document["version"], 1);
  EXPECT_EQ(document["warnings"], 1);
  const Json& finding = document["recipes"][0]["findings"][0];
  EXPECT_EQ(finding["rule"], "command-unguarded");
  EXPECT_EQ(finding["severity"], "warning");
  EXPECT_EQ(finding["line"], 4);
  EXPECT_EQ(finding["column"], 5);
  EXPECT_EQ(finding["source"], "  - command: make");
}

// What code scanning services ask of SARIF 2.1.0: the version, named rules with a text, results with a rule, a level, a message, a
// place in the repository and a fingerprint that survives lines added above.
TEST_F(LintFile, SarifIsWhatCodeScanningTakes) {
  const std::string recipe = "name: r\ndescription: d\nsteps:\n  - command: make\n  - {id: ü, command: sudo make}\n";
  const LintReport report = lint_text_of(recipe);
  const Json document = Json::parse(lint_sarif({report, report}));
  EXPECT_EQ(document["version"], "2.1.0");
  ASSERT_EQ(document["runs"].size(), 1U);
  const Json& run = document["runs"][0];
  const Json& rules = run["tool"]["driver"]["rules"];
  EXPECT_EQ(rules.size(), lint_rules().size());
  for (const Json& rule : rules) {
    for (const char* part : {"shortDescription", "fullDescription", "help"}) EXPECT_FALSE(rule[part]["text"].get<std::string>().empty());
  }
  ASSERT_EQ(run["results"].size(), report.findings.size()) << "the same place in two reports is one result";
  std::vector<std::string> fingerprints;
  for (const Json& result : run["results"]) {
    EXPECT_EQ(rules[result["ruleIndex"].get<std::size_t>()]["id"], result["ruleId"]);
    EXPECT_THAT((std::vector<std::string>{"error", "warning", "note"}), Contains(result["level"].get<std::string>()));
    EXPECT_FALSE(result["message"]["text"].get<std::string>().empty());
    const Json& place = result["locations"][0]["physicalLocation"];
    EXPECT_THAT(place["artifactLocation"]["uri"].get<std::string>(), HasSubstr("/recipe.yaml"));
    EXPECT_GE(place["region"]["startLine"].get<int>(), 1);
    EXPECT_GE(place["region"]["startColumn"].get<int>(), 1);
    fingerprints.push_back(result["partialFingerprints"]["primaryLocationLineHash"]);
  }
  const Json moved = Json::parse(lint_sarif({lint_text_of("# new\n" + recipe)}));
  for (std::size_t i = 0; i < fingerprints.size(); ++i)
    EXPECT_EQ(moved["runs"][0]["results"][i]["partialFingerprints"]["primaryLocationLineHash"], fingerprints[i]);
  std::sort(fingerprints.begin(), fingerprints.end());
  EXPECT_EQ(std::unique(fingerprints.begin(), fingerprints.end()), fingerprints.end());
}

TEST_F(LintFile, SarifCountsCharactersNotBytes) {
  const Json document = Json::parse(lint_sarif({lint_text_of("name: r\ndescription: d\nsteps:\n  - {name: äöü, command: make}\n")}));
  const Json& region = document["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"];
  EXPECT_EQ(region["startColumn"], 17);
}

TEST(Lint, ARecipeThatIsNotThereIsAnError) { EXPECT_FALSE(lint_recipe("./nowhere.yaml", {}, tables()).has_value()); }

TEST_F(LintFile, LinesFitTheTerminalBesideTheFirst) {
  const LintReport report = lint_text_of("name: r\ndescription: d\nsteps:\n  - command: echo " + std::string(200, 'x') + "\n");
  const std::vector<std::string> lines = split(lint_text({report}, 60), '\n');
  for (std::size_t i = 1; i + 2 < lines.size(); ++i) EXPECT_LE(lines[i].size(), 63U) << lines[i];
}

}  // namespace
}  // namespace gpustrap
