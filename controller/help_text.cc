#include "controller/help_text.h"

#include <array>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

struct Example {
  std::string_view verb, lines;
};

constexpr std::array kExamples = {
    Example{"up",
            "  gpustrap up jupyter ubuntu@203.0.113.7 -i key.pem    first time\n"
            "  gpustrap up jupyter 203.0.113.7                      again; it remembers\n"
            "  gpustrap up ./lab.yaml gpu1 --var port=9000          your own recipe\n"
            "  gpustrap up d2l gpu1 --mirror uni                    docs/configuration.md\n"
            "  gpustrap up d2l gpu1 --from pip                      from there on\n"
            "  gpustrap up d2l gpu1 --only pip,jupyter --force pip  some, one at any rate\n"
            "  gpustrap up d2l gpu1 gpu2 gpu3                       many hosts at once\n"
            "  gpustrap up d2l -f hosts.yaml --limit failed         docs/hosts.md\n"},
    Example{"plan",
            "  gpustrap plan jupyter ubuntu@203.0.113.7\n"
            "  gpustrap plan ./lab.yaml gpu1 --exit-code            3: it would change\n"},
    Example{"attach",
            "  gpustrap attach 203.0.113.7                          from the start, then live\n"
            "  gpustrap attach -f hosts.yaml                        many, a line each\n"},
    Example{"status",
            "  gpustrap status 203.0.113.7\n"
            "  gpustrap status gpu1 gpu2 gpu3                       a table\n"
            "  gpustrap status -f hosts.yaml --json                 docs/json.md\n"},
    Example{"logs",
            "  gpustrap logs 203.0.113.7\n"
            "  gpustrap logs 203.0.113.7 pip                        one step's output\n"
            "  gpustrap logs 203.0.113.7 pip -f --tail 20           and on, as it comes\n"
            "  gpustrap logs gpu1 --run 20260801-141503-7f3a        of an earlier run\n"},
    Example{"cancel", "  gpustrap cancel 203.0.113.7\n  gpustrap cancel 203.0.113.7 --now\n  gpustrap cancel -f hosts.yaml\n"},
    Example{"keep",
            "  gpustrap keep 203.0.113.7 2h                         on for two hours\n"
            "  gpustrap keep 203.0.113.7                            until when?\n"
            "  gpustrap keep 203.0.113.7 --off                      stop when idle again\n"},
    Example{"tunnel",
            "  gpustrap tunnel 203.0.113.7\n  gpustrap tunnel 203.0.113.7 -L 9000:8888\n  gpustrap tunnel 203.0.113.7 -L 8265:8265         "
            "    not the notebook's\n"},
    Example{"url", "  gpustrap url 203.0.113.7\n"},
    Example{"open", "  gpustrap open 203.0.113.7\n"},
    Example{"ssh", "  gpustrap ssh 203.0.113.7\n  gpustrap ssh 203.0.113.7 nvidia-smi\n"},
    Example{"hosts", "  gpustrap hosts\n  gpustrap hosts --forget 203.0.113.7\n"},
    Example{"pull",
            "  gpustrap pull gpu1 notebooks                         to ./notebooks\n"
            "  gpustrap pull gpu1 results/ out                      what is in it, to out\n"
            "  gpustrap pull gpu1 runs/7/model.bin . -n             only list it\n"},
    Example{"push",
            "  gpustrap push gpu1 data.zip                          to the login's home\n"
            "  gpustrap push gpu1 project lab                       to ~/lab/project\n"
            "  gpustrap push gpu1 project lab --overwrite           also what is newer there\n"},
    Example{"remove", "  gpustrap remove 203.0.113.7\n  gpustrap remove gpu1 gpu2 -y\n"},
    Example{"report",
            "  gpustrap report                                      the newest run\n"
            "  gpustrap report gpu1                                 the newest of a host\n"
            "  gpustrap report gpu1 gpu2 --html report.html         a page for both\n"},
    Example{"doctor",
            "  gpustrap doctor ubuntu@203.0.113.7 -i key.pem        what is wrong there\n"
            "  gpustrap doctor gpu1 --fix                           repair what can be\n"
            "  gpustrap doctor gpu1 --fix shm-small                 that alone\n"
            "  gpustrap doctor --list                               what it looks at\n"},
    Example{"history",
            "  gpustrap history                                     all runs, newest first\n"
            "  gpustrap history gpu1                                those on a host\n"},
    Example{"recipe",
            "  gpustrap recipe list\n  gpustrap recipe show jupyter > lab.yaml              a start for your own\n"
            "  gpustrap recipe explain d2l --gpu t4 --os ubuntu:22.04\n"
            "  gpustrap recipe explain archive                      what a kind of step takes\n"
            "  gpustrap recipe explain archive --json               docs/json.md\n"
            "  gpustrap recipe lint ./lab.yaml                      what could be better\n"
            "  gpustrap recipe lint ./*.yaml --format sarif         for code scanning\n"
            "  gpustrap recipe lint ./lab.yaml --upstream           is it all still there?\n"
            "  gpustrap recipe new lab.yaml                         a start with comments\n"
            "  gpustrap recipe test ./lab.yaml                      on a throw-away host\n"
            "  gpustrap recipe test ./lab.yaml --gpu t4 --junit junit.xml\n"
            "  gpustrap recipe test ./lab.yaml --json               for programs\n"
            "  gpustrap recipe schema > recipe.schema.json          for editors\n"},
    Example{"pack",
            "  gpustrap pack jupyter                                jupyter-x86_64.sh\n"
            "  gpustrap pack ./lab.yaml -o lab.sh --arch aarch64\n"
            "  gpustrap pack ./lab.yaml --json                      its digest and more\n"
            "  gpustrap pack d2l --user-data https://example.org/d2l-x86_64.sh\n"},
    Example{"adopt",
            "  gpustrap adopt setup.sh -o lab.yaml\n"
            "  gpustrap adopt README.md -o lab.yaml                 a page's ```bash blocks\n"
            "  gpustrap adopt - < commands.txt                      a tutorial's commands\n"
            "  gpustrap adopt setup.sh --json                       with what to review\n"},
    Example{"completion",
            "  gpustrap completion bash > ~/.local/share/bash-completion/completions/gpustrap\n"
            "  gpustrap completion fish > ~/.config/fish/completions/gpustrap.fish\n"
            "  gpustrap completion zsh > ~/.zfunc/_gpustrap         docs/terminal.md\n"},
    Example{"config",
            "  gpustrap config\n"
            "  gpustrap config --origin                             who said so\n"},
    Example{"man",
            "  gpustrap man\n"
            "  gpustrap man > gpustrap.1\n"},
    Example{"launch",
            "  gpustrap launch --gpu t4                             one T4; it asks first\n"
            "  gpustrap launch --gpu a10g --spot --recipe d2l       to an open notebook\n"
            "  gpustrap launch --type g5.xlarge,g6.xlarge --name lab --disk 128\n"
            "  gpustrap launch --gpu t4 --idle-stop 30m --budget 5USD\n"},
    Example{"ls",
            "  gpustrap ls\n"
            "  gpustrap ls --idle                                   who is in use?\n"
            "  gpustrap ls --orphans                                what is left over\n"
            "  gpustrap ls --orphans --all-regions                  wherever it is\n"},
    Example{"start", "  gpustrap start lab\n"},
    Example{"stop", "  gpustrap stop lab\n"},
    Example{"terminate", "  gpustrap terminate lab\n  gpustrap terminate i-0123456789abcdef0\n"},
    Example{"image",
            "  gpustrap image lab lab-2026                          for launch --image\n"
            "  gpustrap image --remove lab-2026                     and its snapshots\n"},
    Example{"quota", "  gpustrap quota --gpu t4\n  gpustrap quota request 8 --gpu t4                    new accounts may have 0\n"},
    Example{"version", "  gpustrap version\n"},
};

}  // namespace

