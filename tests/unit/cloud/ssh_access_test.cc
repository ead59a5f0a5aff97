#include "controller/cloud/ssh_access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fake_cloud.h"
#include "tests/support/fake_http.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Sources, AreAddressesAndNeverEverybody) {
  EXPECT_EQ(*read_source("198.51.100.7"), "198.51.100.7/32");
  EXPECT_EQ(*read_source("198.51.100.0/24"), "198.51.100.0/24");
  EXPECT_EQ(*read_source("2001:db8::1"), "2001:db8::1/128");
  // As AWS keeps them, and tells them when the group is looked at again.
  EXPECT_EQ(*read_source("198.51.100.7/24"), "198.51.100.0/24");
  EXPECT_EQ(*read_source("198.51.101.7/23"), "198.51.100.0/23");
  EXPECT_EQ(*read_source("2001:DB8::1/64"), "2001:db8::/64");
  for (const char* bad : {"", "everywhere", "0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/7", "::/0", "2000::/3", "198.51.100.7/33", "198.51.100.7/",
                          "198.51.100.7/8x", "1.2.3"})
    EXPECT_FALSE(read_source(bad)) << bad;
}

TEST(Sources, HoldOthers) {
  EXPECT_TRUE(holds("198.51.100.7/32", "198.51.100.7/32"));
  EXPECT_TRUE(holds("198.51.100.0/24", "198.51.100.7/32"));
  EXPECT_TRUE(holds("0.0.0.0/0", "198.51.100.7/32"));
  EXPECT_TRUE(holds("2001:db8::/64", "2001:db8::7/128"));
  EXPECT_FALSE(holds("198.51.100.7/32", "198.51.100.0/24")) << "a part is not the whole";
  EXPECT_FALSE(holds("198.51.101.0/24", "198.51.100.7/32"));
  EXPECT_FALSE(holds("::/0", "198.51.100.7/32")) << "another kind of address";
  for (const char* bad : {"", "sg-0123", "pl-1", "198.51.100.0/33", "198.51.100.0/"}) EXPECT_FALSE(holds(bad, "198.51.100.7/32")) << bad;
}

class SshAccessTest : public ::testing::Test {
 protected:
  SshAccessTest() : client_(account_settings(), std::make_unique<FakeHttp>(log_), time_.clock()), ec2_(client_) {
    instance_.id = "i-1";
    instance_.groups = {"sg-1", "sg-2"};
  }
  static std::string group(const std::string& id, const std::string& from, bool own, int first = 22, int last = 22) {
    return "<item><groupId>" + id + "</groupId><groupName>g</groupName><ipPermissions><item><ipProtocol>tcp</ipProtocol><fromPort>" +
           std::to_string(first) + "</fromPort><toPort>" + std::to_string(last) + "</toPort><ipRanges><item><cidrIp>" + from +
           "</cidrIp></item></ipRanges></item></ipPermissions><tagSet>" +
           (own ? "<item><key>gpustrap</key><value>ssh</value></item>" : "") + "</tagSet></item>";
  }
  Result<SshAccess> ask(const std::string& groups, const std::string& source = "203.0.113.9/32") {
    log_.answers.emplace_back(answer_of(
        200, "<DescribeSecurityGroupsResponse><securityGroupInfo>" + groups + "</securityGroupInfo></DescribeSecurityGroupsResponse>"));
    return ssh_access(ec2_, instance_, source);
  }
  FakeHttp::Log log_;
  FakeTime time_;
  AwsClient client_;
  Ec2 ec2_;
  Ec2Instance instance_;
};

