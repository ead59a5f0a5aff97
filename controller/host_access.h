#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agent/base/result.h"
#include "controller/agent_link.h"
#include "controller/agent_push.h"
#include "controller/options.h"
#include "controller/passed_files.h"
#include "controller/prompt.h"
#include "controller/ssh_session.h"
#include "controller/status.h"

namespace gpustrap {

/// Which rights the agent needs for what is asked of it.
enum class Rights {
  root,      ///< a recipe with root's steps
  whatever,  ///< root's where sudo gives them unasked, else the login user's
};

/// What a way to a host does otherwise where it is one of many.
struct AccessSurroundings {
  Person* person = nullptr;                          ///< none: the one at the terminal, who is asked at once
  std::optional<std::string> sudo_password{};        ///< known already
  bool remember = true;                              ///< after the first login
  TargetResolver* resolver = nullptr;                ///< none: ssh is asked for this host
  std::function<bool()> stop{};                      ///< whether to stop waiting for a host that does not answer yet
  std::function<void(const std::string&)> notice{};  ///< takes what ssh's configuration has and gpustrap does not follow
};

/// The way to one host: connects as the options say, and again after a loss; asks the person what has to be asked, once.
class HostAccess {
 public:
  /// `status` hears of what goes on and must outlive this.
  HostAccess(const Options& options, Rights rights, Status& status, AccessSurroundings around = {});

  /// Logs in. Where a host does not answer yet, tries again for --wait.
  [[nodiscard]] Result<void> connect();
  /// Connects where needed and starts an agent. After a loss (`again`) nothing waits and nobody is asked.
  [[nodiscard]] Result<std::unique_ptr<AgentLink>> start_agent(const Request& first);

  /// What start_agent() does on a host that has not got the agent; brings it where nothing else was said.
  void if_absent(IfAbsent what) { if_absent_ = what; }

  /// Starts another agent on the connection there is, for a file that hosts share.
  [[nodiscard]] Result<std::unique_ptr<ShareChannel>> share(const ShareRequest& request);

  /// Whether a login has ever succeeded.
  [[nodiscard]] bool was_connected() const { return was_connected_; }
  /// Only after connect() succeeded, or start_agent() over a connection of this command's own.
  [[nodiscard]] SshSession& session() { return *session_; }
  [[nodiscard]] const std::optional<SshTarget>& target() const { return target_; }

 private:
  /// A connection that an earlier command has left for this one; none where there is none.
  std::unique_ptr<AgentLink> borrow(const Request& first);
  /// After resolve().
  [[nodiscard]] Result<std::string> kept_path(Rights rights) const;
  Result<void> resolve();
  /// connect(), with nothing remembered yet.
  Result<void> come_near();
  Result<void> log_in(std::chrono::seconds wait);
  Result<SshSession> reach(std::chrono::seconds wait);
  SshPrompts prompts();
  [[nodiscard]] PushOptions push_options() const;
  void remember();

  const Options& options_;
  Rights rights_;
  Status& status_;
  AccessSurroundings around_;
  std::unique_ptr<Person> at_terminal_;
  std::optional<SshTarget> target_;
  std::optional<SshSession> session_;
  std::map<std::string, std::string> passphrases_;
  IfAbsent if_absent_ = IfAbsent::bring;
  bool was_connected_ = false;
  bool has_tried_ = false;  ///< to log in, other than over a borrowed connection
  bool asked_ = false;      ///< something since the last attempt to log in began
  bool is_remembered_ = false;
};

/// The options with what is remembered of their host filled in where they do not say it: user, port, keys.
[[nodiscard]] Result<Options> with_memory(Options options);
/// How the options ask ssh for their host.
[[nodiscard]] SshRequest ssh_request_of(const Options& options);
/// Remembers the port that a tunnel to this host was given, so that its address stays the same.
void remember_local_port(const std::string& host, std::uint16_t port, Status& status);

}  // namespace gpustrap
