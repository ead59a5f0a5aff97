#include "controller/doctor/probe.h"

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/agent_push.h"
#include "controller/doctor/patient.h"
#include "controller/login_shell.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

/// For the login shell's own files, and for their end once their input has ended.
constexpr auto kShellLimit = std::chrono::seconds(20), kEndLimit = std::chrono::seconds(3);
/// Longer than this, and every command waits for the login files.
constexpr auto kSlowShell = std::chrono::seconds(8);
constexpr auto kLook = std::chrono::milliseconds(200);

constexpr std::string_view kBegun = "gpustrap-asks\n";

/// All that the script asks for where it comes to its end.
std::vector<std::string> all_sections() {
  std::vector<std::string> names = {"limits", "programs"};
  for (const std::string& line : split(probe_script(), '\n')) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() > 2 && (parts[0] == "sec" || parts[0] == "cmd")) names.push_back(parts[1]);
  }
  return names;
}

/// One command on the host, and all that it has said.
struct Exchange {
  SshSession& session;
  SshChannel channel;
  std::string out{}, err{};

  enum class Until { more, late };
  /// Waits until something has come, or the deadline; error protocol where it is too much, unreachable where the connection has ended.
  Result<Until> listen(std::uint64_t seen, Clock::time_point deadline) {
    std::size_t taken = 0;
    for (const auto stream : {SshChannel::Stream::out, SshChannel::Stream::err}) {
      const Result<std::size_t> got = channel.read(stream, stream == SshChannel::Stream::out ? out : err);
      if (!got) return fail(got.error());
      taken += *got;
    }
    if (out.size() > Evidence::kMostBytes || err.size() > Evidence::kMostBytes)
      return fail(ErrorCode::protocol, "the host says more than 1 MiB",
                  "a login file prints without end: ~/.bashrc (bash), ~/.zshenv (zsh), config.fish (fish)");
    if (Clock::now() >= deadline) return Until::late;
    if (taken == 0) session.wait(seen, kLook);
    return Until::more;
  }
  [[nodiscard]] bool has_begun() const { return out.find(kBegun) != std::string::npos; }
};

std::string words_of(const Exchange& talk) { return last_lines(trim(talk.err).empty() ? talk.out : talk.err, 1); }

/// Waits for the login shell to come to the command: nothing where it has, else what it did instead. Nothing is said to it before: what
/// takes the command's place might take a password for a command.
Result<std::optional<std::string>> shell_fault(Exchange& talk) {
  Clock::time_point deadline = Clock::now() + kShellLimit;
  bool has_end = false;
  while (!talk.has_begun()) {
    if (std::optional<Error> wrong = wrong_user(talk.out + talk.err)) return fail(*std::move(wrong));
    if (talk.channel.at_end() && has_end) return shell_fault_text(ShellFault::reads, std::nullopt, words_of(talk));
    // Its status is a message of its own.
    if (talk.channel.at_end() && (talk.channel.exit_status() || talk.channel.is_closed()))
      return shell_fault_text(ShellFault::ended, talk.channel.exit_status(), words_of(talk));
    const std::uint64_t seen = talk.session.arrivals();
    Result<Exchange::Until> until = talk.listen(seen, deadline);
    if (!until) return fail(std::move(until).error());
    if (*until == Exchange::Until::more || talk.has_begun()) continue;
    if (has_end) return shell_fault_text(ShellFault::waits, std::nullopt, words_of(talk));
    // A shell that reads its commands from here ends now.
    has_end = true;
    (void)talk.channel.send_end();
    deadline = Clock::now() + kEndLimit;
  }
  return std::nullopt;
}

}  // namespace

// A word in single quotes without quote, `!` or backslash inside is the same to sh, fish and csh. A login file may have taken every folder
// out of PATH.
std::string_view probe_command() {
  return "/bin/sh -c 'echo gpustrap-asks; IFS= read -r word; script=$(PATH=/usr/bin:/bin cat); eval \"$script\"'";
}

