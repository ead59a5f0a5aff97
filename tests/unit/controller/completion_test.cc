#include "controller/completion.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "agent/base/text.h"
#include "controller/command_line.h"

namespace gpustrap {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

CompletionWorld small_world() {
  CompletionWorld world;
  world.hosts = [] { return std::vector<Candidate>{{"gpu1", "had jupyter"}, {"gpu2"}, {"10.0.0.7"}, {"fe80::1"}, {"bad\x1b[31m"}}; };
  world.recipes = [] { return std::vector<Candidate>{{"jupyter", "A notebook"}, {"d2l"}}; };
  world.kinds = [] { return std::vector<Candidate>{{"apt"}, {"archive"}}; };
  world.mirrors = [] { return std::vector<Candidate>{{"uni"}}; };
  world.gpus = [] { return std::vector<Candidate>{{"t4"}, {"h100"}}; };
  world.runs = [] { return std::vector<Candidate>{{"20260101-000000-abcd"}}; };
  world.recipe_files = [](const std::string& start) {
    return start == "./" ? std::vector<Candidate>{{"./lab.yaml"}, {"./more/", "", true}} : std::vector<Candidate>{};
  };
  world.inside = [](const std::string& recipe) {
    RecipeWords words;
    if (recipe == "d2l") words = {{{"apt", "apt"}, {"conda", "conda"}}, {{"port", "8888"}}, {"notebook"}};
    return words;
  };
  world.last_recipe = [](const std::string& host) { return host == "gpu1" ? "d2l" : ""; };
  world.fleet = [](const std::string& file) {
    return file == "hosts.yaml" ? std::vector<Candidate>{{"head"}, {"workers"}} : std::vector<Candidate>{};
  };
  return world;
}

/// The words offered for a line; a space at its end begins a new word.
std::vector<std::string> offered(const std::string& line) {
  std::vector<std::string> said = words(line);
  if (line.empty() || line.back() == ' ') said.emplace_back();
  std::vector<std::string> found;
  for (const Candidate& candidate : complete(said, small_world()).candidates) found.push_back(candidate.word);
  return found;
}

bool takes_files(const std::string& line) {
  std::vector<std::string> said = words(line);
  if (line.back() == ' ') said.emplace_back();
  return complete(said, small_world()).files;
}

TEST(Completion, NamesTheFaultsThatFixMayRepair) {
  EXPECT_THAT(offered("doctor gpu1 --fix disk"), UnorderedElementsAre("disk-full", "disk-errors"));
  EXPECT_THAT(offered("doctor gpu1 --fix disk-full disk"), ElementsAre("disk-errors"));
  EXPECT_THAT(offered("doctor --fix gpu1 shm"), ElementsAre("shm-small"));
  EXPECT_THAT(offered("doctor gpu1 "), ElementsAre("--fix"));
  EXPECT_THAT(offered("doctor gpu1 disk"), IsEmpty());
  EXPECT_THAT(offered("doctor gpu"), UnorderedElementsAre("gpu1", "gpu2"));
}

TEST(Completion, OffersEveryVerbThereIs) {
  const std::vector<std::string> found = offered("");
  for (const VerbDescription& verb : describe_verbs()) EXPECT_THAT(found, Contains(verb.name.substr(0, verb.name.find(' '))));
  EXPECT_EQ(std::count(found.begin(), found.end(), "recipe"), 1);
  EXPECT_THAT(offered("hi"), ElementsAre("history"));
  EXPECT_THAT(offered("recipe "), IsSupersetOf(sub_verbs_of("recipe")));
  EXPECT_THAT(offered("recipe sc"), ElementsAre("schema"));
  EXPECT_THAT(offered("help canc"), ElementsAre("cancel"));
}

TEST(Completion, OffersEveryOptionOfEveryVerb) {
  for (const VerbDescription& verb : describe_verbs()) {
    if (verb.name == "ssh") continue;  // what stands behind its host is another program's
    const std::vector<std::string> found = offered(verb.name + " -");
    for (const OptionDescription& option : verb.options) EXPECT_THAT(found, Contains(option.name())) << verb.name;
  }
  EXPECT_THAT(offered("up d2l gpu1 --no-t"), ElementsAre("--no-tunnel"));
  EXPECT_THAT(offered("up d2l gpu1 --yes --y"), IsEmpty()) << "once is enough";
  EXPECT_THAT(offered("up d2l gpu1 --var port=1 --v"), ElementsAre("--verbose", "--var")) << "may be said again";
}

TEST(Completion, OffersRecipesThenHosts) {
  EXPECT_THAT(offered("up "), ElementsAre("jupyter", "d2l"));
  EXPECT_THAT(offered("up ./"), ElementsAre("./lab.yaml", "./more/"));
  EXPECT_THAT(offered("up jupyter gpu"), ElementsAre("gpu1", "gpu2"));
  EXPECT_THAT(offered("up jupyter ubuntu@gpu"), ElementsAre("ubuntu@gpu1", "ubuntu@gpu2"));
  EXPECT_THAT(offered("up jupyter ubuntu@gpu1 gpu"), ElementsAre("gpu2")) << "the other is named already";
  EXPECT_THAT(offered("attach fe"), ElementsAre("fe80::1"));
  EXPECT_THAT(offered("url gpu1 "), IsEmpty());
  EXPECT_THAT(offered("attach b"), IsEmpty()) << "what a terminal would obey is not offered";
}

TEST(Completion, KnowsWhichOptionsTakeAValue) {
  EXPECT_THAT(offered("up -p 2222 ju"), ElementsAre("jupyter"));
  EXPECT_THAT(offered("up --keep=10m ju"), ElementsAre("jupyter"));
  EXPECT_THAT(offered("up -y -- ju"), ElementsAre("jupyter"));
  EXPECT_TRUE(takes_files("up jupyter gpu1 -i "));
  EXPECT_FALSE(takes_files("up jupyter gpu1 "));
}

TEST(Completion, OffersWhatIsInsideARecipe) {
  EXPECT_THAT(offered("up d2l gpu1 --tag "), ElementsAre("notebook"));
  EXPECT_THAT(offered("up d2l gpu1 --var "), ElementsAre("port="));
  EXPECT_THAT(offered("logs gpu1 "), ElementsAre("apt", "conda"));
  EXPECT_THAT(offered("logs gpu2 "), IsEmpty());
}

/// Whatever options name steps, they are offered them: by what stands for their value, not by their names.
TEST(Completion, OffersStepsToEveryOptionThatTakesThem) {
  for (const VerbDescription& verb : describe_verbs()) {
    for (const OptionDescription& option : verb.options) {
      if (!option.value.starts_with("STEP")) continue;
      EXPECT_THAT(offered(verb.name + " d2l gpu1 " + option.name() + " "), ElementsAre("apt", "conda")) << option.synopsis();
    }
  }
}

TEST(Completion, OffersTheValuesThatHelpLists) {
  EXPECT_THAT(offered("completion "), ElementsAre("bash", "zsh", "fish"));
  EXPECT_THAT(offered("recipe lint x --format "), ElementsAre("text", "json", "sarif"));
  EXPECT_THAT(offered("recipe lint x --format=s"), ElementsAre("--format=sarif"));
  EXPECT_THAT(offered("recipe explain d2l --arch "), ElementsAre("x86_64", "aarch64"));
  EXPECT_THAT(offered("recipe explain d2l --gpu "), ElementsAre("t4", "h100", "none"));
  EXPECT_THAT(offered("recipe explain a"), ElementsAre("apt", "archive"));
  EXPECT_THAT(offered("up d2l gpu1 --mirror "), ElementsAre("uni", "none"));
  EXPECT_THAT(offered("up d2l -f hosts.yaml --limit head,w"), ElementsAre("head,workers"));
  EXPECT_THAT(offered("report 2026"), ElementsAre("20260101-000000-abcd"));
}

TEST(Completion, SaysNothingWhereNothingCanBeSaid) {
  EXPECT_THAT(offered("nonsense x"), IsEmpty());
  EXPECT_THAT(offered("up d2l gpu1 --nonsense=x"), IsEmpty());
  EXPECT_THAT(offered("version "), IsEmpty());
  EXPECT_THAT(offered("recipe nonsense "), IsEmpty());
}

TEST(CompletionLines, CarryWhatEachIsAndWhetherMoreFollows) {
  Completion completion;
  completion.candidates = {{"b", "second"}, {"a"}, {"a"}};
  EXPECT_EQ(completion_lines(completion), "a\nb\tsecond\n");
  completion.files = true;
  EXPECT_EQ(completion_lines(completion), "a\nb\tsecond\n:files\n");
  EXPECT_EQ(completion_lines({{{"port=", "8888", true}}, false}), "port=\t8888\n:nospace\n");
  EXPECT_EQ(completion_lines({}), "");
}

TEST(HostsOfSshConfig, AreThoseWithoutPatterns) {
  const fs::path folder = fs::path(::testing::TempDir()) / "hosts_of_ssh_config";
  fs::create_directories(folder / "more");
  std::ofstream(folder / "config")
      << "Host lab gpu* !x \"odd\" # note\n  HostName 10.0.0.1\nhost=second\nInclude more/*.conf ~/own\nMatch host z\n";
  std::ofstream(folder / "more" / "a.conf") << "Host third\nInclude " << (folder / "config").string() << "\n";
  std::ofstream(folder / "own") << "Host fourth\n";
  const std::vector<std::string> hosts = hosts_of_ssh_config(folder / "config", folder, folder);
  EXPECT_THAT(hosts, IsSupersetOf({"lab", "second", "third", "fourth"}));
  EXPECT_THAT(hosts, AllOf(Not(Contains("gpu*")), Not(Contains("odd")), Not(Contains("note")), Not(Contains("10.0.0.1"))));
  EXPECT_THAT(hosts_of_ssh_config(folder / "absent", folder, folder), IsEmpty());
  fs::remove_all(folder);
}

}  // namespace
}  // namespace gpustrap
