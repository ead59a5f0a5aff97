#include "agent/identity.h"

#include <grp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

constexpr std::array<std::string_view, 4> kProxyNames = {"http_proxy", "https_proxy", "no_proxy", "all_proxy"};

template <class Number> std::optional<Number> number_in(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// One line of /etc/passwd; nullopt for a malformed or NIS line.
std::optional<Identity> identity_in(std::string_view line) {
  const std::vector<std::string> fields = split(line, ':');
  if (fields.size() < 7) return std::nullopt;
  const auto uid = number_in<uid_t>(fields[2]);
  const auto gid = number_in<gid_t>(fields[3]);
  if (!uid || !gid) return std::nullopt;
  Identity identity;
  identity.uid = *uid;
  identity.gid = *gid;
  identity.name = fields[0];
  identity.home = fields[5];
  identity.shell = fields[6];
  return identity;
}

Result<std::vector<Identity>> all_users() {
  const Result<std::string> text = read_file("/etc/passwd");
  if (!text) return fail(text.error());
  std::vector<Identity> users;
  for (const std::string& line : split(*text, '\n')) {
    if (auto identity = identity_in(line)) users.push_back(std::move(*identity));
  }
  return users;
}

std::vector<gid_t> groups_of(const Identity& identity) {
  std::vector<gid_t> groups = {identity.gid};
  const Result<std::string> text = read_file("/etc/group");
  if (!text) return groups;
  for (const std::string& line : split(*text, '\n')) {
    const std::vector<std::string> fields = split(line, ':');
    if (fields.size() < 4) continue;
    const auto gid = number_in<gid_t>(fields[2]);
    const std::vector<std::string> members = split(fields[3], ',');
    if (gid && *gid != identity.gid && std::find(members.begin(), members.end(), identity.name) != members.end()) groups.push_back(*gid);
  }
  return groups;
}

template <class Wanted> Result<Identity> find_user(Wanted wanted, const std::string& described) {
  Result<std::vector<Identity>> users = all_users();
  if (!users) return fail(std::move(users).error().in("looking up " + described));
  for (Identity& user : *users) {
    if (!wanted(user)) continue;
    user.groups = groups_of(user);
    return std::move(user);
  }
  return fail(ErrorCode::not_found, fmt::format("no {} in /etc/passwd", described));
}

}  // namespace

Result<Identity> identity_of_uid(uid_t uid) {
  return find_user([&](const Identity& user) { return user.uid == uid; }, fmt::format("user with uid {}", uid));
}

Result<Identity> identity_of_name(std::string_view name) {
  return find_user([&](const Identity& user) { return user.name == name; }, fmt::format("user \"{}\"", name));
}

std::vector<std::pair<std::string, std::string>> proxies_in(std::string_view environ_block) {
  std::vector<std::pair<std::string, std::string>> proxies;
  for (const std::string& entry : split(environ_block, '\0')) {
    const std::size_t equals = entry.find('=');
    if (equals == std::string::npos) continue;
    std::string name = entry.substr(0, equals);
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (std::find(kProxyNames.begin(), kProxyNames.end(), name) == kProxyNames.end()) continue;
    const bool known = std::any_of(proxies.begin(), proxies.end(), [&](const auto& proxy) { return proxy.first == name; });
    if (!known) proxies.emplace_back(std::move(name), entry.substr(equals + 1));
  }
  return proxies;
}

Identity identity_of_self() {
  Identity identity;
  if (Result<Identity> found = identity_of_uid(::geteuid())) identity = std::move(*found);
  identity.uid = ::geteuid();
  identity.gid = ::getegid();
  const int count = ::getgroups(0, nullptr);
  if (count > 0) {
    identity.groups.resize(static_cast<std::size_t>(count));
    if (::getgroups(count, identity.groups.data()) < 0) identity.groups = {identity.gid};
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') identity.home = home;
  if (identity.name.empty()) identity.name = fmt::format("{}", identity.uid);
  if (identity.home.empty()) identity.home = "/";
  for (char** entry = environ; *entry != nullptr; ++entry) {
    for (auto& proxy : proxies_in(*entry)) identity.proxy.push_back(std::move(proxy));
  }
  return identity;
}

Result<Identity> login_for_standalone(const std::optional<std::string>& name) {
  if (name) return identity_of_name(*name);
  Result<std::vector<Identity>> users = all_users();
  if (!users) return fail(std::move(users).error());
  std::vector<std::string> names;
  for (const Identity& user : *users) {
    // 65534 is nobody; shells named nologin or false belong to services.
    const bool person = user.uid >= 1000 && user.uid < 60000 && !user.shell.ends_with("nologin") && !user.shell.ends_with("false");
    if (person) names.push_back(user.name);
  }
  if (names.size() == 1) return identity_of_name(names.front());
  if (names.empty())
    return fail(ErrorCode::usage, "no user with a uid of 1000 or more exists", "name the user of the login steps: --login-user NAME");
  return fail(ErrorCode::usage, "several users could be meant: " + join(names, ", "),
              "name the user of the login steps: --login-user NAME");
}

Json to_json(const Identity& identity) {
  Json document;
  document["uid"] = identity.uid;
  document["gid"] = identity.gid;
  document["groups"] = identity.groups;
  document["name"] = identity.name;
  document["home"] = identity.home;
  document["shell"] = identity.shell;
  document["proxy"] = Json::array();
  for (const auto& [name, value] : identity.proxy) document["proxy"].push_back({name, value});
  return document;
}

Result<Identity> identity_from_json(const Json& document) {
  try {
    Identity identity;
    identity.uid = document.at("uid").get<uid_t>();
    identity.gid = document.at("gid").get<gid_t>();
    identity.groups = document.at("groups").get<std::vector<gid_t>>();
    identity.name = document.at("name").get<std::string>();
    identity.home = document.at("home").get<std::string>();
    identity.shell = document.at("shell").get<std::string>();
    for (const Json& proxy : document.at("proxy"))
      identity.proxy.emplace_back(proxy.at(0).get<std::string>(), proxy.at(1).get<std::string>());
    return identity;
  } catch (const Json::exception& error) { return fail(ErrorCode::protocol, fmt::format("not an identity: {}", error.what())); }
}

Result<void> become(const Identity& identity) {
  if (::geteuid() != 0) {
    if (identity.uid == ::geteuid()) return {};
    return fail(ErrorCode::permission, fmt::format("the agent runs as uid {} and cannot become {}", ::geteuid(), identity.name),
                "log in as a user who may use sudo");
  }
  if (::setgroups(identity.groups.size(), identity.groups.data()) != 0 || ::setresgid(identity.gid, identity.gid, identity.gid) != 0 ||
      ::setresuid(identity.uid, identity.uid, identity.uid) != 0) {
    return fail(errno_error(errno, "becoming " + identity.name));
  }
  return {};
}

}  // namespace gpustrap
