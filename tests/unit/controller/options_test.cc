#include "controller/options.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/text.h"
#include "controller/command_line.h"
#include "controller/display_width.h"
#include "controller/help_text.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Result<Options> read(const std::string& line) { return read_options(words(line)); }

TEST(Options, UpTakesWhatSshTakes) {
  const auto o = read("up jupyter ubuntu@203.0.113.7 -i key.pem -i b -p 2222 -L 9000:8888 --var port=8888 --var a=b=c -y --wait 5m");
  ASSERT_TRUE(o) << o.error().sentence();
  EXPECT_EQ(o->verb, Verb::up);
  EXPECT_EQ(o->recipe, "jupyter");
  EXPECT_EQ(o->host, "203.0.113.7");
  EXPECT_EQ(o->user, "ubuntu");
  EXPECT_EQ(o->destination(), "ubuntu@203.0.113.7");
  EXPECT_THAT(o->identities, ElementsAre("key.pem", "b"));
  EXPECT_EQ(o->port, 2222);
  EXPECT_EQ(o->forward->local, 9000);
  EXPECT_EQ(o->forward->remote, 8888);
  EXPECT_EQ(o->vars[1].second, "b=c");
  EXPECT_TRUE(o->yes);
  EXPECT_EQ(o->wait, std::chrono::minutes(5));
}

TEST(Options, ARunTakesAMirrorAndAProxy) {
  for (const char* verb : {"up", "plan"}) {
    const auto o = read(std::string(verb) + " jupyter h --mirror uni --proxy http://proxy.example.org:3128");
    ASSERT_TRUE(o) << o.error().sentence();
    EXPECT_EQ(o->mirror, "uni");
    EXPECT_EQ(o->proxy, "http://proxy.example.org:3128");
  }
  EXPECT_FALSE(read("up jupyter h")->mirror.has_value());
}

TEST(Options, UpAndPlanTakeAChoiceOfSteps) {
  for (const char* verb : {"up", "plan"}) {
    const auto o =
        read(std::string(verb) + " d2l gpu1 --from conda --only pip,jupyter --only gpu --skip apt --force pip --tags a,b --tag c");
    ASSERT_TRUE(o) << o.error().sentence();
    EXPECT_EQ(o->host, "gpu1");
    EXPECT_EQ(o->steps.from, "conda");
    EXPECT_THAT(o->steps.only, ElementsAre("pip", "jupyter", "gpu"));
    EXPECT_THAT(o->steps.skip, ElementsAre("apt"));
    EXPECT_THAT(o->steps.force, ElementsAre("pip"));
    EXPECT_THAT(o->steps.tags, ElementsAre("a", "b", "c"));
  }
}

TEST(Options, DoctorTakesAHostAndWhatToRepair) {
  const auto look = read("doctor ubuntu@gpu1 -i key --json");
  ASSERT_TRUE(look) << look.error().sentence();
  EXPECT_EQ(look->verb, Verb::doctor);
  EXPECT_EQ(look->destination(), "ubuntu@gpu1");
  EXPECT_FALSE(look->fix);
  for (const char* line :
       {"doctor gpu1 --fix shm-small nouveau -y", "doctor --fix shm-small nouveau gpu1 -y", "doctor shm-small -y nouveau gpu1 --fix"}) {
    const auto fix = read(line);
    ASSERT_TRUE(fix) << fix.error().sentence();
    EXPECT_EQ(fix->host, "gpu1");
    EXPECT_TRUE(fix->fix && fix->yes);
    EXPECT_THAT(fix->classes, ElementsAre("shm-small", "nouveau"));
  }
  EXPECT_EQ(read("doctor names --fix")->host, "names") << "a host may be called like a class";
  EXPECT_THAT(read("doctor gpu1 --fix")->classes, ElementsAre());
  EXPECT_TRUE(read("doctor --list")->list);
}

