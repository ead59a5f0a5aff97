#pragma once

#include <string>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"

namespace gpustrap {

/// What a look saw. The reason is a sentence fragment for people: "535.161 installed, 550 or newer wanted".
struct StepState {
  enum class Is { satisfied, unsatisfied, unknown } is = Is::unsatisfied;
  std::string reason;
  /// What apply would do, for `plan`: a diff, package names with versions. May be empty.
  std::string changes = {};

  static StepState satisfied(std::string reason) { return {Is::satisfied, std::move(reason)}; }
  static StepState unsatisfied(std::string reason, std::string changes = {}) {
    return {Is::unsatisfied, std::move(reason), std::move(changes)};
  }
  /// Cannot be known without acting; the runner shows it as unknown in a plan and applies it in a run.
  static StepState unknown(std::string reason) { return {Is::unknown, std::move(reason)}; }
};

/// One step on one host. Only the runner calls these, in the order check, apply, check; kinds do not re-check inside apply.
class Step {
 public:
  virtual ~Step() = default;
  [[nodiscard]] virtual Result<StepState> check(const Host& host) const = 0;
  virtual Result<void> apply(Host& host, StepLog& log) = 0;
  /// What apply would fetch as things are, as far as that is known without acting; asked only where check is not satisfied. The runner may
  /// have it fetched before the step's turn; apply then asks the host for the same (addresses and digest).
  [[nodiscard]] virtual std::vector<FetchRequest> downloads(const Host& host) const {
    (void)host;
    return {};
  }
  /// For a plan alone: what apply would do beyond the state's changes, where finding that out takes longer than a look may. Asked where check
  /// is not satisfied.
  [[nodiscard]] virtual std::string planned(const Host& host) const {
    (void)host;
    return {};
  }
  /// A step that has nothing lasting to look for (a command without a guard) is not checked again after apply.
  [[nodiscard]] virtual bool can_verify() const { return true; }
};

}  // namespace gpustrap
