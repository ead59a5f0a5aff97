#include "controller/recipe_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/fleet_hosts.h"
#include "tests/support/folders.h"

namespace gpustrap {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A folder that is gone afterwards.
class RecipeLoader : public ::testing::Test {
 protected:
  RecipeLoader() {
    std::string name = (fs::temp_directory_path() / "recipe_loader_XXXXXX").string();
    directory_ = mkdtemp(name.data());
    options_.sources.user_directory = directory_;
  }
  ~RecipeLoader() override { fs::remove_all(directory_); }

  void save(const std::string& name, const std::string& text) const { std::ofstream(directory_ + "/" + name) << text; }
  Result<LoadedRecipe> load(const std::string& text) {
    save("recipe.yaml", text);
    return load_recipe(directory_ + "/recipe.yaml", options_);
  }
  /// The problems without the folder's name.
  std::string problems_of(const std::string& text) {
    const auto loaded = load(text);
    return loaded ? "none" : without_directory(loaded.error().why());
  }
  [[nodiscard]] std::string without_directory(std::string text) const {
    for (std::size_t at = text.find(directory_ + "/"); at != std::string::npos; at = text.find(directory_ + "/"))
      text.erase(at, directory_.size() + 1);
    return text;
  }
  static std::string steps_of(const Result<LoadedRecipe>& loaded) {
    return loaded ? write_recipe(loaded->recipe)["steps"].dump() : loaded.error().sentence();
  }

