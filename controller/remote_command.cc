#include "controller/remote_command.h"

#include <utility>

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kKeptErrors = 16U << 10U;
/// From the end of the output to the exit status, which sshd sends as a message of its own.
constexpr auto kStatusLimit = std::chrono::seconds(2);
constexpr auto kLook = std::chrono::milliseconds(200);

}  // namespace

Result<RemoteResult> run_remote(SshSession& session, const std::string& command, std::string_view input, const RemoteLimits& limits) {
  Result<SshChannel> channel = session.exec(command, input);
  if (!channel) return fail(std::move(channel).error());
  (void)channel->send_end();
  RemoteResult result;
  Clock::time_point deadline = Clock::now() + limits.time;
  bool has_ended = false;
  while (true) {
    const std::uint64_t seen = session.arrivals();
    const Result<std::size_t> out = channel->read(SshChannel::Stream::out, result.out);
    if (!out) return fail(out.error());
    const Result<std::size_t> err = channel->read(SshChannel::Stream::err, result.err);
    if (!err) return fail(err.error());
    if (result.err.size() > kKeptErrors) result.err.resize(kKeptErrors);
    if (result.out.size() > limits.out) {
      result.out.resize(limits.out);
      result.is_whole = false;
      return result;
    }
    if (!has_ended && channel->at_end()) {
      has_ended = true;
      deadline = Clock::now() + kStatusLimit;
    }
    result.status = channel->exit_status();
    if (has_ended && *out == 0 && (result.status || channel->is_closed())) return result;
    if (Clock::now() >= deadline) {
      result.is_whole = has_ended;
      return result;
    }
    if (*out == 0) session.wait(seen, kLook);
  }
}

}  // namespace gpustrap
