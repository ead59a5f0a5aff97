#include "controller/adopt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/compat_loader.h"
#include "controller/lint.h"
#include "controller/recipe_loader.h"
#include "tests/support/folders.h"
#include "tests/support/golden_file.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

/// The steps of the recipe that is made of `script`, as the agent would get them; what is wrong with it where it does not load.
std::string steps_of(const std::string& script) {
  const AdoptedScript adopted = adopt_script(script, "setup.sh");
  if (!adopted.problem.empty()) return adopted.problem;
  const std::vector<BuiltinRecipe> only = {{"adopted", adopted.recipe}};
  LoadOptions options;
  options.sources.builtins = &only;
  const auto loaded = load_recipe("adopted", options);
  if (!loaded) return loaded.error().why();
  const LintReport report = lint_recipe("adopted", options, load_builtin_compat().value()).value();
  for (const LintFinding& finding : report.findings) {
    // Errors stay until a person has looked.
    EXPECT_TRUE(finding.rule->id == "review" || finding.severity == Severity::error) << finding.message << "\n" << adopted.recipe;
  }
  std::string text;
  const Json written = write_recipe(loaded->recipe);
  for (const Json& step : written["steps"]) {
    Json one = step;
    one.erase("id");
    text += one.dump() + "\n";
  }
  return text;
}

class AdoptsTutorials : public ::testing::TestWithParam<const char*> {};

// tests/golden/adopt: scripts in the shape of what people type from tutorials, and the recipes made of them.
TEST_P(AdoptsTutorials, AsTheGoldenFileHasIt) {
  const std::string name = GetParam();
  const std::string script = read_file(source_folder() + "/tests/golden/adopt/" + name + ".script").value_or("");
  ASSERT_FALSE(script.empty());
  const AdoptedScript adopted = adopt_script(script, name + ".sh");
  expect_golden("adopt/" + name + ".yaml", adopted.recipe);
  EXPECT_THAT(steps_of(script), HasSubstr("{")) << "it does not load";
}
INSTANTIATE_TEST_SUITE_P(Six, AdoptsTutorials,
                         ::testing::Values("cuda_deb_and_conda", "default_cuda_and_tensorflow", "open_notebook", "anaconda_and_runfile",
                                           "lab_machine", "lab_functions"));

TEST(Adopt, WhatOnlyLooksOrSpeaksIsNoStep) {
  EXPECT_EQ(steps_of("apt-get install -y git\necho \"installing…\"\ngcc --version | head -1\nnvidia-smi --query-gpu=name --format=csv\n"
                     "lsmod | grep nvidia\nls /usr/include/cudnn.h 2>/dev/null | head -1"),
            "{\"apt\":{\"packages\":[\"git\"]}}\n");
  // What is run inside of a text may do anything.
  EXPECT_THAT(steps_of("echo \"$(make install)\""), HasSubstr("make install"));
  EXPECT_THAT(steps_of("echo x > ~/file"), HasSubstr("\"file\""));
}

TEST(Adopt, WhatShortensOutputIsLeftOut) {
  EXPECT_EQ(steps_of("apt-get install -y -qq git 2>&1 | tail -2"), "{\"apt\":{\"packages\":[\"git\"]}}\n");
  EXPECT_EQ(steps_of("apt-get install -y git | tee install.log"), "{\"apt\":{\"packages\":[\"git\"]}}\n");
  EXPECT_THAT(steps_of("echo $(hostname) | sudo tee /etc/thing.log"), HasSubstr("sudo tee /etc/thing.log"));
}

TEST(Adopt, SaysWhereToLookAndWhatWasLeftOut) {
  const std::string script =
      "#!/bin/bash\n\n# tools\nsudo apt-get update &&\n  sudo apt-get install -y git || true\nwget https://example.org/a-1.0.zip\n"
      "unzip a-1.0.zip -d a\n./build &&\n  ./install\necho done\n";
  const AdoptedScript adopted = adopt_script(script, "setup.sh");
  const Json document = Json::parse(adopted_json(adopted, "setup.sh", ""));
  EXPECT_EQ(document.begin().key(), "adopt");
  EXPECT_EQ(document["file"], nullptr);
  EXPECT_EQ(document["recipe"], adopted.recipe);
  EXPECT_EQ(document["typed"].get<std::size_t>() + document["commands"].get<std::size_t>(), adopted.typed + adopted.commands);
  // Each review stands on the line that is said to hold it, and comes of the line of the script that is said.
  const std::vector<std::string> lines = split(adopted.recipe, '\n'), of_script = split(script, '\n');
  ASSERT_FALSE(document["reviews"].empty());
  std::set<std::string> from;
  for (const Json& one : document["reviews"]) {
    EXPECT_EQ(lines.at(one["recipe_line"].get<std::size_t>() - 1), "  # review: " + one["why"].get<std::string>());
    EXPECT_THAT(adopted.recipe, HasSubstr("- id: " + one["step"].get<std::string>() + "\n"));
    from.insert(of_script.at(one["script_line"].get<std::size_t>() - 1));
  }
  EXPECT_THAT(from, ::testing::IsSupersetOf({"./build &&", "  ./install"}));
  std::vector<std::string> left;
  for (const Json& one : document["left_out"])
    left.push_back(fmt::format("{}: {}", one["script_line"].get<int>(), one["text"].get<std::string>()));
  EXPECT_THAT(left, ::testing::ElementsAre("6: wget https://example.org/a-1.0.zip", "10: echo done"));
}

