#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

/// What the value of a setting looks like.
enum class SettingKind { flag, port, ports, time, number, format, word, paths };

/// Where a setting may stand beside the command line and the environment.
enum class InFile {
  yes,
  no,  ///< it agrees to something: that is said each time, and never once for all
};

/// An option that makes sense beyond one call.
struct Setting {
  std::string_view key;     ///< in config.yaml
  std::string_view option;  ///< the name that help gives first: "--wait", "-i"
  SettingKind kind;
  InFile in_file;
  std::string_view usual;  ///< what holds where nobody says anything
  std::string_view what;   ///< for docs/configuration.md and `gpustrap config --help`
};

/// The one table.
[[nodiscard]] const std::vector<Setting>& settings();
[[nodiscard]] const Setting* setting_of_key(std::string_view key);
[[nodiscard]] const Setting* setting_of_option(std::string_view option);
/// "GPUSTRAP_WAIT"
[[nodiscard]] std::string variable_of(const Setting& setting);

/// Options of the groups Connection and Output that are no settings, and why: they are about one call.
struct OneCallOption {
  std::string_view option, reason;
};
[[nodiscard]] const std::vector<OneCallOption>& one_call_options();

/// What somebody has said for a setting, and where: what is nearer to the command is stronger.
struct SettingValue {
  enum class From { variable, file };
  std::string key;
  std::vector<std::string> values;  ///< as the command line would have them; more than one only of `paths`
  From from = From::file;
  std::string variable;  ///< or
  std::string file;      ///< with
  int line = 0;

  /// "GPUSTRAP_WAIT", "/home/ann/.config/gpustrap/config.yaml:3"
  [[nodiscard]] std::string origin() const;
};

/// What is wrong with a value, as the rest of a sentence: "is `soon`: expected a time, such as 90s or 10m"; empty where nothing is.
[[nodiscard]] std::string fault_of_setting(const Setting& setting, const std::string& value);

/// Those of the environment, given as NAME and value. A value that cannot be is an error (usage), and so is a variable that is nearly one
/// of gpustrap's; other names that begin with GPUSTRAP_ may be anybody's.
[[nodiscard]] Result<std::vector<SettingValue>> settings_of_environment(
    const std::vector<std::pair<std::string, std::string>>& environment);

/// What to say of names that begin with GPUSTRAP_ and are nothing to gpustrap, one sentence each: most were meant for it. Those of this
/// repository's own scripts are left out.
[[nodiscard]] std::vector<std::string> unknown_variables(const std::vector<std::pair<std::string, std::string>>& environment);

/// What holds for a key: the environment before the file.
[[nodiscard]] const SettingValue* value_of(const std::vector<SettingValue>& said, std::string_view key);

/// All that is said outside the command line, environment first; asked for only by a verb with options that it may be about.
using SettingsSource = std::function<Result<std::vector<SettingValue>>()>;

}  // namespace gpustrap
