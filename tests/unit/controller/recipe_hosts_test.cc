#include "controller/recipe_hosts.h"

#include <fstream>
#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/recipe_loader.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const FleetHosts& cluster() {
  static const FleetHosts hosts = *read_fleet_hosts(
      "hosts:\n  head: { address: 203.0.113.7, private_address: 10.0.0.7 }\n  w1: 203.0.113.8\n  gpu2.lab:\n    vars: { port: 9000, other: "
      "1 }\n"
      "groups: { workers: [w1, gpu2.lab], nobody: [] }\n",
      "hosts.yaml");
  return hosts;
}

std::string value(const std::string& name, std::size_t self = 1) {
  const Result<Json> found = host_value(name, cluster(), self);
  return found ? found->dump() : found.error().why();
}

TEST(HostValue, OfAHostAndOfAGroup) {
  EXPECT_EQ(value("head.address"), "\"203.0.113.7\"");
  EXPECT_EQ(value("head.private_address"), "\"10.0.0.7\"");
  EXPECT_EQ(value("w1.private_address"), "\"203.0.113.8\"") << "the address where no other is given";
  EXPECT_EQ(value("gpu2.lab.address"), "\"gpu2.lab\"") << "names may have dots";
  EXPECT_EQ(value("workers.address"), "\"203.0.113.8\"") << "the first of them";
  EXPECT_EQ(value("workers.addresses"), "[\"203.0.113.8\",\"gpu2.lab\"]");
  EXPECT_EQ(value("all.names"), "[\"head\",\"w1\",\"gpu2.lab\"]");
  EXPECT_EQ(value("workers.count"), "2");
}

TEST(HostValue, OfTheHostThatTheRecipeIsFor) {
  EXPECT_EQ(value("self.name", 0), "\"head\"");
  EXPECT_EQ(value("self.private_address", 0), "\"10.0.0.7\"");
  EXPECT_EQ(value("self.groups", 2), "[\"workers\"]");
  EXPECT_EQ(value("workers.here", 0), "false");
  EXPECT_EQ(value("workers.here", 2), "true");
  EXPECT_TRUE(differs_by_host("self.address"));
  EXPECT_TRUE(differs_by_host("workers.here"));
  EXPECT_FALSE(differs_by_host("head.address"));
}

TEST(HostValue, ThatIsNotThereIsNamed) {
  EXPECT_THAT(value("haed.address"), HasSubstr("no host and no group `haed`; did you mean `head`?"));
  EXPECT_THAT(value("quux.address"),
              HasSubstr("no host and no group `quux` in the hosts file, which has workers, nobody, head, w1, gpu2.lab"));
  EXPECT_THAT(value("head.adress"), HasSubstr("did you mean `address`?"));
  EXPECT_THAT(value("head"), HasSubstr("does not say what of the host"));
  EXPECT_THAT(value("nobody.address"), HasSubstr("no host in the group `nobody`"));
}

class HostsInRecipe : public ::testing::Test {
 protected:
  Result<LoadedRecipe> load(const std::string& text, std::size_t host) {
    std::ofstream(folder_ / "r.yaml") << text;
    LoadOptions options;
    options.hosts = &cluster();
    options.host = host;
    options.host_vars = cluster().hosts[host].settings.vars;
    return load_recipe(folder_ / "r.yaml", options);
  }

  TemporaryDirectory folder_;
};

TEST_F(HostsInRecipe, AreFilledIn) {
  const auto loaded = load("name: r\nsteps:\n  - command: { run: \"ping ${{ hosts.head.private_address }}\", creates: /x }\n", 1);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().sentence();
  EXPECT_THAT(loaded->recipe.steps[0].spec->dump(), HasSubstr("ping 10.0.0.7"));
  EXPECT_FALSE(loaded->of_one_host);
  EXPECT_TRUE(load("name: r\nsteps:\n  - file: { path: /x, content: \"${{ hosts.self.name }}\" }\n", 1)->of_one_host);
}

constexpr const char* kForACluster =
    "name: r\nsteps:\n  - command: { run: \"ping ${{ hosts.head.address }}\", creates: /x }\n"
    "  - { id: b, command: { run: \"ping ${{ hosts.self.address }}\", creates: /y } }\n  - { directory: /a, when: { group: workers } }\n";

