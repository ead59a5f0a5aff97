#include "agent/base/result.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#ifdef GPUSTRAP_NOTE_ERRORS
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <set>
#endif

namespace gpustrap {
namespace {

constexpr std::array<std::string_view, 21> kCodeNames = {
    "usage",       "recipe",       "protocol",    "not_found",      "permission", "no_space", "io",
    "unreachable", "unknown_name", "host_key",    "authentication", "network",    "tls",      "digest",
    "timeout",     "busy",         "unsupported", "cancelled",      "command",    "unsafe",   "internal"};
static_assert(static_cast<std::size_t>(ErrorCode::internal) + 1 == kCodeNames.size(), "one name per ErrorCode");

ErrorCode code_of_errno(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR: return ErrorCode::not_found;
    case EACCES:
    case EPERM:
    case EROFS: return ErrorCode::permission;
    case ENOSPC:
    case EDQUOT: return ErrorCode::no_space;
    case ETIMEDOUT: return ErrorCode::timeout;
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EPIPE: return ErrorCode::unreachable;
    default: return ErrorCode::io;
  }
}

}  // namespace

#ifdef GPUSTRAP_NOTE_ERRORS
void note_error(const ErrorOrigin& origin) {
  static const char* const file = std::getenv("ERRORS_PROVOKED_FILE");
  if (file == nullptr) return;
  thread_local std::set<std::pair<std::string, unsigned>> noted;  // no lock: a fork might happen while it is held
  if (!noted.emplace(origin.file_name(), origin.line()).second) return;
  const std::string line = std::string(origin.file_name()) + ":" + std::to_string(origin.line()) + "\n";
  const int saved = errno;  // who makes the error may not have read it yet
  const int fd = ::open(file, O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd >= 0 && ::write(fd, line.data(), line.size()) >= 0) ::close(fd);
  errno = saved;
}
#endif

std::string_view error_code_name(ErrorCode code) { return kCodeNames[static_cast<std::size_t>(code)]; }

ErrorCode error_code_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kCodeNames.size(); ++i) {
    if (kCodeNames[i] == name) return static_cast<ErrorCode>(i);
  }
  return ErrorCode::internal;
}

std::string Error::sentence() const {
  std::string text;
  for (const std::string& step : doing_) text += step + ": ";
  return text + why_;
}

Error errno_error(int error_number, std::string doing) {
  // strerror's table is fixed for the C locale, the only one that the programs use.
  Error error(code_of_errno(error_number), std::strerror(error_number));
  if (error.code() == ErrorCode::no_space) {
    error = std::move(error).with_hint("make room on that file system (df -h; df -i), then run the same command again");
  }
  return doing.empty() ? error : std::move(error).in(std::move(doing));
}

}  // namespace gpustrap
