#include "agent/protocol/compat_sources.h"

#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

using How = DriverAnswer::How;

/// Whether a row's first and last branch include this one.
template <class Row> bool covers(const Row& row, const std::string& branch) {
  return (row.first_branch.empty() || compare_versions(branch, row.first_branch) >= 0) &&
         (row.last_branch.empty() || compare_versions(branch, row.last_branch) <= 0);
}

Result<void> add_driver_packages(const Compat& compat, const CompatQuestion& question, const DistributionRow* distribution,
                                 DriverAnswer& driver) {
  for (const DriverPackagesRow& row : compat.driver_packages) {
    if ((!row.os.empty() && row.os != question.os) || !covers(row, driver.branch)) continue;
    if (!row.os_version.empty() && row.os_version != question.os_version) continue;
    if (row.os.empty() && distribution == nullptr) continue;
    if (row.from != question.source && (!question.source.empty() || row.from == "debian")) continue;
    DriverAnswer::Source source{row.from, row.is_signed, {}};
    for (const std::string& name : (driver.open ? row.open : row.proprietary).items)
      source.packages.push_back(filled_in(name, {{"branch", driver.branch}}));
    driver.sources.push_back(std::move(source));
  }
  if (driver.sources.empty() && !question.source.empty()) {
    return fail(ErrorCode::unsupported,
                fmt::format("{} has no packages of driver branch {} with {} modules for {} {}",
                            question.source == "nvidia"   ? "NVIDIA's repository"
                            : question.source == "debian" ? "Debian"
                                                          : "Ubuntu",
                            driver.branch, driver.open ? "open" : "proprietary", question.os, question.os_version),
                "want the source `auto`, or another branch");
  }
  if (driver.sources.empty()) return fail(not_served(compat, question));
  if (question.secure_boot) {
    std::erase_if(driver.sources, [](const DriverAnswer::Source& source) { return !source.is_signed; });
    if (driver.sources.empty()) {
      return fail(
          ErrorCode::unsupported,
          fmt::format("Secure Boot is on, and {} {} has no signed driver modules: those built here would need a key that is enrolled at "
                      "the machine's console",
                      question.os, question.os_version),
          "turn Secure Boot off, or use Ubuntu, whose own driver packages are signed");
    }
  }
  driver.pin = filled_in(compat.repository.pin, {{"branch", driver.branch}});
  return {};
}

void add_fabric_manager(const Compat& compat, const CompatQuestion& question, const std::vector<GpuKind>& gpus, DriverAnswer& driver) {
  bool needed = question.nvswitches.value_or(0) > static_cast<std::uint64_t>(compat.fabric_above);
  std::vector<std::string> company;
  for (const GpuKind& kind : gpus) {
    const GpuRow& row = *kind.row;
    if (row.nvswitch_gpus == 0) continue;
    // Where the switches are not on the PCI bus, or nobody has looked there, the number of GPUs tells.
    const bool by_gpus = !question.nvswitches || !row.nvswitch_on_pci;
    if (by_gpus && kind.count >= row.nvswitch_gpus) needed = true;
    if (needed) company.insert(company.end(), row.fabric_packages.items.begin(), row.fabric_packages.items.end());
  }
  if (!needed) return;
  for (const FabricPackageRow& row : compat.fabric_packages) {
    if (covers(row, driver.branch)) driver.fabric_packages.push_back(filled_in(row.name, {{"branch", driver.branch}}));
  }
  driver.fabric_packages.insert(driver.fabric_packages.end(), company.begin(), company.end());
}

}  // namespace

Error not_served(const Compat& compat, const CompatQuestion& question) {
  std::vector<std::string> served;
  for (const DistributionRow& row : compat.distributions) served.push_back(row.os + " " + row.version);
  const std::string release =
      question.os_version.empty() ? question.os + " without a version number" : question.os + " " + question.os_version;
  return {ErrorCode::unsupported, "NVIDIA's repository does not serve " + release, "it serves " + join(served, ", ")};
}

Result<void> add_sources(const Compat& compat, const CompatQuestion& question, const Chosen& chosen, CompatAnswer& answer) {
  if (answer.driver.how != How::outside) add_fabric_manager(compat, question, chosen.gpus, answer.driver);
  if (answer.cuda) {
    const std::vector<std::string> parts = split(chosen.cuda->version, '.');
    const std::vector<std::pair<std::string, std::string>> values = {{"major", parts.at(0)}, {"minor", parts.at(1)}};
    if (answer.cuda->from_repository) answer.cuda->package = filled_in(compat.repository.toolkit, values);
    if (answer.cuda->runs == CudaAnswer::Runs::forward) answer.cuda->compat_package = filled_in(compat.repository.compat, values);
  }
  if (question.os.empty()) return {};
  const auto& folders = compat.repository.architectures.items;
  const auto folder = std::find_if(folders.begin(), folders.end(), [&](const auto& item) { return item.first == question.arch; });
  if (folder == folders.end())
    return fail(ErrorCode::unsupported, fmt::format("NVIDIA has no packages for {}", question.arch), "use a machine of x86_64 or aarch64");
  if (chosen.distribution != nullptr) {
    const std::string url = compat.repository.base + chosen.distribution->repository + "/" + folder->second;
    answer.repository =
        RepositoryAnswer{chosen.distribution->repository, url, url + "/" + compat.repository.keyring, chosen.distribution->key, ""};
    for (const auto& [key, fingerprint] : compat.repository.fingerprints.items)
      if (key == "key_" + answer.repository->key) answer.repository->fingerprint = fingerprint;
  }
  if (answer.driver.how != How::install) return {};
  return add_driver_packages(compat, question, chosen.distribution, answer.driver);
}

}  // namespace gpustrap
