#include <unistd.h>
#ifdef __linux__
#include <sys/timex.h>
#endif

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "controller/compat_loader.h"
#include "controller/consent.h"
#include "controller/console.h"
#include "controller/conversation.h"
#include "controller/doctor/diagnosis.h"
#include "controller/doctor/fix.h"
#include "controller/doctor/probe.h"
#include "controller/prompt.h"
#include "controller/user_config.h"
#include "controller/verbs.h"

namespace gpustrap {
namespace {

void print(const std::string& text) { static_cast<void>(write_all(STDOUT_FILENO, text).has_value()); }

/// Whether the network keeps this machine's clock, as far as its kernel tells.
ClockKept own_clock() {
#ifdef __linux__
  struct timex state {};
  const int answer = ::adjtimex(&state);  // without modes it only asks
  if (answer < 0) return ClockKept::unknown;
  return answer == TIME_ERROR || (state.status & STA_UNSYNC) != 0 ? ClockKept::no : ClockKept::yes;
#else
  return ClockKept::unknown;
#endif
}

/// The host as it was found: the evidence lives as long as what was read from it.
struct Visit {
  std::unique_ptr<Evidence> evidence;
  std::unique_ptr<Patient> patient;
  Diagnosis diagnosis;
};

Result<Visit> visit(SshSession& session, const Compat& compat, const std::optional<std::string>& password) {
  const auto now = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch());
  Result<Evidence> evidence = probe(session, password, now.count());
  if (!evidence) return fail(std::move(evidence).error());
  Visit visit;
  visit.evidence = std::make_unique<Evidence>(*std::move(evidence));
  visit.patient = std::make_unique<Patient>(examine(*visit.evidence, compat, now.count(), own_clock()));
  visit.diagnosis = diagnose(*visit.patient);
  return visit;
}

std::string shown(const Visit& visit, const Options& options, const Console& console) {
  if (options.json) return diagnosis_json(visit.diagnosis, *visit.patient, options.destination());
  return diagnosis_text(visit.diagnosis, *visit.patient, options.destination(), console.person ? console.size().columns - 1 : 0,
                        console.unicode);
}

ExitCode exit_of(const Diagnosis& diagnosis) { return diagnosis.has_errors() ? ExitCode::step_failed : ExitCode::ok; }

/// What a second look says of what was to be repaired.
std::string comparison(const std::vector<Finding>& treated, const Diagnosis& now) {
  std::vector<std::string> gone, still;
  for (const Finding& one : treated) {
    const bool is_there = std::any_of(now.findings.begin(), now.findings.end(), [&](const Finding& other) { return other.of == one.of; });
    (is_there ? still : gone).emplace_back(one.of->id);
  }
  std::string text;
  if (!gone.empty()) text += fmt::format("Repaired: {}.\n", join(gone, ", "));
  if (!still.empty()) text += fmt::format("Still there: {}.\n", join(still, ", "));
  return text;
}

/// What would change: a line for each step, and what a command would run.
std::string changes_in(const std::vector<Event>& plan, const Recipe& recipe) {
  std::string text;
  for (const Event& event : plan) {
    const auto* finished = std::get_if<StepFinished>(&event.body);
    if (finished == nullptr || (finished->outcome != Outcome::would_change && finished->outcome != Outcome::unknown)) continue;
    const auto step =
        std::find_if(recipe.steps.begin(), recipe.steps.end(), [&](const StepEntry& one) { return one.id == finished->step; });
    std::string what = first_line(strip_control(finished->reason));
    if (step != recipe.steps.end() && step->kind == StepKind::command) what = first_line(step->spec->value("run", ""));
    text += fmt::format("  {:<20}  {}\n", strip_control(finished->step), what);
  }
  return text;
}

/// Applies the fixes of these findings as a run, with a plan and a yes before it.
VerbResult fix(const Options& options, const std::vector<Finding>& chosen, const Compat& compat,
               const std::optional<std::string>& password) {
  const Result<UserConfig> config = load_user_config();
  if (!config) return fail(config.error());
  Result<Network> network = network_for(*config, options.mirror, options.proxy);
  if (!network) return fail(std::move(network).error());
  Result<Recipe> recipe = fix_recipe(chosen);
  if (!recipe) return fail(std::move(recipe).error());
  if (Result<void> added = add_compat(*recipe); !added) return fail(std::move(added).error());

  Conversation talk(options, Rights::root, make_status(options, recipe->name));
  RunRequest request;
  request.run = make_run_id();
  request.recipe = *recipe;
  if (options.allow_disruption) allow_disruption(request.recipe);
  request.network = *std::move(network);
  const Result<std::vector<Event>> plan = talk.client().rehearse(request);
  if (!plan) return fail(plan.error());
  const std::string disruption = disruption_in(*plan).what, changes = changes_in(*plan, request.recipe);
  talk.status().pause();
  if (!options.yes) {
    const std::string question =
        fmt::format("The repair{} changes {}:", disruption.empty() ? "" : " " + disruption + ", and", options.destination());
    if (!can_ask()) return fail(ErrorCode::usage, question + " nobody can be asked whether it may", changes + "add -y to say yes");
    if (!ask_yes_no(fmt::format("{}\n{}Go on?", question, changes))) {
      talk.status().notice("Nothing was changed.");
      return ExitCode::cancelled;
    }
  }
  Result<RunResult> result = talk.client().run(std::move(request));
  if (!result) return fail(std::move(result).error());
  Ending ending;
  ending.exit = result->exit;
  ending.finished = result->finished;
  ending.log = talk.log_path();
  ending.again = fmt::format("gpustrap doctor {} --fix", shell_quote(options.destination()));
  talk.status().ending(ending);
  if (!result->finished) return result->exit;  // left, and the run goes on

  if (Result<void> connected = talk.access().connect(); !connected) return fail(std::move(connected).error());
  const Result<Visit> after = visit(talk.access().session(), compat, password);
  if (!after) return fail(after.error());
  if (options.json) {
    print(shown(*after, options, {}));
  } else {
    print("\n" + comparison(chosen, after->diagnosis) + "\n" + shown(*after, options, console_of(STDOUT_FILENO, options.colour)));
  }
  return result->exit == ExitCode::ok ? exit_of(after->diagnosis) : result->exit;
}

}  // namespace

