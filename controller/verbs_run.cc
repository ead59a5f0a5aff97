#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/compat_loader.h"
#include "controller/consent.h"
#include "controller/conversation.h"
#include "controller/guard_wish.h"
#include "controller/notebook_tunnel.h"
#include "controller/prompt.h"
#include "controller/recipe_loader.h"
#include "controller/secret_input.h"
#include "controller/user_config.h"
#include "controller/user_recipes.h"
#include "controller/verbs.h"

namespace gpustrap {
namespace {

/// The command that goes on from here, as the user would type it.
std::string command_of(const Options& options, const std::string& verb) {
  std::string command = "gpustrap " + verb;
  if (verb == "attach") return command + " " + shell_quote(options.destination());
  if (!options.recipe.empty()) command += " " + shell_quote(options.recipe);
  command += " " + shell_quote(options.destination());
  // User, port and key are remembered; without these the same words would mean another run.
  for (const auto& [name, value] : options.vars) command += " --var " + shell_quote(name + "=" + value);
  command += words_of(options.guard);
  command += words_of(options.steps);
  if (options.mirror) command += " --mirror " + shell_quote(*options.mirror);
  if (options.proxy) command += " --proxy " + shell_quote(*options.proxy);
  if (options.allow_disruption && verb == "up") command += " --allow-disruption";
  if (options.ask_sudo_password) command += " --ask-sudo-password";
  return command;
}

Ending ending_of(const Conversation& talk, const RunResult& result, const std::string& again) {
  Ending ending;
  ending.exit = result.exit;
  ending.finished = result.finished;
  ending.log = talk.log_path();
  ending.again = again;
  return ending;
}

/// Ends the screen for a command that broke off, and passes its error on to main.
VerbResult broken_off(Conversation& talk, Error error, const std::string& again) {
  Ending ending;
  ending.exit = exit_code_of(error.code());
  ending.log = talk.log_path();
  ending.again = again;
  talk.status().ending(ending);
  return fail(std::move(error));
}

/// Of a status reply: whether a run is in progress.
bool is_running(const Json& status) {
  const auto run = status.find("run");
  if (run == status.end() || !run->is_object()) return false;
  const auto state = run->find("state");
  return state != run->end() && state->is_string() && state->get<std::string>() == "running";
}

/// Whether the run may begin: where it would install a driver or restart the host, somebody says yes to that first.
Result<bool> agreed(Conversation& talk, const Options& options, const RunRequest& request) {
  if (options.yes || request.mode == RunMode::plan) return true;
  const auto status = talk.client().ask(StatusRequest{});
  if (!status) return fail(status.error());
  if (is_running(**status)) return true;  // it is followed, or refused; nothing begins
  const Result<std::vector<Event>> plan = talk.client().rehearse(request);
  if (!plan) return fail(plan.error());
  const Disruption disruption = disruption_in(*plan);
  if (disruption.what.empty()) return true;
  talk.status().pause();
  if (!can_ask()) {
    return fail(ErrorCode::usage, fmt::format("this run {}, and nobody can be asked whether it may", disruption.what),
                fmt::format("add -y to say yes; `{}` shows what it would do", command_of(options, "plan")));
  }
  return ask_yes_no(fmt::format("This run {} ({}). It would change:\n{}Go on?", disruption.what, options.destination(), disruption.steps));
}

VerbResult run_recipe(const Options& options, RunMode mode) {
  const Result<UserConfig> config = load_user_config();
  if (!config) return fail(config.error());
  Result<Network> network = network_for(*config, options.mirror, options.proxy);
  if (!network) return fail(std::move(network).error());
  LoadOptions load;
  load.sources = recipe_sources();
  load.vars = options.vars;
  Result<LoadedRecipe> loaded = load_recipe(options.recipe, load);
  if (!loaded) return fail(std::move(loaded).error());
  add_guard(loaded->recipe, options.guard);
  if (Result<void> added = add_compat(loaded->recipe); !added) return fail(std::move(added).error());

  const Result<ChosenSteps> chosen = choose_steps({&loaded->recipe}, options.steps);
  if (!chosen) return fail(chosen.error());
  const Recipe part = chosen_part(loaded->recipe, chosen->choice);

  SecretValues secrets;
  if (mode == RunMode::apply) {
    Result<SecretValues> collected = secrets_for(part);
    if (!collected) return fail(std::move(collected).error());
    secrets = *std::move(collected);
  }

  Conversation talk(options, needs_root(loaded->recipe) ? Rights::root : Rights::whatever, make_status(options, loaded->recipe.name));
  RunRequest request;
  request.run = make_run_id();
  request.mode = mode;
  request.recipe = loaded->recipe;
  if (options.allow_disruption) allow_disruption(request.recipe);
  request.choice = chosen->choice;
  request.network = *std::move(network);
  for (const std::string& sentence : chosen->notices) talk.status().notice(sentence);
  const Result<bool> may_begin = may_disrupt(part) ? agreed(talk, options, request) : true;
  if (!may_begin) return broken_off(talk, may_begin.error(), command_of(options, "up"));
  if (!*may_begin) {
    talk.status().notice("Nothing was changed.");
    return ExitCode::cancelled;
  }
  if (const std::optional<NotebookPlace> open = notebook_of(part); open && open->tls) {
    talk.status().notice(
        fmt::format("This recipe opens its notebook to the network: whoever reaches port {} of the host and knows the password "
                    "runs programs there as its user.",
                    open->port));
  }
  talk.client().hand_over(secrets);
  Result<RunResult> result = talk.client().run(std::move(request), options.detach ? Stay::until_started : Stay::until_finished);
  const std::string verb = mode == RunMode::plan ? "plan" : "up";
  if (!result) return broken_off(talk, std::move(result).error(), command_of(options, "attach"));

  Ending ending = ending_of(talk, *result, command_of(options, verb));
  const bool changes = result->finished && result->finished->would_change + result->finished->unknown > 0;
  if (mode == RunMode::plan && options.exit_code && ending.exit == ExitCode::ok && changes) ending.exit = ExitCode::plan_changes;
  if (mode == RunMode::apply && result->finished && ending.exit == ExitCode::ok && chosen->choice.left_out.empty())
    ending.next = loaded->next;
  const std::optional<NotebookPlace> place = notebook_of(part);
  if (mode == RunMode::plan || !result->finished || result->exit != ExitCode::ok || !place) {
    talk.status().ending(ending);
    return ending.exit;
  }
  Options as_meant = options;
  if (result->leaving) as_meant.no_tunnel = true;  // whoever pressed Ctrl-C wants the terminal back, not a tunnel
  return end_with_notebook(talk, as_meant, *place, std::move(ending));
}

}  // namespace

VerbResult verb_up(const Options& options) { return run_recipe(options, RunMode::apply); }

VerbResult verb_plan(const Options& options) { return run_recipe(options, RunMode::plan); }

VerbResult verb_attach(const Options& options) {
  Conversation talk(options, Rights::whatever, make_status(options, ""));
  Result<RunResult> result = talk.client().attach();
  const std::string again = command_of(options, "attach");
  if (!result) return broken_off(talk, std::move(result).error(), again);
  talk.status().ending(ending_of(talk, *result, result->finished ? "" : again));
  return result->exit;
}

}  // namespace gpustrap
