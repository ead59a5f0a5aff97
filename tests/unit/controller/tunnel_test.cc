#include "controller/tunnel.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "tests/support/loopback_server.h"
#include "tests/support/ssh_fixture.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (put <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return true;
}

/// The program on the "host". The first byte says what it does: 'e' sends back everything until the end, 'c' counts and answers only
/// after the end, 'f' sends for ever, 'h' says goodbye and hangs up.
class Program {
 public:
  Program()
      : sent_(static_cast<std::atomic<std::uint64_t>*>(
            ::mmap(nullptr, sizeof(std::atomic<std::uint64_t>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))),
        server_([this](int fd) { serve(fd); }) {}
  ~Program() { ::munmap(sent_, sizeof *sent_); }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  [[nodiscard]] std::uint16_t port() const { return server_.port(); }
  /// What 'f' has sent so far.
  [[nodiscard]] std::uint64_t sent() const { return sent_->load(); }

 private:
  void serve(int fd) {
    std::vector<char> buffer(65536);
    std::size_t count = 0;
    char what = 0;
    if (::recv(fd, &what, 1, 0) != 1) return;
    if (what == 'h') {
      send_all(fd, "goodbye");
      return;
    }
    while (what == 'f' && send_all(fd, {buffer.data(), buffer.size()})) *sent_ += buffer.size();
    for (ssize_t got = 0; (got = ::recv(fd, buffer.data(), buffer.size(), 0)) > 0;) {
      count += static_cast<std::size_t>(got);
      if (what == 'e' && !send_all(fd, {buffer.data(), static_cast<std::size_t>(got)})) return;
    }
    if (what == 'c') send_all(fd, std::to_string(count));
  }

  std::atomic<std::uint64_t>* sent_;
  LoopbackServer server_;
};

/// A browser's connection: sends its text, half-closes, reads to the end. Driven by step().
struct Client {
  UniqueFd fd;
  std::string unsent;
  std::string received{};
  bool sent_end = false, ended = false;

  Client(std::uint16_t port, std::string text) : fd(connect_to_loopback(port)), unsent(std::move(text)) {
    EXPECT_TRUE(set_nonblocking(fd.get()).has_value());
  }
  void step() {
    if (!unsent.empty()) {
      const ssize_t put = ::send(fd.get(), unsent.data(), unsent.size(), MSG_NOSIGNAL);
      if (put > 0) unsent.erase(0, static_cast<std::size_t>(put));
    }
    if (unsent.empty() && !sent_end) {
      ::shutdown(fd.get(), SHUT_WR);
      sent_end = true;
    }
    std::array<char, 65536> buffer;  // NOLINT: filled before it is read
    ssize_t got = 0;
    while ((got = ::recv(fd.get(), buffer.data(), buffer.size(), 0)) > 0) received.append(buffer.data(), static_cast<std::size_t>(got));
    if (got == 0 || (got < 0 && errno != EAGAIN)) ended = true;
  }
};

class TunnelTest : public testing::Test {
 protected:
  void SetUp() override {
    server_.trust();
    Result<SshSession> session = SshSession::connect(server_.target(), {});
    ASSERT_TRUE(session.has_value()) << session.error().sentence() << "\n" << server_.log();
    session_.emplace(*std::move(session));
    open_tunnel({});
  }

  void open_tunnel(TunnelPatience patience) {
    std::uint16_t free = 0;
    listen_on_loopback(free).reset();
    Result<std::unique_ptr<Tunnel>> tunnel = Tunnel::open(*session_, program_.port(), std::nullopt, free, patience);
    ASSERT_TRUE(tunnel.has_value()) << tunnel.error().sentence();
    tunnel_ = *std::move(tunnel);
  }

  /// Pumps until the tunnel says that its link is gone.
  Error lose_link(Clock::duration limit) {
    const Clock::time_point begun = Clock::now();
    Result<void> pumped;
    while (pumped && Clock::now() - begun < limit) pumped = tunnel_->pump(milliseconds(100));
    EXPECT_FALSE(pumped.has_value()) << "the tunnel takes its link for alive";
    return pumped ? Error(ErrorCode::internal, "alive") : pumped.error();
  }

  /// Pumps until all clients have read to the end.
  void carry(std::vector<Client>& clients) {
    const Clock::time_point deadline = Clock::now() + seconds(60);
    while (Clock::now() < deadline) {
      const Result<void> pumped = tunnel_->pump(milliseconds(5));
      ASSERT_TRUE(pumped.has_value()) << pumped.error().sentence();
      bool all = true;
      for (Client& client : clients) {
        if (!client.ended) client.step();
        all = all && client.ended;
      }
      if (all) return;
    }
    FAIL() << "the bytes did not get through";
  }

