#include <algorithm>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/steps/apt_get.h"
#include "agent/steps/apt_lock.h"
#include "agent/steps/apt_mirror.h"
#include "agent/steps/apt_packages.h"
#include "agent/steps/apt_simulation.h"
#include "agent/steps/dpkg_status.h"
#include "agent/steps/kinds.h"

namespace gpustrap {
namespace {

struct Wanted {
  std::string name, version;
};

Wanted parse_wanted(const std::string& text) {
  const std::size_t equals = text.find('=');
  return equals == std::string::npos ? Wanted{text, ""} : Wanted{text.substr(0, equals), text.substr(equals + 1)};
}

class AptStep : public Step {
 public:
  explicit AptStep(AptSpec spec) : spec_(std::move(spec)) {
    for (const std::string& text : spec_.packages.items) wanted_.push_back(parse_wanted(text));
  }

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const Result<DpkgStatus> status = DpkgStatus::read(host);
    if (!status) return fail(status.error());
    std::vector<std::string> reasons;
    if (const std::vector<std::string> cut = status->unfinished(); !cut.empty()) {
      reasons.push_back(fmt::format("an earlier installation was cut short ({})", join(cut, " ")));
    }
    const std::vector<std::string> missing = to_change(*status);
    if (!missing.empty()) {
      reasons.push_back(
          fmt::format("{} {}", join(missing, " "), spec_.state == AptSpec::State::absent ? "to be removed" : "not installed"));
    } else if (spec_.state == AptSpec::State::latest) {
      const Result<std::vector<std::string>> newer = upgradable(host);
      if (!newer) return fail(newer.error());
      if (!newer->empty()) reasons.push_back("newer versions exist of " + join(*newer, " "));
    }
    std::vector<std::string> to_hold;
    for (const std::string& name : spec_.hold.items) {
      if (!status->is_held(name)) to_hold.push_back(name);
    }
    if (!to_hold.empty()) reasons.push_back(join(to_hold, " ") + " not held");
    if (spec_.update && reasons.empty() && lists_are_old(host, spec_.max_age.time))
      reasons.push_back(fmt::format("package lists are older than {}", human_duration(spec_.max_age.time)));
    if (!reasons.empty()) return StepState::unsatisfied(join(reasons, "; "));
    return StepState::satisfied(describe(*status));
  }

  [[nodiscard]] std::string planned(const Host& host) const override {
    const Result<DpkgStatus> status = DpkgStatus::read(host);
    if (!status) return {};
    std::vector<std::string> names = to_change(*status);
    if (names.empty() && spec_.state == AptSpec::State::latest) names = asked_for();
    if (names.empty()) return {};
    const bool old = spec_.state != AptSpec::State::absent && lists_are_old(host, spec_.max_age.time);
    const Result<std::string> said = simulate(host, words_for(names));
    const std::vector<SimulatedPackage> packages = said ? simulated_packages(*said) : std::vector<SimulatedPackage>();
    if (packages.empty()) return old ? "the versions are known once the package lists have been fetched\n" : "";
    return (old ? "by the package lists as they are; newer ones are fetched first:\n" : "") + simulation_text(packages, asked_for());
  }

  /// Where apt is to be asked for new lists first, what it would name now is not what it will name.
  [[nodiscard]] std::vector<FetchRequest> downloads(const Host& host) const override {
    const Result<DpkgStatus> status = DpkgStatus::read(host);
    if (!status || spec_.state != AptSpec::State::present || host.self().uid != 0) return {};
    const std::vector<std::string> names = to_change(*status);
    if (names.empty() || lists_are_old(host, spec_.max_age.time) || needs_apt_mirror_lists(host, spec_.max_age.time)) return {};
    return packages_to_fetch(host, words_for(names));
  }

  Result<void> apply(Host& host, StepLog& log) override {
    if (Result<void> free = wait_for_apt_locks(host, log, kAptLockLimit); !free) return free;
    if (Result<void> repaired = finish_cut_installation(host, log); !repaired) return repaired;
    const Result<DpkgStatus> status = DpkgStatus::read(host);
    if (!status) return fail(status.error());
    std::vector<std::string> names = to_change(*status);
    if (spec_.state == AptSpec::State::latest) {
      names.clear();
      for (const Wanted& wanted : wanted_) names.push_back(wanted.name);
    }
    const bool installs = !names.empty() && spec_.state != AptSpec::State::absent;
    // That the mirror of this run was not asked before is no reason to change anything, but one to ask it before it is to install.
    const bool old = lists_are_old(host, spec_.max_age.time) || (installs && needs_apt_mirror_lists(host, spec_.max_age.time));
    if ((spec_.update || installs) && old) {
      if (Result<void> updated = update_package_lists(host, log); !updated) return updated;
    }
    if (!names.empty()) {
      const Result<void> changed = change(host, log, names);
      // What dpkg left to the kernel is on the disk before the step is called done, and before anything is tried again.
      if (spec_.fast) (void)host.act({{"sync"}, {}, "/", "", {}, {}}, log);
      if (!changed) return changed;
    }
    return hold(host, log);
  }

