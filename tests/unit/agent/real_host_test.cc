#include "agent/real_host.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/identity.h"
#include "agent/safe_directory.h"
#include "tests/support/fake_host.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// A user that every machine has and that owns nothing.
constexpr uid_t kNobody = 65534;

class RealHostTest : public ::testing::Test {
 protected:
  RealHostTest() {
    login_ = identity_of_self();
    login_.home = directory_ / "home";
    std::filesystem::create_directory(login_.home);
    if (::geteuid() == 0) {
      login_.uid = login_.gid = kNobody;
      login_.groups = {kNobody};
      login_.name = "nobody";
      std::filesystem::permissions(directory_.path(), std::filesystem::perms(0755));
      EXPECT_EQ(::chown(login_.home.c_str(), kNobody, kNobody), 0);
    }
  }

  RealHost host(RealHost::Environment env = {}) { return {facts_, identity_of_self(), login_, std::move(env)}; }
  std::string at(const std::string& name) const { return directory_ / name; }
  std::string in_home(const std::string& name) const { return login_.home + "/" + name; }
  static std::string content(const std::string& path) { return read_file(path).value_or("<no file>"); }
  static struct stat status(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(::lstat(path.c_str(), &info), 0) << path;
    return info;
  }
  std::vector<std::string> names() const { return names_in(directory_.path()); }
  static std::vector<std::string> names_in(const std::string& directory) {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  static Command command(std::vector<std::string> argv) {
    Command made;
    made.argv = std::move(argv);
    return made;
  }

  TemporaryDirectory directory_;
  Facts facts_;
  Identity login_;
  RecordingLog log_;
};

/// Two users are needed to see who did something.
class RealHostAsRootTest : public RealHostTest {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "only root can act as another user";
  }
};

// ---- files

TEST_F(RealHostTest, WritesAndReadsBack) {
  RealHost real = host();
  ASSERT_TRUE(real.write(at("f"), "hello\n", {}));
  EXPECT_EQ(content(at("f")), "hello\n");
  EXPECT_EQ(status(at("f")).st_mode & 07777U, 0644U);
  EXPECT_EQ(real.read(at("f")).value_or("?"), "hello\n");
  EXPECT_EQ(real.digest(at("f")).value_or("?"), sha256_hex("hello\n"));
  EXPECT_THAT(names(), ElementsAre("f", "home")) << "no temporary file is left";
}

TEST_F(RealHostTest, HashesFilesOnlyAndWaitsForNoPipe) {
  RealHost real = host();
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  for (const std::string& path : {at("pipe"), std::string("/dev/zero"), directory_.path()}) EXPECT_FALSE(real.digest(path)) << path;
}

TEST_F(RealHostTest, KeepsTheModeOfWhatItReplaces) {
  RealHost real = host();
  for (const unsigned mode : {0600U, 0755U, 0440U, 0000U, 04755U}) {
    ASSERT_TRUE(real.write(at("f"), "x", {.mode = mode}));
    ASSERT_TRUE(real.write(at("f"), "y", {}));
    EXPECT_EQ(status(at("f")).st_mode & 07777U, mode);
  }
}

