#include "controller/ssh_config.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
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

std::string home_folder() {
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') return home;
  const passwd* entry = ::getpwuid(::getuid());
  return entry == nullptr ? "/" : entry->pw_dir;
}

std::string own_name() {
  const passwd* entry = ::getpwuid(::getuid());
  return entry == nullptr ? "root" : entry->pw_name;
}

std::string env_or_empty(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
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

Result<SshTarget> resolve_target(const SshRequest& request) {
  if (request.host.empty() || request.host.starts_with('-')) {
    return fail(ErrorCode::usage, fmt::format("\"{}\" is not a host name", strip_control(request.host)),
                "write it as in ssh: ubuntu@203.0.113.7");
  }
  Subprocess ask;
  ask.argv = {"ssh", "-G"};
  if (!request.user.empty()) ask.argv.insert(ask.argv.end(), {"-l", request.user});
  if (request.port) ask.argv.insert(ask.argv.end(), {"-p", fmt::format("{}", *request.port)});
  ask.argv.insert(ask.argv.end(), {"--", request.host});
  ask.timeout = std::chrono::seconds(10);
  const Result<SubprocessResult> answer = run_subprocess(ask);
  if (!answer) return fail(answer.error());
  if (answer->exit_code == 127) return target_from_config(request, "", home_folder());
  if (answer->exit_code != 0) {
    return fail(Error(ErrorCode::usage, first_line(strip_control(answer->err)),
                      "ssh itself cannot read these settings; try `ssh -G " + shell_quote(request.host) + "`")
                    .in("reading the SSH configuration"));
  }
  return target_from_config(request, answer->out, home_folder());
}

}  // namespace gpustrap
