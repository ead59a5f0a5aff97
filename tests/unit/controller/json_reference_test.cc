#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <string>
#include <vector>

#include "agent/base/file.h"
#include "agent/protocol/json.h"
#include "controller/adopt.h"
#include "controller/cloud_verb.h"
#include "controller/compat_loader.h"
#include "controller/doctor/diagnosis.h"
#include "controller/help_text.h"
#include "controller/options.h"
#include "controller/pack.h"
#include "controller/recipe_explain.h"
#include "controller/recipe_reference.h"
#include "controller/recipe_test.h"
#include "tests/support/folders.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string reference() { return read_file(source_folder() + "/docs/json.md").value_or(""); }

/// Every verb with the words that call it.
std::vector<std::vector<std::string>> all_verbs() {
  std::vector<std::vector<std::string>> verbs;
  for (const std::string& verb : verb_names()) {
    if (verb != "recipe") verbs.push_back({verb});
  }
  for (const char* verb : {"list", "show", "explain", "lint", "schema", "new", "test"}) verbs.push_back({"recipe", verb});
  return verbs;
}

// Whoever adds --json to a verb says in docs/json.md what it prints; and a verb without it has a reason that stands there.
TEST(JsonReference, NamesEveryVerbThatHasIt) {
  std::string headings;
  const std::string document = reference();
  for (std::size_t at = document.find("\n## "); at != std::string::npos; at = document.find("\n## ", at + 1))
    headings += document.substr(at, document.find('\n', at + 1) - at);
  std::vector<std::string> without;
  for (std::vector<std::string> words : all_verbs()) {
    const std::string name = words.size() == 1 ? words[0] : words[0] + " " + words[1];
    words.emplace_back("--help");
    const Result<Options> help = read_options(words);
    ASSERT_TRUE(help) << name;
    if (help->help.find("--json") == std::string::npos) {
      without.push_back(name);
      EXPECT_THAT(document, HasSubstr("`" + name + "`"));
    } else {
      EXPECT_THAT(headings, HasSubstr("`" + name + "`")) << "docs/json.md has no heading for it";
    }
  }
  EXPECT_THAT(without, ElementsAre("completion", "man", "recipe schema"));
}

void add_members(const Json& value, const std::set<std::string>& others, std::set<std::string>& members) {
  if (value.is_array()) {
    for (const Json& item : value) add_members(item, others, members);
  } else if (value.is_object()) {
    for (const auto& [name, member] : value.items()) {
      members.insert(name);
      if (!others.contains(name)) add_members(member, others, members);
    }
  }
}

/// The members of a document that its section of docs/json.md does not name, but for those below members that are a recipe's own.
std::vector<std::string> undocumented(const Json& document, const std::string& heading, const std::set<std::string>& others = {}) {
  const std::string text = reference();
  const std::size_t begin = text.find("\n## `" + heading + "`");
  if (begin == std::string::npos) return {"no section `" + heading + "`"};
  const std::string section = text.substr(begin, text.find("\n## ", begin + 1) - begin);
  std::set<std::string> known = {"error", "code", "message", "hint"};
  const std::regex name("`([a-z_0-9]+)`|\"([a-z_0-9]+)\":");
  for (std::sregex_iterator at(section.begin(), section.end(), name), end; at != end; ++at)
    known.insert((*at)[1].matched ? (*at)[1].str() : (*at)[2].str());
  std::set<std::string> members;
  add_members(document, others, members);
  std::vector<std::string> missing;
  for (const std::string& member : members) {
    if (!known.contains(member)) missing.push_back(member);
  }
  return missing;
}

/// The first member is the version, called like the verb.
void expect_begins_with(const Json& document, const std::string& member) {
  EXPECT_EQ(document.begin().key(), member);
  EXPECT_EQ(document.begin().value(), 1);
}

