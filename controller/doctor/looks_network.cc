#include "controller/doctor/looks.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "agent/base/text.h"

// Names, links, proxies, and notebooks that others can reach.

namespace gpustrap {
namespace {

/// A notebook server that runs: its process, and what it was told.
struct RunningNotebook {
  std::string pid, command;
};

std::vector<RunningNotebook> running_notebooks(const Patient& p) {
  std::vector<RunningNotebook> all;
  for (const std::string& line : p.evidence.lines("notebooks")) {
    const std::size_t space = line.find(' ');
    if (space != std::string::npos && number_of(line.substr(0, space))) all.push_back({line.substr(0, space), line.substr(space + 1)});
  }
  return all;
}

/// A socket that listens beyond loopback, of a notebook server.
struct OpenSocket {
  std::string address, pid, line, command;
};

bool is_loopback(std::string_view address) {
  return address.starts_with("127.") || address.starts_with("[::1]") || address.starts_with("[::ffff:127.");
}

std::vector<OpenSocket> open_notebooks(const Patient& p) {
  std::vector<OpenSocket> open;
  const std::vector<RunningNotebook> notebooks = running_notebooks(p);
  for (const std::string& line : p.evidence.lines("listening")) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() < 5 || parts[0] != "LISTEN" || is_loopback(parts[3])) continue;
    const std::size_t at = line.find("pid=");
    const std::string pid = at == std::string::npos ? "" : line.substr(at + 4, line.find_first_not_of("0123456789", at + 4) - at - 4);
    const auto its = std::find_if(notebooks.begin(), notebooks.end(), [&](const RunningNotebook& one) { return one.pid == pid; });
    const bool by_name = contains(line, "(\"jupyter");
    if (its == notebooks.end() && !by_name) continue;
    open.push_back({parts[3], pid, line, its == notebooks.end() ? "" : its->command});
  }
  return open;
}

/// What a notebook's words or its user's configuration say of the token: "empty" is the one that matters.
std::vector<std::string> empty_secrets(const Patient& p, const std::string& command) {
  std::vector<std::string> lines;
  for (const std::string& word : words(command)) {
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos) continue;
    const std::string name = word.substr(0, equals), value = word.substr(equals + 1);
    const bool is_token = name.ends_with(".token") || name.ends_with("_token");
    if (!is_token) continue;
    if (!value.empty() && value != "''" && value != "\"\"") return {};  // what a process is told counts before any file
    lines.push_back(word + "   (process)");
  }
  if (contains(command, "token ***")) return {};
  for (const std::string& line : p.evidence.lines("jupyter")) {
    const std::size_t at = line.find("token");
    if (at == std::string::npos) continue;
    const std::string rest = line.substr(at + 5);
    if (contains(rest, "''") || contains(rest, "\"\"")) lines.push_back(line);
  }
  return lines;
}

bool has_password(const Patient& p) {
  for (const std::string& line : p.evidence.lines("jupyter")) {
    if (contains(line, "password") && contains(line, "***")) return true;
  }
  return false;
}

std::vector<std::string> close_it(const OpenSocket& socket) {
  return {"# bind it to 127.0.0.1 (ServerApp.ip in ~/.jupyter/jupyter_server_config.py, or --ip), give it a token, and start it again:",
          socket.pid.empty() ? "jupyter server list" : "kill " + socket.pid,
          "# then reach it through SSH, from your own machine: gpustrap tunnel HOST -L 8889:" +
              socket.address.substr(socket.address.rfind(':') + 1)};
}

bool has_proxy(const Patient& p) {
  return !matching(p.evidence.lines("environment"), "_proxy").empty() || !matching(p.evidence.lines("environment"), "::proxy").empty();
}