TEST(Adopt, WhatMayFailIsAStepToLookAt) {
  const AdoptedScript adopted = adopt_script("sudo apt-get install -y git || true\n", "setup.sh");
  EXPECT_THAT(adopted.recipe, HasSubstr("apt: { packages: [git] }"));
  EXPECT_THAT(adopted.recipe, HasSubstr("the script goes on where this fails"));
  EXPECT_THAT(steps_of("cd ~ && apt-get install -y git || exit 1"), HasSubstr("exit 1"));
}

TEST(Adopt, PackagesOfADriverAreTheDriver) {
  EXPECT_EQ(steps_of("apt-get install -y nvidia-headless-535-server nvidia-utils-535-server git"),
            "{\"apt\":{\"packages\":[\"git\"]}}\n{\"nvidia_driver\":{\"branch\":\"auto\"}}\n");
  EXPECT_EQ(steps_of("apt-get install -y nvidia-352 nvidia-352-uvm nvidia-opencl-icd-352"), "{\"nvidia_driver\":{\"branch\":\"auto\"}}\n");
  EXPECT_EQ(steps_of("ubuntu-drivers install --gpgpu"), "{\"nvidia_driver\":{\"branch\":\"auto\"}}\n");
  EXPECT_THAT(steps_of("apt-get install -y nvidia-container-toolkit"), HasSubstr("nvidia-container-toolkit"));
  EXPECT_EQ(steps_of("apt-get install -y linux-headers-$(uname -r) git"), "{\"apt\":{\"packages\":[\"git\"]}}\n");
}

TEST(Adopt, AFolderThatIsThereBeforeTellsNothing) {
  EXPECT_THAT(steps_of("sudo cp -P cuda/lib64/* /usr/local/cuda/lib64"), Not(HasSubstr("\"creates\":\"/usr/local/cuda/lib64\"")));
  EXPECT_THAT(steps_of("cp a.txt ~/b.txt"), HasSubstr("\"creates\":\"~/b.txt\""));
}

TEST(Adopt, CurlsOptionsAreReadOneByOne) {
  const std::string wanted = "{\"download\":{\"url\":\"https://example.org/a.zip\",\"to\":\"~/a.zip\"}}\n";
  for (const char* words : {"-fSsL -O", "-fSsLO", "-L -o a.zip", "-sLo a.zip"})
    EXPECT_EQ(steps_of(fmt::format("curl {} https://example.org/a.zip", words)), wanted) << words;
  EXPECT_THAT(steps_of("curl -kLO https://example.org/a.zip"), HasSubstr("curl -kLO"));
}

TEST(Adopt, AnExitOfTheScriptIsLookedAt) {
  EXPECT_EQ(steps_of("cd /opt/x || exit\nsudo mkdir data"), "{\"directory\":{\"path\":\"/opt/x/data\"},\"as\":\"root\"}\n");
  EXPECT_THAT(adopt_script("if test -f /done\nthen\n  exit\nfi\napt-get install -y git\n", "s.sh").recipe,
              HasSubstr("ended the whole script"));
}

TEST(Adopt, AnInstallersOwnFolderIsWhereItsLinesExpectIt) {
  EXPECT_THAT(steps_of("wget https://repo.example.org/Anaconda2-4.2.0-Linux-x86_64.sh\nbash Anaconda2-4.2.0-Linux-x86_64.sh -b"),
              HasSubstr("~/anaconda2"));
}

TEST(Adopt, AGroupIsLookedUp) { EXPECT_THAT(steps_of("sudo usermod -aG docker ubuntu"), HasSubstr("grep -qx docker")); }

TEST(Adopt, KnownCommandsBecomeTypedSteps) {
  EXPECT_EQ(steps_of("apt-get update\napt-get install -y --no-install-recommends git tmux"),
            "{\"apt\":{\"packages\":[\"git\",\"tmux\"],\"recommends\":false}}\n");
  EXPECT_EQ(steps_of("mkdir -p a/b ~/c"), "{\"directory\":{\"path\":\"~/a/b\"}}\n{\"directory\":{\"path\":\"~/c\"}}\n");
  EXPECT_EQ(steps_of("cd /srv; sudo ln -sf ../opt/x y"), "{\"symlink\":{\"path\":\"/srv/y\",\"target\":\"/opt/x\"},\"as\":\"root\"}\n");
  EXPECT_EQ(steps_of("A=tools; wget -q https://example.org/f-1.0.bin -O $A/f"),
            "{\"download\":{\"url\":\"https://example.org/f-1.0.bin\",\"to\":\"~/tools/f\"}}\n");
  EXPECT_EQ(steps_of("echo 'export EDITOR=vim' >> ~/.bashrc"), "{\"environment\":{\"EDITOR\":\"vim\"}}\n");
  EXPECT_EQ(steps_of("python3 -m venv e\n. e/bin/activate\npip install -U x"),
            "{\"venv\":{\"path\":\"~/e\"}}\n{\"pip\":{\"venv\":\"~/e\",\"packages\":[\"x\"],\"upgrade\":true}}\n");
  EXPECT_EQ(steps_of("git clone -b v1 git@example.org:a/b.git"),
            "{\"git\":{\"url\":\"git@example.org:a/b.git\",\"to\":\"~/b\",\"ref\":\"v1\"}}\n");
  EXPECT_EQ(steps_of("yes | sudo apt install git"), "{\"apt\":{\"packages\":[\"git\"]}}\n");
  EXPECT_EQ(steps_of("sudo systemctl enable --now cron.service"), "{\"service\":{\"name\":\"cron\"}}\n");
}

