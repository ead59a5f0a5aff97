// What a host that means harm, or is merely broken, can do to the controller: every case ends soon, in an error that says what to do,
// with nothing of the host's that a terminal would obey.
#include <libssh/libssh.h>
#include <libssh/server.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "agent/protocol/request.h"
#include "controller/agent_push.h"
#include "controller/doctor/probe.h"
#include "controller/ssh_session.h"
#include "tests/support/loopback_server.h"
#include "tests/support/ssh_fixture.h"

/// The address sanitizer keeps what was freed, 256 MiB of it by default; these tests measure what the program keeps.
extern "C" const char* __asan_default_options();                                    // NOLINT: its name
extern "C" const char* __asan_default_options() { return "quarantine_size_mb=8"; }  // NOLINT

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kHello = R"(printf '{"hello":1,"program":"x","features":[]}\n'; )";

/// In MiB: the most that this process has had in memory.
long most_memory() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

class HostileHost : public testing::Test {
 protected:
  void SetUp() override { server_.trust(); }

  /// What comes of starting an agent where every command is `script`.
  Result<std::unique_ptr<AgentLink>> start(const std::string& script, std::optional<std::string> sudo_password = std::nullopt) {
    server_.force(script);
    Result<SshSession> session = SshSession::connect(server_.target(), {});
    if (!session) return fail(std::move(session).error());
    session_.emplace(*std::move(session));
    PushOptions options;
    options.agents = {{"x86_64", std::string(64, 'a'), "not really gzip"}};
    options.sudo_password = std::move(sudo_password);
    return start_agent(*session_, options, Request{1, StatusRequest{}});
  }
  /// The first error of a conversation with it.
  Error failure_of(const std::string& script, std::optional<std::string> sudo_password = std::nullopt) {
    const Clock::time_point begun = Clock::now();
    const long memory = most_memory();
    Result<std::unique_ptr<AgentLink>> link = start(script, std::move(sudo_password));
    Error error(ErrorCode::internal, "nothing went wrong");
    if (!link) {
      error = link.error();
    } else {
      while (Clock::now() - begun < seconds(60)) {
        const Result<std::optional<AgentLine>> line = (*link)->receive(milliseconds(200));
        if (line) continue;
        error = line.error();
        break;
      }
    }
    EXPECT_LT(Clock::now() - begun, seconds(50));
    EXPECT_LT(most_memory() - memory, 96) << "MiB more than before";
    EXPECT_THAT(error.sentence() + error.hint(), AllOf(Not(HasSubstr("\x1b")), Not(HasSubstr("\a")), Not(HasSubstr("\r"))));
    EXPECT_LT(error.sentence().size(), 1000U);
    return error;
  }

  SshFixture server_;
  std::optional<SshSession> session_;
};

// ---- before hello

TEST_F(HostileHost, AnEndlessGreetingIsCutAndQuoted) {
  const Error error = failure_of("yes Welcome");
  EXPECT_EQ(error.code(), ErrorCode::protocol);
  EXPECT_THAT(error.sentence(), HasSubstr("Welcome"));
  EXPECT_THAT(error.hint(), HasSubstr("login script"));
}

TEST_F(HostileHost, AnEndlessLineIsCut) { EXPECT_EQ(failure_of("cat /dev/zero | tr '\\0' x").code(), ErrorCode::protocol); }

TEST_F(HostileHost, EndlessMessagesAreCut) {
  const Error error = failure_of("yes Warning >&2");
  EXPECT_EQ(error.code(), ErrorCode::protocol);
  EXPECT_THAT(error.sentence(), HasSubstr("Warning"));
}

TEST_F(HostileHost, EndlessMessagesInsteadOfSudosQuestionAreCut) {
  EXPECT_EQ(failure_of("yes Warning >&2", "secret").code(), ErrorCode::protocol);
  EXPECT_EQ(failure_of("yes Warning", "secret").code(), ErrorCode::protocol);
}

TEST_F(HostileHost, ThePasswordIsNotSentToWhoDidNotAsk) {
  // It waits for a password without having asked, and ends.
  EXPECT_EQ(failure_of("timeout 2 cat > " + server_.path("stolen"), "secret").code(), ErrorCode::protocol);
  EXPECT_EQ(std::filesystem::file_size(server_.path("stolen")), 0U);
}

