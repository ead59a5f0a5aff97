#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/compat.h"
#include "agent/protocol/facts.h"
#include "agent/protocol/fields.h"
#include "agent/protocol/json_fwd.h"
#include "agent/protocol/secrets.h"
#include "agent/protocol/step_spec.h"

namespace gpustrap {

/// A mapping on facts, not a language: every member given must hold.
struct Condition {
  std::optional<bool> gpu, systemd, container;
  StringList os, arch;
  std::string os_version;  ///< ">=22.04"
  template <class V> void fields(V& v) {
    v("gpu", gpu, Presence::optional, "an NVIDIA GPU is present");
    v("systemd", systemd, Presence::optional, "systemd is PID 1");
    v("container", container, Presence::optional, "the host is a container");
    v("os", os, Presence::optional, "any of these: ubuntu, debian");
    v("arch", arch, Presence::optional, "any of these: x86_64, aarch64");
    v("os_version", os_version, Presence::optional, "a comparison: >=22.04");
  }
};
/// Why the condition does not hold on this host ("gpu: true, but no NVIDIA GPU is on the PCI bus"); empty where it holds.
[[nodiscard]] std::string unmet_reason(const Condition& condition, const Facts& facts);

/// One step of a resolved recipe. `spec` stays JSON until the host's facts are put into it (agent/plan).
struct StepEntry {
  std::string id;
  std::string name;  ///< for people; the id where empty
  StepKind kind = StepKind::command;
  std::shared_ptr<const Json> spec;
  std::optional<std::vector<std::string>> needs;  ///< none given: the step before it
  std::optional<Condition> when;
  std::string as;  ///< "login", "root", a user name, or empty: the kind's default
  TextMap env;
  std::int64_t retries = 0;
  std::optional<Duration> timeout, stall;
  StringList tags;
};

struct Recipe {
  std::string name;
  std::string description;
  std::vector<SecretSource> secrets;
  std::vector<StepEntry> steps;
  /// The tables of GPUs and drivers, where a step asks them: an agent has none of its own, so that they are as new as the controller.
  std::shared_ptr<const Compat> compat;
  /// What machines cost, where a step has a budget and no price of its own.
  std::shared_ptr<const PriceList> prices;
};

/// Reads a resolved recipe: `{"name", "description", "secrets": ["token"], "steps": [{"apt": {…}, "id": …, "needs": […], …}], "compat":
/// {…}, "prices": {…}}`. Gives ids to steps without one, and reports duplicate ids, needs that name no earlier step, and everything wrong
/// in a step. Usable only where no problem was added.
[[nodiscard]] Recipe read_recipe(const Json& document, Placeholders placeholders, std::vector<FieldProblem>& problems);
/// Secrets are written by name only: where their values come from is no business of the host's, and no part of the digest.
[[nodiscard]] Json write_recipe(const Recipe& recipe);
/// sha256 over the resolved recipe: the same recipe attaches to a run in progress, another one is told what runs.
[[nodiscard]] std::string digest_of(const Recipe& recipe);

/// The fields that every step may have beside its kind, and those of `when`.
[[nodiscard]] std::vector<FieldDoc> describe_common_fields();
[[nodiscard]] std::vector<FieldDoc> describe_condition();

/// Who a step of this kind runs as where it does not say: "login" or "root".
[[nodiscard]] std::string default_identity(const StepEntry& step);
/// Who a step runs as: what its `as` says, else the default.
[[nodiscard]] std::string identity_of(const StepEntry& step);
/// Whether any step needs root, so that sudo is required.
[[nodiscard]] bool needs_root(const Recipe& recipe);
/// Whether a file of any step is to be passed on between hosts (`fetch: shared`).
[[nodiscard]] bool shares_files(const Recipe& recipe);
/// Whether any step asks the tables of GPUs and drivers, so that they must travel with the recipe.
[[nodiscard]] bool needs_compat(const Recipe& recipe);
/// Whether any step counts money without saying what an hour costs.
[[nodiscard]] bool needs_prices(const Recipe& recipe);

}  // namespace gpustrap
