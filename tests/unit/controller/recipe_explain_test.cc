#include "controller/recipe_explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/compat_loader.h"
#include "controller/display_width.h"
#include "tests/support/golden_file.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const Compat& table() {
  static const Compat compat = load_builtin_compat().value();
  return compat;
}

ImaginedMachine machine(const std::vector<std::string>& gpus, const std::string& os = "", const std::string& arch = "") {
  auto imagined = imagine_machine(table(), gpus, os, arch);
  EXPECT_TRUE(imagined.has_value()) << imagined.error().sentence();
  return imagined.value_or(ImaginedMachine{});
}

class RecipeExplain : public ::testing::Test {
 protected:
  LoadedRecipe load(const std::string& steps) {
    const std::string path =
        ::testing::TempDir() + "gpustrap_explain_" + ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".yaml";
    std::ofstream(path) << "name: lab\nsteps:\n" + steps;
    auto loaded = load_recipe(path, {});
    (void)std::remove(path.c_str());
    EXPECT_TRUE(loaded.has_value()) << loaded.error().sentence();
    return loaded.value_or(LoadedRecipe{});
  }
  Explanation explain(const std::string& steps, const ImaginedMachine& on) { return explain_recipe(load(steps), table(), on, 0); }
};

TEST_F(RecipeExplain, TellsEveryStepWithWhatItTakes) {
  const std::string text = explain("  - apt: [git, tmux]\n  - id: notes\n    needs: []\n    directory: ~/notes\n", machine({})).text;
  EXPECT_THAT(text, HasSubstr("\nOn any machine; --gpu t4 and --os ubuntu:24.04 say more\n"));
  EXPECT_THAT(text, HasSubstr("\n1. apt, as root\n   Installs Debian packages.\n   packages: git, tmux\n"));
  EXPECT_THAT(text, HasSubstr("\n2. notes (directory), as the login user, at once\n   A directory.\n   path: ~/notes\n"));
}

TEST_F(RecipeExplain, GivesTheReasonsForDriverAndCuda) {
  const Explanation fits = explain("  - nvidia_smi: {}\n", machine({"t4"}, "ubuntu:24.04"));
  EXPECT_FALSE(fits.would_fail);
  EXPECT_THAT(
      fits.text,
      HasSubstr("On ubuntu 24.04 · x86_64 · Tesla T4, 16 GB\n  EC2: g4dn\n  Tesla T4 (sm_75): driver branch 580, open modules; CUDA 13.0"));
  EXPECT_THAT(fits.text, HasSubstr("installs no driver"));

  ImaginedMachine old = machine({"k80"}, "ubuntu:22.04");
  old.cuda = "12.4";
  const Explanation refused = explain("  - nvidia_smi: {}\n", old);
  EXPECT_TRUE(refused.would_fail);
  EXPECT_THAT(refused.text, HasSubstr("EC2: p2, which can no longer be started\n"));
  EXPECT_THAT(refused.text, HasSubstr("would fail: CUDA 12.4 cannot run on Tesla K80 (sm_37): the last is 11.8 with driver branch 470\n"));
}

TEST_F(RecipeExplain, HoldsADriverToTheCudaThatIsAskedOfIt) {
  const std::string steps = "  - nvidia_driver: { cuda: \"10.1\" }\n";
  const Explanation refused = explain(steps, machine({"l4"}, "ubuntu:24.04"));
  EXPECT_TRUE(refused.would_fail);
  EXPECT_THAT(refused.text, HasSubstr("would fail: CUDA 10.1 cannot run on NVIDIA L4 (sm_89): the first is 11.8"));
  const Explanation fits = explain(steps, machine({"t4"}, "ubuntu:24.04"));
  EXPECT_FALSE(fits.would_fail) << fits.text;
  EXPECT_THAT(fits.text, HasSubstr("CUDA 10.1"));
}