VerbResult verb_doctor(const Options& options) {
  const Console console = console_of(STDOUT_FILENO, options.colour);
  if (options.list) {
    print(options.json ? doctor_class_json() : doctor_class_list(console.person ? console.size().columns - 1 : 0));
    return ExitCode::ok;
  }
  const Result<Compat> compat = load_builtin_compat();
  if (!compat) return fail(compat.error());
  const std::unique_ptr<Status> status = make_silent_status();
  std::optional<std::string> password;
  std::optional<Visit> first;
  {
    HostAccess access(options, Rights::whatever, *status);
    if (Result<void> connected = access.connect(); !connected) return fail(std::move(connected).error());
    if (options.ask_sudo_password) {
      password = ask_secret(fmt::format("Password of sudo for {}: ", options.destination()));
      if (!password) return fail(ErrorCode::authentication, "no sudo password was given", "--ask-sudo-password needs a terminal to ask at");
    }
    if (::isatty(STDERR_FILENO) == 1 && !options.json && options.detail != Detail::quiet)
      static_cast<void>(
          write_all(STDERR_FILENO, fmt::format("Looking at {}; nothing on it is changed.\n", options.destination())).has_value());
    Result<Visit> seen = visit(access.session(), *compat, password);
    if (!seen) return fail(std::move(seen).error());
    first.emplace(*std::move(seen));
  }
  const bool only_fix_speaks = options.fix && options.json;
  const Result<std::vector<Finding>> chosen = options.fix ? findings_to_fix(first->diagnosis, options.classes) : std::vector<Finding>{};
  if (!only_fix_speaks || !chosen || chosen->empty()) print(shown(*first, options, console));
  if (!chosen) return fail(chosen.error());
  if (chosen->empty()) return exit_of(first->diagnosis);
  return fix(options, *chosen, *compat, password);
}

}  // namespace gpustrap