TEST_F(SshAccessTest, WhoseAddressCannotBeLookedUpNamesIt) {
  const Result<std::string> unasked = caller_source(ec2_);
  ASSERT_FALSE(unasked);
  EXPECT_EQ(unasked.error().code(), ErrorCode::network);
  EXPECT_EQ(unasked.error().why(), "this machine's address could not be looked up: nobody answers");
  EXPECT_THAT(unasked.error().hint(), HasSubstr("--ssh-from 198.51.100.7"));
  log_.answers.emplace_back(answer_of(200, "<html>log in to this network</html>"));
  const Result<std::string> odd = caller_source(ec2_);
  ASSERT_FALSE(odd);
  EXPECT_EQ(odd.error().code(), ErrorCode::network);
  EXPECT_EQ(odd.error().why(), "https://checkip.amazonaws.com/ did not answer with an address");
  EXPECT_THAT(odd.error().hint(), HasSubstr("--ssh-from 198.51.100.7"));
  log_.answers.emplace_back(answer_of(200, "198.51.100.7\n"));
  EXPECT_EQ(*caller_source(ec2_), "198.51.100.7/32");
}

TEST_F(SshAccessTest, IsWhatAllGroupsTogetherLetIn) {
  const Result<SshAccess> closed = ask(group("sg-1", "198.51.100.7/32", true) + group("sg-2", "10.0.0.0/8", false));
  ASSERT_TRUE(closed);
  EXPECT_FALSE(closed->open);
  EXPECT_THAT(closed->own, ElementsAre("sg-1"));
  EXPECT_THAT(closed->others, ElementsAre("sg-2"));
  EXPECT_THAT(closed->sources, ElementsAre("198.51.100.7/32"));
  EXPECT_THAT(log_.requests.back().body, HasSubstr("GroupId.1=sg-1&GroupId.2=sg-2"));
  EXPECT_TRUE(ask(group("sg-1", "203.0.113.0/24", true))->open);
  EXPECT_TRUE(ask(group("sg-1", "198.51.100.7/32", true) + group("sg-2", "203.0.113.9/32", false, 0, 65535))->open);
  EXPECT_FALSE(ask(group("sg-1", "203.0.113.9/32", true, 8888, 8888))->open) << "not of SSH";
}

TEST_F(SshAccessTest, WhatSomebodyOpenedFurtherIsNoticed) {
  EXPECT_THAT(ask(group("sg-1", "0.0.0.0/0", true, 8888, 8888))->wider, ElementsAre("tcp 8888 from 0.0.0.0/0 (sg-1)"));
  EXPECT_THAT(ask(group("sg-1", "0.0.0.0/0", true))->wider, ElementsAre("tcp 22 from 0.0.0.0/0 (sg-1)"));
  EXPECT_THAT(ask(group("sg-1", "203.0.113.9/32", true, 0, 65535))->wider, ElementsAre("tcp 0 to 65535 from 203.0.113.9/32 (sg-1)"));
  EXPECT_TRUE(ask(group("sg-1", "203.0.113.0/24", true))->wider.empty());
  EXPECT_TRUE(ask(group("sg-2", "0.0.0.0/0", false, 8888, 8888))->wider.empty()) << "others' groups are theirs";
}

TEST_F(SshAccessTest, MovesWithoutTouchingGroupsOfOthers) {
  const Result<SshAccess> before = ask(group("sg-1", "198.51.100.7/32", true) + group("sg-2", "10.0.0.0/8", false));
  ASSERT_TRUE(before);
  log_.answers.emplace_back(answer_of(200, "<DescribeSecurityGroupsResponse><securityGroupInfo/></DescribeSecurityGroupsResponse>"));
  log_.answers.emplace_back(answer_of(200, "<CreateSecurityGroupResponse><groupId>sg-3</groupId></CreateSecurityGroupResponse>"));
  log_.answers.emplace_back(answer_of(200, "<AuthorizeSecurityGroupIngressResponse/>"));
  log_.answers.emplace_back(refusal_of(400, "InvalidGroup.NotFound", "young"));
  log_.answers.emplace_back(answer_of(200, "<ModifyInstanceAttributeResponse/>"));
  const Result<void> moved = move_ssh_access(ec2_, instance_, *before, "203.0.113.9/32");
  ASSERT_TRUE(moved) << moved.error().sentence();
  EXPECT_THAT(log_.requests.back().body,
              HasSubstr("Action=ModifyInstanceAttribute&Version=2016-11-15&InstanceId=i-1&GroupId.1=sg-2&GroupId.2=sg-3"));
}

}  // namespace
}  // namespace gpustrap