TEST(Adopt, AnArchiveThatIsFetchedUnpackedAndRemovedIsOneStep) {
  EXPECT_EQ(steps_of("wget https://example.org/a-1.0.zip && unzip a-1.0.zip -d a && rm a-1.0.zip"),
            "{\"archive\":{\"url\":\"https://example.org/a-1.0.zip\",\"to\":\"~/a\"}}\n");
}

TEST(Adopt, WhatIsNotUnderstoodStaysAsItIs) {
  for (const char* script : {"apt-get install -y --reinstall git", "./run 'a  b' \"$1\"", "wget -r https://example.org/",
                             "if test -e a; then b; fi", "curl -s https://example.org/x-1.0 | tar xz", "a || b", "pip install -e .",
                             "echo \"$(date)\" > now", "X=1 make", "sudo -i -u lab make"}) {
    const std::string steps = steps_of(script);
    const std::string quoted = Json(script).dump();
    EXPECT_THAT(steps, HasSubstr(quoted.substr(1, quoted.size() - 2))) << script;
    EXPECT_EQ(split(steps, '\n').size(), 2U) << steps;
  }
}

TEST(Adopt, ACommandKnowsWhatTheLinesAboveHaveSet) {
  const std::string steps = steps_of("A='x y'\nB=$(pwd)\nexport C=3\nf() { echo $A; }\ncd /srv\nf \"$B\" > out\n");
  EXPECT_THAT(steps, HasSubstr(R"(A='x y'\nexport C=3\nf() { echo $A; }\nB=$(pwd)\nf \"$B\" > out)")) << steps;
  EXPECT_THAT(steps, HasSubstr(R"("creates":"/srv/out")"));
  EXPECT_THAT(steps, HasSubstr(R"("chdir":"/srv")"));
}

TEST(Adopt, OneCommandAfterAnotherKeepsTheirOrder) {
  const std::string steps = steps_of("make && sudo apt-get install -y git && make install");
  EXPECT_LT(steps.find("make\\n"), steps.find("packages"));
  EXPECT_LT(steps.find("packages"), steps.find("make install"));
}

TEST(Adopt, ALinkThatIsRemovedAndMadeIsOneStep) {
  EXPECT_EQ(steps_of("sudo rm /usr/local/cuda\nsudo ln -s /usr/local/cuda-9.0 /usr/local/cuda"),
            "{\"symlink\":{\"path\":\"/usr/local/cuda\",\"target\":\"/usr/local/cuda-9.0\"},\"as\":\"root\"}\n");
}

TEST(Adopt, RootsStepsDoNotMeanRootsHome) {
  EXPECT_THAT(steps_of("sudo mkdir ~/a"), HasSubstr("sudo mkdir ~/a")) << "~ is the user's before sudo, and root's in a step of root's";
  EXPECT_THAT(steps_of("wget https://example.org/a_1.0.deb\nsudo dpkg -i a_1.0.deb"),
              HasSubstr(R"({"deb":{"path":"/var/cache/adopted/a_1.0.deb"}})"));
}

TEST(Adopt, AScriptForRootMeansRootsHomeThroughout) {
  const std::string steps = steps_of("apt-get install -y git\nmkdir ~/a\ncd ~/a\nmake\n");
  EXPECT_THAT(steps, HasSubstr(R"({"directory":{"path":"~/a"},"as":"root"})"));
  EXPECT_THAT(steps, HasSubstr(R"("chdir":"~/a")"));
  EXPECT_EQ(split(steps_of("sudo apt-get install -y git\nmkdir ~/a"), '\n').at(1), R"({"directory":{"path":"~/a"}})");
}

TEST(Adopt, TextThatLooksLikeAPlaceholderIsKept) {
  const std::string steps = steps_of("cat > ci.yml <<'END'\nrun: ${{ matrix.os }}\nEND\nmake '${{ x }}'\n");
  EXPECT_THAT(steps, HasSubstr("base64 -d"));
}

