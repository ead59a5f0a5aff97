// What a host, a link or a person can do to a copy, and to other commands of which much is heard.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/request.h"
#include "controller/cloud/launch_record.h"
#include "controller/conversation.h"
#include "controller/copy.h"
#include "controller/copy_channel.h"
#include "controller/copy_plan.h"
#include "controller/doctor/probe.h"
#include "controller/host_access.h"
#include "controller/known_instance.h"
#include "controller/machine_use.h"
#include "controller/remote_command.h"
#include "controller/ssh_link.h"
#include "controller/ssh_session.h"
#include "tests/support/environment.h"
#include "tests/support/ssh_fixture.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class CopyFailures : public testing::Test {
 protected:
  CopyFailures() {
    server_.trust();
    std::ofstream(here_ / "data.bin") << "some data";
    EXPECT_TRUE(make_directories(here_ / "lab"));
    std::ofstream(here_ / "lab/notes.txt") << "notes";
    request_.nonce = "n0nce";
    request_.stage = ".gpustrap-stage";
  }
  SshSession& session() {
    Result<SshSession> made = SshSession::connect(server_.target(), {});
    EXPECT_TRUE(made.has_value()) << (made ? "" : made.error().sentence() + server_.log());
    session_.emplace(*std::move(made));
    return *session_;
  }
  /// Every command whose text holds `word` is `script`, and the others are what they are.
  void force(const std::string& word, const std::string& script) {
    server_.force(fmt::format("case $SSH_ORIGINAL_COMMAND in *{}*) {};; *) eval \"$SSH_ORIGINAL_COMMAND\";; esac", word, script));
  }
  Error failure(CopyDirection direction, const std::string& source, const std::string& target) {
    request_.direction = direction;
    request_.source = source;
    request_.target = target;
    CopyMemory memory = *CopyMemory::load(here_ / "state", "gpu1", source, target);
    report_ = CopyReport{};
    const Result<void> copied = copy_files(session(), request_, memory, watch_, report_);
    return copied ? Error(ErrorCode::internal, "it was copied") : copied.error();
  }

  SshFixture server_;
  std::optional<SshSession> session_;
  TemporaryDirectory here_, there_;
  CopyRequest request_;
  CopyWatch watch_;
  CopyReport report_;
};

TEST_F(CopyFailures, WhoInterruptsIsHeardAtEveryTurn) {
  watch_.stopped = [] { return true; };
  Error error = failure(CopyDirection::push, here_ / "data.bin", there_.path());
  EXPECT_EQ(error.code(), ErrorCode::cancelled);
  EXPECT_EQ(error.why(), "interrupted");
  Result<CopyChannel> reading = CopyChannel::start(*session_, "sleep 20", "");
  ASSERT_TRUE(reading.has_value());
  reading->stop_where([] { return true; });
  const Result<std::string_view> read = reading->read();
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code(), ErrorCode::cancelled);
  EXPECT_EQ(read.error().why(), "interrupted");
  const Result<void> written = reading->write("more");
  ASSERT_FALSE(written.has_value());
  EXPECT_EQ(written.error().code(), ErrorCode::cancelled);
  EXPECT_EQ(written.error().why(), "interrupted");
}

TEST_F(CopyFailures, AHostThatReadsNoFurtherTakesNoMore) {
  Result<CopyChannel> channel = CopyChannel::start(session(), "exec >&- 2>&-; exec sleep 20", "");
  ASSERT_TRUE(channel.has_value());
  const Result<void> written = channel->write(std::string(8U << 20U, 'x'));
  ASSERT_FALSE(written.has_value());
  EXPECT_EQ(written.error().code(), ErrorCode::command);
  EXPECT_EQ(written.error().why(), "the host takes no more");
}

TEST_F(CopyFailures, WhatStandsWhereAFolderIsToComeIsNamed) {
  std::ofstream(there_ / "lab") << "a file";
  const Error here = failure(CopyDirection::pull, here_ / "lab", there_.path());
  EXPECT_EQ(here.code(), ErrorCode::usage);
  EXPECT_EQ(here.why(), there_ / "lab" + std::string(" is no folder"));
  EXPECT_EQ(here.hint(), "name a folder for it to come to");
  const Error there = failure(CopyDirection::push, here_ / "lab", there_.path());
  EXPECT_EQ(there.code(), ErrorCode::usage);
  EXPECT_EQ(there.why(), there_ / "lab" + std::string(" is no folder on the host"));
  EXPECT_EQ(there.hint(), "name a folder for it to go to");
}