TEST_F(HostsInRecipe, ThatNoFileNamesAreSaidOnce) {
  std::ofstream(folder_ / "r.yaml") << kForACluster;
  const auto loaded = load_recipe(folder_ / "r.yaml", {});
  ASSERT_FALSE(loaded.has_value());
  EXPECT_THAT(loaded.error().why(), ::testing::EndsWith("r.yaml:3:27: `hosts.head.address` is of a hosts file: expected one on the command "
                                                        "line, -f hosts.yaml"));
  EXPECT_EQ(loaded.error().why().find('\n'), std::string::npos);
  EXPECT_THAT(loaded.error().hint(), HasSubstr("docs/hosts.md"));
  std::ofstream(folder_ / "r.yaml") << kForACluster << "  - apt: [-y]\n";
  const auto another = load_recipe(folder_ / "r.yaml", {});
  EXPECT_THAT(split(another.error().why(), '\n'), ElementsAre(HasSubstr("hosts file"), HasSubstr("Debian package's name")));
}

TEST_F(HostsInRecipe, AreNamedToWhoOnlyReadsTheRecipe) {
  std::ofstream(folder_ / "r.yaml") << kForACluster;
  LoadOptions options;
  options.names_for_hosts = true;
  const auto loaded = load_recipe(folder_ / "r.yaml", options);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().sentence();
  EXPECT_THAT(loaded->recipe.steps[0].spec->dump(), HasSubstr("ping '<hosts.head.address>'"));
  EXPECT_EQ(loaded->recipe.steps.size(), 3U) << "those of every group";
}

TEST_F(HostsInRecipe, MayStandInWhatPeopleAreToldAtTheEnd) {
  const auto loaded =
      load("name: r\nnext: |\n  open ${{ hosts.head.address }}\n  or ${{ hosts.all.private_addresses }}\nsteps:\n  - directory: /a\n", 1);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().sentence();
  EXPECT_THAT(loaded->next, ElementsAre("open 203.0.113.7", HasSubstr("or 10.0.0.7,203.0.113.8,")));
  const auto wrong = load("name: r\nnext: [a]\nsteps:\n  - directory: /a\n", 1);
  ASSERT_FALSE(wrong.has_value());
  EXPECT_THAT(wrong.error().why(), HasSubstr("r.yaml:2:7: `next` of a recipe is `[\"a\"]`: expected a text"));
}

std::vector<std::string> steps_of(const Result<LoadedRecipe>& loaded) {
  std::vector<std::string> steps;
  if (!loaded) return {loaded.error().why()};
  for (const StepEntry& step : loaded->recipe.steps) { steps.push_back(step.id + (step.needs ? "<" + join(*step.needs, ",") + ">" : "")); }
  return steps;
}

constexpr const char* kParted =
    "name: r\nsteps:\n"
    "  - { id: a, directory: /a }\n"
    "  - { id: b, needs: [a], directory: /b }\n"
    "  - { id: head, needs: [a], when: { group: head }, directory: /h }\n"
    "  - { id: worker, when: { group: [workers], os: debian }, directory: /w }\n"
    "  - { id: c, directory: /c }\n"
    "  - { id: d, needs: [head, b], directory: /d }\n";

TEST_F(HostsInRecipe, StepsOfOtherGroupsAreNoneOfItsOwn) {
  EXPECT_THAT(steps_of(load(kParted, 0)), ElementsAre("a", "b<a>", "head<a>", "c<head>", "d<head,b>"));
  EXPECT_THAT(steps_of(load(kParted, 1)), ElementsAre("a", "b<a>", "worker<a>", "c", "d<a,b>"));
  EXPECT_TRUE(load(kParted, 1)->recipe.steps[2].when.has_value()) << "its other conditions are the host's to judge";
  EXPECT_TRUE(load(kParted, 0)->of_one_host);
}

TEST_F(HostsInRecipe, AGroupThatIsNotThereIsNamed) {
  EXPECT_THAT(steps_of(load("name: r\nsteps:\n  - { directory: /a, when: { group: worker } }\n", 0)),
              ElementsAre(HasSubstr("r.yaml:3:37: `group` of when: there is no host and no group `worker`; did you mean `workers`?")));
  EXPECT_THAT(steps_of(load("name: r\nsteps:\n  - { directory: /a, when: { group: workers } }\n", 0)),
              ElementsAre(HasSubstr("no step is left for the host head")));
}

TEST_F(HostsInRecipe, AHostsOwnVarsReplaceTheDefaults) {
  const std::string recipe = "name: r\nvars: { port: 8888 }\nsteps:\n  - file: { path: /x, content: \"${{ vars.port }}\" }\n";
  EXPECT_EQ(load(recipe, 0)->vars[0].second, "8888");
  EXPECT_EQ(load(recipe, 2)->vars[0].second, "9000") << "and `other` is for another recipe";
  const auto wrong = load("name: r\nvars: { port: true }\nsteps:\n  - file: { path: /x, content: a }\n", 2);
  ASSERT_FALSE(wrong.has_value());
  EXPECT_THAT(wrong.error().why(), HasSubstr("hosts.yaml:5:19: the var `port` is `9000`: expected true or false, like its default"));
}

}  // namespace
}  // namespace gpustrap
