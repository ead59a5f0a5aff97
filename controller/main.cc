#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "controller/complaint.h"
#include "controller/console.h"
#include "controller/host_access.h"
#include "controller/leaving.h"
#include "controller/options.h"
#include "controller/user_config.h"
#include "controller/verbs.h"

using namespace gpustrap;

namespace {

void print(int descriptor, const std::string& text) { static_cast<void>(write_all(descriptor, text).has_value()); }

VerbResult run_verb(const Options& options) {
  switch (options.verb) {
    case Verb::help: print(STDOUT_FILENO, options.help); return ExitCode::ok;
    case Verb::up: return options.is_fleet() ? verb_fleet(options) : verb_up(options);
    case Verb::plan: return options.is_fleet() ? verb_fleet(options) : verb_plan(options);
    case Verb::attach: return options.is_fleet() ? verb_attach_many(options) : verb_attach(options);
    case Verb::status: return verb_status(options);
    case Verb::logs: return verb_logs(options);
    case Verb::cancel: return options.is_fleet() ? verb_cancel_many(options) : verb_cancel(options);
    case Verb::keep: return verb_keep(options);
    case Verb::tunnel: return verb_tunnel(options);
    case Verb::url: return verb_url(options);
    case Verb::open: return verb_open(options);
    case Verb::ssh: return verb_ssh(options);
    case Verb::hosts: return verb_hosts(options);
    case Verb::remove: return options.is_fleet() ? verb_remove_many(options) : verb_remove(options);
    case Verb::pull: return verb_pull(options);
    case Verb::push: return verb_push(options);
    case Verb::report: return verb_report(options);
    case Verb::doctor: return verb_doctor(options);
    case Verb::history: return verb_history(options);
    case Verb::recipe_list: return verb_recipe_list(options);
    case Verb::recipe_show: return verb_recipe_show(options);
    case Verb::recipe_explain: return verb_recipe_explain(options);
    case Verb::recipe_test: return verb_recipe_test(options);
    case Verb::recipe_schema: return verb_recipe_schema(options);
    case Verb::recipe_new: return verb_recipe_new(options);
    case Verb::adopt: return verb_adopt(options);
    case Verb::pack: return verb_pack(options);
    case Verb::recipe_lint: return verb_recipe_lint(options);
    case Verb::completion: return verb_completion(options);
    case Verb::complete: return verb_complete(options);
    case Verb::config: return verb_config(options);
    case Verb::man: return verb_man(options);
    case Verb::launch: return verb_launch(options);
    case Verb::ls: return verb_ls(options);
    case Verb::start: return verb_start(options);
    case Verb::stop: return verb_stop(options);
    case Verb::terminate: return verb_terminate(options);
    case Verb::image: return verb_image(options);
    case Verb::quota: return verb_quota(options);
    case Verb::version: return verb_version(options);
  }
  return ExitCode::usage;
}

int complain(const Error& error, const std::string& host) {
  const Console console = console_of(STDERR_FILENO, ColourChoice::never);
  print(STDERR_FILENO, complaint(error, host, console.person ? console.size().columns - 1 : 0));
  return static_cast<int>(exit_code_of(error.code()));
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);  // a reader that went away is an error of write(), not the end of the run's supervision
  const Result<Options> options = read_options(std::vector<std::string>(argv + 1, argv + argc), user_settings);
  if (!options) return complain(options.error(), "");
  // Completion is asked at every key; it has nobody to tell.
  if (options->verb != Verb::complete && options->detail != Detail::quiet) {
    for (const std::string& said : unknown_variables()) print(STDERR_FILENO, fmt::format("gpustrap: note: {}\n", said));
  }
  const VerbResult result = with_memory(*options).and_then(run_verb);
  const int code = result ? static_cast<int>(*result) : complain(result.error(), options->destination());
  // Everything is written and closed. What libraries would put away at an end takes milliseconds, and of many hosts one that was left may
  // still wait for an answer in a thread of its own.
  std::fflush(nullptr);
  end_ways_to_hosts();
  ::_exit(code);
}
