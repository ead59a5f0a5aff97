#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "agent/base/unique_fd.h"

namespace gpustrap {

/// Of a socket in the file system. A path that is too long is cut, and leads nowhere.
[[nodiscard]] inline sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), std::min(path.size(), sizeof address.sun_path - 1));
  return address;
}

/// Closed in programs that are started from here; invalid, with errno, where there is none to be had.
[[nodiscard]] inline UniqueFd unix_stream_socket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));  // macOS has no SOCK_CLOEXEC
  if (fd.valid()) (void)::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
  return fd;
}

}  // namespace gpustrap