TEST(Options, DoctorSaysWhatIsMissingOrTooMuch) {
  EXPECT_THAT(read("doctor").error().why(), HasSubstr("doctor needs a host"));
  EXPECT_THAT(read("doctor gpu1 gpu2").error().why(), HasSubstr("`gpu2` is one word too many"));
  EXPECT_THAT(read("doctor gpu1 --fix shm-smal").error().why(), HasSubstr("doctor knows no `shm-smal`; did you mean `shm-small`?"));
  EXPECT_THAT(read("doctor gpu1 --fixx").error().why(), HasSubstr("did you mean --fix?"));
}

TEST(Options, UpAndPlanTakeManyHosts) {
  const auto many = read("up jupyter gpu1 ubuntu@gpu2 gpu3 --parallel 20 --limit failed -y");
  ASSERT_TRUE(many) << many.error().sentence();
  EXPECT_TRUE(many->is_fleet());
  EXPECT_THAT(many->hosts, ElementsAre("gpu1", "ubuntu@gpu2", "gpu3"));
  EXPECT_EQ(many->parallel, 20U);
  EXPECT_EQ(many->limit, "failed");
  EXPECT_EQ(many->host, "") << "what is remembered of one is no default of another";
  const auto file = read("plan jupyter -f hosts.yaml --limit gpu1,workers");
  ASSERT_TRUE(file) << file.error().sentence();
  EXPECT_TRUE(file->is_fleet());
  EXPECT_EQ(file->hosts_file, "hosts.yaml");
  EXPECT_FALSE(read("up jupyter gpu1")->is_fleet());
  for (const char* verb : {"status", "attach", "cancel", "remove"}) {
    EXPECT_TRUE(read(std::string(verb) + " gpu1 gpu2 --parallel 2")->is_fleet()) << verb;
    EXPECT_TRUE(read(std::string(verb) + " -f hosts.yaml --limit workers")->is_fleet()) << verb;
    EXPECT_EQ(read(std::string(verb) + " gpu1")->is_fleet(), std::string_view(verb) == "status") << verb;
  }
  EXPECT_EQ(read("attach u@gpu1")->host, "gpu1");
}

TEST(Options, OptionsMayStandBetweenAndBeforePlaces) {
  const auto o = read("up -i key.pem jupyter --json host.example");
  ASSERT_TRUE(o) << o.error().sentence();
  EXPECT_EQ(o->recipe, "jupyter");
  EXPECT_EQ(o->host, "host.example");
  EXPECT_TRUE(o->json);
}

