#include "controller/login_shell.h"

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {

std::string shell_fault_text(ShellFault fault, std::optional<int> status, std::string_view said) {
  const std::string words = first_line(strip_control(to_utf8(trim(said))), 200);
  const std::string quoted = words.empty() ? "" : "; it said: " + words;
  const std::string exit = status ? fmt::format(" (exit {})", *status) : "";
  switch (fault) {
    case ShellFault::ended: return fmt::format("the login shell ended{} before it came to the command{}", exit, quoted);
    case ShellFault::reads:
      return fmt::format("the login shell started another one in its place, which never came to the command{}", quoted);
    case ShellFault::waits:
      return fmt::format("the login shell does not come to the command: one of its files waits for something, or starts another shell{}",
                         quoted);
  }
  return {};
}

std::string_view ways_past_the_login_shell() {
  return "look for exit, exec, read or sleep in what it reads before every command: ~/.bashrc and /etc/bash.bashrc (bash), ~/.zshenv "
         "(zsh), ~/.config/fish/config.fish (fish)\n"
         "a way in: `ssh HOST`, with Ctrl-C where it waits\n"
         "or `sftp HOST`, then `rename .bashrc bashrc.off`, where sshd has internal-sftp; else another user, or the provider's console";
}

Error login_shell_error(ShellFault fault, std::optional<int> status, std::string_view said) {
  return {fault == ShellFault::waits ? ErrorCode::timeout : ErrorCode::protocol, shell_fault_text(fault, status, said),
          std::string(ways_past_the_login_shell())};
}

}  // namespace gpustrap
