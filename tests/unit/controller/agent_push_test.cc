#include "controller/agent_push.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/subprocess.h"
#include "agent/protocol/request.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::vector<EmbeddedAgent>& two_agents() {
  static const std::vector<EmbeddedAgent> agents = {{"x86_64", std::string(64, 'a'), "packed"},
                                                    {"aarch64", std::string(64, 'b'), "packed"}};
  return agents;
}

/// What every login shell must be able to take: one `sh -c '…'` with nothing inside that any of them would look at.
void expect_plain(const std::string& text) {
  ASSERT_TRUE(text.starts_with("sh -c '")) << text;
  ASSERT_TRUE(text.ends_with("'")) << text;
  const std::string inside = text.substr(7, text.size() - 8);
  EXPECT_EQ(inside.find_first_of("'!\\\n"), std::string::npos) << text;
}

TEST(StartText, HoldsNothingThatALoginShellWouldLookAt) {
  for (const AgentRights rights : {AgentRights::system, AgentRights::system_or_user, AgentRights::password}) {
    expect_plain(start_text(two_agents(), rights, "nonce"));
    expect_plain(start_text(two_agents(), rights, "nonce", as_word("{}\n")));
  }
}

TEST(StartText, SaysThatTheAgentIsAbsentWithoutReadingItsInput) {
  for (const char* shell : {"sh", "bash"}) {
    Subprocess run;
    run.argv = {shell, "-c", start_text(two_agents(), AgentRights::system, "nonce")};
    run.input = "left alone\n";
    const auto result = run_subprocess(run);
    ASSERT_TRUE(result.has_value());
    EXPECT_TRUE(result->out.starts_with("gpustrap-absent ")) << result->out << result->err;
  }
}

TEST(StartText, TellsTheAgentWhoHasLoggedInAndWhatWasSaid) {
  TemporaryDirectory folder;
  // In place of sudo, which would be given the words.
  ASSERT_TRUE(write_file_atomically(folder / "sudo", "#!/bin/sh\nfor word in \"$@\"; do echo \"$word\"; done\n").has_value());
  ASSERT_EQ(::chmod((folder / "sudo").c_str(), 0755), 0);
  // The text runs what lies in a folder of root's: here any program in its place, and a user who is not root.
  std::string text = start_text(two_agents(), AgentRights::system, "nonce", "7b7d");
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"test -x $a", "true"}, {"test $u = 0", "false"}}) {
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) text.replace(at, from.size(), to);
  }
  const char* path = std::getenv("PATH");
  for (const char* shell : {"sh", "bash"}) {
    Subprocess run;
    run.argv = {shell, "-c", text};
    run.env = {{"PATH", std::string(folder.path()) + ":" + (path == nullptr ? "" : path)}, {"HOME", "/home/of one"}, {"SHELL", "/bin/sh"}};
    const auto result = run_subprocess(run);
    ASSERT_TRUE(result.has_value());
    EXPECT_THAT(result->out, HasSubstr("\nserve\n--said=7b7d\n")) << result->err;
    EXPECT_THAT(result->out, HasSubstr(fmt::format("\n--login-uid={}\n--login-gid={}\n--login-groups=", ::getuid(), ::getgid())));
    EXPECT_THAT(result->out, HasSubstr("\n--login-home=/home/of one\n--login-shell=/bin/sh\n"));
  }
}

TEST(StartText, AsksSudoForThePasswordByTheNonceOnly) {
  const std::string text = start_text(two_agents(), AgentRights::password, "n0nce");
  EXPECT_THAT(text, HasSubstr("sudo -k -S -p n0nce"));
  EXPECT_THAT(text, Not(HasSubstr("sudo -n")));
}

TEST(StartText, NamesEveryArchitecture) {
  const std::string text = start_text(two_agents(), AgentRights::system, "n");
  EXPECT_THAT(text, HasSubstr("x86_64) s=" + std::string(64, 'a')));
  EXPECT_THAT(text, HasSubstr("aarch64) s=" + std::string(64, 'b')));
}

TEST(UploadText, HoldsNothingThatALoginShellWouldLookAt) {
  for (const bool user : {false, true}) {
    for (const bool by_sudo : {false, true}) {
      UploadPlan plan;
      plan.digest = std::string(64, 'a');
      plan.nonce = "n";
      plan.user = user;
      plan.by_sudo = by_sudo;
      expect_plain(upload_text(plan));
    }
  }
}

class UploadTest : public ::testing::Test {
 protected:
  UploadTest() {
    std::string name = ::testing::TempDir() + "uploadXXXXXX";
    home_ = ::mkdtemp(name.data());
  }
  ~UploadTest() override {
    Subprocess remove;
    remove.argv = {"rm", "-rf", home_};
    (void)run_subprocess(remove);
  }

  SubprocessResult upload(const UploadPlan& plan, std::string bytes) {
    Subprocess run;
    run.argv = {"sh", "-c", upload_text(plan)};
    run.env = {{"HOME", home_}};
    run.input = std::move(bytes);
    return run_subprocess(run).value_or(SubprocessResult{});
  }
  static UploadPlan plan_for_user(const std::string& digest) {
    UploadPlan plan;
    plan.digest = digest;
    plan.nonce = "n";
    plan.packed = false;
    plan.user = true;
    plan.by_sudo = false;
    return plan;
  }

  std::string home_;
};

TEST_F(UploadTest, KeepsBytesWithTheRightDigestUnderTheirName) {
  // sha256 of "abc", FIPS 180-4.
  const std::string digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  const SubprocessResult result = upload(plan_for_user(digest), "abc");
  EXPECT_EQ(result.out, "gpustrap-ready\n") << result.err;
  EXPECT_EQ(result.exit_code, 0);
}

TEST_F(UploadTest, DropsBytesWithAnotherDigest) {
  const SubprocessResult result = upload(plan_for_user(std::string(64, '0')), "abc");
  EXPECT_NE(result.exit_code, 0);
  EXPECT_EQ(result.out, "");
  Subprocess list;
  list.argv = {"ls", "-A", home_ + "/.local/lib/gpustrap"};
  EXPECT_EQ(run_subprocess(list)->out, "");
}

}  // namespace
}  // namespace gpustrap
