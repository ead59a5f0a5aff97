#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/protocol/line.h"
#include "controller/agent_link.h"

namespace gpustrap {

// A connection that stays for the next command (--keep): a process of the user's holds an agent's link, and lends it over a local socket
// that only the user can open. It carries the protocol's lines, as a channel does; an SSH login is not needed for them again.

/// The socket of the kept link for what `key` says: where to and as whom, ssh's configuration counted; with which rights, to which agent.
/// Errors: io where there is no folder for it, or its path is too long for a socket.
[[nodiscard]] Result<std::string> kept_link_path(const std::string& key);

/// One command's end of a link that a keeper lends.
class KeptLink : public AgentLink {
 public:
  /// Error not_found where no link is kept, or another command uses it just now.
  [[nodiscard]] static Result<std::unique_ptr<KeptLink>> borrow(const std::string& path);
  explicit KeptLink(UniqueFd fd) : fd_(std::move(fd)) {}

  Result<void> send(const Request& request) override;
  Result<std::optional<AgentLine>> receive(std::chrono::milliseconds wait) override;
  [[nodiscard]] int descriptor() const override { return fd_.get(); }

 private:
  using Clock = std::chrono::steady_clock;
  UniqueFd fd_;
  LineReader lines_;
  Clock::time_point last_heard_ = Clock::now();
};

/// Lends a link to one command after the other. Returns when it was not borrowed for `limit`, when the link is gone, or when a command left
/// in the middle of its talk: what the agent still has to say to that one is nothing for another.
class LinkKeeper {
 public:
  using Clock = std::chrono::steady_clock;

  /// The first borrower has sent `asked` already. `is_wanted` is asked at least once a second while nobody borrows.
  LinkKeeper(AgentLink& link, UniqueFd listener, UniqueFd first, const Request& asked, std::chrono::seconds limit,
             std::function<bool()> is_wanted);
  void run();

 private:
  bool pass_to_borrower();
  bool pass_to_link();
  void lend();
  bool flush();

  AgentLink& link_;
  UniqueFd listener_;
  UniqueFd borrower_;
  std::chrono::seconds limit_;
  std::function<bool()> is_wanted_;
  bool is_talking_ = true;    ///< a request was not answered to its end
  bool is_followed_ = false;  ///< and it is a run's
  LineReader asked_;
  std::string unsent_;
  Clock::time_point idle_since_ = Clock::now();
};

/// Leaves `link`, whose connection has the descriptor `connection`, to a process of its own, and borrows it from there. In this process
/// the connection's descriptor leads nowhere afterwards: what is still there of it does no harm. Errors: io.
/// `asked` is what was sent over it already.
[[nodiscard]] Result<std::unique_ptr<AgentLink>> keep_link(std::unique_ptr<AgentLink> link, int connection, const std::string& path,
                                                           std::chrono::seconds limit, const Request& asked);
/// Ends what is kept there, if anything is: within a second, or when its borrower has left.
void end_kept_link(const std::string& path);

}  // namespace gpustrap