std::string_view overview_help() {
  return R"(gpustrap turns a bare machine that answers SSH into a ready one: driver, Python
environment, and a notebook open on your own localhost.

Examples
  gpustrap up jupyter ubuntu@203.0.113.7 -i key.pem   set up, open notebook
  gpustrap up jupyter 203.0.113.7                     again: only what differs
  gpustrap plan jupyter 203.0.113.7                   what a run would change

Run
  up RECIPE HOST         make the host what the recipe says, open its notebook
  up RECIPE HOST...      many hosts at once; -f FILE: those of a hosts file
  plan RECIPE HOST       what `up` would change; changes nothing
  attach HOST...         follow a run, also one that is over
  status HOST...         what hosts are, their runs, their notebooks
  logs HOST [STEP]       what the steps of the last run printed; -f: and on
  history [HOST]         the runs that this machine has seen
  report [RUN|HOST]      where a run's time went; --html FILE for a page
  doctor HOST            what is wrong with a host, and how to repair it
  cancel HOST...         stop the run after its current step
  keep HOST [TIME]       put off the stop of an idle host (docs/idle.md)

Notebook
  tunnel HOST            hold the tunnel to the notebook open
  url HOST               print the notebook's address with its token
  open HOST              the same in a browser

Hosts
  ssh HOST [COMMAND]     a shell there, with the settings that `up` used
  hosts                  the hosts that are remembered; --forget HOST
  pull HOST PATH [DIR]   copy files from there; what is newer here stays
  push HOST PATH [DIR]   copy files there
  remove HOST...         take gpustrap off hosts, not what recipes installed

EC2 (docs/ec2.md)
  launch --gpu GPU       rent a machine; with --recipe, to an open notebook
  ls                     what is rented, since when, what it has cost; --orphans
  start, stop NAME       follow the address; stop ends the bill but the disk's
  terminate NAME         end it for good
  image NAME [IMAGE]     an image of it, to launch others from; --remove IMAGE
  quota                  how much the account may run; quota request VCPUS

Recipes
  recipe list            the recipes that can be named
  recipe show RECIPE     print one
  recipe explain RECIPE  what it would do on which GPU; also: explain a KIND
  recipe lint RECIPE...  what could be better, with reasons
  recipe test RECIPE     run it twice on a host that is thrown away afterwards
  recipe new [FILE]      a recipe to begin with; recipe schema: for editors
  adopt SCRIPT           make a recipe of a shell script
  pack RECIPE            one file for user data, images, hosts without network
  config                 what holds for all your runs; --origin: who said so
  completion SHELL       what makes bash, zsh or fish complete words; also: man
  version                versions of the program and of its agents

`gpustrap VERB --help` shows examples and options of one verb.
Exit codes: 0 done, 1 a step failed, 2 usage or recipe, 3 plan has changes
(--exit-code), 4 unreachable, 5 host key, 6 login or sudo, 7 EC2,
8 notebook not proven, 9 detached, 10 another run is in progress, 130 cancelled.
)";
}

std::string examples_of(std::string_view verb) {
  const std::string_view first = verb.substr(0, verb.find(' '));
  for (const Example& example : kExamples) {
    if (example.verb == verb) return std::string(example.lines);
    if (example.verb != first) continue;
    std::string lines;
    for (const std::string& line : split(example.lines, '\n')) {
      if ((line + " ").starts_with(fmt::format("  gpustrap {} ", verb))) lines += line + "\n";
    }
    return lines;
  }
  return "";
}

const std::vector<std::string>& verb_names() {
  static const std::vector<std::string> names = {"up",     "plan",    "attach", "status", "logs",      "cancel",     "keep",   "tunnel",
                                                 "url",    "open",    "ssh",    "hosts",  "pull",      "push",       "remove", "report",
                                                 "doctor", "history", "recipe", "adopt",  "pack",      "completion", "config", "man",
                                                 "launch", "ls",      "start",  "stop",   "terminate", "image",      "quota",  "version"};
  return names;
}

}  // namespace gpustrap
