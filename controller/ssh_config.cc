#include "controller/ssh_config.h"

#include <glob.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <map>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"

namespace gpustrap {
namespace {

const std::vector<std::string>& usual_identities() {
  static const std::vector<std::string> names = {"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"};
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

/// %h, %p, %r and %% of a ProxyCommand, which `ssh -G` leaves in place.
std::string expand_tokens(const std::string& text, const SshTarget& target) {
  std::string expanded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%' || i + 1 == text.size()) {
      expanded += text[i];
      continue;
    }
    switch (text[++i]) {
      case 'h': expanded += target.host; break;
      case 'n': expanded += target.given; break;
      case 'p': expanded += fmt::format("{}", target.port); break;
      case 'r': expanded += target.user; break;
      case '%': expanded += '%'; break;
      default: expanded += {'%', text[i]};
    }
  }
  return expanded;
}

/// `ProxyJump user@jump:port` as the command that does the same. Several jumps: all but the last become -J.
std::string jump_command(const std::string& jumps) {
  const std::vector<std::string> hosts = split(jumps, ',');
  std::string destination = hosts.back();
  std::string text = "ssh -W [%h]:%p";
  if (hosts.size() > 1) text += " -J " + shell_quote(join(std::vector<std::string>(hosts.begin(), hosts.end() - 1), ","));
  const std::size_t colon = destination.rfind(':');
  if (colon != std::string::npos && destination.find(']') == std::string::npos && destination.find(':') == colon) {
    text += " -p " + shell_quote(destination.substr(colon + 1));
    destination.resize(colon);
  }
  return text + " -- " + shell_quote(destination);
}

}  // namespace

SshTarget target_from_config(const SshRequest& request, std::string_view ssh_config, const std::string& home) {
  SshTarget target;
  target.given = target.host = request.host;
  target.user = request.user;
  target.identities = request.identities;
  target.agent_socket = env_or_empty("SSH_AUTH_SOCK");
  target.known_hosts = home + "/.ssh/known_hosts";
  target.global_known_hosts = "/etc/ssh/ssh_known_hosts";
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
      identities.push_back(expand_home(value, home));
    } else if (key == "identitiesonly") {
      target.identities_only = value == "yes";
    } else if (key == "identityagent" && value != "SSH_AUTH_SOCK") {
      target.agent_socket = value == "none" ? "" : expand_home(value, home);
    } else if (key == "proxycommand" && value != "none") {
      target.proxy_command = value;
    } else if (key == "proxyjump" && value != "none") {
      proxy_jump = value;
    } else if (key == "hostkeyalias" && value != "none") {
      target.host_key_alias = value;
    } else if (key == "userknownhostsfile" && !values.empty()) {
      if (values.front() == "/dev/null" || values.front() == "none") {
        target.notices.push_back(
            "Your SSH configuration gives no known_hosts file for this host; gpustrap checks host keys and uses ~/.ssh/known_hosts.");
      } else {
        target.known_hosts = expand_home(values.front(), home);
      }
    } else if (key == "globalknownhostsfile" && !values.empty()) {
      target.global_known_hosts = values.front();
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
  if (identities.empty()) {
    for (const std::string& name : usual_identities()) identities.push_back(expand_home(name, home));
  }
  for (const std::string& identity : identities) {
    const bool given = std::find(request.identities.begin(), request.identities.end(), identity) != request.identities.end();
    if (!given && path_exists(identity)) target.default_identities.push_back(identity);
  }
  if (target.user.empty()) target.user = own_name();
  if (target.proxy_command.empty() && !proxy_jump.empty()) target.proxy_command = jump_command(proxy_jump);
  target.proxy_command = expand_tokens(target.proxy_command, target);
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

struct SshSays {
  std::string settings;  ///< empty where there is no ssh
  std::string about;     ///< which files it has read, where it was asked to tell
};

Result<SshSays> ask_ssh(const SshRequest& request, bool tell) {
  if (request.host.empty() || request.host.starts_with('-')) {
    return fail(ErrorCode::usage, fmt::format("\"{}\" is not a host name", strip_control(request.host)),
                "write it as in ssh: ubuntu@203.0.113.7");
  }
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

bool matches(std::string_view pattern, std::string_view name) {
  if (pattern.empty()) return name.empty();
  if (pattern[0] == '*') return matches(pattern.substr(1), name) || (!name.empty() && matches(pattern, name.substr(1)));
  return !name.empty() &&
         (pattern[0] == '?' || std::tolower(static_cast<unsigned char>(pattern[0])) == std::tolower(static_cast<unsigned char>(name[0]))) &&
         matches(pattern.substr(1), name.substr(1));
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

Result<SshTarget> resolve_target(const SshRequest& request) {
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
