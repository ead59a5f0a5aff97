#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/driver_facts.h"
#include "agent/protocol/compat_lookup.h"
#include "agent/protocol/compat_resolver.h"
#include "agent/steps/host_restart.h"
#include "agent/steps/kinds.h"
#include "agent/steps/nvidia_diagnosis.h"
#include "agent/steps/nvidia_holds.h"
#include "agent/steps/nvidia_module.h"
#include "agent/steps/nvidia_packages.h"
#include "agent/steps/nvidia_query.h"
#include "agent/steps/nvidia_services.h"

// What is chosen comes from the tables (compat_resolver.h), how it gets onto the host from nvidia_packages.h, into the kernel from
// nvidia_module.h. Each part looks first, so that a run that a restart has cut in two goes on where it was.

namespace gpustrap {
namespace {

using How = DriverAnswer::How;

class NvidiaDriverStep : public Step {
 public:
  explicit NvidiaDriverStep(NvidiaDriverSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const Result<CompatAnswer> answer = resolve(host);
    if (!answer) return fail(answer.error());
    if (answer->driver.how == How::outside) return StepState::satisfied(answer->reason);
    if (answer->driver.how == How::install) {
      // Otherwise a plan would promise what the run then refuses.
      if (spec_.reboot == NvidiaDriverSpec::Reboot::always) {
        if (Result<void> can = can_restart(host); !can) return fail(std::move(can).error());
      }
      return StepState::unsatisfied(answer->reason, changes(host, *answer));
    }
    const Result<std::vector<std::string>> missing = what_is_missing(host, answer->driver);
    if (!missing) return fail(missing.error());
    if (missing->empty()) return StepState::satisfied(answer->reason);
    return StepState::unsatisfied(fmt::format("{}; {}", answer->reason, join(*missing, "; ")));
  }

  Result<void> apply(Host& host, StepLog& log) override {
    const Result<CompatAnswer> answer = resolve(host);
    if (!answer) return fail(answer.error());
    log.say(answer->reason);
    for (const std::string& warning : answer->warnings) log.say("note: " + warning);
    const bool installs = answer->driver.how == How::install;
    if (installs || libraries_differ(host, answer->driver)) {
      const Result<bool> waits = bring_driver(host, log, *answer);
      if (!waits) return fail(waits.error());
      if (*waits) return {};
    }
    const Result<CompatAnswer> now = resolve(host);
    if (!now) return fail(now.error());
    if (now->driver.how == How::install) return fail(does_not_serve(host, *now));
    if (Result<void> set_up = set_up_services(host, log, services(now->driver)); !set_up) return set_up;
    if (spec_.hold) {
      if (Result<void> held = hold_packages(host, log, now->driver.branch); !held) return held;
    }
    const Result<SmiAnswer> asked = ask_nvidia_smi(host);
    if (!asked) return fail(asked.error());
    if (!asked->works()) return fail(diagnose_nvidia_smi(host, *asked).in("asking the driver for its GPUs"));
    log.say(fmt::format("nvidia-smi answers: {}, driver {}", describe_gpus(asked->gpus), asked->gpus.front().driver));
    return {};
  }

 private:
  [[nodiscard]] Result<CompatAnswer> resolve(const Host& host) const {
    if (!spec_.tables) {
      return fail(ErrorCode::recipe, "the recipe came without the tables of GPUs and drivers",
                  "start it with `gpustrap up`, which sends them along");
    }
    CompatQuestion question = question_of(host.facts(), gather_driver_facts(host));
    question.cuda = spec_.cuda == "auto" ? "" : spec_.cuda;
    question.branch = spec_.branch;
    question.modules = static_cast<ModulesWish>(spec_.modules);
    if (spec_.source == NvidiaDriverSpec::Source::ubuntu) question.source = "ubuntu";
    if (spec_.source == NvidiaDriverSpec::Source::nvidia) question.source = "nvidia";
    if (spec_.source == NvidiaDriverSpec::Source::debian) question.source = "debian";
    const auto needed = static_cast<std::uint64_t>(spec_.tables->fabric_above) + 1;
    if (spec_.fabric_manager == NvidiaDriverSpec::FabricManager::always)
      question.nvswitches = std::max(question.nvswitches.value_or(0), needed);
    Result<CompatAnswer> answer = resolve_compat(*spec_.tables, question);
    if (answer && spec_.fabric_manager == NvidiaDriverSpec::FabricManager::never) answer->driver.fabric_packages.clear();
    return answer;
  }

  [[nodiscard]] DriverServices services(const DriverAnswer& driver) const {
    return {driver.version, spec_.persistence, driver.fabric_packages};
  }

  /// Libraries that were upgraded under a loaded module: nothing can compute until the two fit again.
  [[nodiscard]] static bool libraries_differ(const Host& host, const DriverAnswer& driver) {
    const std::string libraries = library_version(host);
    return !libraries.empty() && libraries != driver.version;
  }

  [[nodiscard]] Result<std::vector<std::string>> what_is_missing(const Host& host, const DriverAnswer& driver) const {
    std::vector<std::string> missing;
    if (libraries_differ(host, driver)) missing.push_back(fmt::format("its libraries are of {}", library_version(host)));
    const Result<std::vector<std::string>> services_missing = missing_services(host, services(driver));
    if (!services_missing) return fail(services_missing.error());
    missing.insert(missing.end(), services_missing->begin(), services_missing->end());
    if (!spec_.hold) return missing;
    const Result<std::vector<std::string>> to_hold = packages_to_hold(host, driver.branch);
    if (!to_hold) return fail(to_hold.error());
    if (!to_hold->empty()) missing.push_back(join(*to_hold, " ") + " not held");
    return missing;
  }

