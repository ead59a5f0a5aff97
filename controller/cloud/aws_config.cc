#include "controller/cloud/aws_config.h"

#include <cctype>
#include <set>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"

namespace gpustrap {
namespace {

/// A name with spaces may stand in quotes: [profile "my lab"].
std::string section_name(std::string_view text) {
  std::string name = join(words(text), " ");
  for (const char quote : {'"', '\''}) {
    const std::size_t first = name.find(quote);
    if (first == std::string::npos || name.size() < first + 2 || name.back() != quote) continue;
    return name.substr(0, first) + name.substr(first + 1, name.size() - first - 2);
  }
  return name;
}

std::string lower(std::string_view text) {
  std::string out;
  for (const char c : text) out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

Result<ConfigSections> load_sections(const std::string& path) {
  const Result<std::string> text = read_file(path, 4U << 20U);
  if (!text && text.error().code() == ErrorCode::not_found) return ConfigSections{};
  if (!text) return fail(Error(text.error()).in("reading the AWS settings"));
  return read_config_sections(*text, path);
}

std::string config_section_of(const std::string& profile) { return profile == "default" ? profile : "profile " + profile; }

}  // namespace

Result<ConfigSections> read_config_sections(std::string_view text, const std::string& label) {
  ConfigSections sections;
  ConfigSection* section = nullptr;
  std::string parent;  // the key that indented lines belong to
  std::size_t number = 0;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  for (const std::string& line : split(text, '\n')) {
    ++number;
    const auto refuse = [&](std::string_view why, std::string_view hint) {
      return fail(ErrorCode::usage, fmt::format("{}:{}: {}", label, number, why), std::string(hint));
    };
    const std::string_view bare = trim(line);
    if (bare.empty() || bare.front() == '#' || bare.front() == ';') continue;
    const bool indented = line.front() == ' ' || line.front() == '\t';
    if (bare.front() == '[' && !indented) {
      const std::size_t end = bare.find(']');
      if (end == std::string_view::npos || trim(bare.substr(1, end - 1)).empty())
        return refuse("a section's name without its end", "write it as [default] or [profile NAME]");
      section = &sections[section_name(bare.substr(1, end - 1))];
      parent.clear();
      continue;
    }
    const std::size_t equals = bare.find('=');
    if (section == nullptr) return refuse("a value that belongs to no section", "begin the file with [default]");
    if (equals == std::string_view::npos || equals == 0) {
      if (indented && !parent.empty()) continue;  // a long value that goes on; none that is looked at here
      return refuse("expected NAME = VALUE", "`aws configure` writes this file");
    }
    const std::string key = lower(trim(bare.substr(0, equals)));
    if (indented && !parent.empty())
      (*section)[parent + "." + key] = trim(bare.substr(equals + 1));
    else
      (*section)[key] = trim(bare.substr(equals + 1));
    if (!indented) parent = key;
  }
  return sections;
}

Result<AwsConfig> AwsConfig::load(const std::string& config_path, const std::string& credentials_path) {
  Result<ConfigSections> config = load_sections(config_path);
  if (!config) return fail(std::move(config).error());
  Result<ConfigSections> credentials = load_sections(credentials_path);
  if (!credentials) return fail(std::move(credentials).error());
  return AwsConfig(*std::move(config), *std::move(credentials));
}

bool AwsConfig::has_profile(const std::string& name) const {
  return config_.contains(config_section_of(name)) || credentials_.contains(name) ||
         (name == "default" && config_.contains("profile default"));
}

std::string AwsConfig::value(const std::string& profile, const std::string& key) const {
  if (const auto section = credentials_.find(profile); section != credentials_.end()) {
    if (const auto found = section->second.find(key); found != section->second.end()) return found->second;
  }
  const std::string own = value_in(config_section_of(profile), key);
  return own.empty() && profile == "default" ? value_in("profile default", key) : own;
}

std::string AwsConfig::value_in(const std::string& section, const std::string& key) const {
  const auto found = config_.find(section);
  if (found == config_.end()) return {};
  const auto value = found->second.find(key);
  return value == found->second.end() ? "" : value->second;
}

std::string AwsConfig::profile_names() const {
  std::set<std::string> names;
  for (const auto& [name, section] : credentials_) names.insert(name);
  for (const auto& [name, section] : config_) {
    if (name == "default") names.insert(name);
    if (name.starts_with("profile ")) names.insert(name.substr(8));
  }
  return join({names.begin(), names.end()}, ", ");
}

}  // namespace gpustrap
