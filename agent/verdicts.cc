#include "agent/verdicts.h"

#include <sys/wait.h>

#include <algorithm>

#include <fmt/format.h>

#include "agent/quiet_look.h"

namespace gpustrap {
namespace {

/// The nearest earlier step whose change this one builds on; empty where nothing before it would change.
std::string pending_before(const LiveStep& step, const LiveSteps& all) {
  for (const std::size_t before : step.plan.after) {
    const LiveStep& earlier = *all[before];
    if (earlier.outcome == Outcome::would_change || earlier.outcome == Outcome::unknown) return earlier.plan.entry.id;
    if (std::string pending = pending_before(earlier, all); !pending.empty()) return pending;
  }
  return {};
}

/// Whether every other step is satisfied already, by looks that leave no event.
bool others_are_satisfied(const LiveStep& asking, const LiveSteps& all, const RunView& run) {
  return std::all_of(all.begin(), all.end(), [&](const auto& step) {
    if (step.get() == &asking || !step->plan.skip_reason.empty()) return true;
    if (step->is(StepPhase::ended)) return step->outcome == Outcome::unchanged || step->outcome == Outcome::skipped;
    return look_quietly(step->plan, run.facts, run.login, run.mirror, run.secrets) == Outcome::unchanged;
  });
}

}  // namespace

StepFinished failure_of(const std::string& step, const Error& why) {
  StepFinished finished;
  finished.step = step;
  finished.outcome = Outcome::failed;
  finished.reason = why.sentence();
  finished.error = error_text(why);
  return finished;
}

Error crashed(int status) {
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
    return {ErrorCode::internal, "its process was killed (SIGKILL)",
            "if memory ran out (dmesg | grep -i oom), use a larger instance or add swap; then run the same command again"};
  }
  if (WIFSIGNALED(status)) {
    return {ErrorCode::internal, fmt::format("its process crashed (signal {})", WTERMSIG(status)), "please report it with the run's log"};
  }
  return {ErrorCode::internal, fmt::format("its process ended without a word (exit {})", WEXITSTATUS(status)),
          "please report it with the run's log"};
}

void weigh(StepFinished& finished, const LiveStep& step, const LiveSteps& all, const RunView& run) {
  // Room is for what has still to be done: a converged host is not told to make some.
  const bool wants_room = step.plan.entry.kind == StepKind::require && finished.error && finished.error->code == ErrorCode::no_space;
  if (wants_room && others_are_satisfied(step, all, run)) {
    finished.outcome = Outcome::unchanged;
    finished.reason = "less room than asked for, but nothing is left to do: " + finished.reason;
    finished.error.reset();
  }
  if (!run.looks_only) return;
  // A look that fails or cannot tell because its ground is not laid yet says nothing about the run; and what comes before a restart may
  // bring a new kernel.
  const bool lacks_secrets = !run.secrets.missing(step.plan.secrets).empty();
  const bool may_differ_later = finished.outcome == Outcome::failed || (finished.outcome == Outcome::unknown && !lacks_secrets) ||
                                (finished.outcome == Outcome::unchanged && step.plan.entry.kind == StepKind::reboot);
  if (!may_differ_later) return;
  const std::string pending = pending_before(step, all);
  if (pending.empty()) return;
  finished.outcome = Outcome::unknown;
  finished.reason = fmt::format("unknown until {} has run ({})", pending, finished.reason);
  finished.error.reset();
}

RunFinished tally(const LiveSteps& all, const RunHistory& history) {
  RunFinished finished;
  for (const auto& step : all) {
    switch (step->outcome) {
      // What an earlier runner of this run has changed was changed by the run.
      case Outcome::unchanged: ++(history.changed.contains(step->plan.entry.id) ? finished.changed : finished.unchanged); break;
      case Outcome::changed: ++finished.changed; break;
      case Outcome::would_change: ++finished.would_change; break;
      case Outcome::unknown: ++finished.unknown; break;
      case Outcome::failed: ++finished.failed; break;
      case Outcome::skipped: ++finished.skipped; break;
    }
  }
  if (finished.failed > 0) finished.end = RunFinished::End::failed;
  return finished;
}

}  // namespace gpustrap
