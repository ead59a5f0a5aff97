// `recipe test`: a recipe twice on a host that is thrown away afterwards.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "controller/compat_loader.h"
#include "controller/interrupts.h"
#include "controller/recipe_explain.h"
#include "controller/recipe_loader.h"
#include "controller/recipe_test.h"
#include "controller/report_files.h"
#include "controller/run_log.h"
#include "controller/throw_away_host.h"
#include "controller/user_recipes.h"
#include "controller/verbs.h"

extern char** environ;

namespace gpustrap {
namespace {

constexpr std::chrono::milliseconds kLook{50};

/// Where people are told how it goes: stdout, which --json has for its document alone.
int told_at(const Options& options) { return options.json ? STDERR_FILENO : STDOUT_FILENO; }

void say(const Options& options, const std::string& text) { static_cast<void>(write_all(told_at(options), text).has_value()); }

std::string own_program() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "" : program.string();
}

/// The environment of the runs: the user's, but for what gpustrap remembers and what is meant for hosts of their own.
std::vector<std::string> environment_for(const ThrowAwayHost& host) {
  std::vector<std::string> variables;
  std::string path;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string variable = *entry;
    if (variable.starts_with("PATH="))
      path = variable.substr(5);
    else if (!variable.starts_with("XDG_STATE_HOME=") && !variable.starts_with("SSH_AUTH_SOCK=") && !variable.starts_with("GPUSTRAP_KEEP="))
      variables.push_back(variable);
  }
  variables.push_back("PATH=" + host.programs() + ":" + path);
  variables.push_back("XDG_STATE_HOME=" + host.state());
  return variables;
}

std::vector<std::string> command_for(const Options& options, const ThrowAwayHost& host, const std::string& program) {
  std::vector<std::string> words = {program,       "up",          options.recipe, host.destination(),      "-i",
                                    host.key(),    "-p",          "22",           "--accept-new-host-key", "-y",
                                    "--no-tunnel", "--json=false"};
  for (const auto& [name, value] : options.vars) words.insert(words.end(), {"--var", name + "=" + value});
  if (options.detail != Detail::normal) words.emplace_back(options.detail == Detail::quiet ? "--quiet" : "--verbose");
  if (options.colour == ColourChoice::never) words.emplace_back("--no-color");
  return words;
}

