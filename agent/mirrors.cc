#include "agent/mirrors.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/shown_url.h"

namespace gpustrap {
namespace {

constexpr std::string_view kNoProxy = "no_proxy";
constexpr const char* kLoopback[] = {"localhost", "127.0.0.1", "::1"};

bool is_loopback(std::string_view host) { return host.starts_with("localhost") || host.starts_with("127.") || host.starts_with("[::1]"); }

/// Where the mirror has that file; nullopt where it has no place for it.
std::optional<std::string> mirrored(const Mirror& mirror, const std::string& url) {
  if (std::optional<std::string> there = mirror.by_prefix("downloads", url)) return there;
  const std::string base = mirror.place("downloads");
  const std::size_t scheme = url.find("://");
  if (base.empty() || scheme == std::string::npos || url.starts_with(base)) return std::nullopt;
  const std::string_view rest = std::string_view(url).substr(scheme + 3);
  if (is_loopback(rest)) return std::nullopt;
  return base + (base.ends_with('/') ? "" : "/") + std::string(rest);
}

}  // namespace

EnvironmentVariables proxies_for(const EnvironmentVariables& of_login, const Network& network) {
  EnvironmentVariables proxies;
  std::string direct;
  for (const auto& [name, value] : of_login) {
    if (name == kNoProxy)
      direct = value;
    else if (network.proxy.empty() && !value.empty())
      proxies.emplace_back(name, value);
  }
  if (!network.proxy.empty()) {
    for (const char* name : {"http_proxy", "https_proxy"}) proxies.emplace_back(name, network.proxy);
  }
  if (proxies.empty()) return proxies;
  for (const std::string& host : network.no_proxy) direct += (direct.empty() ? "" : ",") + host;
  for (const char* host : kLoopback) direct += std::string(direct.empty() ? "" : ",") + host;
  proxies.emplace_back(kNoProxy, std::move(direct));
  return proxies;
}

EnvironmentVariables mirror_environment(const Mirror& mirror) {
  EnvironmentVariables variables;
  std::string defaults;
  for (const MirrorPlace& place : mirror.places) {
    if (place.what == "pypi") {
      // The last is what uv knew first; older ones know nothing else.
      for (const char* name : {"PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"}) variables.emplace_back(name, place.to);
    } else if (place.what == "conda") {
      variables.emplace_back("CONDA_CHANNEL_ALIAS", place.to);
    } else if (place.what == "conda_defaults") {
      defaults += (defaults.empty() ? "" : ",") + place.to;
    }
  }
  if (!defaults.empty()) variables.emplace_back("CONDA_DEFAULT_CHANNELS", std::move(defaults));
  return variables;
}

Result<FetchResult> fetch_by_mirror(const FetchRequest& request, const Mirror& mirror, StepLog& log, const FetchOnce& fetch) {
  FetchRequest there = request;
  there.urls.clear();
  for (const std::string& url : request.urls) {
    if (std::optional<std::string> place = mirrored(mirror, url)) there.urls.push_back(*std::move(place));
  }
  if (there.urls.empty()) return fetch(request, Patience::full);
  log.say("asking the mirror " + mirror.name + ": " + shown_url(there.urls.front()));
  Result<FetchResult> fetched = fetch(there, Patience::short_one);
  if (fetched) return fetched;
  // What is wrong on this host is wrong whoever is asked.
  const ErrorCode code = fetched.error().code();
  if (code == ErrorCode::no_space || code == ErrorCode::io || code == ErrorCode::internal || code == ErrorCode::busy) return fetched;
  log.say(
      fmt::format("the mirror {} does not have it: {}; taking {}", mirror.name, fetched.error().why(), shown_url(request.urls.front())));
  return fetch(request, Patience::full);
}

void say_mirror(const Host& host, StepLog& log, std::string_view what, const std::string& url) {
  log.say(fmt::format("taking {} from the mirror {} ({})", what, host.mirror().name, shown_url(url)));
}

Error by_way_of(const Host& host, Error error, const std::string& url) {
  std::string way;
  if (!url.empty()) {
    way = fmt::format("the mirror {} ({}) was asked: is it up, and does it have this? `--mirror none` goes without it", host.mirror().name,
                      shown_url(url));
  }
  const bool on_the_way =
      error.code() == ErrorCode::network || error.code() == ErrorCode::unreachable || error.code() == ErrorCode::timeout;
  for (const auto& [name, value] : host.login().proxy) {
    if (!on_the_way || name == kNoProxy || value.empty()) continue;
    way += fmt::format("{}the way out is the proxy {}: is it up, and does it let this through?", way.empty() ? "" : "; ", shown_url(value));
    break;
  }
  if (way.empty()) return error;
  Error told(error.code(), error.why(), error.hint().empty() ? way : fmt::format("{}; {}", way, error.hint()));
  for (auto doing = error.doing().rbegin(); doing != error.doing().rend(); ++doing) told = std::move(told).in(*doing);
  return told;
}

}  // namespace gpustrap
