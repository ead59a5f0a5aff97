#include "controller/tunnel.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"

namespace gpustrap {
namespace {

/// Bytes that wait for one end of a connection before the other end is no longer read: its window holds it back.
constexpr std::size_t kUnsentLimit = 256U << 10U;
constexpr std::size_t kPiece = 64U << 10U;
/// A browser opens a dozen; more than this wait in the listener's queue.
constexpr std::size_t kMostConnections = 256;
constexpr unsigned kPortsTried = 200;
/// Rounds in one pump(), so that Ctrl-C is noticed during a long transfer.
constexpr int kMostRounds = 64;

enum class Bound { yes, taken, no_such_address };

/// A socket that listens on a loopback address.
Result<std::pair<Bound, UniqueFd>> listen_at(const sockaddr* address, socklen_t size) {
  UniqueFd fd(::socket(address->sa_family, SOCK_STREAM, 0));
  if (!fd.valid()) {
    if (errno == EAFNOSUPPORT) return std::pair{Bound::no_such_address, UniqueFd()};
    return fail(errno_error(errno, "making a socket"));
  }
  ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
  if (Result<void> set = set_nonblocking(fd.get()); !set) return fail(std::move(set).error());
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

Tunnel::Tunnel(SshSession session, std::uint16_t remote, std::uint16_t local, Listeners listeners, TunnelPatience patience)
    : session_(std::move(session)), remote_(remote), local_port_(local), listeners_(std::move(listeners)), patience_(patience) {}

void Tunnel::go_on_over(SshSession session) {
  connections_.clear();  // before the session they belong to
  session_ = std::move(session);
  heard_ = session_.arrivals();
  heard_at_ = asked_at_ = Clock::now();
}

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

Result<std::unique_ptr<Tunnel>> Tunnel::open(SshSession session, std::uint16_t remote, std::optional<std::uint16_t> local,
                                             std::uint16_t first, TunnelPatience patience) {
  const unsigned from = local.value_or(first);
  const unsigned to = local ? from : std::min(from + kPortsTried - 1, 65535U);
  for (unsigned port = from; port <= to; ++port) {
    Result<std::optional<Listeners>> listeners = listen_on(static_cast<std::uint16_t>(port));
    if (!listeners) return fail(std::move(listeners).error());
    if (!listeners->has_value()) continue;
    return std::unique_ptr<Tunnel>(
        new Tunnel(std::move(session), remote, static_cast<std::uint16_t>(port), std::move(**listeners), patience));
  }
  if (local)
    return fail(ErrorCode::usage, fmt::format("port {} of this machine is in use", *local), "choose another with -L, or leave -L out");
  return fail(ErrorCode::io, fmt::format("no port from {} to {} of this machine is free", from, to), "choose one with -L");
}

bool Tunnel::accept_from(int listener) {
  bool accepted = false;
  while (listener >= 0 && connections_.size() < kMostConnections) {
    UniqueFd client(::accept(listener, nullptr, nullptr));
    if (!client.valid()) break;
    ::fcntl(client.get(), F_SETFD, FD_CLOEXEC);
    if (!set_nonblocking(client.get())) continue;
    const int on = 1;
    ::setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    Result<SshChannel> channel = session_.forward(remote_);
    if (!channel) continue;  // the client sees its connection closed; pump() finds out whether the session is gone
    connections_.push_back(Connection{std::move(client), *std::move(channel), {}, {}});
    accepted = true;
  }
  return accepted;
}

bool Tunnel::take_from_client(Connection& c) {
  bool moved = false;
  std::array<char, kPiece> buffer;  // NOLINT: filled before it is read; clearing it would cost more than the work
  while (!c.client_ended && c.to_host.size() < kUnsentLimit) {
    const ssize_t got = ::recv(c.client.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    moved = true;
    if (got < 0) {
      c.client.reset();
      break;
    }
    if (got == 0) c.client_ended = true;
    c.to_host.append(buffer.data(), static_cast<std::size_t>(got));
  }
  return moved;
}

bool Tunnel::give_to_client(Connection& c) {
  std::size_t given = 0;
  while (given < c.to_client.size()) {
    // No SIGPIPE: the session ignores it, because not every system has MSG_NOSIGNAL.
    const ssize_t put = ::send(c.client.get(), c.to_client.data() + given, c.to_client.size() - given, 0);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (put < 0) {
      c.client.reset();
      return true;
    }
    given += static_cast<std::size_t>(put);
  }
  c.to_client.erase(0, given);
  return given > 0;
}

Tunnel::Carried Tunnel::carry(Connection& c) {
  const Result<bool> open = c.channel.is_open();
  if (!open) return Carried::over;  // nothing listens there: the client sees its connection closed, as it would on the host
  if (!c.client.valid()) {
    // libssh forgets a channel that is freed before the answer, and the host would keep it; so the answer is awaited.
    return *open ? Carried::over : Carried::nothing;
  }
  bool moved = take_from_client(c);
  if (!c.client.valid() && *open) return Carried::over;
  if (!*open) return moved ? Carried::something : Carried::nothing;

  while (!c.to_host.empty()) {
    const Result<std::size_t> put = c.channel.write(c.to_host);
    if (!put) {
      // The program on the host hung up; what it had said still goes to the client.
      c.to_host.clear();
      c.client_ended = c.end_sent = true;
      break;
    }
    if (*put == 0) break;
    c.to_host.erase(0, *put);
    moved = true;
  }
  if (c.client_ended && c.to_host.empty() && !c.end_sent) {
    (void)c.channel.send_end();
    c.end_sent = moved = true;
  }
  if (c.to_client.size() < kUnsentLimit) {
    const Result<std::size_t> got = c.channel.read(SshChannel::Stream::out, c.to_client);
    if (!got) return Carried::over;
    moved = moved || *got > 0;
  }
  moved = give_to_client(c) || moved;
  if (!c.client.valid()) return Carried::over;
  if (c.channel.at_end() && c.to_client.empty() && !c.end_passed_on) {
    ::shutdown(c.client.get(), SHUT_WR);
    c.end_passed_on = moved = true;
  }
  if (c.end_passed_on && (c.end_sent || c.channel.is_closed())) return Carried::over;
  return moved ? Carried::something : Carried::nothing;
}

void Tunnel::wait_for_more(std::uint64_t seen, std::chrono::milliseconds limit) {
  session_.pump();
  if (session_.arrivals() != seen || !session_.connected()) return;
  std::vector<pollfd> polled = {{session_.descriptor(), session_.poll_events(), 0}};
  if (connections_.size() < kMostConnections) {
    for (const UniqueFd* listener : {&listeners_.v4, &listeners_.v6}) polled.push_back({listener->get(), POLLIN, 0});
  }
  for (const Connection& c : connections_) {
    if (!c.client.valid()) continue;
    const bool wants_more = !c.client_ended && c.to_host.size() < kUnsentLimit;
    const int events = (wants_more ? POLLIN : 0) | (c.to_client.empty() ? 0 : POLLOUT);
    // With nothing to wait for, a hang-up alone would wake the poll again and again.
    if (events != 0) polled.push_back({c.client.get(), static_cast<short>(events), 0});
  }
  ::poll(polled.data(), static_cast<nfds_t>(polled.size()), static_cast<int>(limit.count()));
}

Result<void> Tunnel::watch_silence() {
  const Clock::time_point now = Clock::now();
  if (const std::uint64_t arrivals = session_.arrivals(); arrivals != heard_) {
    heard_ = arrivals;
    heard_at_ = asked_at_ = now;
    return {};
  }
  const auto silent = std::chrono::duration_cast<std::chrono::milliseconds>(now - heard_at_);
  if (silent >= patience_.give_up_after) {
    session_.give_up();
    return fail(ErrorCode::unreachable, fmt::format("the host has said nothing for {}", human_duration(silent)));
  }
  if (now - asked_at_ >= patience_.ask_after) {
    session_.ask_for_a_sign();
    asked_at_ = now;
  }
  return {};
}

Result<void> Tunnel::pump(std::chrono::milliseconds wait) {
  bool waited = false;
  for (int round = 0; round < kMostRounds; ++round) {
    const std::uint64_t seen = session_.arrivals();
    session_.pump();
    if (!session_.connected()) return fail(ErrorCode::unreachable, "the connection to the host ended");
    if (Result<void> heard = watch_silence(); !heard) return heard;
    bool moved = accept_from(listeners_.v4.get());
    moved = accept_from(listeners_.v6.get()) || moved;
    for (auto connection = connections_.begin(); connection != connections_.end();) {
      const Carried carried = carry(*connection);
      moved = moved || carried != Carried::nothing;
      connection = carried == Carried::over ? connections_.erase(connection) : std::next(connection);
    }
    if (moved || session_.arrivals() != seen) continue;
    if (waited) return {};
    wait_for_more(seen, wait);
    waited = true;
  }
  return {};
}

}  // namespace gpustrap
