#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "controller/console.h"
#include "controller/option_values.h"
#include "controller/settings.h"
#include "controller/status_printer.h"
#include "controller/step_choice.h"

namespace gpustrap {

enum class Verb {
  help,
  up,
  plan,
  attach,
  status,
  logs,
  cancel,
  keep,
  tunnel,
  url,
  open,
  ssh,
  hosts,
  remove,
  pull,
  push,
  report,
  doctor,
  history,
  recipe_list,
  recipe_show,
  recipe_explain,
  recipe_lint,
  recipe_schema,
  recipe_new,
  recipe_test,
  adopt,
  pack,
  completion,
  complete,
  config,
  man,
  launch,
  ls,
  start,
  stop,
  terminate,
  image,
  quota,
  version
};

/// How to log in where nobody has said so for the host itself.
struct HostDefaults {
  std::string user;
  std::optional<std::uint16_t> port;
  std::vector<std::string> identities;
};

/// What the verbs about EC2 are told; the rest of their words stands in Options.
struct CloudChoice {
  std::string region, profile;
  std::vector<std::string> types;
  std::string image = "ubuntu:24.04", name, ssh_from;
  std::int64_t disk_gib = 64;
  bool spot = false;
  bool orphans = false;
  bool idle = false;         ///< for `ls`: ask the hosts
  bool all_regions = false;  ///< for `ls`
  bool remove = false;  ///< for `image`
  bool no_wait = false;
  bool no_reboot = false;
  double vcpus = 0;  ///< for `quota request`
};

/// That the host is to stop by itself, as the step `idle_stop` takes it; empty: nothing said.
struct GuardWish {
  std::string idle_stop, budget, price;
};

/// Everything that a command line can say, checked as far as text can be: no file and no host has been looked at.
struct Options {
  Verb verb = Verb::help;
  std::string help;  ///< for Verb::help: what to print
  std::string recipe;
  std::string host;                  ///< name, address or alias of ssh's configuration
  std::vector<std::string> hosts;    ///< where there may be several: each as given, user@host; of EC2's verbs: instances
  std::string hosts_file;            ///< -f
  std::string limit;                 ///< hosts and groups, or "failed"
  std::size_t parallel = 0;          ///< 0: as many hosts at once as is usual
  std::string user;                  ///< of user@host or -l; empty: remembered or ssh's
  GuardWish guard;                   ///< for `up`, `plan`, `pack`, `launch`
  std::string step;                  ///< for `logs`
  std::string run;                   ///< for `logs`: an earlier run's id; empty: the newest
  bool follow = false;               ///< for `logs`: on until the run ends
  bool now = false;                  ///< for `cancel`: the step that runs is stopped, too
  std::size_t tail = 0;              ///< for `logs`: so many of the last lines; 0: all
  std::vector<std::string> command;  ///< for `ssh`: what to run there; for `complete`: the words so far

  std::vector<std::string> identities;
  std::optional<std::uint16_t> port;
  std::optional<Forward> forward;
  std::string address;                       ///< remembered, not said: where the host of that name is; empty: its name tells
  std::uint16_t last_local_port = 0;         ///< remembered, not said: where the last tunnel to this host was; 0: none yet
  std::optional<std::chrono::seconds> wait;  ///< for a host that does not answer yet
  std::optional<std::chrono::seconds> keep;  ///< leave the connection to the next command for so long; 0: end one that was left
  HostDefaults environment, usual;           ///< GPUSTRAP_USER and the like; what config.yaml says for all hosts
  bool accept_new_host_key = false;
  bool ask_sudo_password = false;

  std::vector<std::pair<std::string, std::string>> vars;
  StepWishes steps;                          ///< which of the recipe's
  std::optional<std::string> mirror, proxy;  ///< none: as the configuration says
  bool yes = false;
  bool allow_disruption = false;
  bool detach = false;
  bool no_tunnel = false;
  bool exit_code = false;
  bool forget = false;

  // For `recipe explain`, where `recipe` may be the name of a kind.
  std::vector<std::string> gpus;
  std::string os, arch, cuda, branch;
  bool kind = false;

  bool fix = false, list = false;    ///< for `doctor`
  std::vector<std::string> classes;  ///< for `doctor --fix`: what to repair; empty: all that can be

  CloudChoice cloud;

  std::vector<std::string> recipes;  ///< for `recipe lint`
  std::string format = "text";       ///< for `recipe lint`: text, json or sarif
  bool upstream = false, upstream_full = false;

  std::string codename, junit;  ///< for `recipe test`
  bool keep_host = false;

  std::string file;       ///< for `recipe new` and `adopt`: the one to read or make
  std::string output;     ///< for `adopt`: where the recipe goes; empty: stdout. For `pack`: the file to make
  std::string user_data;  ///< for `pack`: where the packed file will lie

  bool origin = false;  ///< for `config`

  std::string shell;  ///< for `completion`

  std::string html;  ///< for `report`: the page to write; empty: the text form

  std::string path;    ///< for `pull` and `push`: what is copied
  std::string folder;  ///< where to
  bool overwrite = false, checksum = false, dry_run = false;

  bool json = false;
  ColourChoice colour = ColourChoice::automatic;
  Detail detail = Detail::normal;
  /// For `keep`: for how long; 0: no longer; none: it only tells.
  std::optional<std::chrono::seconds> keep_on;

  /// Whether it is about many hosts, or about one in the manner of many.
  [[nodiscard]] bool is_fleet() const {
    const bool takes_many = verb == Verb::up || verb == Verb::plan || verb == Verb::attach || verb == Verb::cancel || verb == Verb::remove;
    return verb == Verb::status || (takes_many && (!hosts_file.empty() || hosts.size() > 1));
  }
  /// "ubuntu@203.0.113.7", as the user would write it.
  [[nodiscard]] std::string destination() const { return user.empty() ? host : user + "@" + host; }
};

/// What completion scripts ask with: no verb of people's.
constexpr std::string_view kCompleteWord = "__complete";

/// Reads the words after the program's name. Errors are `usage` and say what to write instead.
/// What they do not say may come from `settings`; without it, only they count.
[[nodiscard]] Result<Options> read_options(const std::vector<std::string>& words, const SettingsSource& settings = {});
/// User, port and keys, where nothing nearer to the host has said them.
void fill_in(Options& options, const HostDefaults& defaults);
/// What is remembered of a host after a login: not what config.yaml says for all, which may change and then counts.
[[nodiscard]] HostDefaults worth_remembering(const Options& options);

}  // namespace gpustrap
