#include "agent/steps/nvidia_holds.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/compat_lookup.h"
#include "agent/steps/dpkg_status.h"
#include "agent/steps/host_restart.h"
#include "agent/steps/nvidia_packages.h"
#include "agent/steps/state_paths.h"

namespace gpustrap {
namespace {

constexpr auto kMarkLimit = std::chrono::minutes(2);

std::string record_path(const Host& host) { return state_directory(host, "nvidia") + "/held"; }

/// nvidia-utils-580-server 580.95.05-…, cuda-drivers 595.…, linux-modules-nvidia-580-server-open-6.8.0-1021-aws 6.8.0-1021.23.
bool is_driver_package(const std::string& name, const std::string& version, const std::string& branch) {
  if (name.starts_with("linux-") && name.find("-nvidia-" + branch + "-") != std::string::npos) return true;
  const bool named = name.find("nvidia") != std::string::npos || name.starts_with("cuda-drivers") || name.starts_with("libcuda1");
  return named && branch_of(upstream_version(version)) == branch;
}

Result<void> mark(Host& host, StepLog& log, const char* how, const std::vector<std::string>& names) {
  if (names.empty()) return {};
  Command command{{"apt-mark", how, "--"}, {}, "", "", kMarkLimit, {}};
  command.argv.insert(command.argv.end(), names.begin(), names.end());
  const Result<CommandResult> result = host.act(command, log);
  if (!result) return fail(result.error());
  if (result->exit_code != 0) return fail(command_error(command, *result));
  return {};
}

std::vector<std::string> remembered(const Host& host) {
  const Result<std::string> text = host.read(record_path(host));
  return text ? words(*text) : std::vector<std::string>();
}

}  // namespace

Result<std::vector<std::string>> packages_to_hold(const Host& host, const std::string& branch) {
  const Result<DpkgStatus> status = DpkgStatus::read(host);
  if (!status) {
    if (status.error().code() == ErrorCode::unsupported) return std::vector<std::string>();  // a system without dpkg
    return fail(status.error());
  }
  std::vector<std::string> driver;
  for (const std::string& name : status->installed_names()) {
    if (is_driver_package(name, status->installed_itself(name)->version, branch)) driver.push_back(name);
  }
  if (driver.empty()) return driver;
  const std::string& release = host.facts().kernel;
  const std::string flavour = kernel_name(release).flavour;
  for (const std::string& kernel : {release, flavour}) {
    if (kernel.empty()) continue;
    for (const char* part : {"linux-image-", "linux-headers-", "linux-modules-", "linux-modules-extra-", "linux-"}) {
      if (status->installed_itself(part + kernel) != nullptr) driver.push_back(part + kernel);
    }
  }
  std::erase_if(driver, [&](const std::string& name) { return status->is_held(name); });
  std::sort(driver.begin(), driver.end());
  driver.erase(std::unique(driver.begin(), driver.end()), driver.end());
  return driver;
}

Result<void> hold_packages(Host& host, StepLog& log, const std::string& branch) {
  const Result<std::vector<std::string>> names = packages_to_hold(host, branch);
  if (!names) return fail(names.error());
  if (names->empty()) return {};
  if (Result<void> held = mark(host, log, "hold", *names); !held) return held;
  std::vector<std::string> all = remembered(host);
  all.insert(all.end(), names->begin(), names->end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  const std::string path = record_path(host);
  if (Result<void> made = host.make_directory(parent_of(path), {}); !made) return made;
  return host.write(path, join(all, "\n") + "\n", {});
}

Result<void> release_packages(Host& host, StepLog& log) {
  const Result<DpkgStatus> status = DpkgStatus::read(host);
  if (!status) return fail(status.error());
  std::vector<std::string> names = remembered(host);
  std::erase_if(names, [&](const std::string& name) { return !status->is_held(name); });
  return mark(host, log, "unhold", names);
}

}  // namespace gpustrap