  Program program_;
  SshFixture server_;
  std::optional<SshSession> session_;
  std::unique_ptr<Tunnel> tunnel_;
};

TEST_F(TunnelTest, CarriesBytesBothWays) {
  std::string text(3'000'000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 31 % 251);
  std::vector<Client> clients;
  clients.emplace_back(tunnel_->local_port(), "e" + text);
  carry(clients);
  EXPECT_TRUE(clients[0].received == text) << clients[0].received.size() << " bytes came back";
  for (int i = 0; i < 20 && tunnel_->connections() > 0; ++i) ASSERT_TRUE(tunnel_->pump(milliseconds(100)).has_value());
  EXPECT_EQ(tunnel_->connections(), 0U);
}

TEST_F(TunnelTest, AnEndOfOneDirectionLeavesTheOtherOpen) {
  std::vector<Client> clients;
  clients.emplace_back(tunnel_->local_port(), "c" + std::string(500'000, 'x'));
  carry(clients);
  EXPECT_EQ(clients[0].received, "500000");
}

TEST_F(TunnelTest, LastWordsOfAProgramThatHangsUpArrive) {
  std::vector<Client> clients;
  clients.emplace_back(tunnel_->local_port(), "h");
  carry(clients);
  EXPECT_EQ(clients[0].received, "goodbye");
}

TEST_F(TunnelTest, CarriesFiftyConnectionsAtOnce) {
  std::vector<Client> clients;
  for (int i = 0; i < 50; ++i) clients.emplace_back(tunnel_->local_port(), "e" + std::string(100'000, static_cast<char>('A' + i)));
  carry(clients);
  for (int i = 0; i < 50; ++i)
    EXPECT_TRUE(clients[static_cast<std::size_t>(i)].received == std::string(100'000, static_cast<char>('A' + i))) << "connection " << i;
}

TEST_F(TunnelTest, AClientThatDoesNotReadHoldsUpNobodyAndFillsNoMemory) {
  const UniqueFd slow = connect_to_loopback(tunnel_->local_port());
  ASSERT_TRUE(send_all(slow.get(), "f"));
  const Clock::time_point deadline = Clock::now() + seconds(30);
  while (program_.sent() == 0 && Clock::now() < deadline) ASSERT_TRUE(tunnel_->pump(milliseconds(20)).has_value());
  std::vector<Client> clients;
  clients.emplace_back(tunnel_->local_port(), "e" + std::string(5'000'000, 'x'));
  carry(clients);
  EXPECT_EQ(clients[0].received.size(), 5'000'000U);
  // Socket buffers on both machines, the channel's window, and what the tunnel itself keeps.
  EXPECT_LT(program_.sent(), 24U << 20U);
}

TEST_F(TunnelTest, ASlowClientHoldsItsProgramBackAndKeepsItsConnection) {
  const UniqueFd slow = connect_to_loopback(tunnel_->local_port());
  ASSERT_TRUE(send_all(slow.get(), "f"));
  ASSERT_TRUE(set_nonblocking(slow.get()).has_value());
  std::vector<char> buffer(64 << 10);
  std::uint64_t received = 0;
  const Clock::time_point deadline = Clock::now() + seconds(60);
  while (received < 24U << 20U && Clock::now() < deadline) {
    const Result<void> pumped = tunnel_->pump(milliseconds(5));
    ASSERT_TRUE(pumped.has_value()) << pumped.error().sentence() << ", after " << received << " bytes";
    const ssize_t got = ::recv(slow.get(), buffer.data(), buffer.size(), 0);
    if (got > 0) received += static_cast<std::uint64_t>(got);
    ASSERT_LT(program_.sent(), received + (24U << 20U));
  }
  EXPECT_GE(received, 24U << 20U);
}

TEST_F(TunnelTest, AClientThatGoesAwayEndsItsConnectionAlone) {
  {
    const UniqueFd gone = connect_to_loopback(tunnel_->local_port());
    ASSERT_TRUE(send_all(gone.get(), "f"));
    const Clock::time_point deadline = Clock::now() + seconds(30);
    while (program_.sent() == 0 && Clock::now() < deadline) ASSERT_TRUE(tunnel_->pump(milliseconds(20)).has_value());
  }
  std::vector<Client> clients;
  clients.emplace_back(tunnel_->local_port(), "e12345");
  carry(clients);
  EXPECT_EQ(clients[0].received, "12345");
}

TEST_F(TunnelTest, WhereNothingListensTheClientSeesItsConnectionClosed) {
  std::uint16_t nobody = 0;
  listen_on_loopback(nobody).reset();
  std::uint16_t free = 0;
  listen_on_loopback(free).reset();
  Result<std::unique_ptr<Tunnel>> tunnel = Tunnel::open(*session_, nobody, std::nullopt, free);
  ASSERT_TRUE(tunnel.has_value());
  tunnel_ = *std::move(tunnel);
  std::vector<Client> clients;
  clients.emplace_back(tunnel_->local_port(), "e");
  carry(clients);
  EXPECT_EQ(clients[0].received, "");
  EXPECT_TRUE(session_->connected());
}

TEST_F(TunnelTest, APortThatWasAskedForAndIsTakenIsAnError) {
  std::uint16_t taken = 0;
  const UniqueFd other = listen_on_loopback(taken);
  const Result<std::unique_ptr<Tunnel>> tunnel = Tunnel::open(*session_, program_.port(), taken);
  ASSERT_FALSE(tunnel.has_value());
  EXPECT_EQ(tunnel.error().code(), ErrorCode::usage);
  EXPECT_THAT(tunnel.error().sentence(), testing::HasSubstr(std::to_string(taken)));
  const Result<std::unique_ptr<Tunnel>> next = Tunnel::open(*session_, program_.port(), std::nullopt, taken);
  ASSERT_TRUE(next.has_value());
  EXPECT_GT((*next)->local_port(), taken);
}

TEST_F(TunnelTest, WhereNoPortIsFreeOneIsToBeNamed) {
  std::uint16_t last = 65535;
  const UniqueFd taken(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(last);
  static_cast<void>(::bind(taken.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address));  // else somebody else has it
  static_cast<void>(::listen(taken.get(), 1));
  const Result<std::unique_ptr<Tunnel>> tunnel = Tunnel::open(*session_, 8888, std::nullopt, last);
  ASSERT_FALSE(tunnel.has_value());
  EXPECT_EQ(tunnel.error().code(), ErrorCode::io);
  EXPECT_EQ(tunnel.error().why(), "no port from 65535 to 65535 of this machine is free");
  EXPECT_EQ(tunnel.error().hint(), "choose one with -L");
}

TEST_F(TunnelTest, ListensOnBothLoopbacks) {
  UniqueFd fd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  if (!fd.valid() || ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    GTEST_SKIP() << "this machine has no ::1";
  fd.reset(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  address.sin6_port = htons(tunnel_->local_port());
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
}

TEST_F(TunnelTest, ALostLinkIsSaid) {
  server_.drop_links();
  EXPECT_EQ(lose_link(seconds(10)).code(), ErrorCode::unreachable);
}

TEST_F(TunnelTest, AHostThatFallsSilentIsGivenUp) {
  open_tunnel({milliseconds(200), milliseconds(1500)});
  server_.freeze_links();
  const Error gone = lose_link(seconds(30));
  EXPECT_EQ(gone.code(), ErrorCode::unreachable);
  EXPECT_THAT(gone.sentence(), testing::HasSubstr("said nothing"));
  EXPECT_FALSE(session_->connected()) << "the next attempt would go over the dead connection";
}

TEST_F(TunnelTest, AHostThatHasNothingToSayIsKept) {
  open_tunnel({milliseconds(50), milliseconds(2000)});
  const Clock::time_point begun = Clock::now();
  while (Clock::now() - begun < milliseconds(4000)) ASSERT_TRUE(tunnel_->pump(milliseconds(50)).has_value());
}

TEST_F(TunnelTest, ThePortIsKeptWhileTheLinkIsDownAndWhoConnectsIsServedAfterwards) {
  std::vector<Client> clients;
  clients.emplace_back(tunnel_->local_port(), "e" + std::string(1'000'000, 'x'));
  ASSERT_TRUE(tunnel_->pump(milliseconds(50)).has_value());
  server_.drop_links();
  lose_link(seconds(10));
  const std::uint16_t port = tunnel_->local_port();
  clients.emplace_back(port, "e12345");
  Result<SshSession> session = SshSession::connect(server_.target(), {});
  ASSERT_TRUE(session.has_value()) << session.error().sentence();
  tunnel_->go_on_over(*std::move(session));
  carry(clients);
  EXPECT_EQ(tunnel_->local_port(), port);
  EXPECT_LT(clients[0].received.size(), 1'000'000U) << "the connection of the old link ended with it";
  EXPECT_EQ(clients[1].received, "12345");
}

}  // namespace
}  // namespace gpustrap
