#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace gpustrap {

// sshd hands every command to the login shell, which reads files of its own first: bash ~/.bashrc, zsh ~/.zshenv, fish config.fish. What
// stands there may keep the command from being run.

enum class ShellFault {
  ended,  ///< `exit`, or `exec` of what is not there
  reads,  ///< `exec zsh`: another shell, which takes the command's input for its own
  waits,  ///< `sleep`, `read`, a folder on a server that does not answer
};

/// What it did, without a dot. `said`: by it, on its way.
[[nodiscard]] std::string shell_fault_text(ShellFault fault, std::optional<int> status, std::string_view said);
/// The files that it reads, and ways in that do not need it: sshd's own sftp, Ctrl-C, another user.
[[nodiscard]] std::string_view ways_past_the_login_shell();
/// Error protocol, or timeout for one that waits.
[[nodiscard]] Error login_shell_error(ShellFault fault, std::optional<int> status, std::string_view said);

}  // namespace gpustrap
