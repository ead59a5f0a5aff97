#include "controller/ssh_config.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

SshTarget target_of(const std::string& config, const SshRequest& request = {"box", "", std::nullopt, {}}) {
  return target_from_config(request, config, "/nonexistent-home");
}

TEST(SshConfig, TakesTheEffectiveSettings) {
  const SshTarget target = target_of(
      "user ubuntu\nhostname 203.0.113.7\nport 2222\nconnecttimeout 7\nhostkeyalias box-7\nuserknownhostsfile /x/known /y/known2\n");
  EXPECT_EQ(target.user, "ubuntu");
  EXPECT_EQ(target.host, "203.0.113.7");
  EXPECT_EQ(target.port, 2222);
  EXPECT_EQ(target.connect_timeout, std::chrono::seconds(7));
  EXPECT_EQ(target.greeting_timeout, std::chrono::seconds(7));
  EXPECT_EQ(target.host_key_alias, "box-7");
  EXPECT_EQ(target.known_hosts, "/x/known");
  EXPECT_THAT(target.more_known_hosts, ElementsAre("/y/known2", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"));
}

TEST(SshConfig, AllKnownHostsFilesAreThoseOfSsh) {
  const SshTarget usual = target_of("");
  EXPECT_EQ(usual.known_hosts, "/nonexistent-home/.ssh/known_hosts");
  EXPECT_THAT(usual.more_known_hosts,
              ElementsAre("/nonexistent-home/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"));
  const SshTarget own = target_of("userknownhostsfile ~/.ssh/known/%k /dev/null ~/b\nglobalknownhostsfile /dev/null\n");
  EXPECT_EQ(own.known_hosts, "/nonexistent-home/.ssh/known/box");
  EXPECT_THAT(own.more_known_hosts, ElementsAre("/nonexistent-home/b"));
}

TEST(SshConfig, TheCommandLineWins) {
  const SshTarget target = target_of("user ubuntu\nport 2222\n", {"box", "root", 22, {}});
  EXPECT_EQ(target.user, "root");
  EXPECT_EQ(target.port, 22);
}

TEST(SshConfig, DoesNotFollowWhatTurnsChecksOffAndSaysSo) {
  const SshTarget target = target_of("stricthostkeychecking no\nuserknownhostsfile /dev/null\nforwardagent yes\n");
  EXPECT_EQ(target.known_hosts, "/nonexistent-home/.ssh/known_hosts");
  EXPECT_EQ(target.notices.size(), 3U);
  EXPECT_THAT(target_of("stricthostkeychecking ask\nforwardagent no\n").notices, IsEmpty());
}

TEST(SshConfig, FillsInTheTokensOfAProxyCommand) {
  EXPECT_EQ(target_of("hostname h\nport 23\nuser u\nproxycommand nc %h %p %r %% %n\n").proxy_command, "nc h 23 u % box");
  EXPECT_EQ(target_of("proxycommand none\n").proxy_command, "");
}

TEST(SshConfig, FillsInTheTokensOfPaths) {
  const TemporaryDirectory folder;
  for (const char* name : {"box_joe_23", "box-7.203.0.113.9", "of_home"}) std::ofstream(folder / name) << "a key";
  ::setenv("GPUSTRAP_TEST_FOLDER", folder.path().c_str(), 1);
  const SshTarget target = target_from_config(
      {"box", "", std::nullopt, {}},
      fmt::format("identityfile {0}/%n_%r_%p\nidentityfile ${{GPUSTRAP_TEST_FOLDER}}/%k.%h\nidentityfile %d/of_home\nidentityfile ~/%%\n"
                  "identityagent ~/agent.%u\nhostname 203.0.113.9\nhostkeyalias box-7\nport 23\nuser joe\n",
                  folder.path()),
      folder.path());
  EXPECT_THAT(target.configured_identities, ElementsAre(folder / "box_joe_23", folder / "box-7.203.0.113.9", folder / "of_home"));
  EXPECT_THAT(target.agent_socket, AllOf(HasSubstr(folder / "agent."), Not(HasSubstr("%"))));
}

TEST(SshConfig, AJumpIsACommandOfSshItself) {
  EXPECT_EQ(target_of("hostname h\nport 22\nproxyjump me@jump:2200\n").proxy_command, "ssh -W [h]:22 -p 2200 -- me@jump");
  EXPECT_THAT(target_of("hostname h\nproxyjump a,b\n").proxy_command, HasSubstr("-J a -- b"));
}

TEST(SshConfig, AJumpByAddressLosesTheBracketsOfSshG) {
  const auto jump_of = [](const std::string& jump) { return target_of("hostname h\nport 22\nproxyjump " + jump + "\n").proxy_command; };
  EXPECT_EQ(jump_of("[203.0.113.9]"), "ssh -W [h]:22 -- 203.0.113.9");
  EXPECT_EQ(jump_of("me@[203.0.113.9]:2200"), "ssh -W [h]:22 -p 2200 -- me@203.0.113.9");
  EXPECT_EQ(jump_of("[2001:db8::1]"), "ssh -W [h]:22 -- 2001:db8::1");
  EXPECT_EQ(jump_of("joe@lab@[2001:db8::1]:2200"), "ssh -W [h]:22 -p 2200 -- joe@lab@2001:db8::1");
  EXPECT_EQ(jump_of("u@[203.0.113.8]:23,[203.0.113.9]:22"), "ssh -W [h]:22 -J 'u@[203.0.113.8]:23' -p 22 -- 203.0.113.9");
}

TEST(SshConfig, ANameThatLooksLikeAnOptionIsRefused) {
  const auto target = resolve_target({"-oProxyCommand=touch x", "", std::nullopt, {}});
  ASSERT_FALSE(target.has_value());
  EXPECT_EQ(target.error().code(), ErrorCode::usage);
}

TEST(SshConfig, NothingOfAHostOrUserIsReadByAShell) {
  TargetResolver resolver;
  const std::vector<std::string> odd = {"$(touch x)", "a b", "a;b", "`id`", "-l",  "a\nb", "a'b",
                                        "a\"b",       "a|b", "a&b", "a>b",  "{a}", "a\\b", "a\x7f"};
  for (const std::string& name : odd) {
    for (const SshRequest& request : {SshRequest{"box", name, std::nullopt, {}}, SshRequest{name, "joe", std::nullopt, {}}}) {
      EXPECT_EQ(resolver.resolve(request).error().code(), ErrorCode::usage) << name;
      const Result<SshTarget> target = resolve_target(request);
      ASSERT_FALSE(target.has_value()) << name;
      EXPECT_THAT(target.error().why(), HasSubstr(request.user == name ? "cannot be a user" : "cannot be a host"));
    }
  }
  for (const char* name : {"ubuntu", "joe@example.org", "a-b_c.d+e", "fe80::1%eth0", ""}) EXPECT_TRUE(is_plain_name(name)) << name;
}

TEST(SshConfig, OffersOnlyKeysThatExist) {
  const SshTarget target = target_of("identityfile /etc/hostname\nidentityfile /nonexistent/key\n");
  EXPECT_THAT(target.configured_identities, ElementsAre("/etc/hostname"));
  EXPECT_THAT(target.default_identities, IsEmpty());
}

TEST(SshConfig, TellsSshsUsualKeysFromThoseOfTheConfiguration) {
  const TemporaryDirectory home;
  std::filesystem::create_directory(home / ".ssh");
  std::ofstream(home / ".ssh/id_rsa") << "a key";
  for (const char* said : {"", "identityfile ~/.ssh/id_rsa\nidentityfile ~/.ssh/id_ed25519_sk\n"}) {
    const SshTarget target = target_from_config({"box", "", std::nullopt, {}}, said, home.path());
    EXPECT_THAT(target.default_identities, ElementsAre(home / ".ssh/id_rsa"));
    EXPECT_THAT(target.configured_identities, IsEmpty());
  }
}

TEST(SshConfig, HostLinesTakeWhatSshSaysTheyDo) {
  EXPECT_TRUE(host_line_takes("*", "gpu1"));
  EXPECT_TRUE(host_line_takes("lab? gpu*", "gpu1"));
  EXPECT_TRUE(host_line_takes("GPU1", "gpu1"));
  EXPECT_FALSE(host_line_takes("gpu* !gpu1", "gpu1"));
  EXPECT_TRUE(host_line_takes("gpu* !gpu1", "gpu12"));
  EXPECT_FALSE(host_line_takes("!gpu2", "gpu1")) << "a negation alone takes nobody";
  EXPECT_FALSE(host_line_takes("gpu", "gpu1"));
  EXPECT_TRUE(host_line_takes("*a*b?*", "xaaabbc"));
  EXPECT_FALSE(host_line_takes("*a*b?*", "xaaab"));
  std::string stars;
  for (int i = 0; i < 40; ++i) stars += "*a";
  EXPECT_FALSE(host_line_takes(stars + "b", std::string(200, 'a'))) << "and at once";
}

/// An ssh that reads a configuration of the test's own and counts how often it is asked.
class Resolver : public ::testing::Test {
 protected:
  Resolver() : path_before_(std::getenv("PATH")) {
    std::ofstream(folder_ / "ssh") << "#!/bin/sh\necho asked >>" << folder_.path() << "/asked\nPATH=" << path_before_ << " exec ssh -F "
                                   << folder_.path() << "/config \"$@\"\n";
    ::chmod((folder_ / "ssh").c_str(), 0755);
    ::setenv("PATH", (folder_.path() + ":" + path_before_).c_str(), 1);
  }
  ~Resolver() override { ::setenv("PATH", path_before_.c_str(), 1); }

  void configure(const std::string& text) { std::ofstream(folder_ / "config") << text; }
  SshTarget resolve(const std::string& host, const std::string& user = "") {
    const Result<SshTarget> target = resolver_.resolve({host, user, std::nullopt, {}});
    EXPECT_TRUE(target.has_value()) << target.error().sentence();
    return target.value_or(SshTarget{});
  }
  [[nodiscard]] std::size_t times_asked() const { return split(read_file(folder_ / "asked").value_or(""), '\n').size() - 1; }

  TemporaryDirectory folder_;
  std::string path_before_;
  TargetResolver resolver_;
};

TEST_F(Resolver, AsksOnceForHostsThatTheConfigurationTakesAlike) {
  configure("Host lab*\n  Port 2200\nHost *\n  User joe\n  ProxyCommand nc %h %p\n");
  EXPECT_EQ(resolve("gpu1").user, "joe");
  const SshTarget second = resolve("gpu2", "ubuntu");
  EXPECT_EQ(second.host, "gpu2");
  EXPECT_EQ(second.user, "ubuntu");
  EXPECT_EQ(second.proxy_command, "nc gpu2 22");
  EXPECT_EQ(times_asked(), 1U);
  EXPECT_EQ(resolve("lab1").port, 2200);
  EXPECT_EQ(resolve("lab2").port, 2200);
  EXPECT_EQ(resolve("gpu3").port, 22);
  EXPECT_EQ(times_asked(), 2U);
}

TEST_F(Resolver, WhatSshItselfCannotReadIsToldInItsWords) {
  configure("Host *\n  Prot 2200\n");
  const Result<SshTarget> target = resolver_.resolve({"gpu1", "", std::nullopt, {}});
  ASSERT_FALSE(target.has_value());
  EXPECT_EQ(target.error().code(), ErrorCode::usage);
  EXPECT_THAT(target.error().sentence(), HasSubstr("reading the SSH configuration: "));
  EXPECT_THAT(target.error().hint(), HasSubstr("try `ssh -G gpu1`"));
}

TEST_F(Resolver, AsksForEachHostWhereItsNameDecides) {
  configure("Host *\n  HostName %h.example.org\n");
  EXPECT_EQ(resolve("gpu1").host, "gpu1.example.org");
  EXPECT_EQ(resolve("gpu2").host, "gpu2.example.org");
  configure("Match originalhost gpu4\n  User four\n");
  EXPECT_EQ(resolve("gpu3").host, "gpu3");
  EXPECT_EQ(resolve("gpu4").user, "four");
}

/// Files of a configuration in a folder of the test's.
class SaysNothingTest : public ::testing::Test {
 protected:
  SaysNothingTest() {
    std::string name = ::testing::TempDir() + "sshXXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~SaysNothingTest() override { std::filesystem::remove_all(folder_); }
  bool ask(const std::string& text) {
    EXPECT_TRUE(write_file_atomically(folder_ + "/config", text).has_value());
    return says_nothing(folder_ + "/config", folder_, folder_);
  }
  std::string folder_;
};

TEST_F(SaysNothingTest, WhatDistributionsShipNeedsNoQuestion) {
  EXPECT_TRUE(says_nothing(folder_ + "/none", folder_, folder_));
  EXPECT_TRUE(ask(""));
  EXPECT_TRUE(
      ask("# Port 2222\n\nInclude conf.d/*.conf\nHost *\n    SendEnv LANG LC_*\n    HashKnownHosts yes\n    GSSAPIAuthentication yes\n"));
}

TEST_F(SaysNothingTest, WhateverMattersOrIsNotUnderstoodIsAskedFor) {
  EXPECT_FALSE(ask("Host gpu\n  HostName 203.0.113.7\n"));
  EXPECT_FALSE(ask("Port=2222\n"));
  EXPECT_FALSE(ask("Match exec true\n"));
  EXPECT_FALSE(ask("HashKnownHosts=yes\n"));
  EXPECT_FALSE(ask("Include \"a folder/config\"\n"));
  std::filesystem::create_directory(folder_ + "/conf.d");
  EXPECT_TRUE(ask("include conf.d/*\n"));
  ASSERT_TRUE(write_file_atomically(folder_ + "/conf.d/a", "User me\n").has_value());
  EXPECT_FALSE(ask("include conf.d/*\n"));
  EXPECT_FALSE(ask("Include ~/conf.d/a\n"));
  ASSERT_TRUE(write_file_atomically(folder_ + "/conf.d/a", "Include config\n").has_value());
  EXPECT_FALSE(ask("include conf.d/*\n")) << "files that include each other end somewhere";
}

}  // namespace
}  // namespace gpustrap
