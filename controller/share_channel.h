#pragma once

#include <memory>

#include "agent/base/result.h"
#include "controller/agent_push.h"
#include "controller/passed_files.h"
#include "controller/ssh_session.h"

namespace gpustrap {

/// Starts an agent beside the run's, in the same way and with the same rights, for this request alone. Returns as soon as the command is on
/// its way; what the agent answers is for the channel's reader. Error unreachable where the host opens no further channel.
[[nodiscard]] Result<std::unique_ptr<ShareChannel>> open_share_channel(const SshSession& session, const PushOptions& options,
                                                                       const ShareRequest& request);

}  // namespace gpustrap
