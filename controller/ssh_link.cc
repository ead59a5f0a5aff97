#include "controller/ssh_link.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/event_line.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

constexpr std::size_t kKeptErrors = 8U << 10U;

}  // namespace

SshLink::SshLink(SshSession session, SshChannel channel, std::string begun, std::string errors)
    : session_(std::move(session)), channel_(std::move(channel)), errors_(std::move(errors)) {
  lines_.add(begun);
}

Result<void> SshLink::flush() {
  if (unsent_.empty()) return {};
  while (!unsent_.empty()) {
    Result<std::size_t> put = channel_.write(unsent_);
    if (!put && put.error().code() == ErrorCode::command) break;  // the agent has ended; receive() finds its last words
    if (!put) return fail(std::move(put).error());
    if (*put == 0) break;  // the window is full; receive() tries again
    unsent_.erase(0, *put);
  }
  session_.pump();
  return {};
}

Result<void> SshLink::send(const Request& request) {
  unsent_ += to_line(to_json(request));
  last_said_ = Clock::now();
  return flush();
}

Result<std::optional<AgentLine>> SshLink::next_line() {
  Result<std::optional<std::string>> line = lines_.next();
  while (line && !line->has_value()) {
    const Result<bool> unpacked = unpack();
    if (!unpacked) return fail(Error(unpacked.error()).in("reading from the agent"));
    if (!*unpacked) return std::optional<AgentLine>();
    line = lines_.next();
  }
  if (!line) return fail(std::move(line).error().in("reading from the agent"));
  if (!packed_ && **line == kPackedLine) {
    Result<PackedInput> packed = PackedInput::begin();
    if (!packed) return fail(std::move(packed).error());
    packed_.emplace(*std::move(packed));
    packed_->add(std::exchange(lines_, LineReader()).rest());
    return next_line();
  }
  Result<AgentLine> parsed = agent_line_from(**line);
  if (!parsed) return fail(std::move(parsed).error().in("reading from the agent"));
  said_ = **std::move(line);
  said_ += '\n';
  return std::optional<AgentLine>(std::move(*parsed));
}

Result<bool> SshLink::unpack() {
  if (!packed_) return false;
  std::string bytes;
  const Result<std::size_t> got = packed_->next(bytes);
  if (!got) return fail(got.error());
  lines_.add(bytes);
  return *got > 0;
}

Result<std::optional<AgentLine>> SshLink::receive(std::chrono::milliseconds wait) {
  const Clock::time_point deadline = Clock::now() + wait;
  while (true) {
    if (Clock::now() - last_said_ > kHeartbeat) {
      unsent_ += to_line(to_json(Signal{Heartbeat{}}));
      last_said_ = Clock::now();
    }
    if (Result<void> sent = flush(); !sent) return fail(std::move(sent).error());
    // Lines that are here already cost no look at the socket: many hosts say sixty each.
    if (Result<std::optional<AgentLine>> line = next_line(); !line || line->has_value()) return line;

    session_.pump();
    const std::uint64_t seen = session_.arrivals();
    std::string bytes;
    const Result<std::size_t> got = channel_.read(SshChannel::Stream::out, bytes);
    if (!got) return fail(got.error());
    (void)channel_.read(SshChannel::Stream::err, errors_);
    if (errors_.size() > kKeptErrors) errors_.erase(0, errors_.size() - kKeptErrors);
    if (!bytes.empty()) {
      last_heard_ = Clock::now();
      if (packed_)
        packed_->add(bytes);
      else
        lines_.add(bytes);
      continue;
    }
    if (channel_.at_end() || !session_.connected()) {
      const std::string words = first_line(strip_control(last_lines(errors_, 1)));
      return fail(ErrorCode::unreachable, words.empty() ? "the connection ended" : "the agent ended: " + words);
    }
    const Clock::time_point now = Clock::now();
    if (now - last_heard_ > kSilenceLimit) {
      session_.give_up();  // whoever comes back must not do so over this one
      return fail(ErrorCode::unreachable, fmt::format("nothing was heard from the host for {} s", kSilenceLimit.count()));
    }
    if (now >= deadline) return std::optional<AgentLine>();
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - now);
    session_.wait(seen, std::clamp(left, std::chrono::milliseconds(1), std::chrono::milliseconds(1000)));
  }
}

}  // namespace gpustrap
