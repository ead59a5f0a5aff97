#include "controller/copy_channel.h"

#include <utility>

#include <fmt/format.h>

#include "agent/protocol/request.h"

namespace gpustrap {
namespace {

constexpr std::size_t kKeptErrors = 64U << 10U, kKeptRest = 1U << 20U;
constexpr auto kLook = std::chrono::milliseconds(200);
/// A tool that works without a word (a digest of a large file, a tar that skips) is no lost host: sshd answers for it.
constexpr auto kStatusLimit = std::chrono::seconds(2);

}  // namespace

Result<CopyChannel> CopyChannel::start(SshSession& session, const std::string& command, std::string_view input) {
  Result<SshChannel> channel = session.exec(command, input);
  if (!channel) return fail(std::move(channel).error());
  return CopyChannel(session, *std::move(channel));
}

Result<void> CopyChannel::take_errors() {
  const Result<std::size_t> got = channel_.read(SshChannel::Stream::err, errors_);
  if (!got) return fail(got.error());
  if (errors_.size() > kKeptErrors) errors_.resize(kKeptErrors);
  return {};
}

Result<void> CopyChannel::wait(std::uint64_t seen) {
  session_.wait(seen, kLook);
  const Clock::time_point now = Clock::now();
  if (const std::uint64_t arrivals = session_.arrivals(); arrivals != arrivals_) {
    arrivals_ = arrivals;
    last_heard_ = now;
  }
  if (now - last_heard_ > kHeartbeat && now - last_asked_ > kHeartbeat) {
    session_.ask_for_a_sign();
    last_asked_ = now;
  }
  if (now - last_heard_ <= kSilenceLimit) return {};
  session_.give_up();
  return fail(ErrorCode::unreachable, fmt::format("nothing was heard from the host for {} s", kSilenceLimit.count()),
              "the same command again goes on from there");
}

Result<std::string_view> CopyChannel::read() {
  out_.clear();
  while (true) {
    if (stopped_ && stopped_()) return fail(ErrorCode::cancelled, "interrupted");
    const std::uint64_t seen = session_.arrivals();
    const Result<std::size_t> got = channel_.read(SshChannel::Stream::out, out_);
    if (!got) return fail(got.error());
    if (Result<void> taken = take_errors(); !taken) return fail(std::move(taken).error());
    if (*got > 0) {
      last_heard_ = Clock::now();
      return std::string_view(out_);
    }
    if (channel_.at_end()) return std::string_view();
    if (Result<void> waited = wait(seen); !waited) return fail(std::move(waited).error());
  }
}

Result<void> CopyChannel::write(std::string_view bytes) {
  while (!bytes.empty()) {
    if (stopped_ && stopped_()) return fail(ErrorCode::cancelled, "interrupted");
    const std::uint64_t seen = session_.arrivals();
    const Result<std::size_t> put = channel_.write(bytes);
    if (!put) return fail(put.error());
    bytes.remove_prefix(*put);
    if (*put > 0) continue;
    if (Result<void> taken = take_errors(); !taken) return taken;
    if (channel_.at_end()) return fail(ErrorCode::command, "the host takes no more");
    if (Result<void> waited = wait(seen); !waited) return waited;
  }
  return {};
}

Result<CopyChannel::End> CopyChannel::end() {
  (void)channel_.send_end();
  End end;
  while (true) {
    Result<std::string_view> more = read();
    if (!more) return fail(std::move(more).error());
    if (more->empty()) break;
    if (end.out.size() + more->size() <= kKeptRest) end.out += *more;
  }
  const Clock::time_point deadline = Clock::now() + kStatusLimit;
  while (true) {
    const std::uint64_t seen = session_.arrivals();
    end.status = channel_.exit_status();
    if (end.status || channel_.is_closed() || !session_.connected() || Clock::now() >= deadline) break;
    session_.wait(seen, kLook);
  }
  if (Result<void> taken = take_errors(); !taken) return fail(std::move(taken).error());
  end.err = errors_;
  return end;
}

}  // namespace gpustrap