TEST(Options, EveryVerbIsRead) {
  for (const auto& [line, verb] : {std::pair{"plan r h --exit-code", Verb::plan},
                                   std::pair{"attach h", Verb::attach},
                                   std::pair{"status a b", Verb::status},
                                   std::pair{"logs h pip", Verb::logs},
                                   std::pair{"cancel h", Verb::cancel},
                                   std::pair{"keep h 2h", Verb::keep},
                                   std::pair{"tunnel h", Verb::tunnel},
                                   std::pair{"url h", Verb::url},
                                   std::pair{"open h", Verb::open},
                                   std::pair{"ssh h", Verb::ssh},
                                   std::pair{"hosts", Verb::hosts},
                                   std::pair{"remove h -y", Verb::remove},
                                   std::pair{"recipe list", Verb::recipe_list},
                                   std::pair{"recipe show jupyter", Verb::recipe_show},
                                   std::pair{"recipe explain d2l --gpu t4", Verb::recipe_explain},
                                   std::pair{"recipe lint a.yaml b.yaml --format json", Verb::recipe_lint},
                                   std::pair{"recipe schema", Verb::recipe_schema},
                                   std::pair{"recipe new lab.yaml", Verb::recipe_new},
                                   std::pair{"recipe new", Verb::recipe_new},
                                   std::pair{"recipe explain apt --json", Verb::recipe_explain},
                                   std::pair{"recipe test lab.yaml --json", Verb::recipe_test},
                                   std::pair{"stop lab --json", Verb::stop},
                                   std::pair{"recipe show jupyter --json --var port=1", Verb::recipe_show},
                                   std::pair{"adopt setup.sh -o lab.yaml", Verb::adopt},
                                   std::pair{"adopt -", Verb::adopt},
                                   std::pair{"pack d2l --arch aarch64 --user-data https://a/b -o d2l.sh --var edition=zh", Verb::pack},
                                   std::pair{"completion zsh", Verb::completion},
                                   std::pair{"man", Verb::man},
                                   std::pair{"__complete up jupyter --nonsense", Verb::complete},
                                   std::pair{"version", Verb::version},
                                   std::pair{"--version", Verb::version}}) {
    const auto o = read(line);
    ASSERT_TRUE(o) << line << ": " << o.error().sentence();
    EXPECT_EQ(o->verb, verb) << line;
  }
  const auto explain = read("recipe explain d2l --gpu t4 --gpu l4 --os ubuntu:24.04 --cuda 12.4 --driver 580 --var a=b");
  ASSERT_TRUE(explain) << explain.error().sentence();
  EXPECT_THAT(explain->gpus, ElementsAre("t4", "l4"));
  EXPECT_EQ(explain->cuda, "12.4");
  EXPECT_EQ(explain->vars.size(), 1U);
  EXPECT_EQ(read("logs h pip")->step, "pip");
  const auto pull = read("pull u@h -i k runs/ out --overwrite --checksum -n");
  ASSERT_TRUE(pull) << pull.error().sentence();
  EXPECT_EQ(pull->verb, Verb::pull);
  EXPECT_EQ(pull->host, "h");
  EXPECT_EQ(pull->path, "runs/");
  EXPECT_EQ(pull->folder, "out");
  EXPECT_TRUE(pull->overwrite && pull->checksum && pull->dry_run);
  EXPECT_EQ(read("push h ~/.ssh/id_ed25519.pub")->folder, ".") << "a key may be what is copied";
  const auto logs = read("logs h pip -f --tail 20 --run 20260801-141503-7f3a");
  ASSERT_TRUE(logs) << logs.error().sentence();
  EXPECT_TRUE(logs->follow);
  EXPECT_EQ(logs->tail, 20U);
  EXPECT_EQ(logs->run, "20260801-141503-7f3a");
  EXPECT_THAT(read("status a u@b")->hosts, ElementsAre("a", "u@b"));
  EXPECT_EQ(read("status a u@b")->host, "") << "what is remembered of the first host would count for all";
  EXPECT_EQ(read("-V")->verb, Verb::version);
  EXPECT_EQ(read("--help up")->help, read("up --help")->help);
  EXPECT_EQ(read("hosts --forget u@h")->host, "h");
}

// Root's runs are root's to read: whoever needs the password for `up` needs it for the rest.
TEST(Options, EveryVerbThatAsksTheAgentMayAskForTheSudoPassword) {
  for (const char* verb : {"attach", "status", "logs", "cancel", "keep", "tunnel", "url", "open", "remove"}) {
    const Result<Options> options = read_options({verb, "gpu1", "--ask-sudo-password"});
    ASSERT_TRUE(options.has_value()) << verb << ": " << options.error().sentence();
    EXPECT_TRUE(options->ask_sudo_password) << verb;
  }
  EXPECT_TRUE(read_options({"up", "jupyter", "gpu1", "--ask-sudo-password"}).value().ask_sudo_password);
  EXPECT_TRUE(read_options({"plan", "jupyter", "gpu1", "--ask-sudo-password"}).value().ask_sudo_password);
}

TEST(Options, KeepTakesATimeOrOffOrNeither) {
  EXPECT_EQ(read("keep gpu1 2h")->keep_on, std::chrono::hours(2));
  EXPECT_EQ(read("keep u@gpu1 30m --json")->keep_on, std::chrono::minutes(30));
  EXPECT_EQ(read("keep gpu1 --off")->keep_on, std::chrono::seconds(0));
  EXPECT_EQ(read("keep gpu1")->keep_on, std::nullopt);
  EXPECT_EQ(read("keep gpu1")->host, "gpu1");
  EXPECT_THAT(read("keep gpu1 2h --off").error().sentence(), HasSubstr("exclude each other"));
  EXPECT_THAT(read("keep gpu1 soon").error().sentence(), HasSubstr("keep HOST soon: expected a time"));
  EXPECT_THAT(read("keep gpu1 0s").error().sentence(), HasSubstr("more than nothing"));
  EXPECT_THAT(read("keep gpu1 721h").error().sentence(), HasSubstr("at most 30 days"));
}

