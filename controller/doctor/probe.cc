#include "controller/doctor/probe.h"

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/agent_push.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

/// Every program has 20 s at most where the host can bound it, and after one that hangs few others are asked.
constexpr auto kLimit = std::chrono::minutes(3);
constexpr auto kLook = std::chrono::milliseconds(200);

}  // namespace

// A word in single quotes without quote, `!` or backslash inside is the same to sh, fish and csh.
std::string_view probe_command() { return "sh -c 'IFS= read -r word; script=$(cat); eval \"$script\"'"; }

Result<Evidence> evidence_so_far(std::string_view said) {
  Result<Evidence> evidence = Evidence::read(said, Evidence::Ending::cut);
  if (!evidence) return evidence;
  for (const std::string& line : split(probe_script(), '\n')) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() > 2 && (parts[0] == "sec" || parts[0] == "cmd") && evidence->find(parts[1]) == nullptr)
      evidence->put({parts[1], Section::kLate, ""});
  }
  return evidence;
}

Result<Evidence> probe(SshSession& session, const std::optional<std::string>& sudo_password, std::int64_t now) {
  Result<SshChannel> channel = session.exec(std::string(probe_command()), "");
  if (!channel) return fail(std::move(channel).error());
  std::string input = sudo_password.value_or("") + "\n";
  input += fmt::format("now={}\n", now);
  input += probe_script();
  std::string_view left = input;
  std::string out, err;
  bool ended = false;
  const Clock::time_point deadline = Clock::now() + kLimit;
  while (!channel->at_end()) {
    const std::uint64_t seen = session.arrivals();
    if (!left.empty()) {
      const Result<std::size_t> put = channel->write(left);
      if (!put) break;  // what the host said instead tells why
      left.remove_prefix(*put);
    } else if (!std::exchange(ended, true)) {
      (void)channel->send_end();
    }
    std::size_t taken = 0;
    for (const auto stream : {SshChannel::Stream::out, SshChannel::Stream::err}) {
      const Result<std::size_t> got = channel->read(stream, stream == SshChannel::Stream::out ? out : err);
      if (!got) return fail(got.error());
      taken += *got;
    }
    if (out.size() > Evidence::kMostBytes || err.size() > Evidence::kMostBytes)
      return fail(ErrorCode::protocol, "the host says more than 1 MiB", "does a login script print without end? try: ssh HOST true");
    if (!session.connected())
      return fail(ErrorCode::unreachable, "the connection ended while the host was looked at", "run the same command again");
    if (Clock::now() >= deadline) {
      if (Result<Evidence> some = evidence_so_far(out); some && !some->lines("system").empty()) return some;
      return fail(
          ErrorCode::timeout,
          fmt::format("the host did not finish within 3 minutes; its last words: {}", first_line(strip_control(last_lines(out, 1)))),
          "a program there hangs: `gpustrap ssh HOST ps aux` shows which");
    }
    if (taken == 0) session.wait(seen, kLook);
  }
  Result<Evidence> evidence = Evidence::read(out);
  if (!evidence) {
    if (std::optional<Error> wrong = wrong_user(out + err)) return fail(*std::move(wrong));
  }
  if (!evidence && err.find("sudo:") != std::string::npos)
    return fail(ErrorCode::authentication, "sudo refuses: " + first_line(strip_control(last_lines(err, 1))),
                "leave --ask-sudo-password out, and what needs root is reported as unknown");
  if (!evidence && !err.empty()) return fail(std::move(evidence).error().in("host: " + first_line(strip_control(last_lines(err, 1)), 120)));
  return evidence;
}

}  // namespace gpustrap
