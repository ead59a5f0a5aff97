#include "controller/ssh_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

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

TEST(SshConfig, AJumpIsACommandOfSshItself) {
  EXPECT_EQ(target_of("hostname h\nport 22\nproxyjump me@jump:2200\n").proxy_command, "ssh -W [h]:22 -p 2200 -- me@jump");
  EXPECT_THAT(target_of("hostname h\nproxyjump a,b\n").proxy_command, HasSubstr("-J a -- b"));
}

TEST(SshConfig, ANameThatLooksLikeAnOptionIsRefused) {
  const auto target = resolve_target({"-oProxyCommand=touch x", "", std::nullopt, {}});
  ASSERT_FALSE(target.has_value());
  EXPECT_EQ(target.error().code(), ErrorCode::usage);
}

TEST(SshConfig, OffersOnlyKeysThatExist) {
  EXPECT_THAT(target_of("identityfile /etc/hostname\nidentityfile /nonexistent/key\n").default_identities, ElementsAre("/etc/hostname"));
}

}  // namespace
}  // namespace gpustrap