TEST_F(RecipeExplain, SaysWhatWouldFailAndWhatWouldBeSkipped) {
  const std::string steps =
      "  - require: { os: [debian], memory: 4GiB, gpu: true }\n  - id: probe\n    when: { gpu: true }\n    command: { run: nvidia-smi }\n";
  const Explanation wrong = explain(steps, machine({"none"}, "ubuntu:24.04"));
  EXPECT_TRUE(wrong.would_fail);
  EXPECT_THAT(wrong.text, HasSubstr("would fail: this is ubuntu 24.04, debian wanted; no NVIDIA GPU is on the PCI bus\n"));
  EXPECT_THAT(wrong.text, HasSubstr("skipped: gpu: true, but no NVIDIA GPU is on the PCI bus\n"));
  // What nobody has said is neither right nor wrong.
  const Explanation open = explain(steps, machine({}));
  EXPECT_FALSE(open.would_fail);
  EXPECT_THAT(open.text, HasSubstr("only where there is a GPU\n"));
  EXPECT_THAT(open.text, Not(HasSubstr("skipped")));
}

TEST_F(RecipeExplain, NamesTheBuildOfAFramework) {
  const std::string steps = "  - venv: ~/env\n  - pip: { venv: ~/env, packages: [torch, numpy] }\n";
  EXPECT_THAT(explain(steps, machine({"v100"}, "ubuntu:22.04")).text,
              HasSubstr("note: torch 2.14: its build cu126 brings CUDA 12.6 along; pip takes another"));
  EXPECT_THAT(explain(steps, machine({"t4g"}, "ubuntu:22.04")).text,
              HasSubstr("note: no build of torch 2.14 for aarch64 runs on NVIDIA T4G (sm_75)"));
}

TEST_F(RecipeExplain, SaysWhatDriverAndToolkitWouldBe) {
  const std::string steps = "  - nvidia_driver: { source: debian }\n  - cuda: \"12.4\"\n";
  const std::string text = explain(steps, machine({"t4"}, "debian:12")).text;
  EXPECT_THAT(text, HasSubstr("from Debian's own packages: nvidia-open-kernel-dkms nvidia-smi"));
  EXPECT_THAT(text, HasSubstr("driver branch 535"));
  EXPECT_THAT(text, HasSubstr("CUDA 12.4: cuda-toolkit-12-4 from https://"));
}

TEST_F(RecipeExplain, TellsProgramsTheSame) {
  const std::string steps =
      "  - require: { gpu: true }\n  - apt: [git, tmux]\n  - id: driver\n    needs: []\n    nvidia_driver: auto\n"
      "  - id: old\n    when: { os: debian }\n    command: { run: \"true\", creates: /x }\n  - directory: { path: \"~/notes\" }\n";
  const Explanation fits = explain(steps, machine({"t4"}, "ubuntu:24.04"));
  const Json document = Json::parse(fits.document);
  EXPECT_EQ(document.begin().key(), "explain");
  EXPECT_EQ(document["explain"], 1);
  EXPECT_EQ(document["recipe"], "lab");
  EXPECT_EQ(document["would_fail"], false);
  EXPECT_EQ(document["machine"]["os"], "ubuntu");
  EXPECT_EQ(document["machine"]["gpus"][0]["name"], "Tesla T4");
  EXPECT_EQ(document["choice"]["driver"]["branch"], "580");
  EXPECT_THAT(document["choice"]["cuda"]["version"].get<std::string>(), ::testing::StartsWith("13"));
  const Json& list = document["steps"];
  ASSERT_EQ(list.size(), 5U);
  EXPECT_EQ(list[1].dump(),
            R"({"id":"apt","kind":"apt","name":null,"identity":"root","needs":null,"when":null,"fields":{"packages":["git","tmux"]},)"
            R"("skipped":false,"only_where":[],"would_fail":false,"reason":null,"notes":[]})");
  EXPECT_EQ(list[2]["needs"], Json::array());
  EXPECT_EQ(list[2]["kind"], "nvidia_driver");
  EXPECT_EQ(list[2]["fields"].value("branch", ""), "auto");
  EXPECT_EQ(list[3]["skipped"], true);
  EXPECT_EQ(list[3]["when"]["os"], Json({"debian"}));
  EXPECT_THAT(list[3]["reason"].get<std::string>(), HasSubstr("debian"));
  EXPECT_EQ(list[4]["identity"], "login");

  const Json refused = Json::parse(explain(steps, machine({"none"})).document);
  EXPECT_EQ(refused["would_fail"], true);
  EXPECT_EQ(refused["reason"], nullptr) << "it is the step's";
  EXPECT_EQ(refused["steps"][0]["would_fail"], true);
  EXPECT_THAT(refused["steps"][0]["reason"].get<std::string>(), HasSubstr("GPU"));
  EXPECT_EQ(refused["machine"]["gpus"], Json::array());
  EXPECT_EQ(refused["machine"]["os"], nullptr);
  EXPECT_FALSE(refused["steps"][3]["only_where"].empty());

  ImaginedMachine old = machine({"k80"});
  old.cuda = "12.4";
  const Json impossible = Json::parse(explain("  - nvidia_smi: {}\n", old).document);
  EXPECT_EQ(impossible["choice"], nullptr);
  EXPECT_THAT(impossible["reason"].get<std::string>(), HasSubstr("CUDA 12.4 cannot run on Tesla K80"));
}