/// Where /etc/resolv.conf itself is gone: a link that leads nowhere, or no file.
Verdict no_resolv_conf(const Patient& p) {
  const std::string target = p.evidence.value("names", "dangling");
  const std::vector<std::string> lines = p.evidence.lines("names");
  const auto says = [&](std::string_view line) { return std::find(lines.begin(), lines.end(), line) != lines.end(); };
  if (target.empty() && !says("no-resolv-conf")) return fine();
  std::vector<std::string> evidence = {target.empty() ? "/etc/resolv.conf is not there"
                                                      : fmt::format("/etc/resolv.conf is a link to {}, which is not there", target)};
  evidence.push_back("does-not-resolve " + p.evidence.value("names", "does-not-resolve"));
  std::string cause = target.empty() ? "/etc/resolv.conf is missing: no program knows which name server to ask"
                                     : "/etc/resolv.conf leads nowhere: no program knows which name server to ask";
  const std::string other = p.evidence.value("names", "could-be");
  if (!other.empty() && other.starts_with("/run/")) {
    evidence.push_back(other + " is there");
    const std::string run = fmt::format("ln -sfn {} /etc/resolv.conf", shell_quote(other));
    return found(std::move(evidence), std::move(cause), {"sudo " + run},
                 {step_of("resolv", "command", {{"run", run}, {"unless", "test -e /etc/resolv.conf"}})});
  }
  std::vector<std::string> commands;
  if (says("has-resolved") && (contains(target, "systemd/resolve") || target.empty())) {
    commands.emplace_back("sudo systemctl enable --now systemd-resolved   # writes what the link leads to");
    if (target.empty()) commands.emplace_back("sudo ln -s /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf");
  }
  commands.emplace_back(
      "grep -rhs -i -E 'domain-name-servers|^DNS=' /var/lib/dhcp /run/systemd/netif/leases   # which server the network names");
  commands.emplace_back(
      "sudo rm -f /etc/resolv.conf && echo nameserver ADDRESS | sudo tee /etc/resolv.conf   # that one, or your provider's");
  return found(std::move(evidence), std::move(cause), std::move(commands));
}

}  // namespace

Verdict look_names(const Patient& p) {
  if (!p.evidence.was_seen("names")) return unseen(p, "names");
  if (const std::string closed = p.evidence.value("login", "unreadable"); !closed.empty() && contains(closed, "resolv.conf"))
    return found({closed}, "who logs in cannot read /etc/resolv.conf: names resolve for root alone", {"sudo chmod 644 /etc/resolv.conf"},
                 {step_of("resolv", "command",
                          {{"run", "chmod 644 /etc/resolv.conf"}, {"unless", "test \"$(stat -Lc %a /etc/resolv.conf)\" = 644"}})});
  const std::vector<std::string> failed = matching(p.evidence.lines("names"), "does-not-resolve ");
  if (failed.empty() || has_proxy(p)) return fine();  // where a proxy leads out, names are its business
  if (Verdict lost = no_resolv_conf(p); lost.state == Verdict::State::found) return lost;
  std::vector<std::string> evidence = failed;
  const std::vector<std::string> servers = matching(p.evidence.lines("names"), "nameserver");
  evidence.insert(evidence.end(), servers.begin(), servers.end());
  if (servers.empty()) evidence.emplace_back("/etc/resolv.conf: no nameserver");
  return found(std::move(evidence), "the host cannot resolve names: nothing can be downloaded",
               {"resolvectl status || cat /etc/resolv.conf", "getent hosts " + shell_quote(failed.front().substr(17)),
                "# is the name server reachable (security group, VPC's DNS settings)?"});
}

Verdict look_nsswitch(const Patient& p) {
  if (!p.evidence.was_seen("names")) return unseen(p, "names");
  if (matching(p.evidence.lines("names"), "does-not-resolve ").empty()) return fine();
  for (const std::string& line : p.evidence.lines("names")) {
    const std::size_t at = line.find(":hosts:");
    if (at == std::string::npos || !line.starts_with("/etc/nsswitch.conf")) continue;
    const std::vector<std::string> sources = words(line.substr(at + 7));
    if (std::any_of(sources.begin(), sources.end(), [](const std::string& one) { return one == "dns" || one == "resolve"; })) return fine();
    const std::string run = "sed -i.bak 's/^hosts:.*/& dns/' /etc/nsswitch.conf";
    return found({line}, "no program asks a name server, since /etc/nsswitch.conf does not name dns: only what is in files resolves",
                 {"sudo " + run},
                 {step_of("nsswitch", "command", {{"run", run}, {"unless", "grep -qE '^hosts:.*(dns|resolve)' /etc/nsswitch.conf"}})});
  }
  return fine();
}

