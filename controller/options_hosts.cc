#include <string>
#include <tuple>
#include <vector>

#include <CLI/CLI.hpp>

#include "controller/option_parts.h"

namespace gpustrap {
namespace {

void add_connection_options(CLI::App& app, Options& options, RawOptions& raw) {
  const std::string group = "Connection";
  app.add_option("-i", options.identities, "private key file")->type_name("FILE")->group(group)->allow_extra_args(false);
  app.add_option("-p", raw.port, "port of sshd")->type_name("PORT")->group(group);
  app.add_option("-l", raw.login, "user to log in as (or USER@HOST)")->type_name("USER")->group(group);
  app.add_option("--wait", raw.wait, "how long to wait for a host that does not answer yet (2m)")->type_name("TIME")->group(group);
  app.add_option("--keep", raw.keep, "leave the connection to the next command for so long; 0 ends one")->type_name("TIME")->group(group);
  app.add_flag("--accept-new-host-key", options.accept_new_host_key, "trust a host that was never seen; a changed key still stops")
      ->group(group);
}

void add_output_options(CLI::App& app, Options& options, RawOptions& raw) {
  const std::string group = "Output";
  app.add_flag("--json", options.json, "the event stream itself, one JSON document a line")->group(group);
  app.add_flag("--no-color,--no-colour", raw.no_colour, "no colours (also: NO_COLOR)")->group(group);
  app.add_flag("-q,--quiet", raw.quiet, "only the end, and what failed")->group(group);
  app.add_flag("-v,--verbose", raw.verbose, "plain lines with everything that is said")->group(group);
}

void add_fleet_options(CLI::App& app, Options& options, RawOptions& raw) {
  const std::string group = "Run";
  app.add_option("-f,--hosts", options.hosts_file, "the hosts of this file: docs/hosts.md, or an Ansible inventory")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--limit", options.limit, "of many hosts only these hosts and groups")->type_name("NAME,...")->group(group);
  app.add_option("--parallel", raw.parallel, "so many hosts at once (50)")->type_name("N")->group(group);
}

void add_run_options(CLI::App& app, Options& options, RawOptions& raw) {
  const std::string group = "Run";
  app.add_option("--var", raw.vars, "value of a recipe's variable")->type_name("NAME=VALUE")->group(group)->allow_extra_args(false);
  const auto add_list = [&](const char* names, std::vector<std::string>& values, const char* what, const char* type) {
    app.add_option(names, values, what)->type_name(type)->group(group)->allow_extra_args(false)->delimiter(',');
  };
  add_list("--tag,--tags", options.steps.tags, "only steps with one of these tags, and those without any", "TAG,...");
  app.add_option("--from", options.steps.from, "leave out what comes before this step")->type_name("STEP")->group(group);
  add_list("--only", options.steps.only, "only these steps; what they need is not looked at", "STEP,...");
  add_list("--skip", options.steps.skip, "without these steps", "STEP,...");
  add_list("--force", options.steps.force, "these act even where there is nothing to do", "STEP,...");
  add_guard_options(app, options.guard);
  app.add_option("--mirror", options.mirror, "take packages and files from this mirror of config.yaml (or none)")
      ->type_name("NAME")
      ->group(group);
  app.add_option("-f,--hosts", options.hosts_file, "the hosts of this file: docs/hosts.md, or an Ansible inventory")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--limit", options.limit, "of many hosts only these hosts and groups, or `failed`: those that failed last time")
      ->type_name("NAME,...")
      ->group(group);
  app.add_option("--parallel", raw.parallel, "so many hosts at once (50)")->type_name("N")->group(group);
  app.add_option("--proxy", options.proxy, "the host's way out: http://HOST:PORT (or none)")->type_name("URL")->group(group);
}

}  // namespace

void add_guard_options(CLI::App& app, GuardWish& guard) {
  const std::string group = "Run";
  app.add_option("--idle-stop", guard.idle_stop, "the host shuts down after so long without use: 30m (docs/idle.md)")
      ->type_name("TIME")
      ->group(group);
  app.add_option("--budget", guard.budget, "or once its hours have cost so much: 5USD")->type_name("MONEY")->group(group);
  app.add_option("--price", guard.price, "with --budget: what an hour costs, where gpustrap does not know it")
      ->type_name("MONEY/h")
      ->group(group);
}

CLI::App& DeclaredLine::add_host_verb(Verb which, const std::string& name, const std::string& what, const std::string& places) const {
  CLI::App& sub = add_verb(which, name, what, app);
  add_places(sub, places);
  add_connection_options(sub, options, raw);
  // Root's runs are root's alone to read, so every verb that asks the agent may need it.
  if (which != Verb::ssh && which != Verb::pull && which != Verb::push)
    sub.add_flag("--ask-sudo-password", options.ask_sudo_password, "ask for the password of sudo")->group("Connection");
  add_output_options(sub, options, raw);
  return sub;
}

void declare_host_verbs(const DeclaredLine& line) {
  CLI::App& up =
      line.add_host_verb(Verb::up, "up", "Makes hosts what the recipe says; opens the notebook where there is one host.", "RECIPE HOST...");
  add_run_options(up, line.options, line.raw);
  up.add_option("-L", line.raw.forward, "ports of the tunnel (8889 or the next free one)")->type_name("LOCAL:REMOTE")->group("Run");
  up.add_flag("--no-tunnel", line.options.no_tunnel, "prove the notebook once, then end")->group("Run");
  up.add_flag("-d,--detach", line.options.detach, "start the run and leave (exit 9)")->group("Run");
  up.add_flag("-y,--yes", line.options.yes, "ask nothing: a driver may be installed, the host restarted")->group("Run");
  up.add_flag("--allow-disruption", line.options.allow_disruption, "restart even while others are logged in or compute on the GPUs")
      ->group("Run");
  CLI::App& plan = line.add_host_verb(Verb::plan, "plan", "Says what `up` would change, and changes nothing.", "RECIPE HOST...");
  add_run_options(plan, line.options, line.raw);
  plan.add_flag("--exit-code", line.options.exit_code, "3 where a run would change something")->group("Run");
  const auto fleet_verb = [&](Verb which, const std::string& name, const std::string& what) -> CLI::App& {
    CLI::App& sub = line.add_host_verb(which, name, what, "HOST...");
    add_fleet_options(sub, line.options, line.raw);
    return sub;
  };
  fleet_verb(Verb::attach, "attach", "Follows runs: all their events, then live. Ctrl-C leaves them running.");
  fleet_verb(Verb::status, "status", "What hosts are and how they fare, their last run, their notebook.");
  CLI::App& logs = line.add_host_verb(Verb::logs, "logs", "What the steps of the last run have printed.", "HOST [STEP]");
  logs.add_flag("-f,--follow", line.options.follow, "go on with what they print, until the run ends")->group("Run");
  logs.add_option("--tail", line.raw.tail, "begin with the last so many lines")->type_name("N")->group("Run");
  logs.add_option("--run", line.options.run, "of an earlier run; `gpustrap history HOST` names them")->type_name("RUN")->group("Run");
  fleet_verb(Verb::cancel, "cancel", "Stops runs after their current steps.")
      .add_flag("--now", line.options.now, "stop the step that runs, too; dpkg at work is always left to finish")
      ->group("Run");
  CLI::App& keep =
      line.add_host_verb(Verb::keep, "keep", "Puts off the stop of an idle host (`idle_stop`), or says until when it is.", "HOST [TIME]");
  keep.add_flag("--off", line.raw.keep_off, "no longer: it stops again when it is idle")->group("Run");
  for (const auto& [which, name, what] :
       {std::tuple{Verb::tunnel, "tunnel", "Holds the tunnel to the notebook or another port open until Ctrl-C."},
        std::tuple{Verb::url, "url", "Prints the notebook's address with its token."},
        std::tuple{Verb::open, "open", "Opens the notebook in a browser and holds the tunnel."}}) {
    line.add_host_verb(which, name, what, "HOST")
        .add_option("-L", line.raw.forward, "ports of the tunnel (8889 or the next free one)")
        ->type_name("LOCAL:REMOTE")
        ->group("Run");
  }
  CLI::App& ssh = line.add_host_verb(Verb::ssh, "ssh", "A shell on the host, or a command, by your own ssh with the settings of `up`.",
                                     "HOST [COMMAND...]");
  ssh.prefix_command();
  for (const auto& [which, name, what, places] :
       {std::tuple{Verb::pull, "pull", "Copies files from a host; what is newer here stays. Without sudo.", "HOST PATH [DIR]"},
        std::tuple{Verb::push, "push", "Copies files to a host; what is newer there stays. Without sudo.", "HOST PATH [DIR]"}}) {
    CLI::App& copy = line.add_host_verb(which, name, what, places);
    copy.add_flag("--overwrite", line.options.overwrite, "also what is newer at the target, or changed on both sides")->group("Run");
    copy.add_flag("--checksum", line.options.checksum, "compare files of one size by content, whatever their times say")->group("Run");
    copy.add_flag("-n,--dry-run", line.options.dry_run, "list what would be copied, and copy nothing")->group("Run");
  }
  fleet_verb(Verb::remove, "remove",
             "Takes gpustrap off hosts: agent, cache, journals and its own units.\nNever what recipes installed; it lists both first.")
      .add_flag("-y,--yes", line.options.yes, "ask nothing")
      ->group("Run");
  CLI::App& doctor = line.add_host_verb(Verb::doctor, "doctor",
                                        "What is wrong with a host, from GPU to notebook, and how to repair it.\n"
                                        "Also one that gpustrap has never touched. It only looks, until you say --fix.",
                                        "HOST [--fix [ID...]]");
  doctor.get_option("--json")->description("one JSON document: docs/doctor.md");
  doctor.add_flag("--fix", line.options.fix, "repair what can be repaired, or what is named: shows a plan and asks")->group("Run");
  doctor.add_flag("-y,--yes", line.options.yes, "with --fix: ask nothing")->group("Run");
  doctor.add_flag("--allow-disruption", line.options.allow_disruption, "with --fix: restart even while others are logged in or compute")
      ->group("Run");
  doctor.add_option("--mirror", line.options.mirror, "with --fix: take packages from this mirror of config.yaml (or none)")
      ->type_name("NAME")
      ->group("Run");
  doctor.add_option("--proxy", line.options.proxy, "with --fix: the host's way out: http://HOST:PORT (or none)")
      ->type_name("URL")
      ->group("Run");
  doctor.add_flag("--list", line.options.list, "the faults that it knows; no host is contacted")->group("Output");
  CLI::App& hosts = line.add_verb(Verb::hosts, "hosts", "The hosts that are remembered, with user, key and recipe.", line.app);
  hosts.add_option("--forget", line.raw.forget, "forget one")->type_name("HOST")->group("Run");
  add_output_options(hosts, line.options, line.raw);
  add_places(hosts, "");
  CLI::App& report = line.add_verb(Verb::report, "report", "Where a run's time went: its steps, downloads and critical path.", line.app);
  report.add_option("--html", line.options.html, "write one page that needs no network instead")->type_name("FILE")->group("Output");
  report.add_flag("--json", line.options.json, "the numbers as one JSON document")->group("Output");
  report.add_flag("--no-color,--no-colour", line.raw.no_colour, "no colours (also: NO_COLOR)")->group("Output");
  add_places(report, "[RUN|HOST|FILE]...");
  CLI::App& history =
      line.add_verb(Verb::history, "history", "The runs that this machine has seen, newest first; the last hundred are kept.", line.app);
  history.add_flag("--json", line.options.json, "the runs as one JSON document")->group("Output");
  add_places(history, "[HOST]...");
}

}  // namespace gpustrap
