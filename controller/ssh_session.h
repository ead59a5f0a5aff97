#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "controller/ssh_config.h"

namespace gpustrap {

/// What a connection may have to ask a person.
struct SshPrompts {
  /// Whether to trust a host key that is not known; empty: nobody can be asked.
  std::function<bool(const std::string& host, const std::string& key_type, const std::string& fingerprint)> trust_host_key;
  /// Passphrase of a key file; nullopt: none was given.
  std::function<std::optional<std::string>(const std::string& path)> passphrase;
  std::function<void(const std::string& sentence)> notice;
  bool accept_new_host_key = false;
};

class SshSession;

/// One channel of a session: a command, or a forwarded connection. Nothing here blocks.
class SshChannel {
 public:
  ~SshChannel();
  SshChannel(SshChannel&&) noexcept;
  SshChannel& operator=(SshChannel&&) noexcept;

  enum class Stream { out, err };
  /// Of a forwarded connection: whether the host has made it. Until then nothing is read or written.
  /// Errors: not_found where nothing listens there, unreachable where the connection is gone.
  [[nodiscard]] Result<bool> is_open();
  /// Appends what has arrived; the number of bytes. Error unreachable where the connection is gone.
  [[nodiscard]] Result<std::size_t> read(Stream stream, std::string& into);
  /// Sends as much as the host and the network take now; the number of bytes.
  /// Errors: command where the host has closed the channel, unreachable where the connection is gone.
  [[nodiscard]] Result<std::size_t> write(std::string_view bytes);
  /// No more bytes will be written.
  Result<void> send_end();
  /// Whether everything was read and the host will send no more.
  [[nodiscard]] bool at_end() const;
  /// Whether the host takes no more bytes, either.
  [[nodiscard]] bool is_closed() const;
  /// Of a command that has ended.
  [[nodiscard]] std::optional<int> exit_status() const;

 private:
  friend class SshSession;
  struct State;
  explicit SshChannel(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// A logged-in connection, of which copies are handles: it ends with the last of them and its last channel. Channels that the host opens
/// by itself are refused. For one thread.
class SshSession {
 public:
  /// Errors: unreachable, timeout, host_key, authentication, each with what to do.
  [[nodiscard]] static Result<SshSession> connect(const SshTarget& target, const SshPrompts& prompts);
  /// The same, trying again for `wait` while the host refuses or does not answer: a fresh instance's sshd is not up yet.
  /// A name that does not resolve fails at once. `waiting` hears of each failed attempt.
  [[nodiscard]] static Result<SshSession> connect_patiently(const SshTarget& target, const SshPrompts& prompts, std::chrono::seconds wait,
                                                            const std::function<void(const Error&)>& waiting);

  /// Starts a command; `input` follows at once, without waiting for the answer to the request.
  [[nodiscard]] Result<SshChannel> exec(const std::string& command, std::string_view input);
  /// Asks for a connection from the host to its own 127.0.0.1:port; is_open() tells whether it was made.
  [[nodiscard]] Result<SshChannel> forward(std::uint16_t port);
  /// Counts the bytes that have arrived. Reading one channel may take in bytes of another, after which the descriptor is silent about
  /// them: look at this before a round of reads, and do not poll when it has changed by their end.
  [[nodiscard]] std::uint64_t arrivals() const;
  /// Waits until something has arrived since `seen`, or can be sent, or `limit` is over.
  void wait(std::uint64_t seen, std::chrono::milliseconds limit);
  /// For poll(): readable when something may have arrived.
  [[nodiscard]] int descriptor() const;
  /// POLLIN, and POLLOUT while something is unsent.
  [[nodiscard]] short poll_events() const;
  /// Takes in what has arrived for any channel and sends what waits.
  void pump();
  /// Asks the host for an answer that means nothing but that it is there; it is seen in arrivals().
  void ask_for_a_sign();
  /// Ends the connection for all its handles: a host that has been silent for too long will not end it.
  void give_up();
  [[nodiscard]] bool connected() const;

 private:
  friend class SshChannel;
  struct State;
  explicit SshSession(std::shared_ptr<State> state);
  Result<SshChannel> new_channel();
  std::shared_ptr<State> state_;
};

}  // namespace gpustrap