TEST(Options, SshPassesTheRestOn) {
  const auto o = read("ssh -i k ubuntu@h nvidia-smi -L");
  ASSERT_TRUE(o) << o.error().sentence();
  EXPECT_EQ(o->host, "h");
  EXPECT_THAT(o->command, ElementsAre("nvidia-smi", "-L"));
}

TEST(Options, SshTakesItsOptionsBehindTheHostToo) {
  const auto o = read("ssh ubuntu@h -i k -p 22 ls -l /");
  ASSERT_TRUE(o) << o.error().sentence();
  EXPECT_EQ(o->host, "h");
  EXPECT_THAT(o->identities, ElementsAre("k"));
  EXPECT_THAT(o->command, ElementsAre("ls", "-l", "/"));
}

TEST(Options, ColonsOfAnIpv6AddressAreNoPort) {
  EXPECT_EQ(read("attach fe80::1")->host, "fe80::1");
  EXPECT_EQ(read("attach u@[::1]")->host, "::1");
}

struct Mistake {
  const char *line, *why, *hint;
};
void PrintTo(const Mistake& mistake, std::ostream* out) { *out << mistake.line; }
TEST(Options, LaunchTakesAMachineAndWhatIsToBecomeOfIt) {
  const auto o = read(
      "launch --gpu 4xa10g --spot --recipe d2l --name lab --disk 128GiB --image dlami --ssh-from 198.51.100.7 --region eu-west-1 -i k -y");
  ASSERT_TRUE(o) << o.error().sentence();
  EXPECT_EQ(o->verb, Verb::launch);
  EXPECT_THAT(o->gpus, ElementsAre("4xa10g"));
  EXPECT_TRUE(o->cloud.spot);
  EXPECT_EQ(o->cloud.disk_gib, 128);
  EXPECT_EQ(o->cloud.image, "dlami");
  EXPECT_EQ(o->cloud.region, "eu-west-1");
  EXPECT_EQ(o->recipe, "d2l");
  EXPECT_THAT(read("launch --type g5.xlarge,g6.xlarge")->cloud.types, ElementsAre("g5.xlarge", "g6.xlarge"));
  EXPECT_TRUE(read("ls --idle")->cloud.idle);
  EXPECT_TRUE(read("ls --orphans --all-regions")->cloud.all_regions);
  const auto guarded = read("launch --gpu t4 --idle-stop 30m --budget 5USD --price 0.2USD/h");
  ASSERT_TRUE(guarded) << guarded.error().sentence();
  EXPECT_EQ(guarded->guard.idle_stop, "30m");
  EXPECT_EQ(guarded->guard.budget, "5USD");
  EXPECT_EQ(guarded->guard.price, "0.2USD/h");
  for (const char* line : {"up jupyter gpu1 --idle-stop 1h", "plan jupyter gpu1 gpu2 --idle-stop 1h", "pack jupyter --idle-stop 1h"})
    EXPECT_EQ(read(line)->guard.idle_stop, "1h") << line;
  EXPECT_THAT(read("terminate lab i-0123")->hosts, ElementsAre("lab", "i-0123"));
  EXPECT_EQ(read("quota request 8 --gpu t4")->cloud.vcpus, 8.0);
}

class Mistakes : public ::testing::TestWithParam<Mistake> {};

TEST(Options, APathIsNotEmpty) {
  for (const char* verb : {"pull", "push"}) {
    const auto o = read_options({verb, "gpu1", ""});
    ASSERT_FALSE(o) << verb;
    EXPECT_EQ(o.error().code(), ErrorCode::usage);
    EXPECT_EQ(o.error().why(), std::string(verb) + ": a path is empty");
    EXPECT_EQ(o.error().hint(), "`.` is the folder itself");
  }
}

