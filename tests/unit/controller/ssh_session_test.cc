#include "controller/ssh_session.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "controller/copy_channel.h"
#include "controller/share_channel.h"
#include "controller/ssh_agent.h"
#include "controller/unix_socket.h"
#include "tests/support/ssh_fixture.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// Nobody can be asked.
SshPrompts nobody() { return {}; }

/// Everything that a command prints until it ends.
std::string output_of(SshSession& session, const std::string& command, std::string_view input = {}) {
  Result<SshChannel> channel = session.exec(command, input);
  if (!channel) return "no channel: " + channel.error().sentence();
  (void)channel->send_end();
  std::string out;
  const Clock::time_point deadline = Clock::now() + seconds(30);
  while (Clock::now() < deadline) {
    const std::uint64_t seen = session.arrivals();
    const Result<std::size_t> got = channel->read(SshChannel::Stream::out, out);
    if (!got) return "lost: " + got.error().sentence();
    if (*got == 0 && channel->at_end()) return out;
    session.wait(seen, milliseconds(200));
  }
  return "no end: " + out;
}

class SshSessionTest : public testing::Test {
 protected:
  Error failure_of(const SshTarget& target, const SshPrompts& prompts = nobody()) {
    const Result<SshSession> session = SshSession::connect(target, prompts);
    EXPECT_FALSE(session.has_value()) << "it connected";
    return session ? Error(ErrorCode::internal, "it connected") : session.error();
  }
  void expect_login(const SshTarget& target, const SshPrompts& prompts = nobody()) {
    const Result<SshSession> session = SshSession::connect(target, prompts);
    EXPECT_TRUE(session.has_value()) << session.error().sentence() << "\n" << server_.log();
  }

  SshFixture server_;
};

// ---- the host's key

TEST_F(SshSessionTest, AnUnknownHostKeyIsRefusedWhereNobodyCanBeAsked) {
  const Error error = failure_of(server_.target());
  EXPECT_EQ(error.code(), ErrorCode::host_key);
  EXPECT_THAT(error.sentence(), AllOf(HasSubstr("127.0.0.1 is not known yet"), HasSubstr(server_.fingerprint())));
  EXPECT_THAT(error.hint(), HasSubstr("--accept-new-host-key"));
  EXPECT_FALSE(path_exists(server_.known_hosts()));
}

TEST_F(SshSessionTest, AcceptingANewHostKeyShowsItAndRemembersIt) {
  SshPrompts prompts;
  prompts.accept_new_host_key = true;
  std::string noticed;
  prompts.notice = [&](const std::string& sentence) { noticed = sentence; };
  server_.write("known_hosts", "other.example.org " + server_.public_half("key"));  // the last entry, without a newline
  expect_login(server_.target(), prompts);
  EXPECT_THAT(noticed, HasSubstr(server_.fingerprint()));
  expect_login(server_.target());
  EXPECT_EQ(read_file(server_.known_hosts()).value_or(""),
            fmt::format("other.example.org {}\n[127.0.0.1]:{} {}\n", server_.public_half("key"), server_.port(),
                        server_.public_half("host_key")));
}

TEST_F(SshSessionTest, APersonIsShownTheFingerprintAndMayRefuse) {
  SshPrompts prompts;
  std::string shown;
  bool answer = false;
  prompts.trust_host_key = [&](const std::string&, const std::string&, const std::string& fingerprint) {
    shown = fingerprint;
    return answer;
  };
  EXPECT_EQ(failure_of(server_.target(), prompts).code(), ErrorCode::host_key);
  EXPECT_EQ(shown, server_.fingerprint());
  answer = true;
  expect_login(server_.target(), prompts);
}

