#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "controller/cloud/aws_config.h"

namespace gpustrap {

/// A variable of the environment; empty where it is not set.
using Variables = std::function<std::string(const std::string& name)>;
[[nodiscard]] Variables process_environment();

/// Where calls go and in whose name, by the rules of the AWS command line: what was said, then the environment, then the profile.
struct AwsSettings {
  std::string profile = "default";
  bool profile_said = false;  ///< by --profile, which is stronger than keys in the environment
  std::string region;
  std::string ca_bundle;
  std::optional<int> max_attempts;  ///< of a call, the first one included; none: as many as gpustrap thinks right
  AwsConfig config;
  Variables variables;

  /// "https://ec2.eu-west-1.amazonaws.com", or what AWS_ENDPOINT_URL_EC2, AWS_ENDPOINT_URL or the profile say instead.
  [[nodiscard]] std::string endpoint(std::string_view service) const;
  /// Where calls of that service go: prices are told in few regions, for all of them.
  [[nodiscard]] std::string region_of(std::string_view service) const;
};

/// Errors (usage): a profile that does not exist, no region, a region that cannot be one, a file that cannot be read, a number of attempts
/// that is none. `otherwise`: the region where none is said.
[[nodiscard]] Result<AwsSettings> settings_for(const std::string& profile, const std::string& region, const Variables& variables,
                                               const std::string& otherwise = "");

/// Whether it can be one: "eu-west-1", "us-gov-east-1".
[[nodiscard]] bool is_region(std::string_view text);

/// The region that somebody may have meant who wrote one that gpustrap has not heard of; empty: it has, or none is like it.
[[nodiscard]] std::string region_meant_by(const std::string& region);

/// The domain of a region's services: "amazonaws.com", "amazonaws.com.cn".
[[nodiscard]] std::string domain_of(const std::string& region);

}  // namespace gpustrap