  std::string directory_;
  LoadOptions options_;
};

constexpr const char* kHead = "name: r\nsteps:\n";

TEST_F(RecipeLoader, BuiltInRecipesLoad) {
  const FleetHosts hosts =
      *read_fleet_hosts("hosts: { one: 10.0.0.7, two: 10.0.0.8 }\ngroups: { head: [one], workers: [two] }\n", "hosts.yaml");
  options_.hosts = &hosts;
  for (const BuiltinRecipe& builtin : builtin_recipes()) {
    options_.vars.clear();
    // Nobody but its user knows the file.
    if (builtin.name == "cuda-runfile")
      options_.vars = {{"version", "11.8"}, {"url", "https://example.org/cuda.run"}, {"sha256", std::string(64, 'a')}};
    const auto loaded = load_recipe(std::string(builtin.name), options_);
    ASSERT_TRUE(loaded.has_value()) << loaded.error().why();
    EXPECT_EQ(loaded->recipe.name, builtin.name);
    EXPECT_FALSE(loaded->recipe.description.empty());
  }
  EXPECT_THAT(recipe_names(options_.sources), ElementsAre("anaconda", "check-gpu", "cuda", "cuda-runfile", "d2l", "d2l-2020", "dlami",
                                                          "idle-stop", "jupyter", "pytorch", "ray", "tensorflow"));
}

TEST_F(RecipeLoader, JupyterTakesItsVars) {
  options_.vars = {{"port", "9999"}, {"dir", "~/course"}, {"packages", "jupyterlab,numpy"}};
  const auto loaded = load_recipe("jupyter", options_);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().why();
  const Json written = write_recipe(loaded->recipe);
  const Json& jupyter = written["steps"].back();
  EXPECT_EQ(jupyter["jupyter"]["port"], 9999);
  EXPECT_EQ(jupyter["jupyter"]["dir"], "~/course");
  EXPECT_EQ(written["steps"][4]["pip"]["packages"], Json({"jupyterlab", "numpy"}));
  EXPECT_TRUE(needs_root(loaded->recipe));
}

TEST_F(RecipeLoader, ScalarsAreTypedByTheirLook) {
  const auto loaded = load(std::string(kHead) +
                           "  - file: {path: /a, content: yes, mode: 0644}\n  - venv: {path: ~/e, python: 3}\n"
                           "  - command: {run: [echo, 1:30, 1.2.3, 007, \"3.10\"]}\n");
  EXPECT_EQ(steps_of(loaded),
            R"([{"id":"file","file":{"path":"/a","content":"yes","mode":"0644"}},{"id":"venv","venv":{"path":"~/e","python":3}},)"
            R"({"id":"command","command":{"run":["echo","1:30","1.2.3","007","3.10"]}}])");
}

TEST_F(RecipeLoader, VarsKeepTheirTypeAndAreQuotedForTheShell) {
  options_.vars = {{"who", "a b; rm -rf /"}};
  const auto loaded = load(
      "name: r\nvars: {who: me, port: 80, on: false, list: [git, zip]}\nsteps:\n"
      "  - command: echo ${{ vars.who }}\n  - wait: {port: \"${{vars.port}}\", cloud_init: \"${{ vars.on }}\"}\n"
      "  - apt: \"${{ vars.list }}\"\n  - file: {path: /a, content: \"port ${{ vars.port }} on ${{ facts.arch }}\"}\n");
  EXPECT_EQ(steps_of(loaded),
            R"([{"id":"command","command":"echo 'a b; rm -rf /'"},{"id":"wait","wait":{"port":80,"cloud_init":false}},)"
            R"({"id":"apt","apt":["git","zip"]},{"id":"file","file":{"path":"/a","content":"port 80 on ${{ facts.arch }}"}}])");
}

TEST_F(RecipeLoader, CommandLineVarsAreChecked) {
  options_.vars = {{"prot", "1"}, {"port", "abc"}, {"on", "yes"}};
  EXPECT_EQ(
      problems_of("name: r\nvars: {port: 80, on: true}\nsteps: [{command: a}]\n"),
      "--var: `prot` is not a var of this recipe; did you mean `port`?\n--var: `port` is `abc`: expected a whole number, like its default\n"
      "--var: `on` is `yes`: expected true or false, like its default");
  EXPECT_FALSE(parse_var("port").has_value());
  EXPECT_FALSE(parse_var("=1").has_value());
  EXPECT_EQ(parse_var("a=b=c")->second, "b=c");
}

TEST_F(RecipeLoader, AVarWithoutDefaultMustBeGiven) {
  const std::string text = "name: r\nvars:\n  dir:\nsteps:\n  - directory: \"${{ vars.dir }}\"\n";
  EXPECT_EQ(problems_of(text), "recipe.yaml:5:17: `vars.dir` has no value: expected a default, or --var dir=…");
  options_.vars = {{"dir", "/srv"}};
  EXPECT_EQ(problems_of(text), "none");
}

TEST_F(RecipeLoader, AnchorsAndMergeKeysWork) {
  const auto loaded = load(std::string(kHead) +
                           "  - &base\n    id: a\n    command: {run: make, chdir: /src}\n"
                           "  - id: b\n    command: {<<: {chdir: /tmp}, run: ls}\n  - {<<: *base, id: c}\n");
  EXPECT_EQ(steps_of(loaded), R"([{"id":"a","command":{"run":"make","chdir":"/src"}},{"id":"b","command":{"run":"ls","chdir":"/tmp"}},)"
                              R"({"id":"c","command":{"run":"make","chdir":"/src"}}])");
}

TEST_F(RecipeLoader, AliasBombsAndCirclesAreRefused) {
  std::string bomb = "name: r\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    bomb += fmt::format("a{}: &a{} [", i, i);
    for (int j = 0; j < 10; ++j) bomb += fmt::format("{}*a{}", j == 0 ? "" : ", ", i - 1);
    bomb += "]\n";
  }
  EXPECT_THAT(problems_of(bomb), HasSubstr("the aliases unfold to more than 50000 values"));
  EXPECT_THAT(problems_of("name: r\nsteps: &s [*s]\n"), HasSubstr("recipe.yaml:2:12: an alias inside the value that it names"));
  EXPECT_THAT(problems_of("name: r\nsteps: " + std::string(5000, '[')), HasSubstr("nested deeper than 40 levels"));
}

TEST_F(RecipeLoader, IncludesTakeStepsUnderTheirName) {
  save("base.yaml",
       "name: base\nvars: {pkg: git, dir: /srv}\nsteps:\n  - apt: \"${{ vars.pkg }}\"\n  - id: dir\n    needs: []\n    directory: \"${{ "
       "vars.dir }}\"\n");
  const auto loaded = load(
      "name: r\nvars: {p: zip}\nsteps:\n  - id: first\n    command: a\n  - include: base\n    vars: {pkg: \"${{ vars.p }}\"}\n    needs: "
      "[first]\n"
      "  - include: ./base.yaml\n    id: more\n  - needs: [base, more.dir]\n    command: b\n");
  EXPECT_EQ(
      steps_of(loaded),
      R"([{"id":"first","command":"a"},{"id":"base.apt","apt":"zip","needs":["first"]},{"id":"base.dir","directory":"/srv","needs":["first"]},)"
      R"({"id":"more.apt","apt":"git"},{"id":"more.dir","directory":"/srv","needs":[]},{"id":"command","command":"b","needs":["base.apt","base.dir","more.dir"]}])");
}

TEST_F(RecipeLoader, IncludesOfIncludesDoNotMultiplyWithoutEnd) {
  for (int level = 1; level < 6; ++level) {
    std::string text = fmt::format("name: l{}\nsteps:\n", level);
    for (int i = 0; i < 10; ++i) text += fmt::format("  - {{include: ./l{}.yaml, id: i{}}}\n", level + 1, i);
    save(fmt::format("l{}.yaml", level), text);
  }
  save("l6.yaml", "name: l6\nsteps:\n  - command: { run: \"true\", creates: /x }\n");
  EXPECT_THAT(problems_of("name: r\nsteps:\n  - include: ./l1.yaml\n"),
              ::testing::EndsWith("`include` brings the recipe to more than 2000 steps and includes: expected fewer"));
}

TEST_F(RecipeLoader, IncludesAreChecked) {
  save("base.yaml", "name: base\nvars: {pkg: git}\nsteps:\n  - apt: {packges: git}\n");
  save("one.yaml", "name: one\nsteps:\n  - include: recipe\n");
  EXPECT_EQ(
      problems_of("name: r\nsteps:\n  - include: base\n    vars: {pgk: zip}\n  - include: one\n  - include: recipe\n  - include: nowhere\n"
                  "  - include: https://example.org/r.yaml\n  - {include: base, when: {gpu: true}}\n"),
      "base.yaml:4:11: `packges` is not a field of apt; did you mean `packages`?\n"
      "one.yaml:3:14: `include` of `recipe` makes a circle: expected a recipe that does not include this one\n"
      "recipe.yaml:4:12: `pgk` is not a var of base.yaml; did you mean `pkg`?\n"
      "recipe.yaml:6:14: `include` of `recipe` makes a circle: expected a recipe that does not include this one\n"
      "recipe.yaml:7:14: `include`: there is no recipe `nowhere`; recipes: anaconda, base, check-gpu, cuda, cuda-runfile, d2l, d2l-2020, "
      "dlami, idle-stop, jupyter, one, "
      "pytorch, ray, recipe, tensorflow\n"
      "recipe.yaml:8:14: `include`: `https://example.org/r.yaml` is a URL: expected a recipe's name or file; download it, read it, then "
      "name the file\n"
      "recipe.yaml:9:6: `id` is required: another include is called `base`\n"
      "recipe.yaml:9:21: `when` is not a field of an include; its fields are include, vars, id, needs");
}

TEST_F(RecipeLoader, UnknownNamesNameTheNearest) {
  const auto loaded = load_recipe("jupiter", options_);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().code(), ErrorCode::recipe);
  EXPECT_EQ(loaded.error().why(), "there is no recipe `jupiter`; did you mean `jupyter`?");
  EXPECT_EQ(loaded.error().hint(),
            "recipes: anaconda, check-gpu, cuda, cuda-runfile, d2l, d2l-2020, dlami, idle-stop, jupyter, pytorch, ray, tensorflow");
  EXPECT_FALSE(load_recipe(directory_ + "/none.yaml", options_).has_value());
  EXPECT_FALSE(load_recipe(directory_ + "/", options_).has_value());
}