TEST(JsonReference, DescribesWhatRecipeExplainPrints) {
  const Compat compat = load_builtin_compat().value();
  for (const char* gpu : {"t4", "8xh100", "k80", "none"}) {
    const ImaginedMachine machine = imagine_machine(compat, {gpu}, "ubuntu:24.04", "").value();
    for (const char* recipe : {"d2l", "jupyter", "check-gpu", "cuda"}) {
      const Json document = Json::parse(explain_recipe(load_recipe(recipe, {}).value(), compat, machine, 0).document);
      expect_begins_with(document, "explain");
      EXPECT_THAT(undocumented(document, "recipe explain", {"fields", "when"}), IsEmpty()) << recipe << " on " << gpu;
    }
  }
  for (const std::string& kind : step_kind_names()) {
    const Json document = Json::parse(kind_json(*step_kind_from_name(kind)));
    expect_begins_with(document, "explain");
    EXPECT_THAT(undocumented(document, "recipe explain", {"default"}), IsEmpty()) << kind;
    EXPECT_EQ(document["kind"], kind);
    EXPECT_EQ(document["fields"].size(), describe_step_kind(*step_kind_from_name(kind)).fields.size());
  }
  const Json archive = Json::parse(kind_json(StepKind::archive));
  EXPECT_EQ(archive["fields"][0]["name"], "url");
  EXPECT_EQ(archive["fields"][0]["default"], nullptr);
  const auto of = [&](const char* name) {
    for (const Json& field : archive["fields"]) {
      if (field["name"] == name) return field;
    }
    return Json();
  };
  EXPECT_EQ(of("to")["presence"], "required");
  EXPECT_EQ(of("max_size")["default"], "64GiB");
  EXPECT_EQ(of("max_size")["presence"], "optional");
}

TEST(JsonReference, DescribesWhatOtherVerbsOfAuthorsPrint) {
  const Json adopted = Json::parse(adopted_json(adopt_script("make\necho done\n", "a.sh"), "a.sh", "a.yaml"));
  expect_begins_with(adopted, "adopt");
  EXPECT_THAT(undocumented(adopted, "adopt"), IsEmpty());
  EXPECT_FALSE(adopted["reviews"].empty() || adopted["left_out"].empty());

  Recipe recipe;
  recipe.name = "lab";
  recipe.secrets = {{"token", "HF_TOKEN", "", ""}};
  const Json packed = Json::parse(pack_json("lab.sh", "all of it", {"x86_64", "abc", "zip"}, recipe, "#!/bin/sh\n"));
  expect_begins_with(packed, "pack");
  EXPECT_THAT(undocumented(packed, "pack"), IsEmpty());
  EXPECT_EQ(packed["size"], 9);
  EXPECT_EQ(packed["sha256"].get<std::string>().size(), 64U);
  EXPECT_EQ(packed["secrets"].dump(), R"([{"name":"token","env":"HF_TOKEN","file":null}])");
  EXPECT_EQ(packed["user_data"], "#!/bin/sh\n");
  EXPECT_EQ(packed["user_data_fits"], true);
  const Json large = Json::parse(pack_json("lab.sh", "", {"x86_64", "", ""}, recipe, std::string(kUserDataLimit + 1, '#')));
  EXPECT_EQ(large["user_data_fits"], false);
  EXPECT_EQ(Json::parse(pack_json("lab.sh", "", {"x86_64", "", ""}, recipe, ""))["user_data"], nullptr);

  RecipeTestRun run;
  run.cases = {{"a", "made", "", false, {}, Outcome::changed}};
  const Json tested = Json::parse(recipe_test_json("lab", "Debian 12", {run}, KeptHost{"u@h", "k", "e"}));
  expect_begins_with(tested, "test");
  EXPECT_THAT(undocumented(tested, "recipe test"), IsEmpty());

  const Json classes = Json::parse(doctor_class_json());
  expect_begins_with(classes, "doctor");
  EXPECT_THAT(undocumented(classes, "doctor"), IsEmpty());
  EXPECT_EQ(classes["classes"].size(), doctor_classes().size());
}

TEST(JsonReference, DescribesWhatVerbsAboutMachinesPrint) {
  Ec2Instance instance;
  instance.id = "i-1";
  instance.state = "running";
  instance.lifecycle = "spot";
  instance.tags = {{kOwnerTag, "lab"}};
  const InstanceRecord record{"203.0.113.7", "ubuntu", "/keys/ec2", {"a", "b"}, "lab", "us-east-1"};
  const Json launched = running_document("launch", instance, record, Price{0.526, true, true, "AWS's price list"});
  expect_begins_with(launched, "launch");
  EXPECT_THAT(undocumented(launched, "launch"), IsEmpty());
  EXPECT_EQ(launched["name"], "lab");
  EXPECT_EQ(launched["host_keys"], 2);
  EXPECT_EQ(launched["usd_per_hour"], 0.526);
  EXPECT_EQ(running_document("start", instance, record, std::nullopt)["usd_per_hour"], nullptr);
  EXPECT_THAT(undocumented(running_document("start", instance, record, std::nullopt), "start`, `stop`, `terminate"), IsEmpty());
  EXPECT_EQ(instance_document("stop", instance).dump(),
            R"({"stop":1,"name":"lab","instance":"i-1","type":"","zone":"","spot":true,"state":"running"})");
}

}  // namespace
}  // namespace gpustrap