TEST_F(HostileHost, EscapeCodesInAGreetingAreNotPassedOn) {
  const Error error = failure_of(R"(printf '\033]0;owned\007\033[2Jgo away\r\n'; exit 3)");
  EXPECT_EQ(error.code(), ErrorCode::protocol);
  EXPECT_THAT(error.sentence(), AllOf(HasSubstr("go away"), HasSubstr("exit 3")));
}

TEST_F(HostileHost, AnExitStatusThatComesAfterTheEndOfTheOutputIsWaitedFor) {
  // Output ends; the shell lives on for a while and only then exits.
  const Error error = failure_of("printf 'go away\n'; exec >&- 2>&- <&-; sleep 0.5; exit 3");
  EXPECT_THAT(error.sentence(), AllOf(HasSubstr("go away"), HasSubstr("exit 3")));
}

TEST_F(HostileHost, AHelloOfAnotherKindIsRefused) {
  for (const char* hello :
       {R"({"hello":2,"program":"x","features":[]})", R"({"hello":99999999999999999999,"program":"x","features":[]})",
        R"({"hello":"\u001b[31m","program":"x","features":[]})", R"({"hello":1,"program":1,"features":{}})", R"({"hello")"}) {
    EXPECT_EQ(failure_of(fmt::format("cat <<'END'\n{}\nEND\n", hello)).code(), ErrorCode::protocol) << hello;
  }
}

TEST_F(HostileHost, AnArchitectureWithEscapeCodesIsQuotedWithoutThem) {
  const Error error = failure_of(R"(printf 'gpustrap-absent \033[31mx 0 raw system asks 0\n')");
  EXPECT_THAT(error.code(), AnyOf(ErrorCode::unsupported, ErrorCode::protocol));
}

// ---- login files that end, replace or hold up the shell

TEST_F(HostileHost, AShellThatEndsBeforeTheCommandIsSaidToHaveDoneSo) {
  const Error error = failure_of("exit 0");
  EXPECT_EQ(error.code(), ErrorCode::protocol);
  EXPECT_EQ(error.why(), "the login shell ended (exit 0) before it came to the command");
  EXPECT_THAT(error.hint(), AllOf(HasSubstr("~/.bashrc"), HasSubstr("~/.zshenv"), HasSubstr("internal-sftp")));
}

TEST_F(HostileHost, TheDoctorSaysWhatTheLoginShellDidInsteadAndTellsItNoPassword) {
  const auto fault_of = [&](const std::string& script) {
    server_.force(script);
    Result<SshSession> session = SshSession::connect(server_.target(), {});
    EXPECT_TRUE(session.has_value());
    const Result<Evidence> evidence = probe(*session, "secret", 0);
    EXPECT_TRUE(evidence.has_value()) << (evidence ? "" : evidence.error().sentence());
    return evidence ? evidence->value("login-shell", "fault") : "";
  };
  EXPECT_EQ(fault_of("exit 0"), "the login shell ended (exit 0) before it came to the command");
  EXPECT_EQ(fault_of("echo '.bashrc: line 1: exec: zsh: not found' >&2; exit 127"),
            "the login shell ended (exit 127) before it came to the command; it said: .bashrc: line 1: exec: zsh: not found");
  EXPECT_THAT(fault_of("cat >" + server_.path("taken")), HasSubstr("started another one in its place"));
  EXPECT_EQ(std::filesystem::file_size(server_.path("taken")), 0U);
}

TEST_F(HostileHost, AShellThatWaitsIsNotWaitedForForEver) {
  server_.force("exec sleep 100");
  Result<SshSession> session = SshSession::connect(server_.target(), {});
  ASSERT_TRUE(session.has_value());
  const Clock::time_point begun = Clock::now();
  const Result<Evidence> evidence = probe(*session, std::nullopt, 0);
  ASSERT_TRUE(evidence.has_value()) << evidence.error().sentence();
  EXPECT_THAT(evidence->value("login-shell", "fault"), HasSubstr("does not come to the command"));
  EXPECT_LT(Clock::now() - begun, seconds(40));
}

TEST_F(HostileHost, SudoThatWantsATerminalIsToldWithWhatLetsProgramsUseIt) {
  const Error error = failure_of("echo 'sudo: sorry, you must have a tty to run sudo' >&2; exit 1");
  EXPECT_EQ(error.code(), ErrorCode::authentication);
  EXPECT_EQ(error.why(), "the recipe needs root, and sudo works at a terminal alone: sudo: sorry, you must have a tty to run sudo");
  EXPECT_THAT(error.hint(), HasSubstr("!requiretty"));
}

TEST_F(HostileHost, ADiskThatIsFullBeforeTheAgentBeginsIsTold) {
  const Error error = failure_of("echo 'sh: write error: No space left on device' >&2; exit 1");
  EXPECT_EQ(error.code(), ErrorCode::no_space);
  EXPECT_EQ(error.why(), "sh: write error: No space left on device");
  EXPECT_THAT(error.hint(), HasSubstr("df -h"));
}

TEST_F(HostileHost, WhereTheAgentIsOnlyLookedForItsAbsenceIsSaid) {
  server_.force("echo gpustrap-absent x86_64 0 gzip system takes 0; cat >/dev/null");
  Result<SshSession> session = SshSession::connect(server_.target(), {});
  ASSERT_TRUE(session.has_value());
  PushOptions options;
  options.agents = {{"x86_64", std::string(64, 'a'), "not really gzip"}};
  options.if_absent = IfAbsent::tell;
  const Result<std::unique_ptr<AgentLink>> link = start_agent(*session, options, Request{1, StatusRequest{}});
  ASSERT_FALSE(link.has_value());
  EXPECT_EQ(link.error().code(), ErrorCode::not_found);
  EXPECT_EQ(link.error().why(), "this gpustrap's agent is not on the host");
}

/// Half a minute for one, a minute for the other; at once.
TEST_F(HostileHost, AHostThatDoesNotGoOnIsGivenUp) {
  server_.force("mkdir " + server_.path("first") +
                " 2>/dev/null && { echo 'Your password has expired; new password:' >&2; exec sleep 100; }; "
                "echo gpustrap-absent x86_64 0 gzip system takes 0; exec sleep 100");
  const std::string agent(8U << 20U, 'x');
  const auto failure = [&](SshSession session) {
    PushOptions options;
    options.agents = {{"x86_64", std::string(64, 'a'), agent}};
    const Result<std::unique_ptr<AgentLink>> link = start_agent(session, options, Request{1, StatusRequest{}});
    return link ? Error(ErrorCode::internal, "it began") : link.error();
  };
  Result<SshSession> asks = SshSession::connect(server_.target(), {}), stalls = SshSession::connect(server_.target(), {});
  ASSERT_TRUE(asks.has_value() && stalls.has_value());
  std::future<Error> quoted = std::async(std::launch::async, failure, *std::move(asks));
  const Clock::time_point until = Clock::now() + seconds(20);
  while (!std::filesystem::exists(server_.path("first")) && Clock::now() < until) std::this_thread::sleep_for(milliseconds(20));
  const Error stalled = failure(*std::move(stalls));
  EXPECT_EQ(stalled.code(), ErrorCode::timeout);
  EXPECT_EQ(stalled.sentence(), "uploading the agent: the host took no byte of the agent for a minute");
  EXPECT_THAT(stalled.hint(), HasSubstr("`gpustrap doctor HOST` says more"));
  const Error waited = quoted.get();
  EXPECT_EQ(waited.code(), ErrorCode::timeout);
  EXPECT_EQ(waited.why(), "the host did not start the agent in time; it said: Your password has expired; new password:");
  EXPECT_THAT(waited.hint(), HasSubstr("`gpustrap doctor HOST` says more"));
}

// ---- during the upload

TEST_F(HostileHost, AnAgentOfNoKnownKindIsNotSent) {
  const Error error = failure_of("echo gpustrap-absent sparc64 0 gzip system takes 0; cat >/dev/null");
  EXPECT_EQ(error.code(), ErrorCode::protocol);
  EXPECT_THAT(error.sentence(), HasSubstr("uploading the agent: the host waits for an agent that it has not named"));
  EXPECT_THAT(error.hint(), HasSubstr("`gpustrap doctor HOST` says more"));
}

TEST_F(HostileHost, EndlessMessagesDuringTheUploadAreCut) {
  const std::string absent =
      "case $SSH_ORIGINAL_COMMAND in *gpustrap-ready*) {};; *) echo gpustrap-absent x86_64 0 gzip system asks 0;; esac";
  EXPECT_EQ(failure_of(fmt::format(fmt::runtime(absent), "yes Warning >&2")).code(), ErrorCode::protocol);
  EXPECT_EQ(failure_of(fmt::format(fmt::runtime(absent), "yes Warning")).code(), ErrorCode::io);
  EXPECT_EQ(failure_of(fmt::format(fmt::runtime(absent), "exit 1")).code(), ErrorCode::io);
}

TEST_F(HostileHost, ACommandThatTakesTheAgentIsHeldToTheSame) {
  const std::string takes = "echo gpustrap-absent x86_64 0 gzip system takes 0; ";
  EXPECT_EQ(failure_of(takes + "yes Warning >&2").code(), ErrorCode::protocol);
  EXPECT_EQ(failure_of(takes + "yes Warning").code(), ErrorCode::protocol);
  EXPECT_EQ(failure_of(takes + "cat >/dev/null & exit 1").code(), ErrorCode::io);
  const Error full = failure_of(takes + "echo gzip: No space left on device >&2");
  EXPECT_EQ(full.code(), ErrorCode::no_space);
}

TEST_F(HostileHost, MoreOfTheAgentThanThereIsIsRefused) {
  for (const char* kept : {"99999999", "99999999999999999999999"}) {
    EXPECT_EQ(failure_of(fmt::format("echo gpustrap-absent x86_64 0 gzip system takes {}; cat >/dev/null", kept)).code(),
              ErrorCode::protocol)
        << kept;
  }
}

TEST_F(HostileHost, AnUploadThatIsAlwaysCutIsGoneOnWithOnce) {
  const std::string counted = server_.path("starts");
  EXPECT_EQ(failure_of(fmt::format("echo >>{}; echo gpustrap-absent x86_64 0 gzip system takes 1; exit 1", counted)).code(), ErrorCode::io);
  EXPECT_EQ(read_file(counted).value_or(""), "\n\n");
}

TEST_F(HostileHost, AnAgentThatStaysAbsentIsNotSentForEver) {
  const Error error = failure_of(
      "case $SSH_ORIGINAL_COMMAND in *gpustrap-ready*) cat >/dev/null; echo gpustrap-ready;; *) echo gpustrap-absent x86_64 0 gzip "
      "system asks 0;; esac");
  EXPECT_EQ(error.code(), ErrorCode::internal);
  EXPECT_THAT(error.sentence(), HasSubstr("does not find it"));
}

// ---- after hello

TEST_F(HostileHost, AnOversizedLineIsAnError) {
  const Error error = failure_of(std::string(kHello) + "cat /dev/zero | tr '\\0' x");
  EXPECT_EQ(error.code(), ErrorCode::protocol);
  EXPECT_THAT(error.sentence(), HasSubstr("1 MiB"));
}

TEST_F(HostileHost, WhatIsNotTheProtocolIsAnError) {
  for (const char* line : {"{not json", "[]", "{}", "\\033[31mred", "{\"event\":-1}", "{\"reply\":1,\"value\":\"text\"}", "{\"seq\":1}"}) {
    EXPECT_EQ(failure_of(std::string(kHello) + fmt::format("printf '{}\\n'; sleep 60", line)).code(), ErrorCode::protocol) << line;
  }
}

TEST_F(HostileHost, ADeeplyNestedLineIsAnError) {
  EXPECT_EQ(failure_of(std::string(kHello) + "printf '{\"event\":'; head -c 900000 /dev/zero | tr '\\0' '['; echo; sleep 60").code(),
            ErrorCode::protocol);
}

TEST_F(HostileHost, LastWordsAreQuotedWithoutTheirEscapeCodes) {
  const Error error = failure_of(std::string(kHello) + R"(printf '\033[31mno more memory\033[0m\n' >&2; exit 1)");
  EXPECT_EQ(error.code(), ErrorCode::unreachable);
  EXPECT_THAT(error.sentence(), HasSubstr("no more memory"));
}

TEST_F(HostileHost, EndlessMessagesAfterHelloFillNoMemory) {
  Result<std::unique_ptr<AgentLink>> link = start(std::string(kHello) + "yes Warning >&2");
  ASSERT_TRUE(link.has_value()) << link.error().sentence();
  const long memory = most_memory();
  const Clock::time_point begun = Clock::now();
  while (Clock::now() - begun < seconds(2)) {
    const auto line = (*link)->receive(milliseconds(50));
    ASSERT_TRUE(!line || !line->has_value());
    if (!line) break;  // giving up is an answer, too
  }
  EXPECT_LT(most_memory() - memory, 96) << "MiB more than before";
}

TEST_F(HostileHost, EndlessLinesFillNoMemoryAndLetTheCallerBreathe) {
  Result<std::unique_ptr<AgentLink>> link = start(std::string(kHello) + "yes '{\"signal\":\"heartbeat\"}'");
  ASSERT_TRUE(link.has_value()) << link.error().sentence();
  const long memory = most_memory();
  for (int i = 0; i < 20'000; ++i) {
    const Clock::time_point begun = Clock::now();
    ASSERT_TRUE((*link)->receive(milliseconds(50)).has_value());
    ASSERT_LT(Clock::now() - begun, seconds(5));
  }
  EXPECT_LT(most_memory() - memory, 96) << "MiB more than before";
}

// ---- below the agent: an SSH server of one's own

// libssh would have callbacks instead of messages; for a server of one login these are a fifth of the words.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
/// What a server does with what it is asked for.
enum class Manners { polite, no_channel, no_command, no_answer };

/// Lets any key in, takes the first command of the first channel, and gives both to `act`.
void serve_ssh(int connection, const std::string& host_key, const std::function<void(ssh_session, ssh_channel)>& act,
               Manners manners = Manners::polite) {
  ssh_bind bind = ssh_bind_new();
  ssh_session session = ssh_new();
  ssh_bind_options_set(bind, SSH_BIND_OPTIONS_HOSTKEY, host_key.c_str());
  if (ssh_bind_accept_fd(bind, session, ::dup(connection)) != SSH_OK || ssh_handle_key_exchange(session) != SSH_OK) return;
  ssh_channel channel = nullptr;
  while (ssh_message message = ssh_message_get(session)) {
    const int type = ssh_message_type(message), subtype = ssh_message_subtype(message);
    bool begin = false;
    if (type == SSH_REQUEST_AUTH && subtype == SSH_AUTH_METHOD_PUBLICKEY) {
      if (ssh_message_auth_publickey_state(message) == SSH_PUBLICKEY_STATE_VALID)
        ssh_message_auth_reply_success(message, 0);
      else
        ssh_message_auth_reply_pk_ok_simple(message);
    } else if (type == SSH_REQUEST_AUTH) {
      ssh_message_auth_set_methods(message, SSH_AUTH_METHOD_PUBLICKEY);
      ssh_message_reply_default(message);
    } else if (type == SSH_REQUEST_CHANNEL_OPEN && manners == Manners::no_channel) {
      ssh_message_reply_default(message);
    } else if (type == SSH_REQUEST_CHANNEL_OPEN) {
      channel = ssh_message_channel_request_open_reply_accept(message);
    } else if (type == SSH_REQUEST_CHANNEL && subtype == SSH_CHANNEL_REQUEST_EXEC) {
      if (manners == Manners::polite) ssh_message_channel_request_reply_success(message);
      if (manners == Manners::no_command) ssh_message_reply_default(message);
      begin = manners != Manners::no_command;
    } else if (type != SSH_REQUEST_SERVICE) {
      ssh_message_reply_default(message);
    } else {
      ssh_message_service_reply_success(message);
    }
    ssh_message_free(message);
    if (begin) return act(session, channel);
  }
}
#pragma GCC diagnostic pop

void say(ssh_channel channel, const std::string& text) { ssh_channel_write(channel, text.data(), static_cast<std::uint32_t>(text.size())); }

void finish(ssh_session session, ssh_channel channel) {
  ssh_channel_request_send_exit_status(channel, 0);
  ssh_channel_send_eof(channel);
  ssh_channel_close(channel);
  ssh_blocking_flush(session, 5000);
  // The connection stays until the other side has read everything.
  while (ssh_message message = ssh_message_get(session)) ssh_message_free(message);
}

TEST_F(HostileHost, ChannelsThatTheHostOpensAreRefused) {
  const std::string host_key = server_.path("host_key");
  const LoopbackServer evil([&](int connection) {
    serve_ssh(connection, host_key, [](ssh_session session, ssh_channel channel) {
      using Open = int (*)(ssh_channel);
      const std::array<std::pair<const char*, Open>, 4> ways = {{
          {"session", [](ssh_channel opened) { return ssh_channel_open_session(opened); }},
          {"x11", [](ssh_channel opened) { return ssh_channel_open_x11(opened, "127.0.0.1", 6000); }},
          {"forwarded-tcpip",
           [](ssh_channel opened) { return ssh_channel_open_reverse_forward(opened, "127.0.0.1", 22, "127.0.0.1", 22); }},
          {"auth-agent", [](ssh_channel opened) { return ssh_channel_open_auth_agent(opened); }},
      }};
      for (int i = 0; i < 25; ++i) {
        for (const auto& [name, open] : ways) {
          ssh_channel opened = ssh_channel_new(session);
          if (open(opened) == SSH_OK) say(channel, fmt::format("opened {}\n", name));
          ssh_channel_free(opened);
        }
      }
      say(channel, "all tried\n");
      finish(session, channel);
    });
  });
  SshTarget target = server_.target();
  target.port = evil.port();
  SshPrompts prompts;
  prompts.accept_new_host_key = true;
  Result<SshSession> session = SshSession::connect(target, prompts);
  ASSERT_TRUE(session.has_value()) << session.error().sentence();
  Result<SshChannel> channel = session->exec("anything", "");
  ASSERT_TRUE(channel.has_value()) << channel.error().sentence();
  std::string out;
  const Clock::time_point begun = Clock::now();
  while (!channel->at_end() && Clock::now() - begun < seconds(30)) {
    const std::uint64_t seen = session->arrivals();
    ASSERT_TRUE(channel->read(SshChannel::Stream::out, out).has_value());
    session->wait(seen, milliseconds(200));
  }
  ASSERT_TRUE(channel->read(SshChannel::Stream::out, out).has_value());
  EXPECT_EQ(out, "all tried\n");
}

TEST_F(HostileHost, ASessionThatStartsNothingIsTold) {
  const std::string host_key = server_.path("host_key");
  const auto leave = [](ssh_session, ssh_channel) {};
  const auto stay = [](ssh_session session, ssh_channel) {
    while (ssh_message message = ssh_message_get(session)) ssh_message_free(message);
  };
  // All of them before the first thread: they fork.
  const LoopbackServer without_channel([&](int connection) { serve_ssh(connection, host_key, leave, Manners::no_channel); }),
      without_command([&](int connection) { serve_ssh(connection, host_key, leave, Manners::no_command); }),
      that_leaves([&](int connection) { serve_ssh(connection, host_key, leave, Manners::no_answer); }),
      that_stays([&](int connection) { serve_ssh(connection, host_key, stay, Manners::no_answer); });
  const auto refused = [&](const LoopbackServer& evil, const std::string& known_hosts, const std::string& input = "") {
    SshTarget target = server_.target();
    target.port = evil.port();
    target.known_hosts = server_.path(known_hosts);
    SshPrompts prompts;
    prompts.accept_new_host_key = true;
    Result<SshSession> session = SshSession::connect(target, prompts);
    if (!session) return session.error();
    const Result<SshChannel> channel = session->exec("anything", input);
    return channel ? Error(ErrorCode::internal, "it began") : channel.error();
  };
  const Error no_channel = refused(without_channel, "known_1");
  EXPECT_EQ(no_channel.code(), ErrorCode::unreachable);
  EXPECT_THAT(no_channel.why(), HasSubstr("the host opened no channel: "));
  EXPECT_THAT(no_channel.hint(), HasSubstr("does `ssh HOST true` work?"));
  const Error no_command = refused(without_command, "known_2");
  EXPECT_EQ(no_command.code(), ErrorCode::unreachable);
  EXPECT_THAT(no_command.why(), HasSubstr("the host starts no command: "));
  EXPECT_THAT(no_command.hint(), HasSubstr("does `ssh HOST true` work?"));
  const Error gone = refused(that_leaves, "known_3");
  EXPECT_EQ(gone.code(), ErrorCode::unreachable);
  EXPECT_EQ(gone.why(), "the connection ended before the command began");
  EXPECT_EQ(gone.hint(), "run the same command again");
  // Half a minute each; at once.
  std::future<Error> silent = std::async(std::launch::async, [&] { return refused(that_stays, "known_4"); });
  const Error full = refused(that_stays, "known_5", std::string(4U << 20U, 'x'));
  EXPECT_EQ(full.code(), ErrorCode::timeout);
  EXPECT_EQ(full.why(), "the command takes no input");
  EXPECT_THAT(full.hint(), HasSubstr("does `ssh HOST true` work?"));
  const Error mute = silent.get();
  EXPECT_EQ(mute.code(), ErrorCode::timeout);
  EXPECT_EQ(mute.why(), "the host did not say whether it starts the command");
}

TEST_F(HostileHost, AServerThatIsNoneOfSshsIsAnErrorInTime) {
  struct Case {
    const char* name;
    std::function<void(int)> serve;
  };
  const auto send_for_ever = [](int fd, const std::string& text) {
    while (::send(fd, text.data(), text.size(), MSG_NOSIGNAL) > 0) {}
  };
  const auto wait_for_the_end = [](int fd) {
    std::array<char, 1024> buffer{};
    while (::recv(fd, buffer.data(), buffer.size(), 0) > 0) {}
  };
  const std::vector<Case> cases = {
      {"hangs up", [](int) {}},
      {"silent", wait_for_the_end},
      {"HTTP", [](int fd) { ::send(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28, MSG_NOSIGNAL); }},
      {"escape codes", [](int fd) { ::send(fd, "\x1b]0;owned\a\x1b[2J\r\n", 16, MSG_NOSIGNAL); }},
      {"endless lines", [&](int fd) { send_for_ever(fd, "Welcome to this host\r\n"); }},
      {"an endless line", [&](int fd) { send_for_ever(fd, std::string(4096, 'x')); }},
      {"SSH, then silence", [&](int fd) { ::send(fd, "SSH-2.0-x\r\n", 11, MSG_NOSIGNAL), wait_for_the_end(fd); }},
      {"SSH, then noise", [&](int fd) { ::send(fd, "SSH-2.0-x\r\n", 11, MSG_NOSIGNAL), send_for_ever(fd, std::string(4096, '\x7f')); }},
      {"SSH, then zeroes", [&](int fd) { ::send(fd, "SSH-2.0-x\r\n", 11, MSG_NOSIGNAL), send_for_ever(fd, std::string(4096, '\0')); }},
  };
  for (const Case& one : cases) {
    const LoopbackServer evil(one.serve);
    SshTarget target = server_.target();
    target.port = evil.port();
    target.connect_timeout = target.greeting_timeout = seconds(2);
    const Clock::time_point begun = Clock::now();
    const Result<SshSession> session = SshSession::connect(target, {});
    EXPECT_LT(Clock::now() - begun, seconds(12)) << one.name;
    ASSERT_FALSE(session.has_value()) << one.name;
    EXPECT_EQ(session.error().code(), ErrorCode::unreachable) << one.name;
    EXPECT_FALSE(session.error().hint().empty()) << one.name;
    EXPECT_THAT(session.error().sentence(), Not(HasSubstr("\x1b"))) << one.name;
  }
}

}  // namespace
}  // namespace gpustrap