TEST_F(RealHostTest, ReplacesInOneStep) {
  RealHost real = host();
  ASSERT_TRUE(real.write(at("f"), "old", {}));
  const UniqueFd reader(::open(at("f").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(real.write(at("f"), "new", {}));
  EXPECT_EQ(read_all(reader.get()).value_or("?"), "old") << "who has the file open still reads the whole old one";
}

TEST_F(RealHostTest, WritesNeitherThroughALinkNorOverADirectory) {
  RealHost real = host();
  std::ofstream(at("target")) << "precious";
  std::filesystem::create_symlink(at("target"), at("link"));
  std::filesystem::create_directory(at("folder"));
  for (const char* name : {"link", "folder"}) {
    const auto wrote = real.write(at(name), "x", {});
    ASSERT_FALSE(wrote);
    EXPECT_EQ(wrote.error().code(), ErrorCode::unsafe);
  }
  EXPECT_EQ(content(at("target")), "precious");
}

TEST_F(RealHostTest, AWriteThatDoesNotFitLeavesTheOldFile) {
  RealHost real = host();
  ASSERT_TRUE(real.write(at("f"), "old", {}));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto wrote = real.write(at("f"), std::string(100'000, 'x'), {});
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, old_handler);
  EXPECT_FALSE(wrote);
  EXPECT_EQ(content(at("f")), "old");
  EXPECT_THAT(names(), ElementsAre("f", "home"));
}

TEST_F(RealHostTest, TakesNamesAsLongAsNamesMayBe) {
  RealHost real = host();
  const std::string name(255, 'n');
  ASSERT_TRUE(real.write(at(name), "x", {}));
  ASSERT_TRUE(real.make_symlink(at(std::string(255, 'l')), "x"));
  ASSERT_TRUE(real.make_symlink(at(std::string(255, 'l')), "y"));
}

TEST_F(RealHostTest, MakesDirectoriesWithTheirParents) {
  RealHost real = host();
  ASSERT_TRUE(real.make_directory(at("a/b/c"), {.mode = 0700}));
  EXPECT_EQ(status(at("a/b/c")).st_mode & 07777U, 0700U);
  EXPECT_EQ(status(at("a")).st_mode & 07777U, 0755U);
  ASSERT_TRUE(real.make_directory(at("a/b/c"), {})) << "again is no error";
  EXPECT_EQ(status(at("a/b/c")).st_mode & 07777U, 0700U);
  ASSERT_TRUE(real.make_directory(at("a/b/c"), {.mode = 0000}));
  ASSERT_TRUE(real.make_directory(at("a/b/c"), {.mode = 02775})) << "a mode that keeps everybody out can be changed back";
}

TEST_F(RealHostTest, ALinkReplacesALinkOnly) {
  RealHost real = host();
  ASSERT_TRUE(real.make_symlink(at("l"), "one"));
  ASSERT_TRUE(real.make_symlink(at("l"), "two"));
  EXPECT_EQ(real.read_link(at("l")).value_or("?"), "two");
  std::ofstream(at("f")) << "precious";
  const auto linked = real.make_symlink(at("f"), "one");
  ASSERT_FALSE(linked);
  EXPECT_EQ(linked.error().code(), ErrorCode::unsafe);
  EXPECT_EQ(content(at("f")), "precious");
}

TEST_F(RealHostTest, AttributesDoNotGoThroughALink) {
  RealHost real = host();
  std::ofstream(at("f")) << "x";
  std::filesystem::create_symlink(at("f"), at("link"));
  const unsigned before = status(at("f")).st_mode;
  EXPECT_FALSE(real.set_attributes(at("link"), {.mode = 0777}));
  EXPECT_EQ(status(at("f")).st_mode, before);
  ASSERT_TRUE(real.set_attributes(at("f"), {.mode = 0000}));
  ASSERT_TRUE(real.set_attributes(at("f"), {.mode = 0640}));
  EXPECT_EQ(status(at("f")).st_mode & 07777U, 0640U);
}

TEST_F(RealHostTest, AFifoIsLookedAtAndNotOpened) {
  RealHost real = host();
  ASSERT_EQ(::mkfifo(at("fifo").c_str(), 0666), 0);
  EXPECT_EQ((*real.info(at("fifo")))->type, FileType::other);
  EXPECT_FALSE(real.write(at("fifo"), "x", {}));
  EXPECT_FALSE(real.set_attributes(at("fifo"), {.mode = 0600}));
}

TEST_F(RealHostTest, RemovesWhatItIsTold) {
  RealHost real = host();
  std::filesystem::create_directories(at("d/sub"));
  std::filesystem::create_directory(at("outside"));
  std::ofstream(at("outside/precious")) << "x";
  std::ofstream(at("d/sub/f")) << "x";
  std::filesystem::create_symlink(at("outside"), at("d/link"));
  EXPECT_FALSE(real.remove(at("d"))) << "it is not empty";
  ASSERT_TRUE(real.remove(at("d/sub/f")));
  ASSERT_TRUE(real.remove(at("d/sub")));
  ASSERT_TRUE(real.remove(at("d/sub"))) << "what is gone is removed";
  ASSERT_TRUE(real.remove(at("nothing/here")));
  ASSERT_TRUE(real.remove_tree(at("d") + "/"));
  EXPECT_THAT(names(), ElementsAre("home", "outside"));
  EXPECT_TRUE(path_exists(at("outside/precious"))) << "a link is removed, not followed";
  EXPECT_FALSE(real.remove_tree("/"));
  EXPECT_FALSE(real.remove_tree(at("..")));
}

TEST_F(RealHostTest, ListsAndLooks) {
  const RealHost real = host();
  std::ofstream(at("b")) << "12345";
  std::ofstream(at("a\xff")) << "";
  EXPECT_THAT(real.list(directory_.path()).value_or(std::vector<std::string>{}), ElementsAre("a\xff", "b", "home"));
  const auto info = real.info(at("b"));
  ASSERT_TRUE(info && *info);
  EXPECT_EQ((*info)->size, 5U);
  EXPECT_FALSE(*real.info(at("b/c"))) << "a file has nothing below it";
  EXPECT_FALSE(real.read(at("nothing")));
  EXPECT_EQ(real.read(at("nothing")).error().code(), ErrorCode::not_found);
  EXPECT_GT(real.disk_free(at("not/there/yet")).value_or(0), 0U);
  EXPECT_EQ(real.user_id("root").value_or(std::nullopt), std::optional<uid_t>(0));
  EXPECT_FALSE(*real.user_id("no-such-user"));
}

// ---- root and the login user

TEST_F(RealHostTest, AProgramReportsOnDescriptor3BesideItsOutput) {
  std::vector<std::string> seen;
  Command words = command({"sh", "-c", "echo words; echo report >&3; exec 3>&-; echo more words"});
  words.takes_line = [&seen](std::string_view line) { return seen.emplace_back(line), true; };
  const Result<CommandResult> done = host().act(words, log_);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->exit_code, 0);
  EXPECT_THAT(seen, ElementsAre("words", "report", "more words"));
}

TEST_F(RealHostTest, TheLastLineCountsWithoutItsEndToo) {
  std::vector<std::string> seen;
  Command words = command({"sh", "-c", "echo one; printf two"});
  words.takes_line = [&seen](std::string_view line) { return seen.emplace_back(line), true; };
  ::testing::internal::CaptureStdout();
  const Result<CommandResult> done = host().act(words, log_);
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "") << "what was taken is not shown";
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_THAT(seen, ElementsAre("one", "two"));
}

TEST_F(RealHostTest, LinesOfStandardErrorAreTakenWhereAsked) {
  std::vector<std::string> seen;
  Command words = command({"sh", "-c", R"(printf 'Receiving: 10%%\rReceiving: 20%%\rdone\n' >&2; exit 3)"});
  words.takes_errors = true;
  words.takes_line = [&seen](std::string_view line) { return seen.emplace_back(line), true; };
  const Result<CommandResult> done = host().act(words, log_);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->exit_code, 3);
  EXPECT_THAT(seen, ElementsAre("Receiving: 10%", "Receiving: 20%", "done"));
  EXPECT_THAT(done->err, HasSubstr("done")) << "what a program said last is still known to whoever explains its failure";
}