Verdict look_loopback(const Patient& p) {
  if (!p.evidence.was_seen("links")) return unseen(p, "links");
  const std::vector<std::string> lines = p.evidence.lines("links");
  if (std::find(lines.begin(), lines.end(), "loopback no") == lines.end()) return fine();
  const std::string run = "ip link set lo up; ip address show dev lo | grep -q 127.0.0.1 || ip address add 127.0.0.1/8 dev lo";
  return found({"ip link show lo: not UP"},
               "the loopback interface is down: nothing on the host reaches 127.0.0.1, notebooks and their tunnels neither",
               {"sudo ip link set lo up", "ip address show dev lo   # has 127.0.0.1/8"}, {step_of("loopback", "command", {{"run", run}})});
}

Verdict look_localhost(const Patient& p) {
  if (!p.evidence.was_seen("names")) return unseen(p, "names");
  for (const std::string& line : matching(p.evidence.lines("names"), "localhost no")) {
    const bool fails = line.ends_with("fails");
    Verdict verdict =
        found({"/etc/hosts: no line for localhost", fails ? "localhost does not resolve" : "it resolves by other means (systemd)"},
              "localhost is missing in /etc/hosts: notebooks, databases and tests that ask for it fail",
              {"echo '127.0.0.1 localhost' | sudo tee -a /etc/hosts"},
              {step_of("localhost", "block", {{"path", "/etc/hosts"}, {"marker", "localhost"}, {"content", "127.0.0.1 localhost\n"}})});
    if (!fails) verdict.severity = Severity::warning;
    return verdict;
  }
  return fine();
}

Verdict look_forwarding(const Patient& p) {
  const Section* seen = p.evidence.find("forwarding");
  if (seen == nullptr || seen->status == Section::kAbsent) return irrelevant();
  if (!p.evidence.was_seen("forwarding")) return unseen(p, "forwarding");
  std::vector<std::string> evidence, places;
  bool is_off = false;
  for (const std::string& line : p.evidence.lines("forwarding")) {
    const std::vector<std::string> parts = words(line);
    if (line.starts_with("/etc/ssh/")) places.push_back(line);
    if (parts.size() != 2 || line.starts_with("/")) continue;
    const bool off = parts[0] == "disableforwarding" ? parts[1] == "yes" : parts[1] == "no" || parts[1] == "remote";
    if (off) evidence.push_back("sshd -T: " + line);
    is_off = is_off || off;
  }
  if (!is_off) return fine();
  std::vector<std::string> commands;
  for (const std::string& line : places) {
    const std::vector<std::string> place = split(line, ':');
    if (place.size() < 3) continue;
    const bool all = matching({place[2]}, "disableforwarding").size() == 1;
    commands.push_back(fmt::format("sudo sed -i.bak '{}s/.*/{}/' {}", place[1], all ? "DisableForwarding no" : "AllowTcpForwarding yes",
                                   shell_quote(place[0])));
    evidence.push_back(line);
  }
  if (commands.empty()) commands.emplace_back("# AllowTcpForwarding yes, in /etc/ssh/sshd_config");
  commands.emplace_back("sudo sshd -t && sudo systemctl reload ssh || sudo systemctl reload sshd");
  return found(std::move(evidence), "sshd passes on no connections: `gpustrap open` and `tunnel` cannot reach a notebook",
               std::move(commands));
}

