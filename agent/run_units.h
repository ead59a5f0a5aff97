#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace gpustrap {

/// Puts this process and its steps into a systemd scope of their own, so that neither the end of the login session nor its limits touch the
/// run, and a step that runs out of memory does not take the runner along. Where that is refused (no systemd, no bus) the new session must
/// do.
void leave_login_session(const std::string& run, const std::vector<pid_t>& steps);

/// What systemd remembers of a run that is over: a resume unit whose file is gone, the failed scope of a runner that was killed. Only root
/// may ask for it. Costs one question where there is nothing to forget.
void forget_run_units();

}  // namespace gpustrap