TEST_P(Mistakes, GetASentence) {
  const auto o = read(GetParam().line);
  ASSERT_FALSE(o);
  EXPECT_EQ(o.error().code(), ErrorCode::usage);
  EXPECT_THAT(o.error().why(), HasSubstr(GetParam().why));
  EXPECT_THAT(o.error().hint(), HasSubstr(GetParam().hint));
}

INSTANTIATE_TEST_SUITE_P(
    OfNewcomers, Mistakes,
    ::testing::Values(
        Mistake{"ubuntu@host", "what is to be done", "gpustrap up jupyter ubuntu@host"},
        Mistake{"ubuntu@host jupyter", "what is to be done", "gpustrap up jupyter ubuntu@host"},
        Mistake{"jupyter ubuntu@host", "no verb `jupyter`", "gpustrap up jupyter ubuntu@host"},
        Mistake{"203.0.113.7", "what is to be done", "gpustrap up jupyter 203.0.113.7"},
        Mistake{"-i key.pem up jupyter h", "`-i` stands before the verb", "gpustrap up"},
        Mistake{"lint mine.yaml", "it is `recipe lint`", "gpustrap recipe lint mine.yaml"},
        Mistake{"new", "it is `recipe new`", "gpustrap recipe new lab.yaml"},
        Mistake{"explain d2l --gpu t4", "it is `recipe explain`", "gpustrap recipe explain d2l --gpu t4"},
        Mistake{"list", "it is `recipe list`", "gpustrap recipe list"},
        Mistake{"schema", "it is `recipe schema`", "gpustrap recipe schema"},
        Mistake{"test lab.yaml", "it is `recipe test`", "gpustrap recipe test lab.yaml"},
        Mistake{"run jupyter u@h", "no verb `run`; here it is `up`", "gpustrap up jupyter u@h"},
        Mistake{"apply ./lab.yaml", "here it is `up`", "gpustrap up ./lab.yaml"},
        Mistake{"deploy", "here it is `up`", "gpustrap up jupyter"}, Mistake{"install jupyter", "here it is `up`", "gpustrap up jupyter"},
        Mistake{"up jupyter h --dry-run", "`plan` says what would change", "gpustrap plan RECIPE HOST"},
        Mistake{"up jupyter h --check", "`plan` says what would change", "gpustrap plan RECIPE HOST"},
        Mistake{"satus h", "did you mean `status`", "--help"}, Mistake{"frobnicate", "no verb `frobnicate`", "--help"},
        Mistake{"up", "needs a recipe and a host", "gpustrap up jupyter ubuntu@HOST"},
        Mistake{"up jupyter", "needs a host", "gpustrap up jupyter ubuntu@HOST"},
        Mistake{"up ubuntu@host", "needs a recipe before the host", "gpustrap up jupyter ubuntu@host"},
        Mistake{"up 203.0.113.7", "needs a recipe before the host", "gpustrap recipe list"},
        Mistake{"up ubuntu@host jupyter", "the recipe comes before the host", "gpustrap up jupyter ubuntu@host"},
        Mistake{"plan ubuntu@host ./lab.yaml", "the recipe comes before the host", "gpustrap plan ./lab.yaml ubuntu@host"},
        Mistake{"up jupyter ubuntu@host key.pem", "`key.pem` looks like a key file", "-i key.pem"},
        Mistake{"up jupyter key.pem ubuntu@host", "looks like a key file", "-i key.pem"},
        Mistake{"up jupyter /home/me/aws-key ubuntu@host", "`/home/me/aws-key` is a path, not a host", "-i /home/me/aws-key"},
        Mistake{"up jupyter ubuntu@host ./mykey", "`./mykey` is a path, not a host", "-i ./mykey"},
        Mistake{"attach h ~/.ssh/id_ed25519", "looks like a key file", "-i"},
        Mistake{"up jupyter ubuntu@host -i key.pub", "public half", "-i key"},
        Mistake{"up jupyter a.example a.example", "given twice", "once"},
        Mistake{"up jupyter a.example hosts.yaml b.example", "is a file, not a host", "-f hosts.yaml"},
        Mistake{"up jupyter a.example b.example -L 8889", "-L is for the tunnel to one host", "gpustrap tunnel HOST -L 8889"},
        Mistake{"up jupyter a.example --limit failed", "there is one", "-f hosts.yaml"},
        Mistake{"up jupyter -f hosts.yaml gpu1 gpu2", "the hosts come from hosts.yaml", "--limit gpu1,gpu2"},
        Mistake{"up -f hosts.yaml", "needs a recipe beside the hosts file", "gpustrap up jupyter -f hosts.yaml"},
        Mistake{"plan jupyter a.example b.example --parallel many", "expected a number", "--parallel 20"},
        Mistake{"attach -f hosts.yaml gpu1 gpu2", "`gpu1` is one word too many", "--limit gpu1,gpu2"},
        Mistake{"status gpu1 --limit workers", "there is one", "-f hosts.yaml"}, Mistake{"status a a", "given twice", "once"},
        Mistake{"status $(id)", "cannot be a host", "USER@HOST"},
        Mistake{"pull h", "pull needs a path on h", "gpustrap pull h notebooks ."},
        Mistake{"push h", "push needs a path to copy to h", "gpustrap push h data.zip"},
        Mistake{"pull", "pull needs a host", "gpustrap pull HOST"}, Mistake{"pull h a b c", "`c` is one word too many", "gpustrap pull"},
        Mistake{"logs h --tail many", "--tail many: expected a number", "--tail 20"},
        Mistake{"up jupyter ubuntu@host:2222", "the port goes behind -p", "ubuntu@host -p 2222"},
        Mistake{"up jupyter u@[::1]:2222", "the port goes behind -p", "-p 2222"},
        Mistake{"up jupyter ssh://u@h", "without ssh://", "USER@HOST"}, Mistake{"up jupyter @h", "no user before", "h"},
        Mistake{"up jupyter u@", "no host in it", "USER@HOST"}, Mistake{"up jupyter u@-oProxyCommand=x", "cannot be a host", "USER@HOST"},
        Mistake{"up jupyter $(id)", "cannot be a host", "USER@HOST"},
        Mistake{"up jupyter h -l a --detatch", "did you mean --detach", "gpustrap up --help"},
        Mistake{"up jupyter u@h -l other", "two users", "one of them"},
        Mistake{"up jupyter h -p ssh", "-p ssh: a port is a number", "-p 2222"}, Mistake{"up jupyter h -p 70000", "from 1 to 65535", ""},
        Mistake{"up jupyter h -L x", "-L x: a port is a number", "-L 8889:8888"},
        Mistake{"up jupyter h -L 1:2:3:4", "-L 1:2:3:4: expected LOCAL:REMOTE", "-L 8889:8888"},
        Mistake{"report h --json --html a.html", "--json and --html exclude each other", "run it once with each"},
        Mistake{"up jupyter a b --keep 5m", "--keep is for the connection to one host", "name one host, or leave it out"},
        Mistake{"quota --gpu t4 --gpu l4", "--gpu is given twice", "--gpu 4xa10g"},
        Mistake{"quota request 8", "quota request needs to know for which machines", "gpustrap quota request 8 --gpu t4"},
        Mistake{"up jupyter h -L 1:other:2", "only the host's own loopback", "-L 1:2"},
        Mistake{"up jupyter h --var port", "expected NAME=VALUE", "--var port=9000"},
        Mistake{"up jupyter h --wait soon", "expected a time", "--wait 90s"}, Mistake{"up jupyter h -q -v", "exclude each other", ""},
        Mistake{"up jupyter h -i", "-i needs its FILE behind it", "--help"},
        Mistake{"plan jupyter h --detach", "plan has no option --detach", "gpustrap plan --help"},
        Mistake{"attach", "attach needs a host", "gpustrap attach HOST"},
        Mistake{"url a b", "`b` is one word too many", "gpustrap url HOST"}, Mistake{"hosts a", "one word too many", "--forget"},
        Mistake{"launch", "which machine", "gpustrap launch --gpu t4"},
        Mistake{"launch --gpu t4 --type g5.xlarge", "exclude each other", "leave --gpu out"},
        Mistake{"image --remove lab --no-reboot", "exclude each other", "image --remove"},
        Mistake{"launch --gpu t4 --idle-stop soon", "--idle-stop soon: ", "--idle-stop 30m"},
        Mistake{"up jupyter gpu1 --idle-stop 30", "--idle-stop 30: ", "--idle-stop 30m"},
        Mistake{"launch --gpu t4 --budget cheap", "--budget cheap: ", "--budget 5USD"},
        Mistake{"launch --gpu t4 --budget 5USD --price 1USD", "--price 1USD: ", "--price 0.526USD/h"},
        Mistake{"launch --gpu t4 --price 1USD/h", "--price without --budget", "--budget 5USD"},
        Mistake{"launch --gpu t4 --idle-stop 30m --no-wait", "--no-wait ends before", "leave --no-wait out"},
        Mistake{"ls --all-regions --region eu-west-1", "exclude each other", "gpustrap ls --all-regions"},
        Mistake{"ls --idle --orphans", "exclude each other", "gpustrap ls --idle"},
        Mistake{"launch --gpu t4 --disk big", "--disk big", "--disk 64"},
        Mistake{"launch lab --gpu t4", "`lab` is one word too many", "--name"},
        Mistake{"terminate", "needs a name", "gpustrap terminate NAME"},
        Mistake{"quota raise 5", "quota raise 5", "quota request 8 --gpu t4"},
        Mistake{"quota request many --gpu t4", "expected a number", "quota request 8"},
        Mistake{"recipe", "needs to know what to do", "gpustrap recipe list"},
        Mistake{"lab.yaml", "what is to be done with that recipe", "gpustrap up lab.yaml ubuntu@HOST"},
        Mistake{"lab.yaml ubuntu@h.example", "what is to be done", "gpustrap plan lab.yaml ubuntu@h.example"},
        Mistake{"recipe lst", "did you mean `list`", "gpustrap recipe new"},
        Mistake{"recipe show", "needs a recipe", "gpustrap recipe show"},
        Mistake{"recipe explain", "needs a recipe or a kind", "gpustrap recipe explain"},
        Mistake{"adopt", "needs a shell script", "gpustrap adopt setup.sh"}, Mistake{"pack", "needs a recipe", "gpustrap pack d2l"},
        Mistake{"recipe lint", "needs a recipe", "gpustrap recipe lint"},
        Mistake{"recipe lint a --format xml", "expected text, json or sarif", ""}, Mistake{"version now", "one word too many", ""},
        Mistake{"completion", "needs a shell", "gpustrap completion bash"}, Mistake{"completion tcsh", "expected bash, zsh or fish", ""}));