TEST_F(CopyFailures, WhatComesToLieThereIsComparedWithWhatWasSent) {
  force("sha256sum", "cat >/dev/null");
  const Error error = failure(CopyDirection::push, here_ / "data.bin", there_.path());
  const std::string why = report_.failed.empty() ? error.sentence() : report_.failed[0].why;
  EXPECT_THAT(why, HasSubstr("it did not come there whole"));
  EXPECT_FALSE(path_exists(there_ / "data.bin"));
}

TEST_F(CopyFailures, TheHostsToolsSayWhyInTheirWordsOrByTheirStatus) {
  force("gpustrap-list", "eval \"$SSH_ORIGINAL_COMMAND\"");
  const std::string list = "gpustrap-list*) eval \"$SSH_ORIGINAL_COMMAND\";; *";
  const auto why_of = [&](const std::string& script) {
    force(list, script);
    const Error error = failure(CopyDirection::push, here_ / "lab", there_.path());
    return error.code() == ErrorCode::internal && !report_.failed.empty() ? report_.failed[0].why
                                                                          : error.sentence() + " -> " + error.hint();
  };
  EXPECT_THAT(why_of("cat >/dev/null; exit 3"), HasSubstr("the host's tools ended with 3"));
  EXPECT_THAT(why_of("cat >/dev/null; echo 'tar: lab: Cannot write: No space left on device' >&2; exit 2"),
              AllOf(HasSubstr("No space left on device"), HasSubstr("make room on the host (df -h)")));
  EXPECT_THAT(why_of("cat >/dev/null; echo 'mkdir: /data: Permission denied' >&2; exit 2"),
              AllOf(HasSubstr("Permission denied"), HasSubstr("as the login user, without sudo")));
}

TEST_F(CopyFailures, AListingWithoutEndIsCut) {
  force("gpustrap-list", "exec cat /dev/zero");
  const Error error = failure(CopyDirection::pull, "lab", there_.path());
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
  EXPECT_EQ(error.why(), "listing lab on the host takes too long");
  EXPECT_EQ(error.hint(), "copy its folders one by one");
}