Verdict look_no_route(const Patient& p) {
  if (!p.evidence.was_seen("links")) return unseen(p, "links");
  const std::vector<std::string> lines = p.evidence.lines("links");
  for (const char* table : {"routes 4", "routes 6"}) {
    if (std::find(lines.begin(), lines.end(), table) == lines.end()) return unseen(p, "links");
  }
  if (!matching(lines, "default ").empty() || has_proxy(p)) return fine();
  std::vector<std::string> evidence = lines;
  std::erase_if(evidence, [](const std::string& line) { return line.starts_with("routes "); });
  return found(std::move(evidence), "the host has no default route: it reaches its own network alone, and nothing can be downloaded",
               {"ip route; ip -6 route",
                "sudo ip route add default via GATEWAY   # until the next restart; netplan or the provider's console says it for good",
                "# a machine in a private subnet needs a NAT gateway, or a proxy: docs/configuration.md"});
}

Verdict look_index_silent(const Patient& p) {
  if (!p.evidence.was_seen("indexes") || has_proxy(p)) return irrelevant();
  const std::vector<std::string> silent = matching(p.evidence.lines("indexes"), "silent ");
  if (silent.empty()) return p.evidence.lines("indexes").empty() ? irrelevant() : fine();
  return found(silent, "pip is set to an index that takes no connection: every installation waits, and fails",
               {"pip config list -v; cat ~/.config/pip/pip.conf ~/.pip/pip.conf /etc/pip.conf   # where it is said",
                "# correct or remove index-url there, or use another mirror: docs/configuration.md"});
}

Verdict look_certificates(const Patient& p) {
  if (!p.evidence.was_seen("certificates")) return irrelevant();
  if (matching(p.evidence.lines("certificates"), "looked").empty()) return unseen(p, "certificates");
  constexpr std::uint64_t kSmallest = 5000;  // bytes; the public ones have two hundred thousand
  std::vector<std::string> evidence = {"no file of CA certificates is there, or it is nearly empty"};
  for (const std::string& line : p.evidence.lines("certificates")) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() == 3 && number_of(parts[2]).value_or(0) >= kSmallest) return fine();
    if (line != "looked") evidence.push_back(line);
  }
  if (!p.evidence.was_seen("dpkg-database"))
    return found(std::move(evidence), "the certificates of CAs are missing: https fails in curl, wget, git and apt",
                 {"sudo dnf reinstall -y ca-certificates && sudo update-ca-trust"});
  return found(std::move(evidence), "the certificates of CAs are missing: https fails in curl, wget, git and apt",
               {"sudo apt-get install -y --reinstall ca-certificates && sudo update-ca-certificates"},
               {step_of("certificates", "command",
                        {{"run", "apt-get update -q; apt-get install -y --reinstall ca-certificates && update-ca-certificates"},
                         {"unless", "test -s /etc/ssl/certs/ca-certificates.crt"}})});
}

Verdict look_own_name(const Patient& p) {
  if (!p.evidence.was_seen("names")) return unseen(p, "names");
  for (const std::string& line : p.evidence.lines("names")) {
    if (!line.starts_with("own-name ") || !line.ends_with(" no")) continue;
    const std::string name = words(line)[1];
    return found({line}, "the host cannot resolve its own name: sudo and many programs wait for that, and say `unable to resolve host`",
                 {fmt::format("echo {} | sudo tee -a /etc/hosts", shell_quote("127.0.1.1 " + name))},
                 {step_of("own-name", "block", {{"path", "/etc/hosts"}, {"marker", "own name"}, {"content", "127.0.1.1 " + name + "\n"}})});
  }
  return fine();
}