TEST_F(RecipeLoader, TheUsersRecipeComesBeforeTheBuiltInOne) {
  save("jupyter.yaml", "name: mine\ndescription: My own\nsteps: [{command: a}]\n");
  EXPECT_EQ(load_recipe("jupyter", options_)->source, directory_ + "/jupyter.yaml");
  for (const RecipeListing& listing : list_recipes(options_.sources)) {
    if (listing.name == "jupyter") { EXPECT_EQ(listing.description, "My own"); }
  }
}

constexpr const char* kEditions =
    "name: r\nvars:\n  edition: en\n  book: {by: edition, en: one, zh: two}\n  pages: {by: edition, en: 3000, zh: 4000}\nsteps:\n"
    "  - {id: a, command: \"cat ${{ vars.book }}\"}\n  - {id: b, jupyter: {venv: /e, port: \"${{ vars.pages }}\"}}\n";

TEST_F(RecipeLoader, AVarCanGoByAnotherOne) {
  EXPECT_EQ(steps_of(load(kEditions)), R"([{"id":"a","command":"cat one"},{"id":"b","jupyter":{"venv":"/e","port":3000}}])");
  options_.vars = {{"edition", "zh"}};
  EXPECT_EQ(steps_of(load(kEditions)), R"([{"id":"a","command":"cat two"},{"id":"b","jupyter":{"venv":"/e","port":4000}}])");
  options_.vars = {{"edition", "zh"}, {"pages", "5000"}};
  EXPECT_EQ(steps_of(load(kEditions)), R"([{"id":"a","command":"cat two"},{"id":"b","jupyter":{"venv":"/e","port":5000}}])");
}

