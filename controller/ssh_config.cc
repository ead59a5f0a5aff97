#include "controller/ssh_config.h"

#include <glob.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <iterator>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"

namespace gpustrap {
namespace {

/// The names that ssh tries without being told; `ssh -G` prints more of them where none is configured.
const std::vector<std::string>& usual_identities() {
  static const std::vector<std::string> names = {"~/.ssh/id_ed25519",    "~/.ssh/id_ecdsa", "~/.ssh/id_rsa", "~/.ssh/id_ecdsa_sk",
                                                 "~/.ssh/id_ed25519_sk", "~/.ssh/id_xmss",  "~/.ssh/id_dsa"};
  return names;
}

std::string expand_home(const std::string& path, const std::string& home) {
  if (path == "~") return home;
  return path.starts_with("~/") ? home + path.substr(1) : path;
}

/// A field of our entry in the password file. Many hosts may be asked about at once, so nothing static is used.
template <class Field> std::string own_entry(Field field, const char* otherwise) {
  std::array<char, 16384> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  return ::getpwuid_r(::getuid(), &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr ? field(entry) : otherwise;
}

std::string home_folder() {
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') return home;
  return own_entry([](const passwd& entry) { return entry.pw_dir; }, "/");
}

/// Where ssh itself looks: not at HOME.
std::string home_of_account() {
  return own_entry([](const passwd& entry) { return entry.pw_dir; }, "/");
}

std::string env_or_empty(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// Whether `ssh` is the system's own, which reads /etc/ssh: another build of it, or a wrapper, may read other files.
bool ssh_is_the_systems() {
  for (const std::string& folder : split(env_or_empty("PATH"), ':')) {
    if (::access((folder + "/ssh").c_str(), X_OK) == 0) return folder == "/usr/bin" || folder == "/bin";
  }
  return true;  // there is none
}

std::string own_name() {
  return own_entry([](const passwd& entry) { return entry.pw_name; }, "root");
}

std::string own_host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

/// The tokens that `ssh -G` leaves in commands and paths. %C stays: what it is made of depends on ssh's version.
std::string expand_tokens(const std::string& text, const SshTarget& target, const std::string& home) {
  std::string expanded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%' || i + 1 == text.size()) {
      expanded += text[i];
      continue;
    }
    switch (text[++i]) {
      case 'd': expanded += home; break;
      case 'h': expanded += target.host; break;
      case 'i': expanded += fmt::format("{}", ::getuid()); break;
      case 'k': expanded += target.host_key_alias.empty() ? target.given : target.host_key_alias; break;
      case 'L': expanded += split(own_host_name(), '.').front(); break;
      case 'l': expanded += own_host_name(); break;
      case 'n': expanded += target.given; break;
      case 'p': expanded += fmt::format("{}", target.port); break;
      case 'r': expanded += target.user; break;
      case 'u': expanded += own_name(); break;
      case '%': expanded += '%'; break;
      default: expanded += {'%', text[i]};
    }
  }
  return expanded;
}

/// A path as the configuration writes it: with ~, tokens and ${VARIABLES}.
std::string expand_path(const std::string& path, const SshTarget& target, const std::string& home) {
  std::string expanded = expand_tokens(expand_home(path, home), target, home);
  for (std::size_t at = expanded.find("${"); at != std::string::npos; at = expanded.find("${", at)) {
    const std::size_t end = expanded.find('}', at);
    if (end == std::string::npos) break;
    const std::string value = env_or_empty(expanded.substr(at + 2, end - at - 2).c_str());
    expanded.replace(at, end + 1 - at, value);
    at += value.size();
  }
  return expanded;
}

/// `ProxyJump user@jump:port` as the command that does the same. Several jumps: all but the last become -J. `ssh -G` puts an address of
/// numbers in brackets, which -J takes and a destination does not.
std::string jump_command(const std::string& jumps) {
  const std::size_t comma = jumps.rfind(',');
  std::string host = comma == std::string::npos ? jumps : jumps.substr(comma + 1);
  const std::size_t at = host.rfind('@');
  const std::string user = at == std::string::npos ? "" : host.substr(0, at + 1);
  host.erase(0, user.size());
  std::string port;
  const std::size_t colon = host.rfind(':');
  if (colon != std::string::npos && (host.find(':') == colon || host[colon - 1] == ']')) {
    port = host.substr(colon + 1);
    host.resize(colon);
  }
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  std::string text = "ssh -W [%h]:%p";
  if (comma != std::string::npos) text += " -J " + shell_quote(jumps.substr(0, comma));
  if (!port.empty()) text += " -p " + shell_quote(port);
  return text + " -- " + shell_quote(user + host);
}

/// Of known_hosts files, or none where the configuration says so.
std::vector<std::string> files_of(const std::vector<std::string>& values) {
  std::vector<std::string> files;
  std::copy_if(values.begin(), values.end(), std::back_inserter(files),
               [](const std::string& value) { return value != "/dev/null" && value != "none"; });
  return files;
}

}  // namespace

SshTarget target_from_config(const SshRequest& request, std::string_view ssh_config, const std::string& home) {
  SshTarget target;
  target.given = target.host = request.host;
  target.user = request.user;
  target.identities = request.identities;
  target.agent_socket = env_or_empty("SSH_AUTH_SOCK");
  const std::vector<std::string> usual_known_hosts = {"~/.ssh/known_hosts", "~/.ssh/known_hosts2"};
  std::vector<std::string> known_hosts = usual_known_hosts;
  std::vector<std::string> global_known_hosts = {"/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"};
  std::vector<std::string> identities;
  std::string proxy_jump;
  for (const std::string& line : split(ssh_config, '\n')) {
    const std::size_t space = line.find(' ');
    if (space == std::string::npos) continue;
    const std::string key = line.substr(0, space);
    const std::string value(trim(std::string_view(line).substr(space + 1)));
    const std::vector<std::string> values = words(value);
    if (key == "hostname") {
      target.host = value;
    } else if (key == "port") {
      std::from_chars(value.data(), value.data() + value.size(), target.port);
    } else if (key == "user" && request.user.empty()) {
      target.user = value;
    } else if (key == "identityfile") {
      identities.push_back(value);
    } else if (key == "identitiesonly") {
      target.identities_only = value == "yes";
    } else if (key == "identityagent" && value != "SSH_AUTH_SOCK") {
      target.agent_socket = value == "none" ? "" : value;
    } else if (key == "proxycommand" && value != "none") {
      target.proxy_command = value;
    } else if (key == "proxyjump" && value != "none") {
      proxy_jump = value;
    } else if (key == "hostkeyalias" && value != "none") {
      target.host_key_alias = value;
    } else if (key == "userknownhostsfile" && !values.empty()) {
      known_hosts = files_of(values);
      if (known_hosts.empty()) {
        known_hosts = usual_known_hosts;
        target.notices.push_back(
            "Your SSH configuration gives no known_hosts file for this host; gpustrap checks host keys and uses ~/.ssh/known_hosts.");
      }
    } else if (key == "globalknownhostsfile" && !values.empty()) {
      global_known_hosts = files_of(values);
    } else if (key == "connecttimeout" && value != "none") {
      int seconds = 0;
      std::from_chars(value.data(), value.data() + value.size(), seconds);
      if (seconds > 0) target.connect_timeout = target.greeting_timeout = std::chrono::seconds(seconds);
    } else if (key == "stricthostkeychecking" && (value == "no" || value == "false" || value == "off")) {
      target.notices.push_back("Your SSH configuration says StrictHostKeyChecking no; gpustrap checks host keys all the same.");
    } else if (key == "forwardagent" && value != "no") {
      target.notices.push_back("Your SSH configuration says ForwardAgent; gpustrap never forwards your agent to a host.");
    }
  }
  if (request.port) target.port = *request.port;
  if (target.user.empty()) target.user = own_name();
  const auto is_usual = [](const std::string& name) {
    return std::find(usual_identities().begin(), usual_identities().end(), name) != usual_identities().end();
  };
  const bool as_usual = std::all_of(identities.begin(), identities.end(), is_usual);
  if (identities.empty()) identities = usual_identities();
  for (const std::string& written : identities) {
    const std::string identity = expand_path(written, target, home);
    const bool given = std::find(request.identities.begin(), request.identities.end(), identity) != request.identities.end();
    if (!given && path_exists(identity)) (as_usual ? target.default_identities : target.configured_identities).push_back(identity);
  }
  target.agent_socket = expand_path(target.agent_socket, target, home);
  target.known_hosts = expand_path(known_hosts.front(), target, home);
  known_hosts.erase(known_hosts.begin());
  known_hosts.insert(known_hosts.end(), global_known_hosts.begin(), global_known_hosts.end());
  for (const std::string& file : known_hosts) target.more_known_hosts.push_back(expand_path(file, target, home));
  if (target.proxy_command.empty() && !proxy_jump.empty()) target.proxy_command = jump_command(proxy_jump);
  target.proxy_command = expand_tokens(target.proxy_command, target, home);
  return target;
}

bool says_nothing(const std::string& path, const std::string& folder, const std::string& home, int depth) {
  const Result<std::string> text = read_file(path, 1U << 20U);
  if (!text) return text.error().code() == ErrorCode::not_found;
  static const std::vector<std::string> harmless = {"host",
                                                    "sendenv",
                                                    "hashknownhosts",
                                                    "gssapiauthentication",
                                                    "gssapidelegatecredentials",
                                                    "xauthlocation",
                                                    "serveraliveinterval",
                                                    "serveralivecountmax"};
  for (const std::string& line : split(*text, '\n')) {
    const std::vector<std::string> parts = words(line);
    if (parts.empty() || parts.front().starts_with('#')) continue;
    std::string keyword = parts.front();
    std::transform(keyword.begin(), keyword.end(), keyword.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (keyword == "include" && depth < 4) {
      for (std::size_t i = 1; i < parts.size(); ++i) {
        const std::string expanded = expand_home(parts[i], home);
        if (expanded.find('"') != std::string::npos) return false;
        glob_t found{};
        const int status = ::glob((expanded.starts_with('/') ? expanded : folder + "/" + expanded).c_str(), 0, nullptr, &found);
        bool all = status == 0 || status == GLOB_NOMATCH;
        for (std::size_t k = 0; all && status == 0 && k < found.gl_pathc; ++k)
          all = says_nothing(found.gl_pathv[k], folder, home, depth + 1);
        ::globfree(&found);
        if (!all) return false;
      }
      continue;
    }
    if (std::find(harmless.begin(), harmless.end(), keyword) == harmless.end()) return false;
  }
  return true;
}

namespace {

Result<void> check_names(const SshRequest& request) {
  const bool host_is_plain = !request.host.empty() && is_plain_name(request.host);
  if (host_is_plain && is_plain_name(request.user)) return {};
  return fail(ErrorCode::usage,
              host_is_plain ? fmt::format("`{}` cannot be a user", first_line(strip_control(request.user), 60))
                            : fmt::format("`{}` cannot be a host", first_line(strip_control(request.host), 60)),
              "write it as in ssh: ubuntu@203.0.113.7");
}

struct SshSays {
  std::string settings;  ///< empty where there is no ssh
  std::string about;     ///< which files it has read, where it was asked to tell
};

Result<SshSays> ask_ssh(const SshRequest& request, bool tell) {
  const std::string account = home_of_account();
  // Asking ssh takes as long as a good part of a connection does.
  if (ssh_is_the_systems() && says_nothing(account + "/.ssh/config", account + "/.ssh", account) &&
      says_nothing("/etc/ssh/ssh_config", "/etc/ssh", account))
    return SshSays{};
  Subprocess ask;
  ask.argv = {"ssh", "-G"};
  if (tell) ask.argv.emplace_back("-v");
  if (!request.user.empty()) ask.argv.insert(ask.argv.end(), {"-l", request.user});
  if (request.port) ask.argv.insert(ask.argv.end(), {"-p", fmt::format("{}", *request.port)});
  ask.argv.insert(ask.argv.end(), {"--", request.host});
  ask.timeout = std::chrono::seconds(10);
  const Result<SubprocessResult> answer = run_subprocess(ask);
  if (!answer) return fail(answer.error());
  if (answer->exit_code == 127) return SshSays{};
  if (answer->exit_code != 0) {
    return fail(Error(ErrorCode::usage, first_line(strip_control(tell ? last_lines(answer->err, 1) : answer->err)),
                      "ssh itself cannot read these settings; try `ssh -G " + shell_quote(request.host) + "`")
                    .in("reading the SSH configuration"));
  }
  return SshSays{answer->out, answer->err};
}

/// Whether the name is what a pattern with * and ? stands for. A star that took too little takes one more, and no earlier one has to.
bool matches(std::string_view pattern, std::string_view name) {
  const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
  std::size_t p = 0, n = 0, behind_star = std::string_view::npos, star_ends = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      behind_star = ++p;
      star_ends = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || lower(pattern[p]) == lower(name[n]))) {
      ++p, ++n;
    } else if (behind_star != std::string_view::npos) {
      p = behind_star;
      n = ++star_ends;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

/// What stands behind each `Host` in the files that ssh has read; none where one of them cannot be read, or has a `Match`.
std::optional<std::vector<std::string>> host_lines(const std::string& about) {
  constexpr std::string_view kReading = "Reading configuration data ";
  std::vector<std::string> patterns;
  std::size_t files = 0;
  for (const std::string& told : split(about, '\n')) {
    const std::size_t at = told.find(kReading);
    if (at == std::string::npos) continue;
    ++files;
    const Result<std::string> text = read_file(std::string(trim(std::string_view(told).substr(at + kReading.size()))));
    if (!text) return std::nullopt;
    for (const std::string& line : split(*text, '\n')) {
      std::string_view said = trim(line);
      std::string keyword;
      while (!said.empty() && std::isalpha(static_cast<unsigned char>(said[0])) != 0) {
        keyword += static_cast<char>(std::tolower(static_cast<unsigned char>(said[0])));
        said.remove_prefix(1);
      }
      if (keyword == "match") return std::nullopt;
      if (keyword != "host") continue;
      std::string list(said.substr(std::min(said.find_first_not_of(" \t="), said.size())));
      if (list.find_first_of("\"'\\") != std::string::npos) return std::nullopt;
      patterns.push_back(std::move(list));
    }
  }
  if (files == 0 && !about.empty()) return std::nullopt;  // an ssh that tells it in other words
  return patterns;
}

std::vector<bool> taken_by(const std::vector<std::string>& patterns, const std::string& name) {
  std::vector<bool> taken;
  for (const std::string& line : patterns) taken.push_back(host_line_takes(line, name));
  return taken;
}

/// The answer without the lines that are the host's name; none where its name is in another one.
std::optional<std::string> without_name(const std::string& settings, const std::string& name) {
  std::string rest;
  for (const std::string& line : split(settings, '\n')) {
    if (line == "host " + name || line == "hostname " + name) continue;
    const bool of_name = line.find(name) != std::string::npos || line.starts_with("hostname ");
    const bool made_of_name =
        line.find("%h") != std::string::npos || line.find("%n") != std::string::npos || line.find("%k") != std::string::npos;
    const bool follows_names =
        line.starts_with("canonicalizehostname ") && line != "canonicalizehostname false" && line != "canonicalizehostname no";
    // A way there is asked for with the name in its place; gpustrap puts it there itself.
    if (follows_names || of_name || (made_of_name && !line.starts_with("proxycommand "))) return std::nullopt;
    rest += line + "\n";
  }
  return rest;
}

}  // namespace

bool host_line_takes(std::string_view patterns, std::string_view name) {
  bool taken = false;
  for (const std::string& pattern : words(patterns)) {
    if (pattern[0] == '#') break;
    if (pattern[0] == '!' && matches(std::string_view(pattern).substr(1), name)) return false;
    taken = taken || (pattern[0] != '!' && matches(pattern, name));
  }
  return taken;
}

bool is_plain_name(std::string_view name) {
  return !name.starts_with('-') && std::none_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isspace(c) != 0 || std::iscntrl(c) != 0 ||
           std::string_view("'\"`$\\&|;<>(){}").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

Result<SshTarget> resolve_target(const SshRequest& request) {
  if (Result<void> checked = check_names(request); !checked) return fail(std::move(checked).error());
  const Result<SshSays> says = ask_ssh(request, false);
  if (!says) return fail(says.error());
  return target_from_config(request, says->settings, home_folder());
}

std::optional<std::string> TargetResolver::known_answer(const SshRequest& request) {
  for (const Answer& answer : answers_) {
    if (taken_by(answer.patterns, request.host) == answer.taken) return answer.text;
  }
  return std::nullopt;
}

Result<SshTarget> TargetResolver::resolve(const SshRequest& request) {
  if (Result<void> checked = check_names(request); !checked) return fail(std::move(checked).error());
  // Held while ssh is asked: what it answers is mostly what the others wait for.
  std::unique_lock lock(mutex_);
  if (each_its_own_) {
    lock.unlock();
    return resolve_target(request);
  }
  if (const std::optional<std::string> known = known_answer(request)) return target_from_config(request, *known, home_folder());
  // Without `Match`, user and port of the question decide nothing but themselves.
  SshRequest anybody = request;
  anybody.user.clear();
  anybody.port.reset();
  const Result<SshSays> says = ask_ssh(anybody, true);
  if (!says) return fail(says.error());
  const std::optional<std::vector<std::string>> patterns = host_lines(says->about);
  if (!patterns) {
    each_its_own_ = true;
    lock.unlock();
    return resolve_target(request);
  }
  if (const std::optional<std::string> text = without_name(says->settings, request.host))
    answers_.push_back({*text, *patterns, taken_by(*patterns, request.host)});
  return target_from_config(request, says->settings, home_folder());
}

}  // namespace gpustrap