TEST_F(RealHostAsRootTest, ARootStepActsInTheHomeAsItsUser) {
  RealHost real = host();
  ASSERT_TRUE(real.as_login().write(in_home("f"), "x", {}));
  EXPECT_EQ(status(in_home("f")).st_uid, kNobody);
  EXPECT_EQ(status(in_home("f")).st_gid, kNobody);
  ASSERT_TRUE(real.as_login().make_directory(in_home("d/e"), {.mode = 0700}));
  EXPECT_EQ(status(in_home("d")).st_uid, kNobody);
  EXPECT_EQ(::geteuid(), 0U) << "and is root again";
  EXPECT_EQ(::getegid(), 0U);
  EXPECT_FALSE(real.as_login().write(at("not-mine"), "x", {}));
  EXPECT_FALSE(path_exists(at("not-mine")));
}

TEST_F(RealHostAsRootTest, TheUserCannotReadWhatIsRoots) {
  RealHost real = host();
  ASSERT_TRUE(real.write(at("secret"), "x", {.mode = 0600}));
  std::filesystem::create_symlink(at("secret"), in_home("link"));
  for (const std::string& path : {at("secret"), in_home("link")}) {
    const auto read = real.as_login().read(path);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code(), ErrorCode::permission);
  }
}

TEST_F(RealHostAsRootTest, CommandsOfTheUserHaveNoRightsLeft) {
  RealHost real = host();
  const auto result =
      real.as_login().look(command({"sh", "-c", "grep -E '^(Uid|Gid|Groups|CapEff):' /proc/self/status; echo $HOME $USER; pwd"}));
  ASSERT_TRUE(result.has_value());
  EXPECT_THAT(result->out, HasSubstr("Uid:\t65534\t65534\t65534\t65534"));
  EXPECT_THAT(result->out, HasSubstr("Gid:\t65534\t65534\t65534\t65534"));
  EXPECT_THAT(result->out, HasSubstr("CapEff:\t0000000000000000"));
  EXPECT_THAT(result->out, HasSubstr(login_.home + " nobody\n" + login_.home + "\n"));
}

