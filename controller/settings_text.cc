#include "controller/settings_text.h"

#include <algorithm>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/display_width.h"

namespace gpustrap {
namespace {

constexpr std::string_view kNobody = "default";
constexpr std::string_view kNoColor = "NO_COLOR";

}  // namespace

std::vector<EffectiveSetting> effective_settings(const std::vector<SettingValue>& said, const char* no_color) {
  std::vector<EffectiveSetting> all;
  for (const Setting& setting : settings()) {
    EffectiveSetting one{std::string(setting.key),    std::string(setting.usual), std::string(kNobody),
                         std::string(setting.option), variable_of(setting),       value_of(said, setting.key)};
    if (one.said != nullptr) one.value = join(one.said->values, ", "), one.origin = one.said->origin();
    // Whoever sets it wants none of any program.
    if (setting.key == "no_color" && no_color != nullptr && *no_color != '\0')
      one.value = "true", one.origin = kNoColor, one.said = nullptr;
    all.push_back(std::move(one));
  }
  for (const char* key : {"no_proxy", "mirrors"}) {
    EffectiveSetting one{key, "none", std::string(kNobody), {}, {}, value_of(said, key)};
    if (one.said != nullptr) one.value = join(one.said->values, ", "), one.origin = one.said->origin();
    all.push_back(std::move(one));
  }
  return all;
}

std::string settings_text(const std::vector<EffectiveSetting>& settings, const std::string& file, bool origin) {
  std::size_t longest = 0;
  std::vector<std::string> lines;
  for (const EffectiveSetting& one : settings) {
    lines.push_back(strip_control(fmt::format("{}: {}", one.key, one.value)));
    longest = std::max(longest, display_width(lines.back()));
  }
  std::string text = file.empty() ? "" : fmt::format("# {}\n", strip_control(file));
  for (std::size_t i = 0; i < lines.size(); ++i)
    text += origin ? fmt::format("{}  # {}\n", fit_to_width(lines[i], longest), strip_control(settings[i].origin)) : lines[i] + "\n";
  return text;
}

Json settings_document(const std::vector<EffectiveSetting>& settings, const std::string& file) {
  Json list = Json::array();
  for (const EffectiveSetting& one : settings) {
    Json origin = {{"kind", "default"}};
    if (one.said != nullptr && one.said->from == SettingValue::From::file)
      origin = {{"kind", "file"}, {"file", one.said->file}, {"line", one.said->line}};
    else if (one.origin != kNobody)
      origin = {{"kind", "variable"}, {"name", one.origin}};
    Json entry = {{"key", one.key}, {"value", one.value}, {"origin", std::move(origin)}};
    if (!one.option.empty()) entry["option"] = one.option;
    if (!one.variable.empty()) entry["variable"] = one.variable;
    list.push_back(std::move(entry));
  }
  return {{"version", 1}, {"file", file}, {"settings", std::move(list)}};
}

}  // namespace gpustrap
