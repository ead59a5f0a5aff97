// What verbs refuse before any host is reached.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "controller/conversation.h"
#include "controller/fleet_members.h"
#include "controller/host_access.h"
#include "controller/options.h"
#include "controller/verbs.h"
#include "tests/support/child.h"
#include "tests/support/environment.h"
#include "tests/support/loopback_server.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class VerbsHere : public ::testing::Test {
 protected:
  static Options options(const std::string& line) {
    Result<Options> read = read_options(words(line));
    EXPECT_TRUE(read) << read.error().sentence();
    return read.value_or(Options{});
  }
  template <class T> static Error error_of(const Result<T>& result) {
    EXPECT_FALSE(result);
    return result ? Error(ErrorCode::internal, "it went well") : result.error();
  }
  TemporaryDirectory folder_;
  EnvironmentVariable home_{"HOME", folder_.path()}, state_{"XDG_STATE_HOME", folder_.path()}, config_{"XDG_CONFIG_HOME", folder_.path()};
};

TEST_F(VerbsHere, ARecipeIsShownAsItIsWritten) {
  const Error error = error_of(verb_recipe_show(options("recipe show jupyter --var port=9000")));
  EXPECT_EQ(error.code(), ErrorCode::usage);
  EXPECT_EQ(error.why(), "--var goes with --json: the recipe itself is shown as it is written");
  EXPECT_EQ(error.hint(), "add --json, or leave --var out");
}

TEST_F(VerbsHere, AnArchitectureThatThereIsNoAgentForIsToldWithThoseThereAre) {
  const Error error = error_of(verb_pack(options("pack jupyter --arch sparc64 -o " + (folder_ / "packed.sh"))));
  EXPECT_EQ(error.code(), ErrorCode::usage);
  EXPECT_THAT(error.why(), StartsWith("--arch sparc64: this gpustrap carries agents for "));
  EXPECT_THAT(error.hint(), HasSubstr("`uname -m`"));
}

TEST_F(VerbsHere, WhatCannotBeAdoptedIsNamedWithItsFile) {
  const std::string missing = folder_ / "setup.sh";
  const Error none = error_of(verb_adopt(options("adopt " + missing)));
  EXPECT_EQ(none.code(), ErrorCode::usage);
  EXPECT_THAT(none.why(), AllOf(HasSubstr(missing), HasSubstr("No such file")));
  EXPECT_THAT(none.hint(), HasSubstr("name a shell script"));
  std::ofstream(missing) << std::string("\x7f\x45LF\0\0\0", 7);
  const Error binary = error_of(verb_adopt(options("adopt " + missing)));
  EXPECT_EQ(binary.code(), ErrorCode::usage);
  EXPECT_THAT(binary.why(), StartsWith(missing + ": "));
  EXPECT_FALSE(binary.hint().empty());
}

TEST_F(VerbsHere, ARecipeBeginsInAFolderThatIsThere) {
  const Error error = error_of(verb_recipe_new(options("recipe new " + (folder_ / "none/lab.yaml"))));
  EXPECT_EQ(error.code(), ErrorCode::usage);
  EXPECT_EQ(error.sentence(), "creating " + (folder_ / "none/lab.yaml") + ": No such file or directory");
  EXPECT_EQ(error.hint(), "name a file in a folder that is there");
}

TEST_F(VerbsHere, AStepThatStandsWhereAHostDoesIsToldApart) {
  const Error error = error_of(verb_fleet(options("up d2l gpu1 pip --only conda -y")));
  EXPECT_EQ(error.code(), ErrorCode::usage);
  EXPECT_EQ(error.why(), "`pip` stands where a host does, and is a step of the recipe");
  EXPECT_EQ(error.hint(), "several steps have commas between them: --only conda,pip");
}

TEST_F(VerbsHere, ASudoPasswordIsAskedForAtATerminalAlone) {
  const Options asks = options("status gpu1 gpu2 --ask-sudo-password");
  const std::string said = in_child([&] {
    FleetWork work;
    const Result<void> asked = ask_sudo_password_for(asks, work);
    return asked ? "it was given"
                 : error_code_name(asked.error().code()).data() + (": " + asked.error().why() + " -> " + asked.error().hint());
  });
  EXPECT_EQ(said, "authentication: no sudo password was given -> --ask-sudo-password needs a terminal to ask at");
}

/// Ctrl-C as soon as a host that says nothing is asked.
TEST_F(VerbsHere, WhoInterruptsWhileHostsAreAskedIsHeard) {
  const LoopbackServer silent([&](int connection) {
    const UniqueFd first(::open((folder_ / "asked").c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600));
    if (first.valid()) ::kill(std::atoi(read_file(folder_ / "pid").value_or("0").c_str()), SIGINT);
    char byte = 0;
    while (::read(connection, &byte, 1) > 0) {}
  });
  const std::string path = std::getenv("PATH");
  std::ofstream(folder_ / "config") << "Host 203.0.113.*\n  HostName 127.0.0.1\n  Port " << silent.port() << "\n";
  std::ofstream(folder_ / "ssh") << "#!/bin/sh\nPATH=" << path << " exec ssh -F " << (folder_ / "config") << " \"$@\"\n";
  ASSERT_EQ(::chmod((folder_ / "ssh").c_str(), 0755), 0);
  const EnvironmentVariable found("PATH", folder_.path() + ":" + path);
  const auto outcome = [&](const std::string& line, VerbResult (*verb)(const Options&)) {
    static_cast<void>(::unlink((folder_ / "asked").c_str()));
    return in_child([&] {
      const int null = ::open("/dev/null", O_RDWR);
      for (const int standard : {0, 1, 2}) ::dup2(null, standard);
      std::ofstream(folder_ / "pid") << ::getpid();
      const VerbResult ended = verb(options(line));
      return ended ? "it ended with " + std::to_string(static_cast<int>(*ended)) : ended.error().why() + " -> " + ended.error().hint();
    });
  };
  EXPECT_EQ(outcome("status 203.0.113.7 203.0.113.8", verb_status), "interrupted -> ");
  // Which may restart a host: somebody is to agree to it, so the hosts are looked at first.
  EXPECT_EQ(outcome("up d2l 203.0.113.7 203.0.113.8", verb_fleet), "interrupted -> nothing was changed");
}

TEST_F(VerbsHere, AFileIsSharedOverAConnectionThatThereIs) {
  const Options one = options("status gpu1");
  const std::unique_ptr<Status> status = make_silent_status();
  HostAccess access(one, Rights::whatever, *status);
  const Error error = error_of(access.share(ShareRequest{}));
  EXPECT_EQ(error.code(), ErrorCode::unreachable);
  EXPECT_EQ(error.why(), "there is no connection");
}

}  // namespace
}  // namespace gpustrap
