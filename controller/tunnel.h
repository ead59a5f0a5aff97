#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "controller/ssh_session.h"

namespace gpustrap {

/// How long a host may be silent.
struct TunnelPatience {
  std::chrono::milliseconds ask_after{5'000};       ///< then it is asked for a sign of life
  std::chrono::milliseconds give_up_after{20'000};  ///< then the connection counts as gone
};

/// Carries connections from this machine's loopback to the host's own 127.0.0.1:port. One thread: bytes move while pump() runs.
/// What a slow side does not take holds back its own connection and no other. The local port outlives the connection to the host.
class Tunnel {
 public:
  /// Listens on 127.0.0.1 and, where there is one, ::1 (a browser that is sent to localhost may try either). On `local` where it is
  /// given, an error (usage) where that is taken; else on the first free port from `first` on.
  [[nodiscard]] static Result<std::unique_ptr<Tunnel>> open(SshSession session, std::uint16_t remote, std::optional<std::uint16_t> local,
                                                            std::uint16_t first = 8889, TunnelPatience patience = {});
  [[nodiscard]] std::uint16_t local_port() const { return local_port_; }
  /// Carries what there is, and waits at most `wait` for more. Error unreachable where the connection to the host is gone.
  [[nodiscard]] Result<void> pump(std::chrono::milliseconds wait);
  /// Goes on over another connection. What was open over the old one is closed; whoever connected meanwhile has waited and is served.
  void go_on_over(SshSession session);
  /// How many connections are open now.
  [[nodiscard]] std::size_t connections() const { return connections_.size(); }

 private:
  struct Listeners {
    UniqueFd v4, v6;
  };
  struct Connection {
    UniqueFd client;  ///< the program on this machine; none where it has gone and the host's answer is still awaited
    SshChannel channel;
    std::string to_client, to_host;
    bool client_ended = false;   ///< sends no more
    bool end_sent = false;       ///< and the host was told
    bool end_passed_on = false;  ///< the client was told that the host sends no more
  };
  enum class Carried { nothing, something, over };

  using Clock = std::chrono::steady_clock;

  Tunnel(SshSession session, std::uint16_t remote, std::uint16_t local, Listeners listeners, TunnelPatience patience);
  static Result<std::optional<Listeners>> listen_on(std::uint16_t port);

  bool accept_from(int listener);
  static bool take_from_client(Connection& connection);
  static bool give_to_client(Connection& connection);
  static Carried carry(Connection& connection);
  /// Waits for anything to do, where nothing has arrived since `seen`.
  void wait_for_more(std::uint64_t seen, std::chrono::milliseconds limit);
  /// Error unreachable where the host has been silent for too long: a link may die without a word.
  Result<void> watch_silence();

  SshSession session_;
  std::uint16_t remote_;
  std::uint16_t local_port_;
  Listeners listeners_;
  TunnelPatience patience_;
  std::uint64_t heard_ = 0;  ///< arrivals when the host was last heard
  Clock::time_point heard_at_ = Clock::now(), asked_at_ = heard_at_;
  std::list<Connection> connections_;
};

}  // namespace gpustrap
