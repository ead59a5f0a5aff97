#include "controller/recipe_schema.h"

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
#include "agent/protocol/step_spec.h"
#include "controller/compat_loader.h"
#include "controller/lint.h"
#include "controller/recipe_loader.h"
#include "controller/recipe_reference.h"
#include "controller/recipe_starter.h"
#include "controller/yaml_document.h"
#include "tests/support/folders.h"
#include "tests/support/golden_file.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Json yaml(const std::string& text) {
  std::vector<SourceProblem> problems;
  const YamlDocument document = read_yaml(text, "recipe.yaml", problems);
  return document.value ? *document.value : Json();
}

std::string whole(std::string_view steps) { return "name: example\nsteps:\n" + std::string(steps); }

/// What a JSON Schema validator that is none of ours says of `documents`.
std::string validated(const Json& documents) {
  const TemporaryDirectory directory;
  Json asked = Json::object();
  asked["schema"] = Json::parse(recipe_schema());
  asked["documents"] = documents;
  std::ofstream(directory / "asked.json") << asked.dump();
  const std::string command = "python3 '" + source_folder() + "/tests/unit/controller/validate_schema.py' '" + (directory / "asked.json") +
                              "' > '" + (directory / "said.txt") + "' 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0) << read_file(directory / "said.txt").value_or("")
                                             << "python3-jsonschema is one of packaging/packages.txt";
  return read_file(directory / "said.txt").value_or("");
}

TEST(RecipeSchema, TakesEveryRecipeThatLoads) {
  Json documents = Json::object();
  for (const BuiltinRecipe& builtin : builtin_recipes()) documents[std::string(builtin.name)] = yaml(std::string(builtin.text));
  for (const std::string& name : step_kind_names()) documents["kind " + name] = yaml(whole(example_of_kind(*step_kind_from_name(name))));
  for (const LintRule& rule : lint_rules()) {
    if (rule.id.starts_with("upstream-")) continue;  // no recipe shows what servers say
    const std::string file = std::string(rule.id) + ".good.yaml";
    documents[file] = yaml(read_file(source_folder() + "/tests/golden/lint/" + file).value_or(""));
  }
  documents["starter"] = yaml(starter_recipe("lab.yaml"));
  const std::string document = read_file(source_folder() + "/docs/recipes.md").value_or("");
  for (std::size_t at = document.find("```yaml\nname:"); at != std::string::npos; at = document.find("```yaml\nname:", at + 8))
    documents["docs " + std::to_string(at)] = yaml(document.substr(at + 8, document.find("\n```\n", at) - at - 7));
  const std::string said = validated(documents);
  EXPECT_THAT(said, Not(HasSubstr("does not fit")));
  EXPECT_THAT(said, HasSubstr("d2l fits"));
}

// What only the loader can know is accepted: ids, `needs`, includes, vars, and what YAML itself forbids.
TEST(RecipeSchema, RefusesWhatItCanOfTheBadRecipes) {
  Json documents = Json::object();
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(source_folder() + "/tests/golden/bad_recipes")) {
    if (entry.path().extension() == ".yaml") names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  for (const std::string& name : names)
    documents[name] = yaml(read_file(source_folder() + "/tests/golden/bad_recipes/" + name).value_or(""));
  expect_golden("schema/bad_recipes.txt", validated(documents));
}

// Each field of each kind: a member of a type that it never takes is refused, and so is a name that no field has.
TEST(RecipeSchema, KnowsEveryFieldOfEveryKind) {
  Json documents = Json::object();
  for (const std::string& name : step_kind_names()) {
    const Json step = yaml(whole(example_of_kind(*step_kind_from_name(name))))["steps"][0][name];
    Json base = step.is_object() ? step : Json::object();
    if (!step.is_object()) base[describe_step_kind(*step_kind_from_name(name)).shorthand] = step;
    const auto add = [&](const std::string& field, const Json& value) {
      Json kind = base;
      kind[field] = value;
      Json recipe = {{"name", "r"}};
      recipe["steps"] = Json::array();
      recipe["steps"].push_back(Json::object());
      recipe["steps"][0][name] = std::move(kind);
      documents[name + " " + field] = std::move(recipe);
    };
    if (name != "environment") add("no_such_field", 1);
    for (const FieldDoc& field : describe_step_kind(*step_kind_from_name(name)).fields) add(field.name, Json::array({Json::array({1})}));
  }
  EXPECT_THAT(validated(documents), Not(HasSubstr(" fits")));
}

TEST(RecipeSchema, HasTheWordsOfTheReference) {
  const Json schema = Json::parse(recipe_schema());
  const Json& apt = schema["properties"]["steps"]["items"]["properties"]["apt"];
  EXPECT_THAT(apt["description"].get<std::string>(), HasSubstr("Installs Debian packages."));
  EXPECT_THAT(apt["anyOf"][0]["properties"]["max_age"]["description"].get<std::string>(), HasSubstr("how old the lists may be"));
  EXPECT_EQ(apt["anyOf"][0]["properties"]["max_age"]["default"], "1d");
}

TEST(RecipeStarter, LoadsAndIsClean) {
  const TemporaryDirectory directory;
  const std::string file = directory / "my lab.yaml";
  ASSERT_TRUE(write_new_file(file, starter_recipe(file)).has_value());
  const auto loaded = load_recipe(file, {});
  ASSERT_TRUE(loaded.has_value()) << loaded.error().why();
  EXPECT_EQ(loaded->recipe.name, "my-lab");
  const LintReport report = lint_recipe(file, {}, load_builtin_compat().value()).value();
  EXPECT_TRUE(report.findings.empty()) << lint_text({report}, 0);
  EXPECT_THAT(starter_recipe("lab"), HasSubstr("gpustrap plan ./lab HOST"));
}

TEST(RecipeStarter, NeverOverwrites) {
  const TemporaryDirectory directory;
  const std::string file = directory / "lab.yaml";
  std::ofstream(file) << "mine";
  const auto written = write_new_file(file, "new");
  ASSERT_FALSE(written.has_value());
  EXPECT_EQ(written.error().code(), ErrorCode::usage);
  EXPECT_EQ(read_file(file).value_or(""), "mine");
  std::filesystem::create_symlink(directory / "nowhere", directory / "link.yaml");
  EXPECT_FALSE(write_new_file(directory / "link.yaml", "new").has_value());
}

TEST(RecipeReference, EveryExampleLoads) {
  for (const std::string& name : step_kind_names()) {
    const std::string text = whole(example_of_kind(*step_kind_from_name(name)));
    const std::vector<BuiltinRecipe> only = {{"example", text}};
    LoadOptions options;
    options.sources.builtins = &only;
    const auto loaded = load_recipe("example", options);
    EXPECT_TRUE(loaded.has_value()) << name << ": " << loaded.error().why();
    EXPECT_THAT(explain_kind(name).value_or(""), HasSubstr(std::string(example_of_kind(*step_kind_from_name(name)))));
  }
}

}  // namespace
}  // namespace gpustrap
