#include "controller/tunnel.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"

namespace gpustrap {
namespace {

/// Unsent bytes above which the other side is not read on: its window holds it back.
constexpr std::size_t kUnsentLimit = 1U << 20U;
constexpr std::size_t kPiece = 64U << 10U;
/// A browser opens a handful; more than this is no browser.
constexpr std::size_t kMostConnections = 256;
constexpr unsigned kPortsTried = 200;

enum class Bound { yes, taken, no_such_address };

/// A socket that listens on a loopback address.
Result<std::pair<Bound, UniqueFd>> listen_at(const sockaddr* address, socklen_t size) {
  UniqueFd fd(::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) {
    if (errno == EAFNOSUPPORT) return std::pair{Bound::no_such_address, UniqueFd()};
    return fail(errno_error(errno, "making a socket"));
  }
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);  // the last tunnel's connections may linger
  if (address->sa_family == AF_INET6) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (::bind(fd.get(), address, size) != 0 || ::listen(fd.get(), 64) != 0) {
    if (errno == EADDRINUSE || errno == EACCES) return std::pair{Bound::taken, UniqueFd()};
    if (errno == EADDRNOTAVAIL) return std::pair{Bound::no_such_address, UniqueFd()};
    return fail(errno_error(errno, "listening on this machine's loopback"));
  }
  return std::pair{Bound::yes, std::move(fd)};
}

}  // namespace

Tunnel::Tunnel(SshSession& session, std::uint16_t remote, std::uint16_t local, Listeners listeners)
    : session_(session), remote_(remote), local_port_(local), listeners_(std::move(listeners)) {}

/// nullopt where the port is taken on either address: what listens on the other one would be sent the notebook's token.
Result<std::optional<Tunnel::Listeners>> Tunnel::listen_on(std::uint16_t port) {
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto first = listen_at(reinterpret_cast<const sockaddr*>(&v4), sizeof v4);
  if (!first) return fail(std::move(first).error());
  if (first->first != Bound::yes) return std::optional<Listeners>();
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  v6.sin6_addr = in6addr_loopback;
  auto second = listen_at(reinterpret_cast<const sockaddr*>(&v6), sizeof v6);
  if (!second) return fail(std::move(second).error());
  if (second->first == Bound::taken) return std::optional<Listeners>();
  return std::optional<Listeners>(Listeners{std::move(first->second), std::move(second->second)});
}

Result<std::unique_ptr<Tunnel>> Tunnel::open(SshSession& session, std::uint16_t remote, std::optional<std::uint16_t> local, std::uint16_t first) {
  const unsigned from = local.value_or(first);
  const unsigned to = local ? from : std::min(from + kPortsTried - 1, 65535U);
  for (unsigned port = from; port <= to; ++port) {
    Result<std::optional<Listeners>> listeners = listen_on(static_cast<std::uint16_t>(port));
    if (!listeners) return fail(std::move(listeners).error());
    if (!listeners->has_value()) continue;
    return std::unique_ptr<Tunnel>(new Tunnel(session, remote, static_cast<std::uint16_t>(port), std::move(**listeners)));
  }
  if (local) return fail(ErrorCode::usage, fmt::format("port {} of this machine is in use", *local), "choose another with -L, or leave -L out");
  return fail(ErrorCode::io, fmt::format("no port from {} to {} of this machine is free", from, to), "choose one with -L");
}

void Tunnel::accept_from(int listener) {
  UniqueFd client(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client.valid() || connections_.size() >= kMostConnections) return;
  const int on = 1;
  ::setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  Result<SshChannel> channel = session_.forward(remote_);
  if (!channel) return;  // nothing listens there: the client sees its connection closed, as it would on the host
  connections_.push_back(Connection{std::move(client), *std::move(channel), {}, {}});
}

bool Tunnel::carry(Connection& c) {
  // From the host.
  if (!c.host_ended && c.to_client.size() < kUnsentLimit) {
    if (!c.channel.read(SshChannel::Stream::out, c.to_client)) return false;
    c.host_ended = c.channel.at_end();
  }
  while (!c.to_client.empty()) {
    const ssize_t put = ::send(c.client.get(), c.to_client.data(), c.to_client.size(), MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EAGAIN) break;
    if (put < 0) return false;
    c.to_client.erase(0, static_cast<std::size_t>(put));
  }
  if (c.host_ended && c.to_client.empty() && !c.end_passed_on) {
    ::shutdown(c.client.get(), SHUT_WR);
    c.end_passed_on = true;
  }
  // From the client.
  while (!c.client_ended && c.to_host.size() < kPiece) {
    std::array<char, kPiece> buffer{};
    const ssize_t got = ::recv(c.client.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) break;
    if (got < 0) return false;
    if (got == 0) c.client_ended = true;
    c.to_host.append(buffer.data(), static_cast<std::size_t>(got));
  }
  if (!c.to_host.empty()) {
    const Result<std::size_t> put = c.channel.write(c.to_host);
    if (!put) return false;
    c.to_host.erase(0, *put);
  }
  if (c.client_ended && c.to_host.empty() && !c.end_sent) {
    if (!c.channel.send_end()) return false;
    c.end_sent = true;
  }
  return !(c.end_sent && c.end_passed_on);
}

Result<void> Tunnel::pump(std::chrono::milliseconds wait) {
  std::vector<pollfd> polled = {{session_.descriptor(), session_.poll_events(), 0}, {listeners_.v4.get(), POLLIN, 0}, {listeners_.v6.get(), POLLIN, 0}};
  for (const Connection& c : connections_) {
    const bool wants_more = !c.client_ended && c.to_host.size() < kPiece;
    polled.push_back({c.client.get(), static_cast<short>((wants_more ? POLLIN : 0) | (c.to_client.empty() ? 0 : POLLOUT)), 0});
  }
  if (::poll(polled.data(), polled.size(), static_cast<int>(wait.count())) < 0 && errno != EINTR) return fail(errno_error(errno, "waiting for the tunnel"));
  session_.pump();
  if ((polled[1].revents & POLLIN) != 0) accept_from(listeners_.v4.get());
  if ((polled[2].revents & POLLIN) != 0) accept_from(listeners_.v6.get());
  std::erase_if(connections_, [](Connection& connection) { return !carry(connection); });
  session_.pump();
  if (!session_.connected()) return fail(ErrorCode::unreachable, "the connection to the host ended");
  return {};
}

}  // namespace gpustrap