// A verb and a file may have one name; without `/` it is never the file.
TEST(Options, AFileThatIsCalledLikeAVerbIsNamedWithItsFolder) {
  const TemporaryDirectory folder;
  const std::string before = std::filesystem::current_path().string();
  std::filesystem::current_path(folder.path());
  for (const char* name : {"run", "test", "lab"}) {
    std::ofstream(name) << "name: x\nsteps: []\n";
    const auto options = read_options({name, "ubuntu@h.example"});
    ASSERT_FALSE(options);
    EXPECT_EQ(options.error().why(), fmt::format("there is no verb `{0}`; for the file of that name write `./{0}`", name));
    EXPECT_THAT(options.error().hint(), HasSubstr(fmt::format("gpustrap up ./{} ubuntu@h.example", name)));
  }
  std::filesystem::current_path(before);
}

TEST(Help, FitsIn80ColumnsAndStartsWithExamples) {
  std::vector<std::vector<std::string>> lines = {{"--help"}, {"recipe", "--help"}};
  for (const VerbDescription& verb : describe_verbs()) {
    lines.push_back(words(verb.name));
    lines.back().emplace_back("--help");
  }
  for (const auto& line : lines) {
    const auto o = read_options(line);
    ASSERT_TRUE(o) << line[0] << ": " << o.error().sentence();
    EXPECT_EQ(o->verb, Verb::help);
    EXPECT_THAT(o->help, HasSubstr("Examples\n  gpustrap " + (line[0] == "--help" ? "up" : line[0]))) << line[0];
    for (const std::string& text : split(o->help, '\n')) EXPECT_LE(display_width(text), 80U) << text;
  }
}