Verdict look_mtu(const Patient& p) {
  if (!p.evidence.was_seen("links")) return unseen(p, "links");
  std::string way_out;
  std::uint64_t out = 0, docker = 0;
  const std::vector<std::string> lines = p.evidence.lines("links");
  for (const std::string& line : lines) {
    if (line.starts_with("default ") && way_out.empty()) way_out = line.substr(8);
  }
  for (const std::string& line : lines) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() < 2 || parts[0] == "default") continue;
    if (parts[0] == way_out) out = number_of(parts[1]).value_or(0);
    if (parts[0] == "docker0" && parts.size() > 2 && parts[2] == "up") docker = number_of(parts[1]).value_or(0);
  }
  if (out == 0) return fine();
  if (out < 1280)
    return found({fmt::format("{}: MTU {}", way_out, out)},
                 "the way out takes packets of fewer than 1280 bytes: IPv6 does not work over it, and large transfers may hang",
                 {fmt::format("sudo ip link set dev {} mtu 1400   # if the network below takes that; for good in netplan or networkd",
                              shell_quote(way_out))});
  if (docker > out) {
    Verdict verdict = found(
        {fmt::format("docker0: MTU {}", docker), fmt::format("{}: MTU {}", way_out, out)},
        "containers send larger packets than the way out takes: their downloads hang where ICMP is filtered",
        {fmt::format("# \"mtu\": {} in /etc/docker/daemon.json, then:", out), "sudo systemctl restart docker   # restarts containers"});
    verdict.severity = Severity::note;  // that is how docker comes, and most networks send ICMP
    return verdict;
  }
  return fine();
}

Verdict look_proxy_half(const Patient& p) {
  const std::vector<std::string> login = matching(p.evidence.lines("environment"), "http_proxy=");
  const std::vector<std::string> secure = matching(p.evidence.lines("environment"), "https_proxy=");
  const std::vector<std::string> apt = matching(p.evidence.lines("environment"), "acquire::");
  if (login.empty() && secure.empty()) return apt.empty() ? irrelevant() : fine();
  if (login.empty() || secure.empty())
    return found(
        login.empty() ? secure : login,
        fmt::format("a proxy is set for {} alone: downloads of the other kind go without it, and fail", login.empty() ? "https" : "http"),
        {fmt::format("# set {} beside it in the same file", login.empty() ? "http_proxy" : "https_proxy")});
  if (apt.empty() && p.evidence.was_seen("apt-sources"))
    return found(
        login, "logins use a proxy, and apt does not: sudo drops the variables, so that installing fails where there is no other way out",
        {"# Acquire::http::Proxy \"http://PROXY:PORT\"; in /etc/apt/apt.conf.d/90proxy; or let gpustrap: up … --proxy http://PROXY:PORT"});
  return fine();
}

Verdict look_mirror_silent(const Patient& p) {
  const std::vector<std::string> lines = p.evidence.lines("mirrors");
  if (!p.evidence.was_seen("mirrors") || lines.empty() || has_proxy(p)) return irrelevant();
  std::vector<std::string> silent = matching(lines, "silent ");
  if (silent.empty()) return fine();
  const bool all = matching(lines, "answers ").empty();
  for (std::string& line : silent) line = line.substr(7) + " takes no connection";
  const std::string first = words(silent.front())[0];
  Verdict verdict = found(
      std::move(silent),
      all ? "none of the servers that apt is told of takes a connection: no package can be installed"
          : "a server that apt is told of takes no connection: what comes from there cannot be installed",
      {fmt::format("timeout 5 bash -c ': </dev/tcp/{}/{}'; ip route get $(getent ahostsv4 {} | awk '{{print $1; exit}}')   # what stops it",
                   first.substr(0, first.rfind(':')), first.substr(first.rfind(':') + 1), first.substr(0, first.rfind(':'))),
       "# does the security group or firewall let the host out to ports 80 and 443? else a NAT gateway, or: up … --proxy http://PROXY:PORT",
       "# or name another mirror in /etc/apt/sources.list.d"});
  if (!all) verdict.severity = Severity::warning;
  return verdict;
}