TEST_F(SshSessionTest, AChangedHostKeyStopsEvenWhereNewOnesAreAccepted) {
  server_.trust();
  server_.change_host_key();
  SshPrompts prompts;
  prompts.accept_new_host_key = true;
  prompts.trust_host_key = [](const auto&, const auto&, const auto&) { return true; };
  const Error error = failure_of(server_.target(), prompts);
  EXPECT_EQ(error.code(), ErrorCode::host_key);
  EXPECT_THAT(error.sentence(), AllOf(HasSubstr("has changed"), HasSubstr(server_.fingerprint())));
  EXPECT_THAT(error.hint(), HasSubstr(fmt::format("-R '[127.0.0.1]:{}'", server_.port())));
}

TEST_F(SshSessionTest, ALineThatCannotBeReadDoesNotHideAChangedKey) {
  server_.trust();
  const std::string trusted = read_file(server_.known_hosts()).value_or("");
  server_.change_host_key();
  SshPrompts prompts;
  prompts.accept_new_host_key = true;
  for (const char* broken : {"ssh-ed25519 AAAAbroken!", "ssh-of-tomorrow AAAAC3NzaC1lZDI1NTE5AAAAIA==", "2048 65537 1234567890", "*"}) {
    server_.write("known_hosts", fmt::format("[127.0.0.1]:{} {}\n{}", server_.port(), broken, trusted));
    const Error error = failure_of(server_.target(), prompts);
    EXPECT_EQ(error.code(), ErrorCode::host_key) << broken;
    EXPECT_THAT(error.sentence(), HasSubstr("has changed")) << broken;
  }
}

TEST_F(SshSessionTest, ARevokedHostKeyStopsWhateverElseIsSaidOfIt) {
  server_.trust();
  const std::string trusted = read_file(server_.known_hosts()).value_or("");
  SshPrompts prompts;
  prompts.accept_new_host_key = true;
  for (const std::string& others : {trusted, std::string()}) {
    server_.write("known_hosts", others + "@revoked * " + server_.public_half("host_key") + "\n");
    const Error error = failure_of(server_.target(), prompts);
    EXPECT_EQ(error.code(), ErrorCode::host_key);
    EXPECT_THAT(error.sentence(), AllOf(HasSubstr("is marked @revoked in line"), HasSubstr(server_.fingerprint())));
    EXPECT_FALSE(error.hint().empty());
  }
}

TEST_F(SshSessionTest, AKeyOfAnyKnownHostsFileCounts) {
  server_.trust();
  SshTarget target = server_.target();
  target.known_hosts = server_.path("none_yet");
  target.more_known_hosts = {server_.path("none_either"), server_.known_hosts()};
  expect_login(target);
  server_.change_host_key();
  const Error error = failure_of(target);
  EXPECT_THAT(error.sentence(), HasSubstr("has changed"));
  EXPECT_THAT(error.hint(), HasSubstr("ssh-keygen -f " + server_.known_hosts())) << "the file in which it stands";
  ::mkdir(target.known_hosts.c_str(), 0700);
  EXPECT_THAT(failure_of(target).sentence(), HasSubstr("none_yet cannot be read"));
}

TEST_F(SshSessionTest, AHostIsAskedForTheKeyThatItIsKnownBy) {
  server_.configure("HostKey " + server_.make_key("rsa_key", "", "rsa"));
  server_.write("known_hosts", fmt::format("[127.0.0.1]:{} {}\n", server_.port(), server_.public_half("rsa_key")));
  expect_login(server_.target());
  server_.configure("");
  EXPECT_THAT(failure_of(server_.target()).sentence(), HasSubstr("known by a key of another type, and now shows ssh-ed25519"));
}

