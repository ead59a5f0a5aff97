#pragma once

#include <signal.h>
#include <sys/types.h>

#include <string>
#include <vector>

namespace gpustrap {

/// How systemd tells a runner in its scope to end, at a shutdown for instance. Programs take no notice of it.
inline constexpr int kLeaveSignal = SIGURG;

/// Puts this process and its steps into a systemd scope of their own, so that neither the end of the login session nor its limits touch the
/// run, and a step that runs out of memory does not take the runner along. Where that is refused (no systemd, no bus) the new session must
/// do.
void leave_login_session(const std::string& run, const std::vector<pid_t>& steps);

/// Ends what steps have left running in this runner's scope: at a shutdown nobody else does, and the host would wait for it. Some seconds
/// at most.
void end_leftovers();

/// At the end of a run: what steps have left running stays, in a unit that a shutdown ends like any other. In the scope of a run it would
/// be waited for, with no runner there any more to end it.
void release_leftovers();

/// What systemd remembers of a run that is over: a resume unit whose file is gone, the failed scope of a runner that was killed. Only root
/// may ask for it. Costs one question where there is nothing to forget.
void forget_run_units();

}  // namespace gpustrap
