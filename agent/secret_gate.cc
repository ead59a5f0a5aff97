#include "agent/secret_gate.h"

#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {

std::variant<StepMayStart, StepIsSettled, StepMustWait> ask_for_secrets(const PlannedStep& step, const SecretStore& given, SecretUse use) {
  std::vector<std::string> missing = given.missing(step.secrets);
  if (missing.empty()) return StepMayStart{};
  if (use == SecretUse::looking && !step.looks_with_secrets) return StepMayStart{};
  if (use == SecretUse::acting) return StepMustWait{std::move(missing)};
  const std::string names = (missing.size() == 1 ? "the secret " : "the secrets ") + join(missing, ", ");
  StepFinished finished;
  finished.step = step.entry.id;
  if (use == SecretUse::looking) {
    finished.outcome = Outcome::unknown;
    finished.reason = fmt::format("cannot be known without {}, which a plan does not ask for", names);
  } else {
    finished.outcome = Outcome::unchanged;
    finished.reason = fmt::format("done earlier in this run; not looked at again without {}", names);
  }
  return StepIsSettled{std::move(finished)};
}

}  // namespace gpustrap