TEST_F(RealHostAsRootTest, ALinkOfTheUserDoesNotLeadRootElsewhere) {
  RealHost real = host();
  std::filesystem::create_directory(at("etc"));
  std::ofstream(at("etc/passwd")) << "root";
  std::filesystem::create_symlink(at("etc"), in_home("work"));
  ASSERT_EQ(::lchown(in_home("work").c_str(), kNobody, kNobody), 0);
  const std::string path = in_home("work/passwd");
  for (const Result<void>& refused :
       {real.write(path, "owned", {}), real.set_attributes(path, {.mode = 0666}), real.remove(path), real.remove_tree(path),
        real.make_directory(in_home("work/new"), {}), real.make_symlink(in_home("work/l"), "x"), real.rename(path, at("stolen")),
        real.make_directory(in_home("work"), {.mode = 0777})}) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ErrorCode::unsafe) << refused.error().sentence();
  }
  EXPECT_EQ(content(at("etc/passwd")), "root");
  EXPECT_THAT(names_in(at("etc")), ElementsAre("passwd"));
}

TEST_F(RealHostAsRootTest, FollowsALinkThatOnlyRootCouldMake) {
  RealHost real = host();
  std::filesystem::create_directory(at("data"));
  std::filesystem::create_symlink("data", at("alias"));
  ASSERT_TRUE(real.write(at("alias/f"), "x", {}));
  EXPECT_EQ(content(at("data/f")), "x");
}

TEST_F(RealHostAsRootTest, RefusesToGiveAwayAFileWithASecondName) {
  RealHost real = host();
  std::ofstream(at("shadow")) << "x";
  ASSERT_EQ(::link(at("shadow").c_str(), in_home("mine").c_str()), 0);
  const auto given = real.set_attributes(in_home("mine"), {.uid = kNobody});
  ASSERT_FALSE(given);
  EXPECT_EQ(given.error().code(), ErrorCode::unsafe);
  EXPECT_EQ(status(at("shadow")).st_uid, 0U);
}

TEST_F(RealHostAsRootTest, KeepsTheOwnerOfWhatItReplaces) {
  RealHost real = host();
  ASSERT_TRUE(real.write(at("f"), "x", {.mode = 0640, .uid = kNobody, .gid = kNobody}));
  ASSERT_TRUE(real.write(at("f"), "y", {}));
  EXPECT_EQ(status(at("f")).st_uid, kNobody);
  EXPECT_EQ(status(at("f")).st_gid, kNobody);
}

TEST_F(RealHostAsRootTest, TakesNeitherOwnerNorModeOfWhatAnybodyMayHavePutThere) {
  RealHost real = host();
  ASSERT_TRUE(real.write(at("f"), "x", {.mode = 0666, .uid = kNobody, .gid = kNobody}));
  ASSERT_EQ(::chmod(parent_of(at("f")).c_str(), 01777), 0);
  ASSERT_TRUE(real.write(at("f"), "y", {}));
  EXPECT_EQ(status(at("f")).st_uid, 0U);
  EXPECT_EQ(status(at("f")).st_mode & 07777U, 0644U);
}