 private:
  /// The packages, as apt wants them named, that are not as they should be.
  [[nodiscard]] std::vector<std::string> to_change(const DpkgStatus& status) const {
    std::vector<std::string> names;
    for (const Wanted& wanted : wanted_) {
      // What another package provides is no reason to remove anything: apt would not know what.
      const DpkgPackage* there =
          spec_.state == AptSpec::State::absent ? status.installed_itself(wanted.name) : status.installed(wanted.name);
      const bool right = spec_.state == AptSpec::State::absent
                             ? there == nullptr
                             : there != nullptr && (wanted.version.empty() || there->version == wanted.version);
      if (!right) names.push_back(wanted.version.empty() ? wanted.name : wanted.name + "=" + wanted.version);
    }
    return names;
  }

  [[nodiscard]] Result<std::vector<std::string>> upgradable(const Host& host) const {
    std::vector<std::string> words_after = {"install", "--"};
    for (const std::string& name : asked_for()) words_after.push_back(name);
    const Result<std::string> said = simulate(host, words_after);
    if (!said) return fail(said.error());
    std::vector<std::string> names;
    for (const SimulatedPackage& package : simulated_packages(*said)) {
      if (!package.to.empty()) names.push_back(package.name);
    }
    return names;
  }

  /// What apt-get says that it would do. It keeps what it has worked out to itself: a look writes nothing, its cache included.
  [[nodiscard]] static Result<std::string> simulate(const Host& host, const std::vector<std::string>& words_after) {
    Command command;
    command.argv = {"apt-get", "-s", "-o", "Debug::NoLocking=1", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="};
    command.argv.insert(command.argv.end(), words_after.begin(), words_after.end());
    look_by_apt_mirror(host, command);
    Result<CommandResult> simulated = host.look(command);
    if (!simulated) return fail(std::move(simulated).error());
    if (simulated->exit_code != 0) return fail(apt_error(command, *simulated));
    return std::move(simulated->out);
  }

  [[nodiscard]] std::vector<std::string> asked_for() const {
    std::vector<std::string> names;
    for (const Wanted& wanted : wanted_) names.push_back(wanted.name);
    return names;
  }

  [[nodiscard]] std::vector<std::string> words_for(const std::vector<std::string>& names) const {
    std::vector<std::string> words_after;
    if (spec_.fast) words_after = {"-o", "Dpkg::Options::=--force-unsafe-io"};
    words_after.emplace_back(spec_.state == AptSpec::State::absent ? "remove" : "install");
    if (!spec_.recommends) words_after.emplace_back("--no-install-recommends");
    if (std::any_of(names.begin(), names.end(), [](const std::string& name) { return name.find('=') != std::string::npos; }))
      words_after.emplace_back("--allow-downgrades");
    words_after.emplace_back("--");
    words_after.insert(words_after.end(), names.begin(), names.end());
    return words_after;
  }

  Result<void> change(Host& host, StepLog& log, const std::vector<std::string>& names) {
    const std::vector<std::string> words_after = words_for(names);
    Result<void> changed = run_apt_get(host, log, words_after);
    if (changed || spec_.state == AptSpec::State::absent) return changed;
    // Lists that name a version which the mirror no longer has look just like a wrong name: ask the mirror once.
    if (!lists_may_lie(changed.error()) || updated_now_) return changed;
    updated_now_ = true;
    if (Result<void> updated = update_package_lists(host, log); !updated) return updated;
    return run_apt_get(host, log, words_after);
  }

  Result<void> hold(Host& host, StepLog& log) const {
    const Result<DpkgStatus> status = DpkgStatus::read(host);
    if (!status) return fail(status.error());
    Command command;
    command.argv = {"apt-mark", "hold", "--"};
    for (const std::string& name : spec_.hold.items) {
      if (!status->is_held(name)) command.argv.push_back(name);
    }
    if (command.argv.size() == 3) return {};
    const Result<CommandResult> result = host.act(command, log);
    if (!result) return fail(result.error());
    if (result->exit_code != 0) return fail(command_error(command, *result));
    return {};
  }

  [[nodiscard]] std::string describe(const DpkgStatus& status) const {
    std::vector<std::string> parts;
    for (const Wanted& wanted : wanted_) {
      const DpkgPackage* there = status.installed(wanted.name);
      parts.push_back(there == nullptr ? wanted.name : wanted.name + (wanted.version.empty() ? "" : " " + there->version));
    }
    if (parts.empty()) return "package lists are fresh";
    return fmt::format("{}: {}", join(parts, " "), spec_.state == AptSpec::State::absent ? "not installed" : "installed");
  }

  AptSpec spec_;
  std::vector<Wanted> wanted_;
  bool updated_now_ = false;
};

}  // namespace

std::unique_ptr<Step> make_apt_step(const StepSpec& spec) { return std::make_unique<AptStep>(std::get<AptSpec>(spec)); }

}  // namespace gpustrap