// A script removes a folder to make it anew: a run after the first must not remove what the first has made.
TEST(Adopt, WhatIsRemovedToBeMadeAgainIsRemovedOnce) {
  const std::string tool = steps_of("rm -rf ~/tool && mkdir ~/tool; cp a ~/tool/a");
  EXPECT_THAT(tool, HasSubstr(R"("creates":"~/.local/state/adopted/setup/1","run":"rm -rf ~/tool\n)"));
  EXPECT_THAT(tool, Not(HasSubstr("test ! -e")));
  const std::string go = steps_of("sudo rm -rf /usr/local/go && sudo tar -C /usr/local -xzf go1.22.tar.gz");
  EXPECT_EQ(split(go, '\n').size(), 2U) << "one step: " << go;
  EXPECT_THAT(go, HasSubstr(R"(sudo rm -rf /usr/local/go\nsudo tar -C /usr/local -xzf go1.22.tar.gz\nmkdir)"));
  EXPECT_THAT(steps_of("rm -f /etc/thing.conf\ncp thing.conf /etc/"), Not(HasSubstr("test ! -e")));
  EXPECT_THAT(steps_of("rm -f /etc/thing.conf\nmake install"), HasSubstr("test ! -e /etc/thing.conf"));
}

TEST(Adopt, AValueWithoutQuotesIsSplitIntoWords) {
  EXPECT_EQ(steps_of("TOOLS=\"git tmux\"; sudo apt-get install -y $TOOLS"), "{\"apt\":{\"packages\":[\"git\",\"tmux\"]}}\n");
  EXPECT_EQ(steps_of("TOOLS=\"git\n  tmux\n\"\napt-get install -y $TOOLS"), "{\"apt\":{\"packages\":[\"git\",\"tmux\"]}}\n");
  EXPECT_EQ(steps_of("T=git\nT+=' tmux'\napt-get install -y $T"), "{\"apt\":{\"packages\":[\"git\",\"tmux\"]}}\n");
  EXPECT_EQ(steps_of("T=(git  # for the course\n tmux)\nT+=(vim)\napt-get install -y \"${T[@]}\""),
            "{\"apt\":{\"packages\":[\"git\",\"tmux\",\"vim\"]}}\n");
  EXPECT_EQ(steps_of("python3 -m venv e; . e/bin/activate; P=\"numpy scipy\"; pip install $P"),
            "{\"venv\":{\"path\":\"~/e\"}}\n{\"pip\":{\"venv\":\"~/e\",\"packages\":[\"numpy\",\"scipy\"]}}\n");
  EXPECT_THAT(steps_of("D='a b'; mkdir \"$D\""), HasSubstr(R"({"directory":{"path":"~/a b"}})"));
}

TEST(Adopt, AStepThatBecomesACommandAgainKeepsItsVariablesAndItsUser) {
  const std::string steps = steps_of("TOOLS=\"Git! tmux\"; sudo apt-get install -y $TOOLS");
  EXPECT_THAT(steps, HasSubstr(R"("run":"TOOLS='Git! tmux'\napt-get install -y $TOOLS\n)"));
  EXPECT_THAT(steps, HasSubstr(R"("as":"root")"));
}

TEST(Adopt, AScriptThatChecksForRootIsRoots) {
  for (const char* check :
       {"[[ $EUID -eq 0 ]] || die 'as root'", "if [ \"$(id -u)\" -ne 0 ]; then echo no; exit 1; fi", "[ \"$EUID\" != 0 ] && exit 1",
        "if [[ $(whoami) != \"root\" ]]; then exec sudo bash \"$0\"; fi", "if (( EUID != 0 )); then exit 1; fi"}) {
    const std::string steps = steps_of(fmt::format("{}\nsudo systemctl enable x\nmake", check));
    EXPECT_THAT(steps, Not(HasSubstr("0"))) << "the check itself is no step";
    EXPECT_THAT(steps, HasSubstr(R"("as":"root")")) << check;
  }
  EXPECT_THAT(steps_of("if [ $(id -u) -eq 0 ]; then echo 'not as root'; exit 1; fi\napt-get install -y git\nmake"), Not(HasSubstr("root")));
  EXPECT_THAT(steps_of("apt-get install -y git\nsudo -u lab make a\nmake b"), HasSubstr(R"(make b\nmkdir -p /var/lib/adopted)"));
}

TEST(Adopt, WhatTheShellKnowsGoesAlong) {
  EXPECT_EQ(steps_of("readonly V=1.2\nwget -q https://example.org/f-$V.bin"),
            "{\"download\":{\"url\":\"https://example.org/f-1.2.bin\",\"to\":\"~/f-1.2.bin\"}}\n");
  EXPECT_EQ(steps_of("declare -r DRIVER_BRANCH=550\nsudo apt-get install -y nvidia-driver-${DRIVER_BRANCH}"),
            "{\"nvidia_driver\":{\"branch\":\"auto\"}}\n");
  EXPECT_THAT(steps_of(". /etc/os-release\n[ \"$ID\" = ubuntu ] || die"), HasSubstr(R"(. /etc/os-release\n[ \"$ID\" = ubuntu ] || die)"));
  EXPECT_THAT(steps_of("NAME=x\n. /etc/os-release\nD=$ID$VERSION_ID\nID=mine\nmake $D $ID"),
              HasSubstr(R"(. /etc/os-release\nD=$ID$VERSION_ID\nID=mine\nmake)"));
  EXPECT_THAT(steps_of("if [ -f /etc/os-release ]; then . /etc/os-release; fi\nmake $ID"), HasSubstr(R"(. /etc/os-release; fi\nmake $ID)"));
  EXPECT_THAT(steps_of("source ./config.sh\ncd /srv\nmake"), HasSubstr(R"(. ~/config.sh\nmake)"));
  EXPECT_THAT(steps_of("export PATH=/a:$PATH\nexport PATH=/b:$PATH\nmake"),
              HasSubstr(R"(export PATH=/a:$PATH\nexport PATH=/b:$PATH\nmake)"));
  EXPECT_THAT(steps_of("B=$(b)\nA=$(a $B)\nmake $A"), HasSubstr(R"(B=$(b)\nA=$(a $B)\nmake)"));
}

TEST(Adopt, TheValueOfAnOptionIsNoFileThatIsMade) {
  for (const char* command : {"install -d -o ubuntu /data", "mount -o noatime /dev/sdb /data", "ps -o pid", "aws s3 ls --output json"})
    EXPECT_THAT(steps_of(std::string("sudo ") + command), HasSubstr("\"creates\":\"~/.local/state/adopted/setup/1\"")) << command;
  EXPECT_THAT(steps_of("sudo useradd -m lab -s /bin/bash"), HasSubstr("\"unless\":\"id lab\""));
  EXPECT_THAT(steps_of("cp -t /srv a"), HasSubstr("\"creates\":\"~/.local"));
  EXPECT_THAT(steps_of("curl -fsSL https://example.org/k | sudo gpg --dearmor -o /usr/share/keyrings/k.gpg"),
              HasSubstr("\"creates\":\"/usr/share/keyrings/k.gpg\""));
}

TEST(Adopt, WhatIsAskedInFrontStaysWithWhatIsDone) {
  EXPECT_THAT(steps_of("[ -f a ] && make a"), HasSubstr(R"("run":"[ -f a ] && make a\nmkdir)"));
}

TEST(Adopt, AnErrorOfLintIsNotAllowed) {
  const AdoptedScript adopted =
      adopt_script("jupyter lab --ip=0.0.0.0 --NotebookApp.token='' &\ncurl -k -O https://example.org/a\n", "s.sh");
  EXPECT_THAT(adopted.recipe, HasSubstr("review: `curl` is told not to check certificates"));
  EXPECT_THAT(adopted.recipe, Not(HasSubstr("lint: allow tls-unchecked")));
  EXPECT_THAT(adopted.recipe, Not(HasSubstr("lint: allow jupyter-no-token")));
}

TEST(Adopt, APromptIsNoPartOfTheCommand) {
  EXPECT_EQ(steps_of("$ sudo apt-get install -y git\nReading package lists... Done\n$ mkdir -p \\\n> a\n"),
            "{\"apt\":{\"packages\":[\"git\"]}}\n{\"directory\":{\"path\":\"~/a\"}}\n");
  EXPECT_EQ(steps_of("(base) ubuntu@gpu-1:~/data$ mkdir ~/b\nroot@gpu:~# mkdir /srv/c\n[lab@gpu ~]$ mkdir ~/d\n>>> import torch\n"),
            "{\"directory\":{\"path\":\"~/b\"}}\n{\"directory\":{\"path\":\"/srv/c\"}}\n{\"directory\":{\"path\":\"~/d\"}}\n");
  EXPECT_EQ(steps_of("# apt-get update\n# apt-get install -y git\n"), "{\"apt\":{\"packages\":[\"git\"]}}\n");
  EXPECT_EQ(steps_of("$ cat > ~/a.txt <<'END'\none\nEND\n"), "{\"file\":{\"path\":\"~/a.txt\",\"content\":\"one\\n\"}}\n");
  EXPECT_EQ(steps_of("#!/bin/sh\ncat > ~/a.txt <<'END'\n$ one\nEND\n"), "{\"file\":{\"path\":\"~/a.txt\",\"content\":\"$ one\\n\"}}\n");
}

TEST(Adopt, WhatIsNoShellTextIsRefused) {
  struct Wrong {
    const char* text;
    const char* name;
    const char* says;
    const char* advice;
  };
  for (const Wrong& one : {
           Wrong{"import os\nos.system('ls')\n", "setup.py", "Python", "commands.txt"},
           Wrong{"#!/usr/bin/env python3\nprint(1)\n", "setup", "asks for `python3`", "commands.txt"},
           Wrong{"# base\nARG V=1\nFROM ubuntu:22.04\nRUN apt-get update\n", "Dockerfile", "a Dockerfile", "behind RUN"},
           Wrong{"#cloud-config\npackages: [git]\n", "user-data", "cloud-config", "runcmd"},
           Wrong{"set -gx CUDA_HOME /usr/local/cuda\nif test -d x\n  echo\nend\n", "setup", "fish", "bash"},
           Wrong{"name: x\nsteps:\n  - apt: {}\n", "x.yaml", "recipe already", "recipe lint"},
           Wrong{"apt-get install -y git\necho 'a\nb\n", "s.sh", "line 2: the quote ' is not closed", "bash -n"},
           Wrong{"echo \"$(date\"\n", "s.sh", "line 1: the quote \" is not closed", "bash -n"},
           Wrong{"a\nif test -e b; then\n  c\n", "s.sh", "line 2: `if` is not closed", "bash -n"},
           Wrong{"cat > x <<EOF\na\n", "s.sh", "line 1: the here-document EOF is not closed", "bash -n"},
           Wrong{"f() {\n  a\n", "s.sh", "line 1: `{` is not closed", "bash -n"},
           Wrong{"a\nfi\n", "s.sh", "line 2: `fi` closes what nothing has opened", "bash -n"},
       }) {
    const AdoptedScript adopted = adopt_script(one.text, one.name);
    EXPECT_THAT(adopted.problem, HasSubstr(one.says)) << one.text;
    EXPECT_THAT(adopted.advice, HasSubstr(one.advice)) << one.text;
    EXPECT_EQ(adopted.recipe, "");
  }
  // A script may write any of them.
  EXPECT_EQ(
      adopt_script("mkdir -p ~/a\ncat > ~/a/Dockerfile <<'END'\nFROM ubuntu\nEND\ncat > ~/r.yaml <<'END'\nname: x\nsteps:\n  - a\nEND\n",
                   "s.sh")
          .problem,
      "");
}

TEST(Adopt, WhatStandsBehindAnExitIsLeftOut) {
  const AdoptedScript adopted = adopt_script("apt-get install -y git\nexit 0\nmake old\nmake older\n", "s.sh");
  EXPECT_THAT(adopted.recipe, Not(HasSubstr("make")));
  EXPECT_THAT(adopted.recipe, HasSubstr("exit 0   (the script ends here: 2 commands behind it left out)"));
}

TEST(Adopt, AFunctionIsOpenedWhereItIsCalled) {
  EXPECT_EQ(steps_of("log() { echo \"== $*\"; }\ntools() { log tools; apt-get install -y git; }\nfunction main {\n  tools\n  return "
                     "0\n}\nmain \"$@\"\n"),
            "{\"apt\":{\"packages\":[\"git\"]}}\n");
  EXPECT_EQ(steps_of("main() { local d=/srv/a; mkdir -p \"$d\"; }\nif [[ \"${BASH_SOURCE[0]}\" == \"$0\" ]]; then main \"$@\"; fi"),
            "{\"directory\":{\"path\":\"/srv/a\"}}\n");
  // One that returns early and one that calls itself stay whole.
  EXPECT_THAT(steps_of("f() { test -e a && return; mkdir /srv/b; }\nf\n"), Not(HasSubstr("\"directory\"")));
  EXPECT_THAT(steps_of("f() { mkdir /srv/b; f; }\nf\n"), HasSubstr(R"(f() { mkdir /srv/b; f; }\nf\n)"));
  EXPECT_THAT(steps_of("f() { mkdir /srv/a; }\nf() { mkdir /srv/b; }\nf\n"), Not(HasSubstr("\"directory\"")));
}

TEST(Adopt, AStepOfABlockKnowsItsLineInTheScript) {
  const AdoptedScript adopted =
      adopt_script("main() {\n  make a\n  if [ ! -d ~/x ]; then\n    make b\n  fi\n}\n\nmain\n[ -d ~/y ] ||\n  make c\n", "s.sh");
  std::vector<int> lines;
  for (const AdoptedScript::Review& one : adopted.reviews) lines.push_back(one.script_line);
  EXPECT_THAT(lines, ::testing::ElementsAre(2, 4, 10)) << adopted.recipe;
}

TEST(Adopt, ATestInFrontIsTheGuardOfTheOneCommandBehindIt) {
  for (const char* script :
       {"if ! command -v uv >/dev/null 2>&1; then make uv; fi", "command -v uv || make uv", "if ! which uv; then\n  make uv\nfi"})
    EXPECT_THAT(steps_of(script), HasSubstr(R"({"command":{"unless":"command -v uv","run":"make uv"}})")) << script;
  for (const char* script : {"[ -d ~/x ] || make x", "if [ ! -d ~/x ]; then make x; fi", "if [[ ! -d \"$HOME/x\" ]]; then make x; fi",
                             "! test -d ~/x && make x"})
    EXPECT_THAT(steps_of(script), HasSubstr("make x")) << script;
  EXPECT_THAT(steps_of("D=~/x\n[ -d \"$D\" ] || make x"), HasSubstr(R"("unless":"test -d ~/x")"));
  EXPECT_THAT(steps_of("if ! id lab &>/dev/null; then sudo useradd -m lab; fi"),
              HasSubstr(R"({"unless":"id lab","run":"useradd -m lab"})"));
}

TEST(Adopt, ATestInFrontOfTypedStepsIsLookedAt) {
  EXPECT_EQ(steps_of("if [ ! -d ~/x ]; then mkdir ~/x; fi\ncommand -v git || sudo apt-get install -y git"),
            "{\"directory\":{\"path\":\"~/x\"}}\n{\"apt\":{\"packages\":[\"git\"]}}\n");
  EXPECT_EQ(steps_of("if ! [ -x \"$(command -v nvidia-smi)\" ]; then sudo ubuntu-drivers install; fi"),
            "{\"nvidia_driver\":{\"branch\":\"auto\"}}\n");
  // A docker of another package would be put out of its place by this one.
  EXPECT_EQ(steps_of("which docker || sudo apt-get install -y docker.io"),
            "{\"command\":{\"unless\":\"command -v docker\",\"run\":\"apt-get install -y docker.io\"},\"as\":\"root\"}\n");
  // The first line would make the test true for the second.
  for (const char* script : {"if [ ! -d ~/x ]; then mkdir ~/x; sudo apt-get install -y git; fi",
                             "if [ ! -f ~/x ]; then echo a > ~/x; mkdir ~/y; fi", "if [ ! -d ~/x ]; then mkdir ~/x; make x; fi",
                             "if [ -d ~/x ]; then mkdir ~/y; fi", "if [ ! -d ~/x ]; then mkdir ~/x; else make; fi",
                             "if [ ! -d ~/x ]; then mkdir ~/x; exit 0; fi", "if [ ! -d ~/x ]; then mkdir ~/x; cd ~/x; fi"}) {
    const std::string steps = steps_of(script);
    EXPECT_THAT(steps, HasSubstr(script)) << script;
    EXPECT_EQ(split(steps, '\n').size(), 2U) << steps;
  }
}

TEST(Adopt, ALoopOverKnownWordsIsUnrolled) {
  EXPECT_EQ(steps_of("for d in a b; do mkdir -p \"/srv/$d\"; done"),
            "{\"directory\":{\"path\":\"/srv/a\"}}\n{\"directory\":{\"path\":\"/srv/b\"}}\n");
  EXPECT_EQ(steps_of("P=(git tmux)\nfor p in \"${P[@]}\"\ndo\n  apt-get install -y $p\ndone"),
            "{\"apt\":{\"packages\":[\"git\"]}}\n{\"apt\":{\"packages\":[\"tmux\"]}}\n");
  for (const char* script : {"for d in a b; do make $d; done", "for f in *.sh; do mkdir $f; done", "for d in a b; do mkdir $d; break; done",
                             "for d in 1 2 3 4 5 6 7 8 9 10 11; do mkdir $d; done"})
    EXPECT_EQ(split(steps_of(script), '\n').size(), 2U) << script;
}

TEST(Adopt, AFunctionIsOpenedWithItsArguments) {
  EXPECT_EQ(steps_of("install() { apt-get install -y \"$1\"; }\ninstall git\ninstall tmux"),
            "{\"apt\":{\"packages\":[\"git\"]}}\n{\"apt\":{\"packages\":[\"tmux\"]}}\n");
  EXPECT_EQ(steps_of("install() { apt-get install -y \"$@\"; }\nA=(vim htop)\ninstall git \"${A[@]}\""),
            "{\"apt\":{\"packages\":[\"git\",\"vim\",\"htop\"]}}\n");
  EXPECT_EQ(steps_of("get() { local to=${2:-/srv/x.zip}; wget -O \"$to\" \"https://example.org/$1\"; }\nget a-1.zip"),
            "{\"download\":{\"url\":\"https://example.org/a-1.zip\",\"to\":\"/srv/x.zip\"}}\n");
  EXPECT_EQ(steps_of("all() { for d in \"$@\"; do mkdir -p \"/srv/$d\"; done; }\nall a b"),
            "{\"directory\":{\"path\":\"/srv/a\"}}\n{\"directory\":{\"path\":\"/srv/b\"}}\n");
  EXPECT_EQ(steps_of("sub() { mkdir \"$1/sub\"; }\nsub ~/a"), "{\"directory\":{\"path\":\"~/a/sub\"}}\n");
  // $1 of awk is awk's.
  EXPECT_THAT(steps_of("f() { ps | awk '{print $1}'; }\nf a"), HasSubstr("awk '{print $1}'"));
}

TEST(Adopt, AFunctionThatOnlyAShellCanOpenStaysWholeAndSaysWhy) {
  for (const char* script :
       {"f() { local a=$1; shift; apt-get install -y \"$@\"; }\nf x git", "f() { mkdir \"/srv/$1\"; }\nf \"$(hostname)\"",
        "f() { mkdir \"/srv/${1%.d}\"; }\nf a.d", "f() { mkdir $1; }\nf 'a*'", "f() { for x; do mkdir $x; done; }\nf a",
        "f() { set -- a; mkdir $1; }\nf b", "f() { g() { mkdir \"$1\"; }; g x; mkdir \"$1\"; }\nf b"}) {
    const AdoptedScript adopted = adopt_script(script, "s.sh");
    EXPECT_EQ(adopted.typed, 0U) << script << adopted.recipe;
    EXPECT_THAT(adopted.recipe, HasSubstr("review: `f` stays a function: ")) << script;
    EXPECT_THAT(adopted.recipe, HasSubstr("f() {")) << script;
  }
}

TEST(Adopt, WhatIsLocalEndsWithItsFunction) {
  EXPECT_EQ(steps_of("N=a\nf() { local N=b M=c; mkdir \"/srv/$N\"; }\nf\nmkdir \"/srv/$N\""),
            "{\"directory\":{\"path\":\"/srv/b\"}}\n{\"directory\":{\"path\":\"/srv/a\"}}\n");
}

TEST(Adopt, TheScriptsOwnArgumentsAreNotGiven) {
  EXPECT_EQ(steps_of("V=${1:-1.2}\nwget https://example.org/a-$V.zip"),
            "{\"download\":{\"url\":\"https://example.org/a-1.2.zip\",\"to\":\"~/a-1.2.zip\"}}\n");
  EXPECT_EQ(steps_of("GPU=yes\nwhile [ $# -gt 0 ]; do case $1 in --cpu) GPU=no;; esac; shift; done\n[ $GPU = yes ] && mkdir /srv/gpu"),
            "{\"directory\":{\"path\":\"/srv/gpu\"}}\n");
  EXPECT_EQ(steps_of("main() { if [ \"$#\" -eq 0 ]; then mkdir /srv/a; else make \"$1\"; fi; }\nmain \"$@\""),
            "{\"directory\":{\"path\":\"/srv/a\"}}\n");
  const AdoptedScript adopted = adopt_script("if [ $# -lt 1 ]; then echo usage; exit 1; fi\nHOST=$1\nmake $HOST\nmake \"$2\"\n", "s.sh");
  EXPECT_THAT(adopted.recipe, HasSubstr("reads the script's arguments"));
  EXPECT_THAT(adopted.recipe, HasSubstr("review: HOST: `$1` is an argument of the script"));
  EXPECT_THAT(adopted.recipe, HasSubstr("review: `$2` is an argument of the script"));
}

TEST(Adopt, WhatTheScriptSetsAnswersItsQuestions) {
  EXPECT_EQ(steps_of("A=yes\nif [ \"$A\" = yes ]; then mkdir /a; else mkdir /b; fi"), "{\"directory\":{\"path\":\"/a\"}}\n");
  EXPECT_EQ(steps_of("A=no\nif [[ $A == y* ]]; then mkdir /a; elif [ -n \"$A\" ]; then mkdir /b; else mkdir /c; fi"),
            "{\"directory\":{\"path\":\"/b\"}}\n");
  EXPECT_EQ(steps_of("GPU=true\nif $GPU; then mkdir /a; fi\nif ! $GPU; then mkdir /b; fi\n[ 3 -lt 2 ] || mkdir /c"),
            "{\"directory\":{\"path\":\"/a\"}}\n{\"directory\":{\"path\":\"/c\"}}\n");
  EXPECT_EQ(steps_of("A=1\n[ \"$A\" = 1 ] && mkdir /a && mkdir /b"),
            "{\"directory\":{\"path\":\"/a\"}}\n{\"directory\":{\"path\":\"/b\"}}\n");
  // What somebody is asked, a file sets or the environment has is not known.
  for (const char* script :
       {"A=no\nread -p 'sure? ' A\nif [ \"$A\" = yes ]; then mkdir /a; fi", "A=${A:-no}\nif [ \"$A\" = yes ]; then mkdir /a; fi",
        "if [ \"$A\" = yes ]; then mkdir /a; fi", "A=no\ntest -e /x && A=yes\nif [ \"$A\" = yes ]; then mkdir /a; fi",
        "A=no\n. ~/settings\nif [ \"$A\" = yes ]; then mkdir /a; fi"}) {
    EXPECT_THAT(steps_of(script), HasSubstr(R"(if [ \"$A\" = yes ]; then mkdir /a; fi)")) << script;
  }
}

TEST(Adopt, AQuestionAfterAFailureIsTheRunsOwn) {
  EXPECT_EQ(steps_of("f() { apt-get install -y git\n if [ $? -ne 0 ]; then echo failed; return 1; fi\n mkdir /a; }\n"
                     "main() { if ! f; then echo no; exit 1; fi; return 0; }\nmain \"$@\""),
            "{\"apt\":{\"packages\":[\"git\"]}}\n{\"directory\":{\"path\":\"/a\"}}\n");
  EXPECT_THAT(steps_of("if ! command -v docker; then echo no; exit 1; fi\nmkdir /a"), HasSubstr("exit 1"));
}

TEST(Adopt, AFileThatEverySystemHasTellsNothing) {
  for (const char* command : {"sudo cp sshd_config /etc/ssh/sshd_config", "mv -f a ~/b", "make hosts > /etc/hosts"})
    EXPECT_THAT(steps_of(command), HasSubstr("/.local/state/adopted/")) << command;
  EXPECT_THAT(steps_of("sudo cp a.list /etc/apt/sources.list.d/a.list"), HasSubstr(R"("creates":"/etc/apt/sources.list.d/a.list")"));
}

TEST(Adopt, ExportsOfAStepBringWhatTheyAreMadeOf) {
  EXPECT_THAT(steps_of("D=opt\nexport PATH=\"/srv/$D/bin:$PATH\"\nmake a"),
              HasSubstr(R"("run":"D=opt\nexport PATH=\"/srv/$D/bin:$PATH\"\nmake a)"));
}

TEST(Adopt, APatternNamesWhatWasFetched) {
  EXPECT_EQ(steps_of("wget https://repo.anaconda.com/miniconda/Miniconda3-latest-Linux-x86_64.sh\nchmod +x Miniconda3*.sh\n"
                     "bash Miniconda3-*.sh -b -p ~/c\nrm Miniconda3*.sh"),
            "{\"conda\":{\"distribution\":\"miniconda\",\"prefix\":\"~/c\",\"init\":false,\"accept_tos\":false}}\n");
  EXPECT_EQ(steps_of("curl -LO https://example.org/tool\nchmod 755 tool"),
            "{\"download\":{\"url\":\"https://example.org/tool\",\"to\":\"~/tool\",\"mode\":\"0755\"}}\n");
}

TEST(Adopt, WhatATutorialLeavesOpenIsMarked) {
  const std::string recipe =
      adopt_script("git clone https://example.org/<your-name>/a.git\nexport TOKEN=YOUR_TOKEN\nmake $TOKEN YOUR_KEY\n", "s").recipe;
  EXPECT_THAT(recipe, HasSubstr("review: `<your-name>` is for you to fill in"));
  EXPECT_THAT(recipe, HasSubstr("review: `YOUR_KEY` is for you to fill in"));
}

TEST(Adopt, NothingToDoIsSaid) {
  EXPECT_THAT(steps_of("# only words\nset -e\n"), HasSubstr("no command"));
  EXPECT_THAT(steps_of(std::string("\x7f\x45LF\0\1", 6)), HasSubstr("expected a shell script"));
}

}  // namespace
}  // namespace gpustrap
