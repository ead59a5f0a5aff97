#pragma once

#include <sys/types.h>

#include <string>

#include "agent/base/file.h"

namespace gpustrap {

/// Whether the process runs: one that has ended and waits for its parent to look (a zombie) does not.
inline bool is_running(pid_t pid) {
  const Result<std::string> stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  if (!stat) return false;
  const std::size_t name_end = stat->rfind(')');
  return name_end != std::string::npos && name_end + 2 < stat->size() && (*stat)[name_end + 2] != 'Z' && (*stat)[name_end + 2] != 'X';
}

}  // namespace gpustrap
