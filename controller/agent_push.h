#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "controller/agent_link.h"
#include "controller/embedded_agents.h"
#include "controller/ssh_session.h"

namespace gpustrap {

/// What is done where the host has not got the agent.
enum class IfAbsent {
  bring,  ///< it is sent
  tell,   ///< the host is left as it is
};

struct PushOptions {
  /// Whether the recipe has steps that run as root. Without them, a user who may not use sudo gets an agent of their own.
  bool needs_root = true;
  /// Asked for where sudo wants one (--ask-sudo-password).
  std::optional<std::string> sudo_password;
  std::vector<EmbeddedAgent> agents;
  IfAbsent if_absent = IfAbsent::bring;
  /// Hears of an upload: bytes sent and in all.
  std::function<void(std::size_t done, std::size_t total)> uploading;
};

/// Makes sure that the right agent is on the host and starts it: one exec where it is there already. The hello and `first` travel
/// with it, as public_form(); the agent answers not_found to a run that it knows nothing of, and is then to be sent the whole request.
/// Returns once the agent has said hello.
/// Errors: not_found (absent, and IfAbsent::tell), authentication (sudo refuses), unsupported (no agent for this architecture), no_space,
/// unreachable, protocol (what answered is not the agent; its words are quoted).
[[nodiscard]] Result<std::unique_ptr<AgentLink>> start_agent(SshSession& session, const PushOptions& options, const Request& first);

/// Where what a host says instead of an answer is that another user should log in.
[[nodiscard]] std::optional<Error> wrong_user(std::string_view said);

// The texts that the host's login shell is given, whichever it is: one `/bin/sh -c '…'` without quotes, exclamation marks or backslashes inside.

/// A word that nobody can guess, by which sudo's prompt is known from what others print.
[[nodiscard]] std::string make_nonce();

/// Which rights the agent gets on the host.
enum class AgentRights {
  system,          ///< root, by sudo where the login is not root
  system_or_user,  ///< root where sudo allows it without a password; otherwise the login user's own
  password,        ///< root by sudo, which reads the password from stdin
};
/// Starts the agent for the host's architecture, or prints `gpustrap-absent ARCH UID gzip|raw system|user takes|asks KEPT` without having
/// read stdin. Where it `takes`, it then reads the packed agent from behind its first KEPT bytes, which an upload that was cut has left,
/// checks its digest, and starts it; what follows on stdin is the agent's. Where it `asks` it ends, and the agent has to come by
/// upload_text(). `said`: the controller's first lines as_word(), if any.
/// With IfAbsent::tell it ends there, whatever it says.
[[nodiscard]] std::string start_text(const std::vector<EmbeddedAgent>& agents, AgentRights rights, const std::string& nonce,
                                     const std::string& said = {}, IfAbsent if_absent = IfAbsent::bring);

struct UploadPlan {
  std::string digest;
  std::string nonce;
  bool packed = true;
  bool user = false;  ///< below the login user's home
  bool by_sudo = true;
  bool by_password = false;
};
/// Takes the agent from stdin into a temporary name, checks its digest, renames, prints `gpustrap-ready`.
[[nodiscard]] std::string upload_text(const UploadPlan& plan);

}  // namespace gpustrap
