#include "agent/steps/nvidia_services.h"

#include <array>
#include <chrono>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/compat_lookup.h"
#include "agent/steps/apt_get.h"
#include "agent/steps/apt_lock.h"
#include "agent/steps/apt_mirror.h"
#include "agent/steps/dpkg_status.h"
#include "agent/steps/nvidia_packages.h"
#include "agent/steps/systemd_unit.h"

namespace gpustrap {
namespace {

constexpr std::string_view kFabricManager = "nvidia-fabricmanager";

bool is_fabric_manager(const std::string& package) { return package.starts_with(kFabricManager); }

/// The archive's own package carries the branch in its name where NVIDIA's does not.
std::array<std::string, 2> names_of(const std::string& package, const std::string& driver) {
  return {package, std::string(kFabricManager) + "-" + branch_of(driver)};
}

/// Why a service is not as it should be; empty where it is.
Result<std::string> trouble_of(const Host& host, const std::string& name, bool must_exist) {
  const Result<UnitState> state = SystemdUnit(name).state(host);
  if (!state) return fail(state.error());
  if (!state->exists) return must_exist ? "there is no unit " + name + ".service" : std::string();
  if (state->masked) return name + " is masked";
  if (state->active != "active") return name + " does not run";
  // Ubuntu's persistence daemon is static: udev starts it with the first GPU.
  if (state->enabled == "disabled") return name + " is not started at boot";
  return std::string();
}

/// Why the fabric manager's package is not the driver's; empty where it is.
Result<std::string> package_trouble(const Host& host, const std::string& package, const std::string& driver) {
  const Result<DpkgStatus> status = DpkgStatus::read(host);
  if (!status) return fail(status.error());
  if (!is_fabric_manager(package)) return status->installed_itself(package) != nullptr ? std::string() : package + " is not installed";
  std::string other;
  for (const std::string& name : names_of(package, driver)) {
    const DpkgPackage* there = status->installed_itself(name);
    if (there == nullptr) continue;
    if (upstream_version(there->version) == driver) return std::string();
    other = fmt::format("{} is {}, and driver {} needs exactly its own", name, there->version, driver);
  }
  return other.empty() ? package + " is not installed" : other;
}

/// "nvidia-fabricmanager=580.95.05-1ubuntu1": the version of the driver to the last digit.
Result<std::string> exact_package(const Host& host, const std::string& package, const std::string& driver) {
  for (const std::string& name : names_of(package, driver)) {
    Command command{{"apt-cache", "madison", "--", name}, {{"LC_ALL", "C"}}, "", "", std::chrono::minutes(1), {}};
    look_by_apt_mirror(host, command);
    const Result<CommandResult> listed = host.look(command);
    if (!listed) return fail(listed.error());
    for (const std::string& line : split(listed->out, '\n')) {
      const std::vector<std::string> columns = split(line, '|');
      if (columns.size() < 2) continue;
      const std::string version(trim(columns[1]));
      if (upstream_version(version) == driver) return name + "=" + version;
    }
  }
  return fail(ErrorCode::not_found,
              fmt::format("no source of this host has {} of exactly version {}, which is the driver's", package, driver),
              "take driver and fabric manager from one source: NVIDIA's repository has both (source: nvidia)");
}

}  // namespace

Result<std::vector<std::string>> missing_services(const Host& host, const DriverServices& wanted) {
  std::vector<std::string> missing;
  const auto note = [&](const Result<std::string>& trouble) {
    if (trouble && !trouble->empty()) missing.push_back(*trouble);
    return trouble.has_value();
  };
  for (const std::string& package : wanted.fabric_packages) {
    if (const Result<std::string> trouble = package_trouble(host, package, wanted.driver); !note(trouble)) return fail(trouble.error());
  }
  if (!host.facts().systemd) return missing;
  if (!wanted.fabric_packages.empty() && missing.empty()) {
    if (const Result<std::string> trouble = trouble_of(host, std::string(kFabricManager), true); !note(trouble))
      return fail(trouble.error());
  }
  if (wanted.persistence) {
    if (const Result<std::string> trouble = trouble_of(host, "nvidia-persistenced", false); !note(trouble)) return fail(trouble.error());
  }
  return missing;
}

Result<void> set_up_services(Host& host, StepLog& log, const DriverServices& wanted) {
  std::vector<std::string> packages;
  for (const std::string& package : wanted.fabric_packages) {
    const Result<std::string> trouble = package_trouble(host, package, wanted.driver);
    if (!trouble) return fail(trouble.error());
    if (trouble->empty()) continue;
    Result<std::string> exact = is_fabric_manager(package) ? exact_package(host, package, wanted.driver) : Result<std::string>(package);
    if (!exact) return fail(std::move(exact).error());
    packages.push_back(*std::move(exact));
  }
  if (!packages.empty()) {
    if (Result<void> free = wait_for_apt_locks(host, log, kAptLockLimit); !free) return free;
    std::vector<std::string> words_after = {"install", "--allow-downgrades", "--allow-change-held-packages", "--"};
    words_after.insert(words_after.end(), packages.begin(), packages.end());
    if (Result<void> installed = run_apt_get(host, log, words_after); !installed) return installed;
  }
  if (!host.facts().systemd) return {};
  std::vector<std::string> services;
  if (!wanted.fabric_packages.empty()) services.emplace_back(kFabricManager);
  if (wanted.persistence) services.emplace_back("nvidia-persistenced");
  for (const std::string& name : services) {
    const SystemdUnit unit(name);
    const Result<UnitState> state = unit.state(host);
    if (!state) return fail(state.error());
    if (!state->exists) continue;  // the next look says so where that matters
    if (state->masked) return fail(ErrorCode::unsupported, name + " is masked", fmt::format("sudo systemctl unmask {}", unit.service()));
    if (state->enabled == "disabled") {
      if (Result<void> enabled = SystemdUnit::control(host, log, {"enable", unit.service()}); !enabled) return enabled;
    }
    if (state->active == "active") continue;
    if (Result<void> started = SystemdUnit::control(host, log, {"restart", unit.service()}); !started)
      return fail(unit.failure(host, name + " does not start"));
  }
  return {};
}

}  // namespace gpustrap
