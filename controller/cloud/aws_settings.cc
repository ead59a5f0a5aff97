#include "controller/cloud/aws_settings.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

std::string first_of(const Variables& variables, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (std::string value = variables(name); !value.empty()) return value;
  }
  return {};
}

std::string upper_name(std::string_view service) {
  std::string name;
  for (const char c : service) name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

Result<std::optional<int>> read_attempts(const std::string& text, const std::string& from) {
  if (text.empty()) return std::nullopt;
  int attempts = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), attempts);
  if (problem == std::errc() && end == text.data() + text.size() && attempts >= 1 && attempts <= 100) return attempts;
  return fail(ErrorCode::usage, fmt::format("{}: `{}` is not a number of attempts", from, strip_control(first_line(text, 40))),
              "a number from 1 to 100; 1 repeats nothing");
}

std::string without_slash(std::string url) {
  while (url.ends_with('/')) url.pop_back();
  return url;
}

}  // namespace

bool is_region(std::string_view text) {
  const auto allowed = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  return text.size() >= 5 && text.size() <= 32 && std::all_of(text.begin(), text.end(), allowed) &&
         std::count(text.begin(), text.end(), '-') >= 2 && std::isdigit(static_cast<unsigned char>(text.back())) != 0 &&
         std::isalpha(static_cast<unsigned char>(text.front())) != 0;
}

std::string region_meant_by(const std::string& region) {
  // As of 2026. A newer one is asked like any other: this is for advice alone.
  static const std::vector<std::string> known = split(
      "af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2 ap-southeast-1 ap-southeast-2 "
      "ap-southeast-3 ap-southeast-4 ap-southeast-5 ap-southeast-6 ap-southeast-7 ca-central-1 ca-west-1 cn-north-1 cn-northwest-1 "
      "eu-central-1 eu-central-2 eu-north-1 eu-south-1 eu-south-2 eu-west-1 eu-west-2 eu-west-3 il-central-1 me-central-1 me-south-1 "
      "mx-central-1 sa-east-1 us-east-1 us-east-2 us-gov-east-1 us-gov-west-1 us-west-1 us-west-2",
      ' ');
  return std::find(known.begin(), known.end(), region) != known.end() ? "" : nearest_name(region, known);
}

Variables process_environment() {
  return [](const std::string& name) {
    const char* value = std::getenv(name.c_str());
    return std::string(value == nullptr ? "" : value);
  };
}

std::string domain_of(const std::string& region) { return region.starts_with("cn-") ? "amazonaws.com.cn" : "amazonaws.com"; }

std::string AwsSettings::endpoint(std::string_view service) const {
  std::string name(service);
  if (variables("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") != "true") {
    std::string key;  // in a profile: service_quotas
    for (const char c : service) key += c == '-' ? '_' : c;
    const std::string services = config.value(profile, "services");
    for (const std::string& url :
         {variables("AWS_ENDPOINT_URL_" + upper_name(service)), variables("AWS_ENDPOINT_URL"),
          services.empty() ? "" : config.value_in("services " + services, key + ".endpoint_url"), config.value(profile, "endpoint_url")}) {
      if (!url.empty()) return without_slash(url);
    }
  }
  if (name == "service-quotas") name = "servicequotas";
  if (name == "pricing") name = "api.pricing";
  const std::string place = region_of(service);
  return fmt::format("https://{}.{}.{}", name, place, domain_of(place));
}

std::string AwsSettings::region_of(std::string_view service) const { return service == "pricing" ? "us-east-1" : region; }

Result<AwsSettings> settings_for(const std::string& profile, const std::string& region, const Variables& variables,
                                 const std::string& otherwise) {
  AwsSettings settings;
  settings.variables = variables;
  const std::string home = variables("HOME");
  const auto path_of = [&](const char* variable, const char* usual) {
    std::string path = variables(variable);
    if (path.empty()) path = usual;
    return path.starts_with("~/") ? home + path.substr(1) : path;
  };
  Result<AwsConfig> config =
      AwsConfig::load(path_of("AWS_CONFIG_FILE", "~/.aws/config"), path_of("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"));
  if (!config) return fail(std::move(config).error());
  settings.config = *std::move(config);

  const std::string named = first_of(variables, {"AWS_PROFILE", "AWS_DEFAULT_PROFILE"});
  settings.profile_said = !profile.empty();
  if (!profile.empty() || !named.empty()) settings.profile = profile.empty() ? named : profile;
  if ((!profile.empty() || !named.empty()) && !settings.config.has_profile(settings.profile)) {
    const std::string names = settings.config.profile_names();
    return fail(ErrorCode::usage,
                fmt::format("there is no AWS profile `{}`{}", strip_control(settings.profile), profile.empty() ? " (AWS_PROFILE)" : ""),
                names.empty() ? "`aws configure` makes the first one" : "profiles there are: " + names);
  }
  settings.region = region;
  std::string from = "--region";
  if (settings.region.empty()) settings.region = variables(from = "AWS_REGION");
  if (settings.region.empty()) settings.region = variables(from = "AWS_DEFAULT_REGION");
  if (settings.region.empty()) settings.region = settings.config.value(settings.profile, "region"), from = "profile " + settings.profile;
  if (settings.region.empty()) settings.region = otherwise;
  if (settings.region.empty()) {
    return fail(ErrorCode::usage, "no AWS region is given",
                "name one: --region us-east-1, or export AWS_REGION=us-east-1, or `aws configure set region us-east-1`");
  }
  if (!is_region(settings.region)) {
    const std::string shown = strip_control(first_line(settings.region, 60));
    std::string zone = shown;
    if (!zone.empty()) zone.pop_back();
    return fail(ErrorCode::usage, fmt::format("{}: `{}` is not a region", from, shown),
                is_region(zone) ? fmt::format("this is a zone; its region is {}", zone) : "for instance us-east-1 or eu-central-1");
  }
  const std::string attempts = variables("AWS_MAX_ATTEMPTS");
  Result<std::optional<int>> most = attempts.empty() ? read_attempts(settings.config.value(settings.profile, "max_attempts"),
                                                                     "max_attempts of profile " + strip_control(settings.profile))
                                                     : read_attempts(attempts, "AWS_MAX_ATTEMPTS");
  if (!most) return fail(std::move(most).error());
  settings.max_attempts = *most;
  settings.ca_bundle = variables("AWS_CA_BUNDLE");
  if (settings.ca_bundle.empty()) settings.ca_bundle = settings.config.value(settings.profile, "ca_bundle");
  return settings;
}

}  // namespace gpustrap
