#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace gpustrap {

// Keys are told by their public halves, as bytes.

/// The agent that holds a user's SSH keys (draft-miller-ssh-agent): ssh-agent, gpg-agent, a password manager.
class SshAgent {
 public:
  [[nodiscard]] static Result<SshAgent> connect(const std::string& socket);
  /// The keys that it holds.
  [[nodiscard]] Result<std::vector<std::string>> keys();
  /// Its answer to a message, neither with the length in front.
  [[nodiscard]] Result<std::string> ask(std::string_view message);

 private:
  explicit SshAgent(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

/// Stands before an agent and shows some of its keys, in the order given. libssh offers the host whatever an agent holds, one key after
/// the other, and sshd ends the connection after six. A socket is the only way by which libssh comes to an agent.
class SshAgentView {
 public:
  [[nodiscard]] static Result<std::unique_ptr<SshAgentView>> open(SshAgent agent, const std::vector<std::string>& keys);
  ~SshAgentView();
  SshAgentView(const SshAgentView&) = delete;
  SshAgentView& operator=(const SshAgentView&) = delete;
  [[nodiscard]] std::string socket() const { return folder_ + "/agent"; }

 private:
  SshAgentView(SshAgent agent, std::string answer) : agent_(std::move(agent)), answer_(std::move(answer)) {}
  void serve();

  SshAgent agent_;
  std::string answer_;  ///< to the question for its keys
  std::string folder_;  ///< open to the user alone
  UniqueFd listener_;
  UniqueFd stop_;  ///< closed at the end
  UniqueFd stopped_;
  std::thread thread_;
};

/// The keys in an agent's answer; error protocol where it is none.
[[nodiscard]] Result<std::vector<std::string>> agent_keys_in(std::string_view answer);

}  // namespace gpustrap