TEST_F(RecipeLoader, AChoiceThatDoesNotExistNamesThoseThatDo) {
  options_.vars = {{"edition", "fr"}};
  EXPECT_EQ(problems_of(kEditions), "--var: `edition` is `fr`: expected en or zh");
  options_.vars = {{"pages", "many"}};
  EXPECT_EQ(problems_of(kEditions), "--var: `pages` is `many`: expected a whole number, like its default");
  options_.vars.clear();
  EXPECT_EQ(
      problems_of(
          "name: r\nvars: {a: x, b: {by: a, y: 1}, c: {by: d, y: 1}, d: [1], e: {by: a}, f: {by: a, x: {}}}\nsteps: [{command: a}]\n"),
      "recipe.yaml:2:11: `a` is `x`: expected y\n"
      "recipe.yaml:2:40: the var `c` goes by `d`: expected the name of another var of this recipe, one with a single value\n"
      "recipe.yaml:2:61: the var `e` goes by `a` and has no values: expected one for each, for instance "
      "`{ by: edition, en: …, zh: … }`\n"
      "recipe.yaml:2:84: the var `f` is `{}`: expected a text, a number, a boolean or a list of them");
}

TEST_F(RecipeLoader, AnIncludeChoosesToo) {
  save("base.yaml", "name: base\nvars: {edition: en, book: {by: edition, en: one, zh: two}}\nsteps:\n  - command: cat ${{ vars.book }}\n");
  EXPECT_EQ(steps_of(load("name: r\nsteps:\n  - {include: base, vars: {edition: zh}}\n")),
            R"([{"id":"base.command","command":"cat two"}])");
}

TEST_F(RecipeLoader, TheBookComesInTwoEditions) {
  options_.vars = {{"edition", "zh"}};
  const auto loaded = load_recipe("d2l", options_);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().why();
  const std::string steps = steps_of(loaded);
  EXPECT_THAT(steps, HasSubstr("https://zh-v2.d2l.ai/d2l-zh-2.0.0.zip"));
  EXPECT_THAT(steps, HasSubstr("d2l==0.17.6"));
  EXPECT_THAT(steps, HasSubstr("~/d2l-zh"));
}

