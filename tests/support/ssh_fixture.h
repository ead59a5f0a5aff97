#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/unique_fd.h"
#include "controller/ssh_config.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {

/// A private sshd on a loopback port that the system chose: its own host key, one user key, no configuration of the machine. A process
/// of its own accepts and starts one `sshd -i` for each connection, so that no port has to be guessed and the test has no threads.
class SshFixture {
 public:
  SshFixture();
  ~SshFixture();
  SshFixture(const SshFixture&) = delete;
  SshFixture& operator=(const SshFixture&) = delete;

  /// More lines for sshd_config; of the connections after this.
  void configure(const std::string& lines);
  /// What every login runs instead of its command: a shell script's text. It finds the command in $SSH_ORIGINAL_COMMAND.
  void force(const std::string& script);
  /// Cuts every connection at its socket. The programs on the "host" live on.
  void drop_links();
  /// Stops every sshd for good: its connections stay open and silent, as when a machine is paused or a cable is pulled.
  void freeze_links();
  /// Refuses connections until listen_again().
  void stop_listening();
  void listen_again();
  /// Another host key from the next connection on.
  void change_host_key();

  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] const std::string& user() const { return user_; }
  /// The key that is let in.
  [[nodiscard]] std::string key() const { return directory_ / "key"; }
  /// Makes a key that is not let in; its path. `passphrase` may be empty.
  [[nodiscard]] std::string make_key(const std::string& name, const std::string& passphrase = {},
                                     const std::string& type = "ed25519") const;
  /// "ssh-ed25519 AAAA…" of one of its keys: "key", "host_key".
  [[nodiscard]] std::string public_half(const std::string& name) const;
  /// A file in its folder: "known_hosts".
  void write(const std::string& name, const std::string& text) const;
  /// Gives a key that has none a passphrase.
  void lock(const std::string& key, const std::string& passphrase) const;
  /// Lets it in beside the first.
  void authorize(const std::string& key) const;
  [[nodiscard]] std::string known_hosts() const { return directory_ / "known_hosts"; }
  /// The host key's fingerprint as OpenSSH prints it: "SHA256:…".
  [[nodiscard]] std::string fingerprint() const;
  /// Notes the host key in known_hosts, as a first login would.
  void trust() const;
  /// With key(), and nothing of the machine's own SSH settings.
  [[nodiscard]] SshTarget target() const;
  [[nodiscard]] std::string path(const std::string& name) const { return directory_ / name; }
  /// What sshd logged, for the message of a failed test.
  [[nodiscard]] std::string log() const;

 private:
  void write_config(const std::string& lines) const;
  void order(char what);

  TemporaryDirectory directory_;
  std::string user_;
  std::uint16_t port_ = 0;
  UniqueFd orders_;
  UniqueFd answers_;
  pid_t pid_ = -1;
};

/// An SSH agent of a test's own.
class SshAgentFixture {
 public:
  explicit SshAgentFixture(const std::string& folder);
  ~SshAgentFixture();
  SshAgentFixture(const SshAgentFixture&) = delete;
  SshAgentFixture& operator=(const SshAgentFixture&) = delete;

  [[nodiscard]] const std::string& socket() const { return socket_; }
  void add(const std::string& key) const;

 private:
  std::string socket_;
  pid_t pid_ = -1;
};

}  // namespace gpustrap
