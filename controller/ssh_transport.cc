#include "controller/ssh_transport.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// Before the next address is tried beside one that has not answered (RFC 8305): a dead IPv6 route costs this and no timeout.
constexpr milliseconds kNextAddressAfter{250};
/// A connection on which the other side acknowledges nothing is given up after about half a minute: a closed laptop, a stopped instance.
constexpr int kKeepaliveIdleSeconds = 15;
constexpr int kKeepaliveIntervalSeconds = 5;
constexpr int kKeepaliveProbes = 3;
constexpr unsigned kUnacknowledgedLimitMs = 30'000;

void set_option(int fd, int level, int name, int value) { ::setsockopt(fd, level, name, &value, sizeof value); }

void tune(int fd) {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);  // 45 ms a turn otherwise, from delayed acknowledgements
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
#ifdef TCP_KEEPIDLE
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleSeconds);
#else
  set_option(fd, IPPROTO_TCP, TCP_KEEPALIVE, kKeepaliveIdleSeconds);
#endif
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalSeconds);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
#ifdef TCP_USER_TIMEOUT
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(kUnacknowledgedLimitMs));
#endif
}

/// Attempts to connect, several at a time; the first that succeeds wins.
class Attempts {
 public:
  /// Begins one more.
  void begin(const addrinfo& address) {
    UniqueFd fd(::socket(address.ai_family, SOCK_STREAM, 0));
    if (!fd.valid() || ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC) != 0 || !set_nonblocking(fd.get())) {
      last_errno_ = errno;
      return;
    }
    if (::connect(fd.get(), address.ai_addr, address.ai_addrlen) == 0) {
      connected_ = std::move(fd);
    } else if (errno == EINPROGRESS) {
      pending_.push_back(std::move(fd));
    } else {
      last_errno_ = errno;
    }
  }

  /// Waits until one has succeeded, all have failed, or the time is over.
  void wait(milliseconds limit) {
    const Clock::time_point deadline = Clock::now() + limit;
    while (!connected_.valid() && !pending_.empty()) {
      const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
      if (left.count() <= 0) return;
      std::vector<pollfd> entries;
      entries.reserve(pending_.size());
      for (const UniqueFd& fd : pending_) entries.push_back({fd.get(), POLLOUT, 0});
      if (::poll(entries.data(), static_cast<nfds_t>(entries.size()), static_cast<int>(left.count())) < 0) continue;
      for (std::size_t i = entries.size(); i-- > 0;) {
        if (entries[i].revents != 0) settle(i);
      }
    }
  }

  [[nodiscard]] bool is_over() const { return connected_.valid() || pending_.empty(); }
  [[nodiscard]] bool is_connected() const { return connected_.valid(); }
  [[nodiscard]] UniqueFd take() { return std::move(connected_); }
  /// Why the last one failed; 0 where none has.
  [[nodiscard]] int last_errno() const { return last_errno_; }

 private:
  void settle(std::size_t index) {
    int reason = 0;
    socklen_t size = sizeof reason;
    ::getsockopt(pending_[index].get(), SOL_SOCKET, SO_ERROR, &reason, &size);
    UniqueFd fd = std::move(pending_[index]);
    pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(index));
    if (reason != 0)
      last_errno_ = reason;
    else
      connected_ = std::move(fd);
  }

  std::vector<UniqueFd> pending_;
  UniqueFd connected_;
  int last_errno_ = 0;
};

Result<UniqueFd> connect_directly(const SshTarget& target) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int looked_up = ::getaddrinfo(target.host.c_str(), fmt::format("{}", target.port).c_str(), &hints, &found);
  if (looked_up != 0) {
    return fail(ErrorCode::unknown_name,
                fmt::format("the name {} does not resolve ({})", strip_control(target.host), ::gai_strerror(looked_up)),
                "check its spelling; an EC2 instance has a new public name after each stop and start");
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, ::freeaddrinfo);
  Attempts attempts;
  const Clock::time_point deadline = Clock::now() + target.connect_timeout;
  for (const addrinfo* address = addresses.get(); address != nullptr && !attempts.is_connected(); address = address->ai_next) {
    attempts.begin(*address);
    if (address->ai_next != nullptr) attempts.wait(kNextAddressAfter);
  }
  attempts.wait(std::chrono::duration_cast<milliseconds>(deadline - Clock::now()));
  if (attempts.is_connected()) {
    UniqueFd fd = attempts.take();
    tune(fd.get());
    return fd;
  }
  const std::string doing = "connecting to " + endpoint_of(target);
  if (!attempts.is_over() || attempts.last_errno() == ETIMEDOUT) {
    return fail(Error(ErrorCode::timeout, fmt::format("no answer within {}", human_duration(target.connect_timeout)),
                      "is the instance running, and does its security group let SSH (TCP 22) in from your address?")
                    .in(doing));
  }
  const std::string why = attempts.last_errno() == 0 ? "it has no address" : errno_error(attempts.last_errno(), "").why();
  return fail(Error(ErrorCode::unreachable, why, "is the instance running, and is this its SSH port?").in(doing));
}

/// The user's ProxyCommand, speaking on one end of a socket pair.
Result<Transport> connect_by_command(const SshTarget& target) {
  std::array<int, 2> ends{}, told{};
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) != 0) return fail(errno_error(errno, "making a socket pair"));
  UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  ::fcntl(ours.get(), F_SETFD, FD_CLOEXEC);
  ::fcntl(theirs.get(), F_SETFD, FD_CLOEXEC);
  if (::pipe(told.data()) != 0) return fail(errno_error(errno, "making a pipe"));
  const UniqueFd reads(told[0]);
  UniqueFd writes(told[1]);
  for (const int end : told) ::fcntl(end, F_SETFD, FD_CLOEXEC);
  const std::string command = "exec " + target.proxy_command;
  const pid_t child = ::fork();
  if (child < 0) return fail(errno_error(errno, "starting the ProxyCommand"));
  if (child == 0) {
    // The second fork leaves it to init: it ends when the connection does.
    const pid_t process = ::fork();
    if (process != 0) ::_exit(::write(writes.get(), &process, sizeof process) > 0 ? 0 : 1);
    // Ctrl-C is for gpustrap to understand; the way to the host stays open meanwhile. It keeps the terminal's process group,
    // because a jump host may ask for a passphrase there.
    ::signal(SIGINT, SIG_IGN);
    ::signal(SIGPIPE, SIG_DFL);
    ::dup2(theirs.get(), STDIN_FILENO);
    ::dup2(theirs.get(), STDOUT_FILENO);
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {}
  writes.reset();
  pid_t process = 0;
  if (::read(reads.get(), &process, sizeof process) != sizeof process) process = 0;
  return Transport{std::move(ours), std::make_unique<WayToHost>(process)};
}

}  // namespace

std::string endpoint_of(const SshTarget& target) {
  return target.port == 22 ? target.host : fmt::format("{} port {}", target.host, target.port);
}

Result<Transport> connect_transport(const SshTarget& target) {
  Result<Transport> transport = target.proxy_command.empty() ? connect_directly(target).transform([](UniqueFd fd) {
    return Transport{std::move(fd), nullptr};
  })
                                                             : connect_by_command(target);
  if (!transport) return transport;
  const int flags = ::fcntl(transport->fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(transport->fd.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) return fail(errno_error(errno, "fcntl"));
  return transport;
}

}  // namespace gpustrap
