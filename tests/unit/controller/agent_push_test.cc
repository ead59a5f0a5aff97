#include "controller/agent_push.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/subprocess.h"
#include "agent/protocol/request.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::vector<EmbeddedAgent>& two_agents() {
  static const std::vector<EmbeddedAgent> agents = {{"x86_64", std::string(64, 'a'), "packed"},
                                                    {"aarch64", std::string(64, 'b'), "packed"}};
  return agents;
}

/// What every login shell must be able to take: one `/bin/sh -c '…'` with nothing inside that any of them would look at.
void expect_plain(const std::string& text) {
  ASSERT_TRUE(text.starts_with("/bin/sh -c '")) << text;
  ASSERT_TRUE(text.ends_with("'")) << text;
  const std::string inside = text.substr(12, text.size() - 13);
  EXPECT_EQ(inside.find_first_of("'!\\\n"), std::string::npos) << text;
}

TEST(StartText, HoldsNothingThatALoginShellWouldLookAt) {
  for (const AgentRights rights : {AgentRights::system, AgentRights::system_or_user, AgentRights::password}) {
    expect_plain(start_text(two_agents(), rights, "nonce"));
    expect_plain(start_text(two_agents(), rights, "nonce", as_word("{}\n")));
  }
}

TEST(StartText, SaysThatTheAgentIsAbsentAndDoesNoMoreWhereItMightReadTooFar) {
  TemporaryDirectory folder;
  std::ofstream(folder / "head") << "#!/bin/sh\necho a head of another make\n";
  ASSERT_EQ(::chmod((folder / "head").c_str(), 0755), 0);
  const char* path = std::getenv("PATH");
  for (const char* shell : {"sh", "bash"}) {
    Subprocess run;
    run.argv = {shell, "-c", start_text(two_agents(), AgentRights::system, "nonce")};
    run.env = {{"PATH", folder.path() + ":" + (path == nullptr ? "" : path)}};
    run.input = "left alone\n";
    const auto result = run_subprocess(run);
    ASSERT_TRUE(result.has_value());
    EXPECT_THAT(result->out, AllOf(StartsWith("gpustrap-absent "), EndsWith(" system asks 0\n"))) << result->err;
    EXPECT_EQ(result->exit_code, 0);
  }
}

// `status` of a host that gpustrap has never been on leaves it so.
TEST(StartText, WhereItIsOnlyToTellItReadsAndWritesNothing) {
  for (const AgentRights rights : {AgentRights::system, AgentRights::system_or_user}) {
    const std::string text = start_text(two_agents(), rights, "nonce", "7b7d", IfAbsent::tell);
    expect_plain(text);
    EXPECT_THAT(text, Not(HasSubstr("mkdir")));
    Subprocess run;
    run.argv = {"sh", "-c", text};
    run.input = "left alone\n";
    const auto result = run_subprocess(run);
    ASSERT_TRUE(result.has_value());
    EXPECT_THAT(result->out, StartsWith("gpustrap-absent ")) << result->err;
    EXPECT_EQ(result->exit_code, 0);
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

/// A host without an agent: its folder is one of the test's, and its sudo makes nobody root.
class TakingHost {
 public:
  TakingHost() {
    std::ofstream(folder_ / "sudo") << "#!/bin/sh\nshift\nexec \"$@\"\n";
    EXPECT_EQ(::chmod((folder_ / "sudo").c_str(), 0755), 0);
    std::ofstream(folder_ / "agent") << "#!/bin/sh\nfor word in \"$@\"; do echo \"<$word>\"; done\ncat\n";
    Subprocess pack;
    pack.argv = {"gzip", "-9nc", folder_ / "agent"};
    packed_ = run_subprocess(pack)->out;
    digest_ = sha256_of_file(folder_ / "agent").value_or("");
  }
  void has_program(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
    EXPECT_EQ(::chmod((folder_ / name).c_str(), 0755), 0);
  }
  SubprocessResult start(AgentRights rights, bool is_root, const std::string& input, const std::string& nonce = "nonce") {
    // Of both architectures, so that it does not matter on which one the test runs.
    const std::vector<EmbeddedAgent> agents = {{"x86_64", digest_, packed_}, {"aarch64", digest_, packed_}};
    std::string text = start_text(agents, rights, nonce);
    replace_all(text, "/usr/local/lib/gpustrap", host());
    replace_all(text, "test $u = 0", is_root ? "true" : "false");
    Subprocess run;
    run.argv = {"sh", "-c", text};
    const char* path = std::getenv("PATH");
    run.env = {{"PATH", folder_.path() + ":" + (path == nullptr ? "" : path)}, {"HOME", host() + "/home of"}, {"SHELL", "/bin/sh"}};
    run.input = input;
    return run_subprocess(run).value_or(SubprocessResult{});
  }
  [[nodiscard]] std::string host() const { return folder_ / "host"; }
  [[nodiscard]] const std::string& packed() const { return packed_; }
  [[nodiscard]] std::vector<std::string> files() const {
    std::vector<std::string> found;
    if (!std::filesystem::exists(host())) return found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(host())) {
      if (entry.is_regular_file()) found.push_back(entry.path().filename());
    }
    return found;
  }
  [[nodiscard]] const std::string& digest() const { return digest_; }

 private:
  static void replace_all(std::string& text, const std::string& from, const std::string& to) {
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) text.replace(at, from.size(), to);
  }
  TemporaryDirectory folder_;
  std::string packed_, digest_;
};