TEST_F(RecipeLoader, NumbersAreQuotedAsTheyWereWritten) {
  EXPECT_THAT(problems_of(std::string(kHead) + "  - venv: {path: /e, python: 3.10}\n"),
              HasSubstr("recipe.yaml:3:30: `python` of venv is `3.10`: expected a text"));
  EXPECT_THAT(problems_of("name: r\nvars: {python: 3.10}\nsteps: [{command: a}]\n"),
              HasSubstr("recipe.yaml:2:16: the var `python` is `3.10`, which YAML takes for a number"));
}

/// tests/golden/bad_recipes/NAME.yaml and what is said of it in NAME.txt.
TEST_F(RecipeLoader, BadRecipesGetTheirSentences) {
  const fs::path golden = fs::path(source_folder()) / "tests/golden/bad_recipes";
  std::size_t recipes = 0;
  for (const auto& entry : fs::directory_iterator(golden)) {
    if (entry.path().extension() != ".yaml") continue;
    ++recipes;
    fs::copy_file(entry.path(), directory_ + "/" + entry.path().filename().string());
    const auto loaded = load_recipe(directory_ + "/" + entry.path().filename().string(), options_);
    fs::remove(directory_ + "/" + entry.path().filename().string());
    const std::string said = loaded ? "no problem\n" : without_directory(loaded.error().why()) + "\n";
    fs::path expected = entry.path();
    expected.replace_extension(".txt");
    if (std::getenv("GPUSTRAP_UPDATE_GOLDEN") != nullptr) std::ofstream(expected) << said;
    EXPECT_EQ(said, read_file(expected.string()).value_or("")) << entry.path() << "\nGPUSTRAP_UPDATE_GOLDEN=1 writes what is said now";
  }
  EXPECT_GE(recipes, 20U);
}

// To open a pipe that nobody writes to would wait for ever.
TEST_F(RecipeLoader, WhatIsNoFileIsRefusedUnread) {
  ASSERT_EQ(::mkfifo((directory_ + "/pipe.yaml").c_str(), 0600), 0);
  const auto pipe = load_recipe(directory_ + "/pipe.yaml", options_);
  ASSERT_FALSE(pipe.has_value());
  EXPECT_THAT(pipe.error().why(), HasSubstr("is no file but a pipe"));
  fs::create_symlink("nowhere.yaml", directory_ + "/link.yaml");
  const auto link = load_recipe(directory_ + "/link.yaml", options_);
  ASSERT_FALSE(link.has_value());
  EXPECT_THAT(link.error().why(), HasSubstr("link.yaml is a link to nowhere.yaml, which is not there"));
}

TEST_F(RecipeLoader, WhatCannotBeOpenedIsToldWithWhatToDo) {
  const auto error_of = [&](const std::string& path) {
    const auto loaded = load_recipe(path, options_);
    EXPECT_FALSE(loaded.has_value()) << path;
    return loaded ? Error(ErrorCode::internal, "it loaded") : loaded.error();
  };
  save("large.yaml", std::string((1U << 20U) + 1, '#'));
  const Error large = error_of(directory_ + "/large.yaml");
  EXPECT_EQ(large.code(), ErrorCode::recipe);
  EXPECT_EQ(large.why(), directory_ + "/large.yaml has 2 MiB, and a recipe at most 1");
  EXPECT_EQ(large.hint(), "is it the file that you meant?");
  EXPECT_THAT(error_of(directory_ + "/lagre.yaml").why(), HasSubstr("did you mean"));
  EXPECT_EQ(error_of(directory_ + "/lagre.yaml").hint(), "check its name and folder");
  EXPECT_THAT(error_of(directory_ + "/nowhere/large.yaml").hint(), HasSubstr("there is no folder"));
  const Error unreadable = error_of("/proc/self/mem");  // a file whose beginning cannot be read
  EXPECT_EQ(unreadable.code(), ErrorCode::recipe);
  EXPECT_THAT(unreadable.sentence(), HasSubstr("opening the recipe: "));
}