TEST_F(RecipeExplain, BreaksItsLines) {
  const Explanation narrow = explain_recipe(load("  - nvidia_smi: {}\n"), table(), machine({"8xh100"}, "ubuntu:24.04"), 79);
  for (const std::string& line : split(narrow.text, '\n')) EXPECT_LE(display_width(line), 79U) << line;
}

TEST_F(RecipeExplain, OfTheRecipesThatShip) {
  for (const auto& [name, gpu, os] : {std::tuple{"d2l", "t4", "ubuntu:22.04"}, std::tuple{"check-gpu", "8xh100", "ubuntu:24.04"},
                                      std::tuple{"jupyter", "none", "debian:12"}, std::tuple{"cuda", "t4", "ubuntu:24.04"}}) {
    const auto loaded = load_recipe(name, {});
    ASSERT_TRUE(loaded.has_value()) << loaded.error().sentence();
    const Explanation explanation = explain_recipe(*loaded, table(), machine({gpu}, os), 100);
    EXPECT_FALSE(explanation.would_fail) << explanation.text;
    EXPECT_THAT(explanation.text, HasSubstr(loaded->recipe.steps.back().id));
  }
}

TEST(ImagineMachine, ReadsCountsIdsAndArchitectures) {
  EXPECT_EQ(machine({"8xh100"}).facts.gpus.size(), 8U);
  EXPECT_EQ(machine({"t4,l4", "10de:1db5"}).facts.gpus.size(), 3U);
  EXPECT_EQ(machine({"1eb8"}).facts.gpus.at(0).device, "1eb8");
  EXPECT_EQ(machine({"10de:2684"}).facts.gpus.at(0).device, "2684");
  EXPECT_EQ(machine({"t4g"}).facts.arch, "aarch64");
  EXPECT_EQ(machine({"t4g"}, "", "x86_64").facts.arch, "x86_64");
  EXPECT_TRUE(machine({"none"}).gpus_known);
  EXPECT_TRUE(machine({"none"}).facts.gpus.empty());
}

TEST(ImagineMachine, RefusesWhatItDoesNotKnow) {
  const auto said = [](const std::string& gpu, const std::string& os, const std::string& arch) {
    const auto imagined = imagine_machine(table(), {gpu}, os, arch);
    return imagined ? "" : imagined.error().sentence();
  };
  EXPECT_EQ(said("h1000", "", ""), "--gpu `h1000`: not a GPU that is known; did you mean `h100`?");
  EXPECT_EQ(said("900xt4", "", ""), "--gpu 900xt4: expected 1 to 64 GPUs");
  EXPECT_EQ(said("t4", ":24.04", ""), "--os `:24.04`: expected NAME:VERSION");
  EXPECT_EQ(said("t4", "windows", ""), "--os windows: not a system that is known");
  EXPECT_EQ(said("t4", "ubunut:24.04", ""), "--os ubunut: not a system that is known; did you mean `ubuntu`?");
  EXPECT_EQ(said("t4", "ubuntu:99", ""), "--os ubuntu:99: not a release that is known");
  EXPECT_THAT(imagine_machine(table(), {"t4"}, "ubuntu:99", "").error().hint(), HasSubstr("22.04, 24.04"));
  EXPECT_EQ(said("t4", "ubuntu", ""), "");
  EXPECT_EQ(said("t4", "", "arm64"), "--arch `arm64`: expected x86_64 or aarch64");
}

}  // namespace
}  // namespace gpustrap
