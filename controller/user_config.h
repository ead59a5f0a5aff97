#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/network.h"
#include "controller/settings.h"

namespace gpustrap {

/// What a person has written down for all runs: ${XDG_CONFIG_HOME:-~/.config}/gpustrap/config.yaml.
struct UserConfig {
  std::string path;  ///< where it is, or would be
  std::string proxy;
  std::vector<std::string> no_proxy;
  std::string mirror;  ///< the name of the one that is used where none is named
  std::vector<Mirror> mirrors;
  std::vector<SettingValue> settings;  ///< all that it says of options, those above included, with their lines
};

/// The error (recipe) holds everything that is wrong, by place: "config.yaml:3:8: …".
[[nodiscard]] Result<UserConfig> read_user_config(const std::string& text, const std::string& label);
/// The file's; an empty one where there is no file.
[[nodiscard]] Result<UserConfig> load_user_config();

/// unknown_variables() of this process.
[[nodiscard]] std::vector<std::string> unknown_variables();

/// What the environment and the user's file say of options.
[[nodiscard]] Result<std::vector<SettingValue>> user_settings();

/// How a run is to get at what it takes from elsewhere: as the command line says (`none` for neither), else as the configuration does.
/// Error usage where that names no mirror there is, or no proxy.
[[nodiscard]] Result<Network> network_for(const UserConfig& config, const std::optional<std::string>& mirror,
                                          const std::optional<std::string>& proxy);

/// For people, one a line: "through the proxy http://…", "pypi from the mirror uni (https://…)".
[[nodiscard]] std::vector<std::string> describe_network(const Network& network);

}  // namespace gpustrap
