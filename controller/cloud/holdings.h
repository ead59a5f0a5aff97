#pragma once

#include <optional>
#include <string>
#include <vector>

#include "controller/cloud/ec2.h"

namespace gpustrap {

// What an account has of gpustrap's, in one region.

/// Instances with gpustrap's tag that are not over.
[[nodiscard]] AwsResult<std::vector<Ec2Instance>> own_instances(Ec2& ec2);
/// Those that are not over and have that id, else that name or address. An id always wins.
[[nodiscard]] std::vector<Ec2Instance> instances_called(const std::vector<Ec2Instance>& all, const std::string& word);
/// The one of them. Errors (usage): none, with the names there are; several.
[[nodiscard]] Result<Ec2Instance> own_instance(const std::vector<Ec2Instance>& all, const std::string& word, const std::string& region);
/// What AWS's own checks of a running instance say where it is not that all is well: "impaired (system)", "checks under way".
[[nodiscard]] std::string checks_text(const Ec2Status& status);
/// The name that gpustrap knows it by.
[[nodiscard]] std::string name_of(const Ec2Instance& instance);

/// The regions that the account has enabled, by name.
[[nodiscard]] AwsResult<std::vector<std::string>> enabled_regions(Ec2& ec2);

/// vCPUs in use of one of the quotas.
[[nodiscard]] AwsResult<double> used_vcpus(Ec2& ec2, const std::string& quota);

/// A thing that nothing uses.
struct Orphan {
  std::string kind, id, what;
  double usd_per_month = 0;
  std::string action, parameter;  ///< the call that removes it; empty: it is shown only
};
/// Of what gpustrap made. What an order under way will use in a moment looks like it, too.
[[nodiscard]] AwsResult<std::vector<Orphan>> find_orphans(Ec2& ec2);

}  // namespace gpustrap
