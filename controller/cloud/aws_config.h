#pragma once

#include <map>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace gpustrap {

/// A section's values; nested ones are "s3.addressing_style".
using ConfigSection = std::map<std::string, std::string>;
/// By the section's name as it stands in the file: "default", "profile lab", "sso-session my".
using ConfigSections = std::map<std::string, ConfigSection>;

/// Reads ~/.aws/config or ~/.aws/credentials. The error (usage) names file and line, and never quotes the line: it may hold a secret.
[[nodiscard]] Result<ConfigSections> read_config_sections(std::string_view text, const std::string& label);

/// Both files together.
class AwsConfig {
 public:
  AwsConfig() = default;
  AwsConfig(ConfigSections config, ConfigSections credentials) : config_(std::move(config)), credentials_(std::move(credentials)) {}
  /// Reads those of the two that exist.
  [[nodiscard]] static Result<AwsConfig> load(const std::string& config_path, const std::string& credentials_path);

  [[nodiscard]] bool has_profile(const std::string& name) const;
  /// Of that profile; those of the credentials file come before those of the configuration. Empty where it is not set.
  [[nodiscard]] std::string value(const std::string& profile, const std::string& key) const;
  /// Of a section that is no profile.
  [[nodiscard]] std::string value_in(const std::string& section, const std::string& key) const;
  /// Names of all profiles, sorted.
  [[nodiscard]] std::string profile_names() const;

 private:
  ConfigSections config_, credentials_;
};

}  // namespace gpustrap