  /// What a plan shows below the reason.
  [[nodiscard]] std::string changes(const Host& host, const CompatAnswer& answer) const {
    std::vector<std::string> lines;
    for (const DriverAnswer::Source& source : answer.driver.sources) {
      const std::string whose = source.from == "nvidia" ? "NVIDIA's repository" : source.from == "debian" ? "Debian" : "Ubuntu";
      std::vector<std::string> packages;
      for (const std::string& name : source.packages)
        packages.push_back(filled_in(name, {{"flavour", kernel_name(host.facts().kernel).flavour}}));
      lines.push_back(fmt::format("{}install from {}: {}", lines.empty() ? "" : "or ", whose, join(packages, " ")));
    }
    if (!answer.driver.fabric_packages.empty())
      lines.push_back(fmt::format("with {} at exactly the driver's version", join(answer.driver.fabric_packages, " ")));
    lines.emplace_back(spec_.reboot == NvidiaDriverSpec::Reboot::always      ? "restart the host"
                       : spec_.reboot == NvidiaDriverSpec::Reboot::if_needed ? "restart the host, if the module cannot be loaded otherwise"
                                                                             : "load the module, without a restart");
    for (const std::string& warning : answer.warnings) lines.push_back("note: " + warning);
    return join(lines, "\n");
  }

  /// Puts the driver onto the disk where it is not there yet, and into the kernel. True where the rest waits for a restart.
  Result<bool> bring_driver(Host& host, StepLog& log, const CompatAnswer& answer) {
    const bool installs = answer.driver.how == How::install;
    const std::string on_disk = module_version(host, host.facts().kernel);
    const std::string other_kernel = installs && on_disk.empty() ? kernel_with_module(host) : "";
    const bool waits_for_kernel = !other_kernel.empty() && other_kernel == newer_kernel(host) &&
                                  branch_of(module_version(host, other_kernel)) == answer.driver.branch;
    bool fresh = false;
    if (installs && branch_of(on_disk) != answer.driver.branch && !waits_for_kernel) {
      // A loaded driver that goes away takes every program that uses it along.
      const bool replaces = !gather_driver_facts(host).loaded.empty();
      if (Result<void> quiet = replaces ? expect_quiet(host, log, "another driver would end that", spec_.allow_disruption) : Result<void>();
          !quiet) {
        return fail(std::move(quiet).error());
      }
      if (is_module_loaded(host, "nouveau")) {
        if (Result<void> kept = blacklist_nouveau(host, log); !kept) return fail(std::move(kept).error());
      }
      if (Result<void> released = release_packages(host, log); !released) return fail(std::move(released).error());
      const Result<std::string> restart = install_driver_packages(host, log, installation(answer));
      if (!restart) return fail(restart.error());
      if (!restart->empty()) return ask_for_restart(host, log, *restart);
      if (spec_.hold) {
        if (Result<void> held = hold_packages(host, log, answer.driver.branch); !held) return fail(std::move(held).error());
      }
      fresh = true;
    }
    if (fresh && spec_.reboot == NvidiaDriverSpec::Reboot::always) return ask_for_restart(host, log, "a driver was installed");
    const Result<LoadedModule> loaded = load_module(host, log);
    if (!loaded) return fail(loaded.error());
    if (!loaded->needs_restart.empty()) return ask_for_restart(host, log, loaded->needs_restart);
    return false;
  }

  [[nodiscard]] DriverInstallation installation(const CompatAnswer& answer) const {
    DriverInstallation wanted;
    wanted.driver = answer.driver;
    wanted.stay_on_kernel = spec_.hold;
    wanted.persistence = spec_.persistence;
    if (answer.repository)
      wanted.repository = NvidiaRepository{*answer.repository, spec_.tables->repository.base, spec_.mirror, spec_.fingerprint};
    return wanted;
  }

  /// True: what is left is for the next boot.
  Result<bool> ask_for_restart(Host& host, StepLog& log, const std::string& why) const {
    if (spec_.reboot == NvidiaDriverSpec::Reboot::never) {
      return fail(ErrorCode::unsupported, fmt::format("a restart is needed, and the step says `reboot: never`: {}", why),
                  "restart the host, then run the same command again; or say `reboot: if_needed`");
    }
    if (Result<void> can = can_restart(host); !can) return fail(std::move(can).error().in("a restart is needed: " + why));
    if (Result<void> quiet = expect_quiet(host, log, "it would end that", spec_.allow_disruption); !quiet)
      return fail(std::move(quiet).error().in("a restart is needed: " + why));
    log.say("a restart is needed: " + why);
    RebootWish wish;
    wish.reason = why;
    wish.message = "gpustrap restarts this host for its GPU driver: " + why;
    wish.limit = spec_.limit.time;
    if (Result<void> asked = host.reboot(std::move(wish)); !asked) return fail(std::move(asked).error());
    return true;
  }

  /// Everything was done, and the resolver still wants another driver than the loaded one.
  [[nodiscard]] static Error does_not_serve(const Host& host, const CompatAnswer& wanted) {
    const std::string loaded = gather_driver_facts(host).loaded;
    return {ErrorCode::unsupported,
            fmt::format("driver {} was installed and loaded, and is not what is wanted ({}{})", loaded.empty() ? "none" : loaded,
                        wanted.reason, wanted.driver.at_least.empty() ? "" : ", at least " + wanted.driver.at_least),
            "the packages of that branch are too old here: `apt-cache policy` on the host shows what its sources have"};
  }

  NvidiaDriverSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_nvidia_driver_step(const StepSpec& spec) {
  return std::make_unique<NvidiaDriverStep>(std::get<NvidiaDriverSpec>(spec));
}

}  // namespace gpustrap
