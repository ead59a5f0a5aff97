#include "controller/lint_words.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

bool is_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }
char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

/// How tokens of well-known services begin, and how many letters, digits, `_` and `-` follow at least.
struct TokenShape {
  std::string_view prefix;
  std::size_t least;
};
constexpr TokenShape kTokens[] = {{"AKIA", 16},        {"ASIA", 16}, {"ghp_", 30}, {"gho_", 30},  {"ghs_", 30},
                                  {"github_pat_", 30}, {"hf_", 30},  {"sk-", 32},  {"xoxb-", 20}, {"xoxp-", 20},
                                  {"glpat-", 20},      {"AIza", 35}, {"npm_", 36}, {"pypi-", 50}};

}  // namespace

std::string folder_that_goes(std::string_view path) {
  for (const std::string_view folder : {"/tmp", "/run", "/var/run", "/dev/shm"}) {
    if (path == folder || path.starts_with(std::string(folder) + "/")) return std::string(folder);
  }
  return {};
}

std::string home_of_one(std::string_view path) {
  if (path == "/root" || path.starts_with("/root/")) return "/root";
  if (!path.starts_with("/home/")) return {};
  const std::string_view name = path.substr(6, path.find('/', 6) - 6);
  if (name.empty() || name.starts_with('$')) return {};
  return "/home/" + std::string(name);
}

bool is_profile(std::string_view path) {
  const std::string name = name_of_path(path);
  for (const std::string_view one :
       {".bashrc", ".profile", ".bash_profile", ".bash_login", ".zshrc", ".zprofile", ".zshenv", "bash.bashrc"}) {
    if (name == one) return true;
  }
  return path == "/etc/profile" || path == "/etc/environment" || path.starts_with("/etc/profile.d/");
}

std::string variable_behind_home(std::string_view text) {
  for (const std::string_view home : {"$HOME", "${HOME}"}) {
    if (text == home || text.starts_with(std::string(home) + "/")) text.remove_prefix(home.size());
  }
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  for (std::size_t at = text.find('$'); at != std::string_view::npos; at = text.find('$', at + 1)) {
    const bool braced = text.substr(at + 1, 1) == "{";
    std::size_t end = at + (braced ? 2 : 1);
    if (end >= text.size() || !is_letter(text[end])) continue;
    while (end < text.size() && (is_alnum(text[end]) || text[end] == '_')) ++end;
    if (braced && text.substr(end, 1) != "}") continue;
    return std::string(text.substr(at, end + (braced ? 1 : 0) - at));
  }
  return {};
}

bool is_plain_http(std::string_view url) {
  if (!url.starts_with("http://")) return false;
  const std::string_view rest = url.substr(7);
  const std::string_view host = rest.starts_with('[') ? rest.substr(0, rest.find(']')) : rest.substr(0, rest.find_first_of(":/?#"));
  return host != "localhost" && !host.starts_with("127.") && host != "[::1" && host != "169.254.169.254";
}

std::string moving_word(std::string_view url) {
  for (const std::string_view word : {"latest", "nightly", "snapshot"}) {
    if (find_word(url, word) != std::string_view::npos) return std::string(word);
  }
  for (const std::string_view part : {"/master", "/main", "/HEAD", "/trunk", "@master", "@main", "@HEAD"}) {
    const std::size_t at = url.find(part);
    if (at == std::string_view::npos) continue;
    const std::size_t end = at + part.size();
    if (end == url.size() || url[end] == '/' || url[end] == '.' || url[end] == '#') return std::string(part.substr(1));
  }
  return {};
}

bool is_world_writable(std::string_view mode) {
  if (!mode.empty() && mode.find_first_not_of("01234567") == std::string_view::npos && mode.size() >= 3 && mode.size() <= 5) {
    const bool sticky = mode.size() >= 4 && mode[mode.size() - 4] == '1';
    return !sticky && ((mode.back() - '0') & 2) != 0;
  }
  const std::size_t plus = mode.find('+');
  if (plus == std::string_view::npos || mode.find('w', plus) == std::string_view::npos) return false;
  const std::string_view who = mode.substr(0, plus);
  return who.find_first_of("oa") != std::string_view::npos && who.find_first_not_of("ugoa") == std::string_view::npos;
}

bool is_secret_name_for_people(std::string_view name) {
  std::string text(name);
  std::transform(text.begin(), text.end(), text.begin(), upper);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '-' || c == '.'; }, '_');
  if (text == "PGPASSWORD" || text == "MYSQL_PWD" || text == "SSHPASS") return true;
  for (const std::string_view end :
       {"TOKEN", "PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "API_KEY", "APIKEY", "ACCESS_KEY", "SECRET_KEY", "PRIVATE_KEY"}) {
    if (text == end || text.ends_with("_" + std::string(end))) return true;
  }
  return false;
}

bool is_literal_secret(std::string_view value) {
  for (const std::string_view hash : {"argon2:", "sha1:", "sha256:"}) {
    if (value.starts_with(hash)) return false;
  }
  return value.size() >= 4 && value.find("${{") == std::string_view::npos && value.find('$') == std::string_view::npos &&
         value.find("{{") == std::string_view::npos && std::string_view("/~<%").find(value[0]) == std::string_view::npos &&
         value != "true" && value != "false" && value != "none" && value != "None";
}

std::string credential_in(std::string_view text) {
  if (const std::size_t at = text.find("-----BEGIN "); at != std::string_view::npos) {
    const std::size_t end = text.find("PRIVATE KEY-----", at);
    if (end != std::string_view::npos && text.find('\n', at) > end) return std::string(text.substr(at, end + 16 - at));
  }
  for (const TokenShape& shape : kTokens) {
    for (std::size_t at = text.find(shape.prefix); at != std::string_view::npos; at = text.find(shape.prefix, at + 1)) {
      if (at > 0 && (is_alnum(text[at - 1]) || text[at - 1] == '_' || text[at - 1] == '-')) continue;
      std::size_t end = at + shape.prefix.size();
      bool has_digit = false;
      while (end < text.size() && (is_alnum(text[end]) || text[end] == '_' || text[end] == '-')) {
        has_digit = has_digit || (text[end] >= '0' && text[end] <= '9');
        ++end;
      }
      if (end - at - shape.prefix.size() >= shape.least && has_digit) return std::string(text.substr(at, end - at));
    }
  }
  // https://user:password@host
  for (std::size_t at = text.find("://"); at != std::string_view::npos; at = text.find("://", at + 3)) {
    const std::string_view rest = text.substr(at + 3);
    const std::string_view authority = rest.substr(0, rest.find_first_of("/?# \t\n\"'"));
    const std::size_t sign = authority.rfind('@');
    const std::size_t colon = authority.find(':');
    if (sign == std::string_view::npos || colon >= sign || colon + 1 == sign) continue;
    const std::string_view password = authority.substr(colon + 1, sign - colon - 1);
    if (password.find('$') == std::string_view::npos && password.find('<') == std::string_view::npos) return std::string(password);
  }
  return {};
}

std::size_t find_word(std::string_view text, std::string_view word, std::size_t from) {
  for (std::size_t at = text.find(word, from); at != std::string_view::npos; at = text.find(word, at + 1)) {
    const std::size_t end = at + word.size();
    if ((at == 0 || !is_alnum(text[at - 1])) && (end == text.size() || !is_alnum(text[end]))) return at;
  }
  return std::string_view::npos;
}

std::string name_of_path(std::string_view path) {
  path = path.substr(0, path.find_first_of("?#"));
  return std::string(path.substr(path.rfind('/') == std::string_view::npos ? 0 : path.rfind('/') + 1));
}

}  // namespace gpustrap