TEST_F(RealHostAsRootTest, StillDiesWithItsParentAfterActingAsAnother) {
  int before = 0;
  ASSERT_EQ(::prctl(PR_GET_PDEATHSIG, &before), 0);
  ASSERT_EQ(::prctl(PR_SET_PDEATHSIG, SIGUSR1), 0);
  RealHost real = host();
  EXPECT_TRUE(real.as_login().info(login_.home));
  int after = 0;
  EXPECT_EQ(::prctl(PR_GET_PDEATHSIG, &after), 0);
  EXPECT_EQ(after, SIGUSR1);
  ASSERT_EQ(::prctl(PR_SET_PDEATHSIG, before), 0);
}

TEST_F(RealHostTest, APipeIsNoFileToRead) {
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  const Result<std::string> read = host().read(at("pipe"));
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code(), ErrorCode::unsafe);
}

// ---- commands

TEST_F(RealHostTest, ACommandSeesOnlyItsOwnEnvironment) {
  ASSERT_EQ(::setenv("GPUSTRAP_TEST_LEAK", "leaked", 1), 0);
  login_.proxy = {{"https_proxy", "http://proxy:3128"}};
  RealHost real = host({{"STEP", "from the recipe"}, {"PATH", "/nowhere:/usr/bin:/bin"}});
  Command env = command({"env"});
  env.env = {{"STEP", "from the command"}};
  const auto result = real.look(env);
  ::unsetenv("GPUSTRAP_TEST_LEAK");
  ASSERT_TRUE(result.has_value());
  EXPECT_THAT(result->out, Not(HasSubstr("leaked")));
  EXPECT_THAT(result->out, HasSubstr("STEP=from the command\n"));
  EXPECT_THAT(result->out, Not(HasSubstr("from the recipe"))) << "every name once";
  EXPECT_THAT(result->out, HasSubstr("PATH=/nowhere:/usr/bin:/bin\n"));
  EXPECT_THAT(result->out, Not(HasSubstr("PATH=/usr/local/sbin")));
  EXPECT_THAT(result->out, HasSubstr("https_proxy=http://proxy:3128\nHTTPS_PROXY=http://proxy:3128\n"));
  EXPECT_THAT(result->out, HasSubstr("LANG=C.UTF-8\n"));
}

TEST_F(RealHostTest, ACommandIsLedToTheMirrorUnlessItsStepSaysWhere) {
  Mirror mirror;
  mirror.places = {{"pypi", "", "https://mirror.example.org/simple"}, {"conda", "", "https://mirror.example.org/cloud"}};
  const RealHost led(facts_, identity_of_self(), login_, {}, mirror);
  EXPECT_THAT(led.look(command({"env"}))->out, HasSubstr("PIP_INDEX_URL=https://mirror.example.org/simple\n"));
  EXPECT_THAT(led.as_login().look(command({"env"}))->out, HasSubstr("CONDA_CHANNEL_ALIAS=https://mirror.example.org/cloud\n"));
  const RealHost own(facts_, identity_of_self(), login_, {{"PIP_INDEX_URL", "https://own.example.org"}}, mirror);
  const std::string seen = own.look(command({"env"}))->out;
  EXPECT_THAT(seen, HasSubstr("PIP_INDEX_URL=https://own.example.org\n"));
  EXPECT_THAT(seen, Not(HasSubstr("https://mirror.example.org/simple")));
  EXPECT_EQ(own.mirror().place("pypi"), "") << "nor is it said to be used";
  EXPECT_THAT(host().look(command({"env"}))->out, Not(HasSubstr("PIP_INDEX_URL")));
}

TEST_F(RealHostTest, HasNoStandardInput) { EXPECT_EQ(host().look(command({"cat"}))->out, ""); }

TEST_F(RealHostTest, AMissingProgramIsAResult) {
  const auto result = host().look(command({"no-such-program-here"}));
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->exit_code, 127);
}