TEST_F(RecipeLoader, AVarOfARecipeWithoutVarsIsNotDefined) {
  EXPECT_THAT(problems_of("name: r\nsteps:\n  - command: \"echo ${{ vars.port }}\"\n"),
              HasSubstr("`vars.port` is not defined: the recipe has no `vars`"));
}

// `1 << 20` is no here-document, and a placeholder in quotes is none without: what is wrong is said instead.
TEST_F(RecipeLoader, WhatOnlyLooksLikeAMistakeIsNotBlamed) {
  EXPECT_THAT(
      problems_of("name: r\nsteps:\n  - command: |\n      echo $((1 << size))\n  - apt: { a: \"${{ vars.x }}\" }\n  - command: a: b\n"),
      HasSubstr("recipe.yaml:6:15: not YAML here: a text that holds `: `"));
  EXPECT_THAT(problems_of("name: r\nsteps:\n  - command: |\n      cat > x <<EOF\n      a\n      EOF\n  - command: a: b\n"),
              HasSubstr("recipe.yaml:7:15: not YAML here: a text that holds `: `"));
}

TEST_F(RecipeLoader, TwentyFiveMistakesAreReportedTogether) {
  const auto loaded = load_recipe(source_folder() + "/tests/golden/bad_recipes/many.yaml", options_);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_GE(split(loaded.error().why(), '\n').size(), 25U);
}

TEST_F(RecipeLoader, SecretsKeepTheirPlaceholdersAndWhereTheyComeFrom) {
  const auto loaded = load("name: r\nsecrets:\n  token: { env: TOKEN }\nsteps:\n  - command: login ${{ secrets.token }}\n");
  ASSERT_TRUE(loaded.has_value()) << loaded.error().sentence();
  ASSERT_EQ(loaded->recipe.secrets.size(), 1U);
  EXPECT_EQ(loaded->recipe.secrets[0].env, "TOKEN");
  EXPECT_THAT(steps_of(loaded), HasSubstr("login \\\"${GPUSTRAP_SECRET_token}\\\""));
}

TEST_F(RecipeLoader, SecretsOfAnIncludeAreSecretsOfTheWhole) {
  save("inner.yaml",
       "name: inner\nsecrets: { token: { env: INNER }, key: { file: ~/key } }\nsteps:\n  - command: a ${{ secrets.token }} ${{ secrets.key "
       "}}\n");
  const auto loaded = load("name: r\nsecrets: { token: { env: OUTER } }\nsteps:\n  - include: ./inner.yaml\n");
  ASSERT_TRUE(loaded.has_value()) << loaded.error().sentence();
  ASSERT_EQ(loaded->recipe.secrets.size(), 2U);
  EXPECT_EQ(loaded->recipe.secrets[0].env, "OUTER");
  EXPECT_EQ(loaded->recipe.secrets[1].file, "~/key");
  EXPECT_EQ(problems_of("name: r\nsteps:\n  - include: ./inner.yaml\n"), "none");
}

TEST_F(RecipeLoader, WrongSecretsAreNamedWithTheirPlaces) {
  EXPECT_EQ(problems_of("name: r\nsecrets:\n  token: { envv: TOKEN }\nsteps:\n  - command: x\n"),
            "recipe.yaml:3:12: `envv` is not a field of the secret token; did you mean `env`?");
  EXPECT_EQ(problems_of("name: r\nsteps:\n  - command: x ${{ secrets.token }}\n"),
            "recipe.yaml:3:14: `secrets.token` is not declared: expected it in the recipe's `secrets`, for instance "
            "`secrets: {token: {env: token}}`");
  EXPECT_EQ(problems_of("name: ${{ secrets.a }}\nsecrets: [a]\nsteps:\n  - command: x\n"),
            "recipe.yaml:1:7: `secrets.a` may not stand here: expected it in `env`, in the text of a command, or in `content` of file and "
            "block\nrecipe.yaml:2:10: `secrets` is a list: expected a mapping of names to where their values come from, for instance "
            "`token: {env: TOKEN}`");
}

}  // namespace
}  // namespace gpustrap