TEST_F(SshSessionTest, AnAliasStandsInKnownHostsWithoutThePort) {
  SshTarget target = server_.target();
  target.host_key_alias = "the-box";
  SshPrompts prompts;
  prompts.accept_new_host_key = true;
  expect_login(target, prompts);
  EXPECT_THAT(read_file(server_.known_hosts(), 10'000).value_or(""), HasSubstr("the-box ssh-ed25519"));
}

// ---- keys

TEST_F(SshSessionTest, RunsACommandWithItsInput) {
  server_.trust();
  Result<SshSession> session = SshSession::connect(server_.target(), nobody());
  ASSERT_TRUE(session.has_value()) << session.error().sentence() << "\n" << server_.log();
  EXPECT_EQ(output_of(*session, "cat; echo done", "some input\n"), "some input\ndone\n");
  const std::string large(3'000'000, 'x');
  EXPECT_EQ(output_of(*session, "wc -c", large), "3000000\n");
  EXPECT_EQ(output_of(*session, "head -c 20000000 /dev/zero").size(), 20'000'000U);
}

TEST_F(SshSessionTest, AKeyThatOthersCanReadIsNotUsed) {
  server_.trust();
  ASSERT_EQ(::chmod(server_.key().c_str(), 0644), 0);
  const Error error = failure_of(server_.target());
  EXPECT_EQ(error.code(), ErrorCode::authentication);
  EXPECT_THAT(error.sentence(), HasSubstr("others can read it (mode 0644)"));
  EXPECT_EQ(error.hint(), "run: chmod 400 " + server_.key());
}

TEST_F(SshSessionTest, AnEncryptedKeyAsksForItsPassphrase) {
  server_.trust();
  SshTarget target = server_.target();
  target.identities = {server_.make_key("secret_key", "open sesame")};
  server_.authorize(target.identities[0]);
  EXPECT_THAT(failure_of(target).sentence(), HasSubstr("encrypted and nobody can be asked"));

  SshPrompts prompts;
  std::string asked_for;
  std::string passphrase = "wrong";
  prompts.passphrase = [&](const std::string& path) {
    asked_for = path;
    return std::optional<std::string>(passphrase);
  };
  const Error error = failure_of(target, prompts);
  EXPECT_EQ(error.code(), ErrorCode::authentication);
  EXPECT_THAT(error.sentence(), HasSubstr("the passphrase is wrong"));
  EXPECT_EQ(asked_for, target.identities[0]);
  passphrase = "open sesame";
  expect_login(target, prompts);
}

TEST_F(SshSessionTest, APassphraseIsNotAskedForAKeyThatTheHostRefuses) {
  server_.trust();
  SshTarget target = server_.target();
  target.identities = {server_.make_key("secret_key", "open sesame")};
  SshPrompts prompts;
  prompts.passphrase = [](const std::string&) -> std::optional<std::string> {
    ADD_FAILURE() << "asked in vain";
    return std::nullopt;
  };
  EXPECT_EQ(failure_of(target, prompts).code(), ErrorCode::authentication);
}

TEST_F(SshSessionTest, AKeyThatIsRefusedTakesNothingFromTheNext) {
  server_.trust();
  SshTarget target = server_.target();
  target.identities = {server_.make_key("other_key"), server_.key()};
  Result<SshSession> session = SshSession::connect(target, nobody());
  ASSERT_TRUE(session.has_value()) << session.error().sentence() << "\n" << server_.log();
  EXPECT_EQ(output_of(*session, "echo one"), "one\n");
  EXPECT_EQ(output_of(*session, "echo two"), "two\n");
}

TEST_F(SshSessionTest, AWrongKeyNamesWhatWasTriedAndTheUsualUsers) {
  server_.trust();
  SshTarget target = server_.target();
  target.identities = {server_.make_key("other_key")};
  const Error error = failure_of(target);
  EXPECT_EQ(error.code(), ErrorCode::authentication);
  EXPECT_THAT(error.sentence(), AllOf(HasSubstr(target.identities[0]), HasSubstr("does not let " + server_.user() + " in")));
  EXPECT_THAT(error.hint(), HasSubstr("ubuntu, ec2-user, admin"));
}

TEST_F(SshSessionTest, AHostThatStillBootsIsNotTakenForARefusal) {
  server_.trust();
  server_.write("nologin", "System is booting up. Unprivileged users are not permitted to log in yet.\n");
  server_.configure("Banner " + server_.path("nologin"));
  SshTarget target = server_.target();
  target.identities = {server_.make_key("other")};
  const Error error = failure_of(target);
  EXPECT_EQ(error.code(), ErrorCode::unreachable);
  EXPECT_THAT(error.why(), HasSubstr("lets nobody in yet: \"System is booting up. Unprivileged users are not permitted to log in yet.\""));
  EXPECT_THAT(error.hint(), HasSubstr("--wait 5m"));
}

TEST_F(SshSessionTest, NoKeyAtAllIsSaid) {
  server_.trust();
  SshTarget target = server_.target();
  target.identities.clear();
  EXPECT_THAT(failure_of(target).sentence(), HasSubstr("no key was found to try"));
}

TEST_F(SshSessionTest, AKeyOfAnotherKindIsExplained) {
  server_.trust();
  SshTarget target = server_.target();
  target.identities = {server_.path("absent.pem")};
  EXPECT_THAT(failure_of(target).sentence(), AllOf(HasSubstr("absent.pem"), HasSubstr("No such file")));
  target.identities = {server_.key() + ".pub"};
  ASSERT_EQ(::chmod(target.identities[0].c_str(), 0600), 0);
  EXPECT_THAT(failure_of(target).sentence(), HasSubstr("public half"));
}

TEST_F(SshSessionTest, TheKeysOfAnAgentAreTried) {
  server_.trust();
  const SshAgentFixture agent(server_.path("."));
  agent.add(server_.key());
  SshTarget target = server_.target();
  target.identities.clear();
  target.agent_socket = agent.socket();
  expect_login(target);
}

/// An agent full of keys that open nothing here: sshd hears of six.
class FullAgent : public SshSessionTest {
 protected:
  FullAgent() : agent_(server_.path(".")) {
    server_.trust();
    for (int i = 0; i < 7; ++i) agent_.add(server_.make_key(fmt::format("of_elsewhere_{}", i)));
    target_ = server_.target();
    target_.identities.clear();
    target_.agent_socket = agent_.socket();
    never_.passphrase = [](const std::string& path) -> std::optional<std::string> {
      ADD_FAILURE() << "asked for the passphrase of " << path;
      return std::nullopt;
    };
  }

  SshAgentFixture agent_;
  SshTarget target_;
  SshPrompts never_;  ///< nobody wants to be asked
};

TEST_F(FullAgent, ALockedKeyThatItHoldsIsTakenFromIt) {
  agent_.add(server_.key());
  server_.lock(server_.key(), "open sesame");
  target_.identities = {server_.key()};
  expect_login(target_, never_);
  expect_login(target_);
  ASSERT_EQ(::unlink((server_.key() + ".pub").c_str()), 0);
  expect_login(target_);  // a key in OpenSSH's form shows its public half by itself
  target_.configured_identities = std::exchange(target_.identities, {});
  expect_login(target_);
  target_.identities_only = true;
  target_.default_identities = std::exchange(target_.configured_identities, {});
  expect_login(target_);
}

TEST_F(FullAgent, ThePublicHalfAloneNamesAKeyThatItHolds) {
  agent_.add(server_.key());
  ASSERT_EQ(::unlink(server_.key().c_str()), 0);
  target_.identities = {server_.key() + ".pub"};
  expect_login(target_);
}

TEST_F(FullAgent, IdentitiesOnlyOffersNothingThatIsNotNamed) {
  target_.identities_only = true;
  target_.configured_identities = {server_.make_key("wrong"), server_.key()};
  expect_login(target_);
  agent_.add(server_.key());
  target_.configured_identities = {server_.path("wrong")};
  const Error error = failure_of(target_);
  EXPECT_EQ(error.code(), ErrorCode::authentication);
  EXPECT_THAT(error.sentence(), AllOf(HasSubstr(server_.path("wrong")), Not(HasSubstr("SSH agent"))));
}

TEST_F(FullAgent, AKeyThatTheConfigurationNamesComesFirst) {
  target_.configured_identities = {server_.key()};
  expect_login(target_);
}

TEST_F(SshSessionTest, ALockedKeyThatNoAgentHoldsIsAnErrorOnlyAtTheEnd) {
  server_.trust();
  const SshAgentFixture agent(server_.path("."));
  SshTarget target = server_.target();
  target.identities = {server_.make_key("locked", "open sesame")};
  server_.authorize(target.identities[0]);
  target.agent_socket = agent.socket();
  EXPECT_THAT(failure_of(target).sentence(), HasSubstr("encrypted and nobody can be asked"));
  agent.add(server_.key());
  expect_login(target);
}

TEST_F(SshSessionTest, AKeyOfSshsOwnNamesIsTriedWithoutBeingNamed) {
  server_.trust();
  SshTarget target = server_.target();
  target.identities.clear();
  target.default_identities = {server_.make_key("id_of_elsewhere"), server_.key()};
  expect_login(target);
}

// ---- the way there

TEST_F(SshSessionTest, GoesThroughAProxyCommand) {
  server_.trust();
  SshTarget target = server_.target();
  // What a ProxyJump becomes, with a configuration of the test's own: over the same sshd to itself.
  target.proxy_command =
      fmt::format("ssh -F /dev/null -o UserKnownHostsFile={} -o IdentitiesOnly=yes -i {} -p {} -W [127.0.0.1]:{} -- {}@127.0.0.1",
                  server_.known_hosts(), server_.key(), server_.port(), server_.port(), server_.user());
  target.port = server_.port();
  expect_login(target);
}

TEST_F(SshSessionTest, AProxyCommandThatEndsIsAnErrorAtOnce) {
  SshTarget target = server_.target();
  target.proxy_command = "false";
  const Clock::time_point begun = Clock::now();
  const Error error = failure_of(target);
  EXPECT_EQ(error.code(), ErrorCode::unreachable);
  EXPECT_LT(Clock::now() - begun, seconds(5));
}

TEST_F(SshSessionTest, WaitsForAHostThatDoesNotListenYet) {
  server_.trust();
  server_.stop_listening();
  std::vector<Error> heard;
  const auto waiting = [&](const Error& why) {
    heard.push_back(why);
    server_.listen_again();
  };
  const Result<SshSession> session = SshSession::connect_patiently(server_.target(), nobody(), seconds(60), waiting);
  ASSERT_TRUE(session.has_value()) << session.error().sentence();
  ASSERT_EQ(heard.size(), 1U);
  EXPECT_EQ(heard[0].code(), ErrorCode::unreachable);
  EXPECT_THAT(heard[0].sentence(), HasSubstr("Connection refused"));
}

TEST_F(SshSessionTest, DoesNotWaitWhereWaitingCannotHelp) {
  SshTarget unknown = server_.target();
  unknown.host = "no-such-host.invalid";
  const auto waiting = [](const Error& why) { ADD_FAILURE() << "waits for " << why.sentence(); };
  const Result<SshSession> session = SshSession::connect_patiently(unknown, nobody(), seconds(60), waiting);
  ASSERT_FALSE(session.has_value());
  EXPECT_THAT(session.error().sentence(), HasSubstr("does not resolve"));
  // An unknown key does not become known, and a refused one is not let in, by asking again.
  EXPECT_EQ(SshSession::connect_patiently(server_.target(), nobody(), seconds(60), waiting).error().code(), ErrorCode::host_key);
}

TEST_F(SshSessionTest, ACommandThatHasEndedIsNoInterruption) {
  server_.trust();
  Result<SshSession> session = SshSession::connect(server_.target(), nobody());
  ASSERT_TRUE(session.has_value()) << session.error().sentence() << "\n" << server_.log();
  Result<CopyChannel> copying = CopyChannel::start(*session, "exit 3", "");
  ASSERT_TRUE(copying.has_value());
  EXPECT_EQ(output_of(*session, "sleep 1; echo later"), "later\n");  // by then the first has ended, and its channel is closed
  const Result<void> written = copying->write("more");
  ASSERT_FALSE(written.has_value());
  EXPECT_EQ(written.error().code(), ErrorCode::command) << written.error().sentence();
  const Result<CopyChannel::End> end = copying->end();
  ASSERT_TRUE(end.has_value()) << end.error().sentence();
  EXPECT_EQ(end->status, 3);
}

TEST_F(SshSessionTest, AnAgentThatEndsWithoutAnAnswerIsSaidToHave) {
  const std::string path = server_.path("mute.sock");
  const UniqueFd listener = unix_stream_socket();
  const sockaddr_un address = unix_address(path);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  Result<SshAgent> agent = SshAgent::connect(path);
  ASSERT_TRUE(agent.has_value()) << agent.error().sentence();
  const UniqueFd mute(::accept(listener.get(), nullptr, nullptr));
  ASSERT_EQ(::shutdown(mute.get(), SHUT_WR), 0);
  const auto keys = agent->keys();
  ASSERT_FALSE(keys.has_value());
  EXPECT_EQ(keys.error().code(), ErrorCode::io);
  EXPECT_EQ(keys.error().why(), "the SSH agent ended without an answer");
  EXPECT_EQ(keys.error().hint(), "does ssh-add -l list its keys?");
}

TEST_F(SshSessionTest, AHostThatTakesNoPasswordForSudoIsSaidTo) {
  server_.trust();
  server_.force(
      "case $SSH_ORIGINAL_COMMAND in *sudo*) nonce=${SSH_ORIGINAL_COMMAND#*-p }; printf %s \"${nonce%% *}\" >&2; exit 1;; "
      "*) sleep 1; echo later;; esac");
  Result<SshSession> session = SshSession::connect(server_.target(), nobody());
  ASSERT_TRUE(session.has_value());
  PushOptions options;
  options.agents = {{"x86_64", std::string(64, 'a'), "not really gzip"}};
  options.sudo_password = "secret";
  const Result<std::unique_ptr<ShareChannel>> channel = open_share_channel(*session, options, ShareRequest{});
  ASSERT_TRUE(channel.has_value()) << channel.error().sentence();
  EXPECT_EQ(output_of(*session, "true"), "later\n");  // by then the first has ended, and its channel is closed
  std::string came;
  const Result<std::size_t> read = (*channel)->read(came);
  ASSERT_FALSE(read.has_value()) << came;
  EXPECT_EQ(read.error().code(), ErrorCode::authentication);
  EXPECT_EQ(read.error().why(), "sudo does not take the password");
}

TEST_F(SshSessionTest, AnEndedConnectionLeavesNoDescriptorBehind) {
  const auto open_descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
  };
  (void)failure_of(server_.target());
  const auto before = open_descriptors();
  for (int i = 0; i < 3; ++i) (void)failure_of(server_.target());
  server_.stop_listening();
  for (int i = 0; i < 3; ++i) (void)failure_of(server_.target());
  server_.listen_again();
  server_.trust();
  for (int i = 0; i < 3; ++i) expect_login(server_.target());
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(SshSessionTest, ADroppedLinkIsNoticedAtOnce) {
  server_.trust();
  Result<SshSession> session = SshSession::connect(server_.target(), nobody());
  ASSERT_TRUE(session.has_value());
  Result<SshChannel> channel = session->exec("cat", "");
  ASSERT_TRUE(channel.has_value());
  server_.drop_links();
  const Clock::time_point begun = Clock::now();
  std::string out;
  while (session->connected() && Clock::now() - begun < seconds(10)) {
    const std::uint64_t seen = session->arrivals();
    if (!channel->read(SshChannel::Stream::out, out)) break;
    session->wait(seen, milliseconds(200));
  }
  EXPECT_LT(Clock::now() - begun, seconds(5));
  EXPECT_FALSE(session->connected());
}

}  // namespace
}  // namespace gpustrap