/// An example: its words, without what is said of it behind many spaces and what the shell does with it.
std::vector<std::string> words_of_example(const std::string& line) {
  const std::size_t note = line.find("  ", 2);
  std::vector<std::string> said = words(line.substr(0, note));
  const auto shell =
      std::find_if(said.begin(), said.end(), [](const std::string& word) { return word == ">" || word == "<" || word == "|"; });
  said.erase(shell, said.end());
  return said;
}

TEST(Help, EveryVerbHasExamplesThatCanBeTyped) {
  for (const VerbDescription& verb : describe_verbs()) {
    EXPECT_FALSE(verb.what.empty()) << verb.name;
    EXPECT_FALSE(verb.examples.empty()) << verb.name << ": help_text.cc gives no example of it";
    for (const std::string& line : split(verb.examples, '\n')) {
      if (line.empty()) continue;
      EXPECT_TRUE((line + " ").starts_with("  gpustrap " + verb.name + " ")) << verb.name << ": " << line;
      std::vector<std::string> said = words_of_example(line);
      said.erase(said.begin());
      const auto read = read_options(said);
      EXPECT_TRUE(read) << line << ": " << (read ? "" : read.error().sentence());
    }
  }
}

TEST(Help, EveryOptionHasAText) {
  for (const VerbDescription& verb : describe_verbs()) {
    EXPECT_FALSE(verb.options.empty()) << verb.name << " does not even have --help";
    for (const OptionDescription& option : verb.options) {
      EXPECT_FALSE(option.what.empty()) << verb.name << " " << option.synopsis();
      EXPECT_THAT(option.group, ::testing::AnyOf("Run", "Connection", "Output")) << verb.name << " " << option.synopsis();
      EXPECT_EQ(option.takes_value(), option.value != "") << option.synopsis();
    }
  }
}