TEST(StartText, TakesTheAgentAndStartsItWithWhatFollows) {
  for (const AgentRights rights : {AgentRights::system, AgentRights::system_or_user}) {
    for (const bool is_root : {true, false}) {
      TakingHost host;
      const SubprocessResult result = host.start(rights, is_root, host.packed() + "what follows\n");
      EXPECT_THAT(result.out, AllOf(HasSubstr(" system takes 0\n<serve>\n"), EndsWith("what follows\n"))) << result.err;
      EXPECT_EQ(result.out.find("<--login-home=" + host.host() + "/home of>") != std::string::npos, !is_root) << result.out;
      EXPECT_THAT(host.files(), ElementsAre("agent-" + host.digest()));
      const SubprocessResult again = host.start(rights, is_root, "said\n");
      EXPECT_THAT(again.out, AllOf(Not(HasSubstr("absent")), HasSubstr("<serve>"), EndsWith("said\n"))) << again.err;
    }
  }
}

TEST(StartText, GoesOnWithAnAgentThatWasCut) {
  for (const AgentRights rights : {AgentRights::system, AgentRights::system_or_user}) {
    for (const bool is_root : {true, false}) {
      TakingHost host;
      const std::size_t half = host.packed().size() / 2;
      for (const std::size_t end : {half / 2, half}) {  // cut twice
        const std::size_t begin = end == half ? half / 2 : 0;
        const SubprocessResult cut = host.start(rights, is_root, host.packed().substr(begin, end - begin), fmt::format("cut{}", end));
        EXPECT_NE(cut.exit_code, 0);
        EXPECT_THAT(cut.out, AllOf(HasSubstr(fmt::format(" takes {}\n", begin)), Not(HasSubstr("<serve>")))) << cut.err;
      }
      const SubprocessResult rest = host.start(rights, is_root, host.packed().substr(half) + "what follows\n");
      EXPECT_THAT(rest.out, AllOf(HasSubstr(fmt::format(" takes {}\n<serve>\n", half)), EndsWith("what follows\n"))) << rest.err;
      EXPECT_THAT(host.files(), ElementsAre("agent-" + host.digest()));
    }
  }
}

TEST(StartText, LeavesNothingOfAnAgentThatIsWrong) {
  for (const bool is_root : {true, false}) {
    TakingHost host;
    const std::size_t half = host.packed().size() / 2;
    std::string wrong = host.packed();
    wrong[half / 2] ^= 1;
    const SubprocessResult changed = host.start(AgentRights::system, is_root, wrong);
    EXPECT_NE(changed.exit_code, 0);
    EXPECT_THAT(changed.out, Not(HasSubstr("<serve>")));
    EXPECT_TRUE(host.files().empty());
    const SubprocessResult cut = host.start(AgentRights::system, is_root, wrong.substr(0, half), "cut");
    EXPECT_NE(cut.exit_code, 0);
    EXPECT_EQ(host.files().size(), 1U);
    const SubprocessResult rest = host.start(AgentRights::system, is_root, wrong.substr(half) + "what follows\n");
    EXPECT_NE(rest.exit_code, 0);
    EXPECT_THAT(rest.out, Not(HasSubstr("<serve>")));
    EXPECT_TRUE(host.files().empty());
  }
}

TEST(StartText, LeavesNothingOfAnAgentForWhichThereIsNoRoom) {
  for (const bool is_root : {true, false}) {
    TakingHost host;
    // In place of a full disk: what unpacks it dies, and more is on its way.
    host.has_program("gzip", "#!/bin/sh\nhead -c 5 >/dev/null\nexit 1\n");
    const SubprocessResult full = host.start(AgentRights::system, is_root, host.packed() + "what follows\n");
    EXPECT_NE(full.exit_code, 0);
    EXPECT_TRUE(host.files().empty());
  }
}

TEST(StartText, AsksSudoForThePasswordByTheNonceOnly) {
  const std::string text = start_text(two_agents(), AgentRights::password, "n0nce");
  EXPECT_THAT(text, HasSubstr("sudo -k -S -p n0nce"));
  EXPECT_THAT(text, Not(HasSubstr("sudo -n")));
}

TEST(StartText, NamesEveryArchitecture) {
  const std::string text = start_text(two_agents(), AgentRights::system, "n");
  EXPECT_THAT(text, HasSubstr("x86_64) s=" + std::string(64, 'a') + " z=6;;"));
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