Verdict look_proxy_silent(const Patient& p) {
  const std::vector<std::string> lines = p.evidence.lines("proxies");
  if (!p.evidence.was_seen("proxies") || lines.empty()) return irrelevant();
  std::vector<std::string> evidence = matching(lines, "silent ");
  if (evidence.empty()) return fine();
  std::vector<std::string> commands, silent;
  for (const std::string& line : evidence) silent.push_back(line.substr(7));
  for (const std::string& line : matching(p.evidence.lines("environment"), "proxy")) {
    evidence.push_back(line);
    const auto names = [&](const std::string& proxy) { return contains(line, proxy.substr(0, proxy.rfind(':'))); };
    if (!std::any_of(silent.begin(), silent.end(), names)) continue;
    const std::vector<std::string> place = split(line, ':');
    if (place.size() < 3 || !number_of(place[1])) continue;
    commands.push_back(place[0].starts_with("/etc/apt/") ? fmt::format("sudo sed -i.bak '{}s|^|// |' {}", place[1], shell_quote(place[0]))
                                                         : take_out(line));
  }
  if (commands.empty())
    commands.emplace_back("grep -rn -i proxy /etc/environment /etc/profile.d /etc/apt/apt.conf.d   # correct or remove it");
  commands.emplace_back("# or correct it there; is it reachable only from elsewhere (VPN, security group)? Then log in again");
  return found(std::move(evidence), "a proxy is set that takes no connection: whatever goes through it fails", std::move(commands));
}

Verdict look_notebook_open(const Patient& p) {
  if (!p.evidence.was_seen("listening")) return unseen(p, "listening");
  for (const OpenSocket& one : open_notebooks(p)) {
    std::vector<std::string> secrets = empty_secrets(p, one.command);
    if (secrets.empty() || has_password(p)) continue;
    std::vector<std::string> evidence = {fmt::format("listens on {} (process {})", one.address, one.pid)};
    evidence.insert(evidence.end(), secrets.begin(), secrets.end());
    return found(std::move(evidence),
                 "a notebook listens to the whole network without a token: whoever reaches its port runs programs as its user",
                 close_it(one));
  }
  return fine();
}

Verdict look_notebook_public(const Patient& p) {
  if (!p.evidence.was_seen("listening")) return unseen(p, "listening");
  const std::vector<OpenSocket> open = open_notebooks(p);
  if (open.empty()) {
    // Without root whose a socket is stays hidden.
    const bool hidden = !p.is_root && !running_notebooks(p).empty();
    return hidden ? unseen(p, "listening") : fine();
  }
  const OpenSocket& one = open.front();
  std::vector<std::string> evidence = {fmt::format("listens on {} (process {})", one.address, one.pid)};
  if (!one.command.empty()) evidence.push_back(first_line(one.command, 160));
  const bool encrypted = contains(one.command, "certfile") || contains(p.evidence.text("jupyter"), "certfile");
  if (encrypted && has_password(p)) return fine();  // meant so: `public: true` of a jupyter step
  return found(std::move(evidence),
               encrypted ? "a notebook listens to the whole network"
                         : "a notebook listens to the whole network, unencrypted: its token can be read on the way",
               close_it(one));
}

Verdict look_notebook_config(const Patient& p) {
  std::vector<std::string> evidence = empty_secrets(p, "");
  bool open = false;
  for (const std::string& line : p.evidence.lines("jupyter")) {
    const std::size_t at = line.find(".ip");
    const bool json = contains(line, "\"ip\"");
    if (at == std::string::npos && !json) continue;
    if (contains(line, "'*'") || contains(line, "\"*\"") || contains(line, "0.0.0.0") || contains(line, "'::'")) {
      evidence.push_back(line);
      open = true;
    }
  }
  if (evidence.empty() || has_password(p)) return p.evidence.lines("jupyter").empty() ? irrelevant() : fine();
  return found(std::move(evidence),
               open ? "Jupyter's configuration opens the next server to the whole network"
                    : "Jupyter's configuration takes the token away: the next server asks nobody who they are",
               {"# take these lines out: the defaults are localhost and a token of its own, and SSH leads there: gpustrap tunnel HOST"});
}

}  // namespace gpustrap