TEST_F(RealHostTest, AnErrorSaysWhetherAProgramIsMissingOrWasKilled) {
  const Command missing = command({"no-such-program-here", "--now"});
  const Error none = command_error(missing, *host().look(missing));
  EXPECT_EQ(none.code(), ErrorCode::not_found);
  EXPECT_EQ(none.why(), "`no-such-program-here` is not on this host");
  EXPECT_EQ(none.hint(), "install it, or correct its name");
  const Command victim = command({"sh", "-c", "echo half done >&2; kill -KILL $$"});
  const Error killed = command_error(victim, *host().look(victim));
  EXPECT_EQ(killed.code(), ErrorCode::command);
  EXPECT_THAT(killed.why(), HasSubstr("was killed (exit 137): half done"));
  EXPECT_THAT(killed.hint(), HasSubstr("if memory ran out"));
}

TEST_F(RealHostTest, WhatSpeaksNoHttpIsNoServer) {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::uint16_t port = ntohs(address.sin_port);
  const pid_t server = ::fork();
  if (server == 0) {
    const UniqueFd peer(::accept(listener.get(), nullptr, nullptr));
    (void)write_all(peer.get(), "SSH-2.0-OpenSSH_9.6\r\n");
    ::_exit(0);
  }
  const Result<int> status = host().http_status(port, "/");
  ::waitpid(server, nullptr, 0);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code(), ErrorCode::protocol);
  EXPECT_EQ(status.error().sentence(), "asking 127.0.0.1:" + std::to_string(port) + ": what answers there is no HTTP server");
}

TEST_F(RealHostTest, AFileOnTheWayLeadsNowhere) {
  ASSERT_TRUE(write_file_atomically(at("file"), ""));
  const Result<UniqueFd> opened = open_directory(at("file") + "/below");
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), ErrorCode::not_found);
  EXPECT_THAT(opened.error().sentence(), HasSubstr("`file` on the way is not a directory"));
}

TEST_F(RealHostTest, WhoIsNotRootBecomesNobodyElse) {
  // The test may be root: what is asked is asked by a process that is not.
  Result<Pipe> told = make_pipe();
  ASSERT_TRUE(told);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0 && ::setresuid(kNobody, kNobody, kNobody) != 0) ::_exit(1);
    Identity ann;
    ann.uid = 4711;
    ann.name = "ann";
    const Result<void> became = become(ann);
    if (became || became.error().code() != ErrorCode::permission) ::_exit(1);
    (void)write_all(told->write_end.get(), became.error().why() + "\n" + became.error().hint());
    ::_exit(0);
  }
  told->write_end.reset();
  const std::string said = read_all(told->read_end.get(), 4096).value_or("");
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  const uid_t uid = ::geteuid() == 0 ? kNobody : ::geteuid();
  EXPECT_EQ(said, "the agent runs as uid " + std::to_string(uid) + " and cannot become ann\nlog in as a user who may use sudo");
}

TEST_F(RealHostTest, ATimeLimitIsAnError) {
  Command slow = command({"sleep", "300"});
  slow.timeout = std::chrono::milliseconds(100);
  const auto result = host().look(slow);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::timeout);
}

TEST_F(RealHostTest, AnErrorQuotesTheEndOfALongOutput) {
  RealHost real = host();
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  const Command failing = command({"sh", "-c", "seq 1 100000 >&2; echo the reason >&2; exit 3"});
  const auto result = real.act(failing, log_);
  const std::string shown = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(::testing::internal::GetCapturedStdout(), IsEmpty());
  ASSERT_TRUE(result.has_value());
  EXPECT_THAT(shown, HasSubstr("99999\n100000\nthe reason\n")) << "all of it is the step's output";
  EXPECT_THAT(shown, ::testing::StartsWith("1\n2\n"));
  EXPECT_THAT(command_error(failing, *result).why(), HasSubstr("(exit 3): the reason"));
}

TEST_F(RealHostTest, AMissingFolderToRunInIsSaid) {
  Command lost = command({"true"});
  lost.cwd = at("nothing");
  const auto result = host().look(lost);
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->exit_code, 126);
  EXPECT_THAT(result->err, HasSubstr("No such file"));
}

}  // namespace
}  // namespace gpustrap