TEST(Help, OfTheProgramNamesEveryVerb) {
  const std::string help = read("--help")->help;
  for (const VerbDescription& verb : describe_verbs()) EXPECT_THAT(help, HasSubstr(verb.name.substr(0, verb.name.find(' ')))) << verb.name;
  for (const std::string& name : verb_names()) EXPECT_TRUE(read_options({name, "--help"})) << name;
}

/// A value that help lists is one that the command line takes.
TEST(Help, ListsValuesThatAreTaken) {
  for (const char* format : {"text", "json", "sarif"}) EXPECT_TRUE(read(std::string("recipe lint a --format ") + format));
  for (const VerbDescription& verb : describe_verbs()) {
    for (const OptionDescription& option : verb.options) {
      if (verb.name != "recipe lint" || option.name() != "--format") continue;
      EXPECT_EQ(option.value, "text|json|sarif");
    }
  }
  for (const char* shell : {"bash", "zsh", "fish"}) EXPECT_EQ(read(std::string("completion ") + shell)->shell, shell);
}

TEST(Help, OfOneVerb) {
  const auto o = read("up --help");
  ASSERT_TRUE(o);
  EXPECT_THAT(o->help, HasSubstr("Usage: gpustrap up RECIPE HOST... [OPTION]..."));
  for (const char* option : {"-i FILE", "-p PORT", "-L LOCAL:REMOTE", "--var NAME=VALUE", "-y --yes", "--json", "--accept-new-host-key"}) {
    EXPECT_THAT(o->help, HasSubstr(option));
  }
  EXPECT_EQ(read("help up")->help, o->help);
}

}  // namespace
}  // namespace gpustrap
