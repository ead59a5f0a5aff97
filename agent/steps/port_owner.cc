#include "agent/steps/port_owner.h"

#include <algorithm>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

struct Listener {
  std::string inode, uid;
};

/// A line of /proc/net/tcp: "0: 0100007F:22B8 00000000:0000 0A … uid 0 inode …"; 0A is LISTEN.
std::optional<Listener> listener_on(const Host& host, std::uint16_t port) {
  const std::string wanted = fmt::format(":{:04X}", port);
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    const Result<std::string> text = host.read(table);
    if (!text) continue;
    for (const std::string& line : split(*text, '\n')) {
      const std::vector<std::string> fields = words(line);
      if (fields.size() > 9 && fields[1].ends_with(wanted) && fields[3] == "0A") return Listener{fields[9], fields[7]};
    }
  }
  return std::nullopt;
}

std::string user_name(const Host& host, const std::string& uid) {
  const Result<std::string> users = host.read("/etc/passwd");
  if (!users) return "uid " + uid;
  for (const std::string& line : split(*users, '\n')) {
    const std::vector<std::string> fields = split(line, ':');
    if (fields.size() > 2 && fields[2] == uid) return fields[0];
  }
  return "uid " + uid;
}

std::string process_with(const Host& host, const std::string& inode) {
  const std::string wanted = "socket:[" + inode + "]";
  const Result<std::vector<std::string>> entries = host.list("/proc");
  if (!entries) return {};
  for (const std::string& entry : *entries) {
    if (entry.find_first_not_of("0123456789") != std::string::npos) continue;
    const Result<std::vector<std::string>> descriptors = host.list("/proc/" + entry + "/fd");
    if (!descriptors) continue;  // another user's, or gone
    const bool has = std::any_of(descriptors->begin(), descriptors->end(), [&](const std::string& fd) {
      const Result<std::string> target = host.read_link("/proc/" + entry + "/fd/" + fd);
      return target && *target == wanted;
    });
    if (has) return entry;
  }
  return {};
}

}  // namespace

std::string owner_of_port(const Host& host, std::uint16_t port) {
  const std::optional<Listener> listener = listener_on(host, port);
  if (!listener) return "another program";
  const std::string user = user_name(host, listener->uid);
  const std::string process = process_with(host, listener->inode);
  if (process.empty()) return "a program of " + user;
  const Result<std::string> name = host.read("/proc/" + process + "/comm");
  return fmt::format("process {}{} of {}", process, name ? fmt::format(" ({})", trim(*name)) : "", user);
}

}  // namespace gpustrap
