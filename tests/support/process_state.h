#pragma once

#include <poll.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <string>

#include "agent/base/file.h"
#include "agent/base/unique_fd.h"

namespace gpustrap {

/// Whether the process runs: one that has ended and waits for its parent to look (a zombie) does not.
inline bool is_running(pid_t pid) {
  const Result<std::string> stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  if (!stat) return false;
  const std::size_t name_end = stat->rfind(')');
  return name_end != std::string::npos && name_end + 2 < stat->size() && (*stat)[name_end + 2] != 'Z' && (*stat)[name_end + 2] != 'X';
}

/// Waits, 20 s at most, until the process has ended. A signal that kills is sent before it is felt.
inline bool ends_soon(pid_t pid) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (process.get() < 0) return !is_running(pid);
  pollfd ended{process.get(), POLLIN, 0};
  return ::poll(&ended, 1, 20'000) == 1;
}

}  // namespace gpustrap
