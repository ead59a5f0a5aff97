#pragma once

#include <string>
#include <vector>

#include "agent/protocol/json_fwd.h"
#include "controller/settings.h"

namespace gpustrap {

/// What holds for a setting, and why.
struct EffectiveSetting {
  std::string key, value, origin;  ///< origin: "default" where nobody has said anything
  std::string option, variable;    ///< empty where the file alone can say it
  const SettingValue* said = nullptr;
};

/// All settings in the order of their table, then those of the file alone. `no_color` is the variable NO_COLOR, null where it is not set.
[[nodiscard]] std::vector<EffectiveSetting> effective_settings(const std::vector<SettingValue>& said, const char* no_color);
/// One a line: "wait: 5m", with `origin` followed by where that comes from.
[[nodiscard]] std::string settings_text(const std::vector<EffectiveSetting>& settings, const std::string& file, bool origin);
/// {"version":1,"file":…,"settings":[{"key":…,"value":…,"origin":{"kind":"file","file":…,"line":…},"option":…,"variable":…}]}; kinds of
/// origins are file, variable (with "name") and default.
[[nodiscard]] Json settings_document(const std::vector<EffectiveSetting>& settings, const std::string& file);

}  // namespace gpustrap