Result<Evidence> evidence_so_far(std::string_view said) {
  Result<Evidence> evidence = Evidence::read(said, Evidence::Ending::cut);
  if (!evidence) return evidence;
  evidence->put({"login-shell", 0, ""});
  evidence->put_missing(all_sections(), Section::kLate, "");
  return evidence;
}

Result<Evidence> evidence_at_end(std::string_view said, std::string_view complaints) {
  Result<Evidence> evidence = Evidence::read(said);
  std::string_view words = trim(complaints);
  words = words.substr(words.rfind('\n') == std::string_view::npos ? 0 : words.rfind('\n') + 1);
  const bool cannot_fork = contains(words, "Cannot fork") || contains(words, "can't fork") || contains(words, "fork: ");
  if (!evidence && cannot_fork) {
    // A shell that cannot start a program ends there.
    if (evidence = Evidence::read(said, Evidence::Ending::cut); !evidence) evidence = Evidence{};
    evidence->put({"programs", 0, "fails processes " + first_line(strip_control(to_utf8(words)), 160) + "\n"});
  }
  if (!evidence) return evidence;
  evidence->put_missing({"login-shell"}, 0, "");
  // Where no program answers as it must, nothing else is asked.
  evidence->put_missing(all_sections(), Section::kUnanswered, "the host cannot start programs as it should");
  return evidence;
}

Evidence evidence_of_no_shell(const std::string& how) {
  Evidence evidence;
  evidence.put({"login-shell", 0, "fault " + how + "\n"});
  evidence.put_missing(all_sections(), Section::kNotRun, "the login shell runs no command");
  return evidence;
}

Result<Evidence> probe(SshSession& session, const std::optional<std::string>& sudo_password, std::int64_t now, std::chrono::seconds limit) {
  Result<SshChannel> channel = session.exec(std::string(probe_command()), "");
  if (!channel) return fail(std::move(channel).error());
  Exchange talk{session, *std::move(channel)};
  const Clock::time_point began = Clock::now();
  Result<std::optional<std::string>> fault = shell_fault(talk);
  if (!fault) return fail(std::move(fault).error());
  if (*fault) return evidence_of_no_shell(**fault);
  const auto took = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - began);
  std::string input = sudo_password.value_or("") + "\n";
  input += fmt::format("now={}\n", now);
  input += probe_script();
  std::string_view left = input;
  bool ended = false;
  const Clock::time_point deadline = Clock::now() + limit;
  while (!talk.channel.at_end()) {
    const std::uint64_t seen = session.arrivals();
    if (!left.empty()) {
      const Result<std::size_t> put = talk.channel.write(left);
      if (!put) break;  // what the host said instead tells why
      left.remove_prefix(*put);
    } else if (!std::exchange(ended, true)) {
      (void)talk.channel.send_end();
    }
    Result<Exchange::Until> until = talk.listen(seen, deadline);
    if (!until) return fail(std::move(until).error());
    if (*until == Exchange::Until::more) continue;
    if (Result<Evidence> some = evidence_so_far(talk.out); some && !some->lines("system").empty()) return some;
    return fail(ErrorCode::timeout,
                fmt::format("the host did not finish within {}; its last words: {}", human_duration(limit),
                            first_line(strip_control(last_lines(talk.out, 1)))),
                "a program there hangs: `gpustrap ssh HOST ps aux` shows which");
  }
  const std::string &out = talk.out, &err = talk.err;
  Result<Evidence> evidence = evidence_at_end(out, err);
  if (!evidence) {
    if (std::optional<Error> wrong = wrong_user(out + err)) return fail(*std::move(wrong));
  }
  if (!evidence && err.find("sudo:") != std::string::npos)
    return fail(ErrorCode::authentication, "sudo refuses: " + first_line(strip_control(last_lines(err, 1))),
                "leave --ask-sudo-password out, and what needs root is reported as unknown");
  if (!evidence && !err.empty()) return fail(std::move(evidence).error().in("host: " + first_line(strip_control(last_lines(err, 1)), 120)));
  if (evidence && took >= kSlowShell) evidence->put({"login-shell", 0, fmt::format("took {}\n", took.count())});
  return evidence;
}

}  // namespace gpustrap
