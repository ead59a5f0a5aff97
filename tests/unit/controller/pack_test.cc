#include "controller/pack.h"

#include <cstdlib>
#include <filesystem>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

/// One that nothing was put into.
constexpr const char* kPlace = "@[A-Z_0-9]+@";

/// Bytes that no text has, as a packed agent's are.
const std::string kGzipped = std::string("\x1f\x8b\x00\n'\"$(", 8) + std::string(3000, '\xff') + "\n";

EmbeddedAgent agent() { return {"x86_64", sha256_hex("agent"), kGzipped}; }

Recipe recipe_of(const char* json) {
  std::vector<FieldProblem> problems;
  Recipe recipe = read_recipe(Json::parse(json), Placeholders::allowed, problems);
  for (const FieldProblem& problem : problems) ADD_FAILURE() << problem.pointer << ": " << problem.message;
  return recipe;
}

constexpr const char* kLab = R"({"name": "lab", "secrets": {"token": {"env": "HF_TOKEN", "file": "/etc/token", "prompt": "Token"}},
                                 "steps": [{"id": "a", "command": {"run": "true"}, "env": {"T": "${{ secrets.token }}"}}]})";

/// The number behind "NAME=" in the script.
std::size_t number_in(const std::string& script, const std::string& name) {
  const std::size_t at = script.find(" " + name + "=");
  return at == std::string::npos ? 0 : static_cast<std::size_t>(std::strtoul(script.c_str() + at + name.size() + 2, nullptr, 10));
}

TEST(Pack, TheScriptSaysWhereItsPartsAreAndTheyAreThere) {
  const std::string script = packed_script(agent(), recipe_of(kLab));
  EXPECT_TRUE(is_packed_script(script));
  EXPECT_EQ(script.size(), number_in(script, "size"));
  EXPECT_EQ(script.substr(number_in(script, "agent_from") - 1, number_in(script, "agent_size")), kGzipped);
  const std::string recipe = script.substr(number_in(script, "recipe_from") - 1, number_in(script, "recipe_size"));
  EXPECT_THAT(script, HasSubstr("\nrecipe=" + sha256_hex(recipe) + " "));
  EXPECT_EQ(number_in(script, "recipe_from") - 1 + recipe.size(), script.size());
  EXPECT_THAT(script.substr(0, number_in(script, "agent_from") - 1), Not(ContainsRegex(kPlace)));
  EXPECT_EQ(packed_script(agent(), recipe_of(kLab)), script);
}

TEST(Pack, TheRecipeIsTheSameAsOverAConnectionAndSaysWhereSecretsComeFrom) {
  const Recipe recipe = recipe_of(kLab);
  const std::string script = packed_script(agent(), recipe);
  const Json packed = Json::parse(script.substr(number_in(script, "recipe_from") - 1));
  EXPECT_EQ(packed.at("secrets"), Json::parse(R"({"token": {"env": "HF_TOKEN", "file": "/etc/token"}})"));
  EXPECT_EQ(digest_of(recipe_of(packed.dump().c_str())), digest_of(recipe));
}

TEST(Pack, UserDataNamesTheDigestAndTheAddress) {
  const std::string script = packed_script(agent(), recipe_of(kLab));
  const auto text = user_data_for(script, "lab", "https://example.org/lab.sh?a=$(b)&c=\"d\"");
  ASSERT_TRUE(text.has_value()) << text.error().sentence();
  EXPECT_THAT(*text, HasSubstr("url='https://example.org/lab.sh?a=$(b)&c=\"d\"' sha256=" + sha256_hex(script) + "\n"));
  EXPECT_LT(text->size(), kUserDataLimit);
  EXPECT_THAT(*text, Not(ContainsRegex(kPlace)));
}

TEST(Pack, UserDataRefusesWhatIsNoAddressAndWhatIsTooLong) {
  for (const char* wrong :
       {"", "lab.sh", "ftp://example.org/lab.sh", "https://example.org/it's", "https://a/b c", "https://a/\nrm", "s3://bucket/lab.sh"})
    EXPECT_EQ(user_data_for("x", "lab", wrong).error().code(), ErrorCode::usage) << wrong;
  EXPECT_THAT(user_data_for("x", "lab", "https://example.org/" + std::string(kUserDataLimit, 'a')).error().sentence(), HasSubstr("16384"));
}

TEST(Pack, OnlyWhatWasPackedMayBePackedAnew) {
  EXPECT_FALSE(is_packed_script(""));
  EXPECT_FALSE(is_packed_script("#!/bin/sh\necho mine\n"));
}

TEST(Pack, BothTextsAreShellTexts) {
  const std::string folder = ::testing::TempDir() + "pack";
  std::filesystem::create_directories(folder);
  const std::string script = packed_script(agent(), recipe_of(kLab));
  ASSERT_TRUE(write_file_atomically(folder + "/head", script.substr(0, number_in(script, "agent_from") - 1)).has_value());
  ASSERT_TRUE(write_file_atomically(folder + "/data", *user_data_for(script, "lab", "https://example.org/lab.sh")).has_value());
  for (const char* name : {"head", "data"}) EXPECT_EQ(std::system(fmt::format("sh -n '{}/{}'", folder, name).c_str()), 0) << name;
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace gpustrap
