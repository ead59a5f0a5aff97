#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tl/expected.hpp>
#ifdef GPUSTRAP_NOTE_ERRORS
#include <source_location>
#endif

namespace gpustrap {

#ifdef GPUSTRAP_NOTE_ERRORS
/// Where an error is made. Builds for tests alone know it: they note which errors some test has provoked (tests/provoked_errors.cc).
using ErrorOrigin = std::source_location;
/// Adds the place to the file, which exists, that ERRORS_PROVOKED_FILE names, once in a thread.
void note_error(const ErrorOrigin& origin);
#else
struct ErrorOrigin {
  static constexpr ErrorOrigin current() { return {}; }
};
inline void note_error(ErrorOrigin /*origin*/) {}
#endif

/// What kind of failure it is: for branching. The sentence is for reading and is never compared.
enum class ErrorCode {
  usage,           ///< the command line
  recipe,          ///< the recipe's text or a value in it
  protocol,        ///< the peer said something that is not the protocol
  not_found,       ///< a file, host, run or program that does not exist
  permission,      ///< the operating system refused
  no_space,        ///< disk or inodes are used up
  io,              ///< any other failed system call
  unreachable,     ///< no connection could be made or kept
  unknown_name,    ///< a host name that does not resolve
  host_key,        ///< the host's key is unknown or has changed
  authentication,  ///< the SSH login or sudo was refused
  network,         ///< a transfer failed on the way
  tls,             ///< a certificate was not accepted, or there is no CA bundle
  digest,          ///< bytes are not those that were promised
  timeout,         ///< a limit ran out
  busy,            ///< a lock is held or another run is in progress
  unsupported,     ///< this host cannot do that
  cancelled,       ///< someone asked to stop
  command,         ///< a program exited with a failure
  unsafe,          ///< refused because it could harm: an archive entry that leaves its folder, a planted link
  internal,        ///< a defect in gpustrap
};

/// Name of the code on the wire and in --json, e.g. "no_space".
std::string_view error_code_name(ErrorCode code);
/// `internal` for a name this version does not know.
ErrorCode error_code_from_name(std::string_view name);

/// A failure in three parts: what was being done (outermost first), why it failed (the evidence), what to do.
class Error {
 public:
  Error(ErrorCode code, std::string why, std::string hint = {}, ErrorOrigin origin = ErrorOrigin::current())
      : code_(code), why_(std::move(why)), hint_(std::move(hint)) {
    note_error(origin);
  }

  /// Adds what the caller was doing. Call it on the way up: the outermost comes first in sentence().
  Error in(std::string doing) && {
    doing_.insert(doing_.begin(), std::move(doing));
    return std::move(*this);
  }
  /// Adds what the user can do, unless a closer layer already knew.
  Error with_hint(std::string hint) && {
    if (hint_.empty()) hint_ = std::move(hint);
    return std::move(*this);
  }

  [[nodiscard]] ErrorCode code() const { return code_; }
  [[nodiscard]] const std::string& why() const { return why_; }
  [[nodiscard]] const std::string& hint() const { return hint_; }
  [[nodiscard]] const std::vector<std::string>& doing() const { return doing_; }
  /// "checking file:motd: reading /etc/motd: Permission denied"
  [[nodiscard]] std::string sentence() const;

 private:
  ErrorCode code_;
  std::string why_;
  std::string hint_;
  std::vector<std::string> doing_;
};

template <class T> using Result = tl::expected<T, Error>;

/// `return fail({ErrorCode::io, "…"});` and `return fail(std::move(body).error().in("reading motd"));`
inline tl::unexpected<Error> fail(Error error) { return tl::unexpected<Error>(std::move(error)); }
inline tl::unexpected<Error> fail(ErrorCode code, std::string why, std::string hint = {}, ErrorOrigin origin = ErrorOrigin::current()) {
  return tl::unexpected<Error>(Error(code, std::move(why), std::move(hint), origin));
}
/// An Error for a failed system call; the code follows errno (ENOENT, EACCES, ENOSPC/EDQUOT, ETIMEDOUT, else io).
Error errno_error(int error_number, std::string doing);

}  // namespace gpustrap