/// The host says that its output has ended, and is gone before it says how the command did.
TEST_F(CopyFailures, AConnectionThatEndsBetweenOutputAndStatusIsSaid) {
  const std::string marker = here_ / "marker";
  const auto cut = [&](const std::function<Error()>& act) {
    static_cast<void>(::unlink(marker.c_str()));
    std::future<Error> outcome = std::async(std::launch::async, act);
    const auto until = std::chrono::steady_clock::now() + seconds(30);
    while (!path_exists(marker) && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(milliseconds(20));
    server_.drop_links();
    return outcome.get();
  };
  SshSession& run = session();
  const std::string silent = fmt::format("exec >&- 2>&-; sleep 1; : >{}; exec sleep 20", marker);
  const Error command = cut([&] {
    const Result<RemoteResult> result = run_remote(run, silent, "", RemoteLimits{seconds(30), 1000});
    return result ? Error(ErrorCode::internal, "it ended well") : result.error();
  });
  EXPECT_EQ(command.code(), ErrorCode::unreachable);
  EXPECT_THAT(command.why(), StartsWith("the connection ended"));
}

TEST_F(CopyFailures, TheDoctorWaitsForNobodyForEver) {
  server_.force("echo gpustrap-asks; echo looking at the disk; exec sleep 60");
  const Result<Evidence> evidence = probe(session(), std::nullopt, 0, seconds(2));
  ASSERT_FALSE(evidence.has_value());
  EXPECT_EQ(evidence.error().code(), ErrorCode::timeout);
  EXPECT_THAT(evidence.error().why(),
              AllOf(StartsWith("the host did not finish within 2"), HasSubstr("its last words: looking at the disk")));
  EXPECT_THAT(evidence.error().hint(), HasSubstr("gpustrap ssh HOST ps aux"));
}

TEST_F(CopyFailures, TheDoctorHearsAMebibyteAtMost) {
  server_.force("yes 'welcome to this machine'");
  const Result<Evidence> evidence = probe(session(), std::nullopt, 0);
  ASSERT_FALSE(evidence.has_value());
  EXPECT_EQ(evidence.error().code(), ErrorCode::protocol);
  EXPECT_EQ(evidence.error().why(), "the host says more than 1 MiB");
  EXPECT_THAT(evidence.error().hint(), HasSubstr("a login file prints without end"));
}

/// By ssh's own configuration, in which the address of a machine of EC2 is that of the test's sshd.
class BySshConfig : public CopyFailures {
 protected:
  BySshConfig() {
    std::ofstream(here_ / "config") << "Host 203.0.113.7\n  HostName 127.0.0.1\n  Port " << server_.port() << "\n  UserKnownHostsFile "
                                    << server_.known_hosts() << "\n";
    std::ofstream(here_ / "ssh") << "#!/bin/sh\nPATH=" << path_before_ << " exec ssh -F " << (here_ / "config") << " \"$@\"\n";
    EXPECT_EQ(::chmod((here_ / "ssh").c_str(), 0755), 0);
    options_.host = "203.0.113.7";
    options_.user = server_.user();
    options_.identities = {server_.key()};
  }
  Error failure_to_start(AccessSurroundings around) {
    const std::unique_ptr<Status> status = make_silent_status();
    around.remember = false;
    HostAccess access(options_, Rights::whatever, *status, std::move(around));
    const Result<std::unique_ptr<AgentLink>> link = access.start_agent(Request{1, StatusRequest{}});
    return link ? Error(ErrorCode::internal, "it began") : link.error();
  }
  const std::string path_before_ = std::getenv("PATH");
  EnvironmentVariable path_{"PATH", here_.path() + ":" + path_before_}, home_{"HOME", here_.path()}, state_{"XDG_STATE_HOME", here_.path()};
  Options options_;
};

TEST_F(BySshConfig, AMachineThatNothingWatchesIsSaidToBeOne) {
  Ec2Instance one;
  one.id = "i-1", one.state = "running", one.address = "203.0.113.7";
  ASSERT_TRUE(save_instance(here_.path(), "i-1", {one.address, server_.user(), server_.key(), {}, one.address, "us-east-1", "lab"}));
  const auto use = use_of_machines(here_.path(), {one});
  ASSERT_TRUE(use.contains("i-1"));
  const Result<IdleStatus>& said = use.at("i-1");
  ASSERT_FALSE(said.has_value()) << "this machine has an idle guard of its own";
  EXPECT_EQ(said.error().code(), ErrorCode::not_found) << said.error().sentence();
  EXPECT_EQ(said.error().why(), "nothing there tells whether it is in use");
  EXPECT_EQ(said.error().hint(), "gpustrap up idle-stop HOST");
  EXPECT_EQ(use_text(said), "no idle_stop");
}

TEST_F(BySshConfig, WhoInterruptsTheLoginBeginsNothing) {
  AccessSurroundings around;
  around.stop = [] { return true; };
  const Error error = failure_to_start(std::move(around));
  EXPECT_EQ(error.code(), ErrorCode::cancelled) << error.sentence();
  EXPECT_EQ(error.why(), "interrupted before anything was begun");
}

TEST_F(BySshConfig, WhoGivesNoPasswordForSudoIsToldWhereItIsAskedFor) {
  class Nobody : public Person {
   public:
    bool is_there() override { return false; }
    bool yes_no(const std::string&) override { return false; }
    std::optional<std::string> secret(const std::string&) override { return std::nullopt; }
  } nobody;
  options_.ask_sudo_password = true;
  AccessSurroundings around;
  around.person = &nobody;
  const Error error = failure_to_start(std::move(around));
  EXPECT_EQ(error.code(), ErrorCode::authentication) << error.sentence();
  EXPECT_EQ(error.why(), "no sudo password was given");
  EXPECT_EQ(error.hint(), "--ask-sudo-password needs a terminal to ask at");
}

/// As long as the limit is, once for whoever listens.
TEST_F(CopyFailures, AHostThatFallsSilentIsGivenUp) {
  Result<CopyChannel> copying = CopyChannel::start(session(), "sleep 60", "");
  ASSERT_TRUE(copying.has_value());
  Result<SshSession> other = SshSession::connect(server_.target(), {});
  ASSERT_TRUE(other.has_value());
  Result<SshChannel> channel = other->exec("sleep 60", "");
  ASSERT_TRUE(channel.has_value());
  SshLink link(*other, *std::move(channel), "", "");
  server_.freeze_links();
  const std::string silence = fmt::format("nothing was heard from the host for {} s", kSilenceLimit.count());
  const Result<std::string_view> read = copying->read();
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code(), ErrorCode::unreachable);
  EXPECT_EQ(read.error().why(), silence);
  EXPECT_EQ(read.error().hint(), "the same command again goes on from there");
  const auto line = link.receive(seconds(30));
  ASSERT_FALSE(line.has_value());
  EXPECT_EQ(line.error().code(), ErrorCode::unreachable);
  EXPECT_EQ(line.error().why(), silence);
}

}  // namespace
}  // namespace gpustrap