/// Runs it with this terminal, to its end; its exit status. On an interrupt it is told to leave, and nothing is returned.
Result<std::optional<int>> run_to_end(const std::vector<std::string>& words, const std::vector<std::string>& environment, int output,
                                      Interrupts& interrupts) {
  std::vector<char*> argv, envp;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  for (const std::string& variable : environment) envp.push_back(const_cast<char*>(variable.c_str()));
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return fail(errno_error(errno, "starting gpustrap up"));
  if (child == 0) {
    if (output != STDOUT_FILENO && ::dup2(output, STDOUT_FILENO) < 0) ::_exit(127);
    ::execve(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  bool leaving = false;
  int status = 0;
  while (true) {
    const pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended < 0 && errno != EINTR) return fail(errno_error(errno, "waiting for gpustrap up"));
    if (ended == child) break;
    if (interrupts.take()) {
      leaving = true;
      ::kill(child, SIGTERM);  // its host goes, so there is nothing to wait for
    }
    std::this_thread::sleep_for(kLook);
  }
  if (leaving || interrupts.take()) return std::optional<int>();
  return std::optional<int>(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/// The log goes with its host: a copy stays, beside the user's own runs and not among them. Its path; empty where it cannot be written.
std::string keep_log(const std::string& state, const std::string& run) {
  const Result<std::string> own = state_directory();
  if (!own) return {};
  const std::string tests = *own + "/tests";
  const std::string log = run_log_path(tests, run);
  std::error_code error;
  if (!make_directories(parent_of(log), 0700)) return {};
  RunLog::forget_oldest(tests);
  std::filesystem::copy(parent_of(run_log_path(state, run)), parent_of(log),
                        std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing, error);
  return error ? "" : log;
}

struct LoggedRun {
  std::optional<RunReport> report;
  std::string log;  ///< what is kept of it
};

/// The run in the host's own memory that was not there before: ids of two within one second tell nothing of their order.
LoggedRun report_of(const ThrowAwayHost& host, std::vector<std::string>& known) {
  const std::string state = host.state() + "/gpustrap";
  for (const std::string& run : logged_runs(state)) {
    if (std::find(known.begin(), known.end(), run) != known.end()) continue;
    known.push_back(run);
    LoggedRun logged{std::nullopt, keep_log(state, run)};
    Result<std::vector<RunReport>> reports = read_run_log({run_log_path(state, run), ""});
    if (reports && !reports->empty()) logged.report = std::move(reports->back());
    return logged;
  }
  return {};
}

RecipeTestRun judged(const LoggedRun& logged, RunOf which, int exit) {
  RecipeTestRun run =
      logged.report ? judge_run(*logged.report, which)
                    : broken_run(which, fmt::format("gpustrap up ended with {} before the run began; what it said stands above", exit));
  if (exit != 0 && run.failures() == 0) run.cases.push_back({"(the run)", "", fmt::format("gpustrap up ended with {}", exit)});
  run.log = logged.log;
  run.exit = exit;
  return run;
}

Result<void> check(const Options& options) {
  LoadOptions load;
  load.sources = recipe_sources();
  load.vars = options.vars;
  if (Result<LoadedRecipe> loaded = load_recipe(options.recipe, load); !loaded) return fail(std::move(loaded).error());
  const Result<Compat> compat = load_builtin_compat();
  if (!compat) return fail(compat.error());
  if (Result<ImaginedMachine> machine = imagine_machine(*compat, options.gpus, "", ""); !machine) return fail(std::move(machine).error());
  return {};
}

/// Both runs, as far as they come; nothing after an interrupt.
Result<bool> run_twice(const Options& options, const ThrowAwayHost& host, const std::string& program, std::vector<RecipeTestRun>& runs,
                       std::string& system, ExitCode& exit, Interrupts& interrupts) {
  const std::vector<std::string> words = command_for(options, host, program);
  const std::vector<std::string> environment = environment_for(host);
  std::vector<std::string> known;
  for (const RunOf which : {RunOf::first, RunOf::second}) {
    if (which == RunOf::second) say(options, "\nThe same again; nothing may be left to do.\n");
    const Result<std::optional<int>> ended = run_to_end(words, environment, told_at(options), interrupts);
    if (!ended) return fail(ended.error());
    if (!ended->has_value()) return false;
    const LoggedRun logged = report_of(host, known);
    if (logged.report) system = logged.report->facts.os_name;
    runs.push_back(judged(logged, which, **ended));
    if (runs.back().failures() == 0) continue;
    exit = **ended == 0 ? ExitCode::step_failed : static_cast<ExitCode>(**ended);
    break;
  }
  return true;
}

}  // namespace

VerbResult verb_recipe_test(const Options& options) {
  if (Result<void> checked = check(options); !checked) return fail(std::move(checked).error());
  const std::string program = own_program();
  if (program.empty())
    return fail(ErrorCode::usage, "throw-away hosts need Linux", "test on a Linux machine, or against a host of your own");
  const char* said = std::getenv("GPUSTRAP_TESTBED");
  const Result<std::string> testbed = find_testbed(said == nullptr ? "" : said, program);
  if (!testbed) return fail(testbed.error());

  std::vector<std::string> boot;
  if (!options.codename.empty()) boot.insert(boot.end(), {"--codename", options.codename});
  boot.insert(boot.end(), {"--gpu", options.gpus.empty() ? "none" : join(options.gpus, ",")});
  say(options, "Booting a throw-away host; the first of its release takes a minute.\n");
  Interrupts interrupts;  // from here on there is something to take away
  Result<ThrowAwayHost> host = ThrowAwayHost::boot(*testbed, boot);
  if (!host) return fail(std::move(host).error());
  if (interrupts.take()) return ExitCode::cancelled;

  std::vector<RecipeTestRun> runs;
  std::string system;
  ExitCode exit = ExitCode::ok;
  const Result<bool> whole = run_twice(options, *host, program, runs, system, exit, interrupts);
  if (!whole) return fail(whole.error());
  std::optional<KeptHost> kept;
  if (options.keep_host) {
    kept = KeptHost{host->destination(), host->key(), host->keep()};
    say(options, fmt::format("\nThe host is kept: ssh -i {} {}\n  and goes by: {}\n", kept->key, kept->destination, kept->ends_by));
  }
  if (!*whole) return ExitCode::cancelled;
  if (!options.junit.empty()) {
    if (Result<void> written = write_file_atomically(options.junit, junit_document(options.recipe, runs)); !written)
      return fail(std::move(written).error().in("writing " + options.junit));
  }
  say(options, "\n" + recipe_test_text(options.recipe, system, runs));
  if (options.json) static_cast<void>(write_all(STDOUT_FILENO, recipe_test_json(options.recipe, system, runs, kept)).has_value());
  return exit;
}

}  // namespace gpustrap
