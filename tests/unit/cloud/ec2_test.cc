#include "controller/cloud/ec2.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/protocol/json.h"
#include "controller/cloud/holdings.h"
#include "controller/cloud/spot_prices.h"
#include "tests/support/fake_cloud.h"
#include "tests/support/fake_http.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::SizeIs;

std::string instances_answer(const std::string& id, const std::string& next = "") {
  return "<?xml version=\"1.0\"?><DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>r</requestId>"
         "<reservationSet><item><reservationId>r-1</reservationId><instancesSet><item><instanceId>" +
         id +
         "</instanceId><imageId>ami-1</imageId><instanceState><code>16</code><name>running</name></instanceState>"
         "<dnsName>ec2-203-0-113-7.compute-1.amazonaws.com</dnsName><ipAddress>203.0.113.7</ipAddress><keyName>k</keyName>"
         "<instanceType>g4dn.xlarge</instanceType><launchTime>2026-11-21T10:00:00.000Z</launchTime>"
         "<placement><availabilityZone>us-east-1b</availabilityZone></placement><instanceLifecycle>spot</instanceLifecycle>"
         "<blockDeviceMapping><item><deviceName>/dev/sda1</deviceName><ebs><volumeId>vol-1</volumeId>"
         "<deleteOnTermination>true</deleteOnTermination></ebs></item></blockDeviceMapping>"
         "<groupSet><item><groupId>sg-1</groupId><groupName>g</groupName></item></groupSet>"
         "<tagSet><item><key>Name</key><value>a &amp; b</value></item></tagSet></item></instancesSet></item></reservationSet>" +
         (next.empty() ? "" : "<nextToken>" + next + "</nextToken>") + "</DescribeInstancesResponse>";
}

class Ec2Test : public ::testing::Test {
 protected:
  Ec2Test() : client_(account_settings(), std::make_unique<FakeHttp>(log_), time_.clock()), ec2_(client_) {}
  FakeHttp::Log log_;
  FakeTime time_;
  AwsClient client_;
  Ec2 ec2_;
};

TEST_F(Ec2Test, ChecksAndWhatIsPlannedAreRead) {
  log_.answers.emplace_back(answer_of(
      200,
      "<DescribeInstanceStatusResponse><instanceStatusSet><item><instanceId>i-1</instanceId><eventsSet>"
      "<item><code>instance-retirement</code><description>degraded</description><notBefore>2026-12-01T00:00:00.000Z</notBefore></item>"
      "<item><code>system-reboot</code><description>[Completed] a reboot</description></item></eventsSet>"
      "<systemStatus><status>ok</status></systemStatus><instanceStatus><status>impaired</status></instanceStatus>"
      "</item></instanceStatusSet></DescribeInstanceStatusResponse>"));
  const AwsResult<std::vector<Ec2Status>> all = ec2_.describe<Ec2Status>("DescribeInstanceStatus", {{"InstanceId.1", "i-1"}});
  ASSERT_TRUE(all);
  ASSERT_THAT(*all, SizeIs(1));
  EXPECT_EQ(checks_text(all->front()), "impaired (instance)");
  ASSERT_THAT(all->front().events, SizeIs(1)) << "what is over is not shown";
  EXPECT_EQ(all->front().events[0].code, "instance-retirement");
  EXPECT_EQ(iso_time(*all->front().events[0].not_before), "2026-12-01T00:00:00Z");
  EXPECT_EQ(checks_text({"i", "initializing", "ok", {}}), "checks under way");
  EXPECT_EQ(checks_text({"i", "ok", "ok", {}}), "");
  EXPECT_EQ(checks_text({"i", "insufficient-data", "not-applicable", {}}), "");
}

TEST(Ec2Names, AnIdIsStrongerThanAName) {
  Ec2Instance first, second;
  first.id = "i-1", first.tags = {{kOwnerTag, "i-2"}};
  second.id = "i-2", second.tags = {{kOwnerTag, "lab"}};
  EXPECT_EQ(own_instance({first, second}, "i-2", "r")->id, "i-2");
  EXPECT_EQ(own_instance({first, second}, "lab", "r")->id, "i-2");
  first.tags = {{kOwnerTag, "lab"}};
  EXPECT_THAT(own_instance({first, second}, "lab", "r").error().why(), HasSubstr("2 instances"));
  first.state = "shutting-down";
  EXPECT_EQ(own_instance({first, second}, "lab", "r")->id, "i-2");
  EXPECT_THAT(own_instance({second}, "lap", "us-east-1").error().why(), AllOf(HasSubstr("us-east-1"), HasSubstr("did you mean `lab`?")));
}

TEST(Ec2Names, AreNoPatterns) {
  for (const char* bad : {"lab*", "l?b", "lab\\*"}) EXPECT_TRUE(has_wildcard(bad)) << bad;
  EXPECT_FALSE(has_wildcard("lab-2026"));
}

TEST_F(Ec2Test, SpotPricesAreTheNewestOfEachTypeAndZone) {
  const auto item = [](const std::string& type, const std::string& zone, const std::string& price, const std::string& since) {
    return "<item><instanceType>" + type + "</instanceType><availabilityZone>" + zone + "</availabilityZone><spotPrice>" + price +
           "</spotPrice><timestamp>" + since + "</timestamp></item>";
  };
  log_.answers.emplace_back(answer_of(
      200, "<DescribeSpotPriceHistoryResponse><spotPriceHistorySet>" + item("g4dn.xlarge", "a", "0.21", "2026-11-21T10:00:00.000Z") +
               item("g4dn.xlarge", "a", "0.19", "2026-11-21T11:00:00.000Z") + item("g4dn.xlarge", "a", "0.17", "2026-11-21T09:00:00.000Z") +
               item("g5.xlarge", "b", "0.4", "2026-11-21T10:00:00.000Z") + item("g5.xlarge", "c", "free", "2026-11-21T10:00:00.000Z") +
               "</spotPriceHistorySet></DescribeSpotPriceHistoryResponse>"));
  const AwsResult<SpotPrices> prices = spot_prices(ec2_, {"g4dn.xlarge", "g5.xlarge"});
  ASSERT_TRUE(prices);
  EXPECT_THAT(*prices, ElementsAre(Pair(Pair("g4dn.xlarge", "a"), 0.19), Pair(Pair("g5.xlarge", "b"), 0.4)));
  EXPECT_THAT(log_.requests[0].body, AllOf(HasSubstr("InstanceType.1=g4dn.xlarge"), HasSubstr("InstanceType.2=g5.xlarge")));
}

TEST(Http, WhatIsNoAddressIsToldAsSuch) {
  HttpRequest request;
  request.url = "nonsense/";
  const Result<HttpResponse> sent = make_http("")->send(request);
  ASSERT_FALSE(sent);
  EXPECT_THAT(sent.error().why(), HasSubstr("`nonsense/` is no address"));
  EXPECT_THAT(sent.error().hint(), HasSubstr("AWS_ENDPOINT_URL"));
}

TEST_F(Ec2Test, AllPagesAreAskedFor) {
  log_.answers.emplace_back(answer_of(200, instances_answer("i-1", "more+/=")));
  log_.answers.emplace_back(answer_of(200, instances_answer("i-2")));
  const AwsResult<std::vector<Ec2Instance>> all = ec2_.describe<Ec2Instance>("DescribeInstances", {}, {{"tag:gpustrap", {"a", "b"}}});
  ASSERT_TRUE(all) << all.error().error.sentence();
  ASSERT_THAT(*all, SizeIs(2));
  EXPECT_THAT(log_.requests[0].body,
              AllOf(HasSubstr("Filter.1.Name=tag%3Agpustrap&Filter.1.Value.1=a&Filter.1.Value.2=b"), Not(HasSubstr("NextToken"))));
  EXPECT_THAT(log_.requests[1].body, HasSubstr("NextToken=more%2B%2F%3D"));
  const Ec2Instance& one = all->front();
  EXPECT_EQ(one.id, "i-1");
  EXPECT_EQ(one.state, "running");
  EXPECT_EQ(one.address, "203.0.113.7");
  EXPECT_EQ(one.zone, "us-east-1b");
  EXPECT_EQ(one.lifecycle, "spot");
  EXPECT_EQ(one.launched, read_iso_time("2026-11-21T10:00:00Z"));
  EXPECT_THAT(one.tags, ElementsAre(Pair("Name", "a & b")));
  EXPECT_THAT(one.groups, ElementsAre("sg-1"));
  ASSERT_THAT(one.disks, SizeIs(1));
  EXPECT_TRUE(one.disks[0].goes_with_instance);
}

TEST_F(Ec2Test, AnInstanceThatIsNotKnownYetIsWaitedFor) {
  for (int i = 0; i < 3; ++i)
    log_.answers.emplace_back(refusal_of(400, "InvalidInstanceID.NotFound", "The instance ID 'i-1' does not exist"));
  log_.answers.emplace_back(answer_of(200, instances_answer("i-1")));
  EXPECT_TRUE(ec2_.instance("i-1"));
  for (int i = 0; i < 50; ++i)
    log_.answers.emplace_back(refusal_of(400, "InvalidInstanceID.NotFound", "The instance ID 'i-1' does not exist"));
  const AwsTime before = time_.now;
  EXPECT_EQ(ec2_.instance("i-1").error().code, "InvalidInstanceID.NotFound");
  EXPECT_LT(time_.now - before, std::chrono::seconds(90)) << "but not for ever";
}

TEST_F(Ec2Test, AnOrderIsForOneEncryptedMachineThatHidesItsMetadata) {
  Ec2Order order{"ami-1", "g5.xlarge", "k", "sg-1", "subnet-1", "/dev/sda1", 64, false, "token", "#!/bin/sh\n", {{"gpustrap", "x"}}};
  const Parameters parameters = parameters_of(order);
  for (const auto& one : Parameters{{"MinCount", "1"},
                                    {"MaxCount", "1"},
                                    {"ClientToken", "token"},
                                    {"SecurityGroupId.1", "sg-1"},
                                    {"UserData", "IyEvYmluL3NoCg=="},
                                    {"BlockDeviceMapping.1.Ebs.Encrypted", "true"},
                                    {"BlockDeviceMapping.1.Ebs.VolumeType", "gp3"},
                                    {"BlockDeviceMapping.1.Ebs.VolumeSize", "64"},
                                    {"MetadataOptions.HttpTokens", "required"},
                                    {"InstanceInitiatedShutdownBehavior", "stop"},
                                    {"TagSpecification.2.ResourceType", "volume"},
                                    {"TagSpecification.2.Tag.1.Key", "gpustrap"}})
    EXPECT_THAT(parameters, Contains(one)) << one.first;
  order.spot = true;
  EXPECT_THAT(parameters_of(order), AllOf(Contains(Pair("InstanceMarketOptions.MarketType", "spot")),
                                          Not(Contains(Pair("InstanceInitiatedShutdownBehavior", "stop")))));
}

TEST_F(Ec2Test, TheQuotaThatWasNeverRaisedIsTheDefault) {
  log_.answers.emplace_back(answer_of(400, R"({"__type":"NoSuchResourceException","Message":"m"})"));
  log_.answers.emplace_back(answer_of(200, R"({"Quota":{"Value":8.0,"Adjustable":true}})"));
  const AwsResult<Ec2::Quota> quota = ec2_.quota("L-DB2E81BA");
  ASSERT_TRUE(quota);
  EXPECT_EQ(quota->vcpus, 8.0);
}

TEST_F(Ec2Test, WhatIsGoneOrThereAlreadyIsNoFailure) {
  log_.answers.emplace_back(refusal_of(400, "InvalidVolume.NotFound", "gone"));
  EXPECT_TRUE(ec2_.remove("DeleteVolume", "VolumeId", "vol-1"));
  log_.answers.emplace_back(refusal_of(400, "InvalidPermission.Duplicate", "there"));
  EXPECT_TRUE(ec2_.allow_ssh("sg-1", "2001:db8::1/128"));
  EXPECT_THAT(log_.requests.back().body, HasSubstr("IpPermissions.1.Ipv6Ranges.1.CidrIpv6=2001%3Adb8%3A%3A1%2F128"));
}

TEST_F(Ec2Test, ConsoleOutputIsDecoded) {
  log_.answers.emplace_back(
      answer_of(200, "<GetConsoleOutputResponse><instanceId>i</instanceId><output>aGVsbG8K\nd29ybGQ=</output></GetConsoleOutputResponse>"));
  log_.answers.emplace_back(answer_of(200, "<GetConsoleOutputResponse><instanceId>i</instanceId></GetConsoleOutputResponse>"));
  EXPECT_EQ(*ec2_.console_output("i-1"), "hello\nworld");
  EXPECT_EQ(*ec2_.console_output("i-1"), "") << "nothing yet";
  log_.answers.emplace_back(
      refusal_of(400, "UnsupportedOperation", "This instance type does not support retrieving the latest console logs"));
  log_.answers.emplace_back(answer_of(200, "<GetConsoleOutputResponse><output>YWJj</output></GetConsoleOutputResponse>"));
  EXPECT_EQ(*ec2_.console_output("i-1"), "abc");
}

TEST_F(Ec2Test, RegionsAreThoseThatTheAccountHasEnabled) {
  log_.answers.emplace_back(answer_of(200,
                                      "<DescribeRegionsResponse><regionInfo><item><regionName>us-east-1</regionName><optInStatus>"
                                      "opt-in-not-required</optInStatus></item><item><regionName>af-south-1</regionName><optInStatus>"
                                      "not-opted-in</optInStatus></item><item><regionName>ap-east-1</regionName><optInStatus>opted-in"
                                      "</optInStatus></item><item><regionName>evil.example/</regionName></item></regionInfo>"
                                      "</DescribeRegionsResponse>"));
  EXPECT_THAT(*enabled_regions(ec2_), ElementsAre("ap-east-1", "us-east-1"));
}

TEST(Regions, ThatAreMisspeltHaveANeighbour) {
  EXPECT_EQ(region_meant_by("us-esat-1"), "us-east-1");
  EXPECT_EQ(region_meant_by("us-east-99"), "us-east-1");
  EXPECT_EQ(region_meant_by("eu-west-1"), "");
  EXPECT_EQ(region_meant_by("moon-base-1"), "");
}

TEST(Ec2Answers, WhatIsNotTheAnswerIsNotReadAsOne) {
  for (const char* bad : {"", "<", "<html/>", "{}", "<DescribeVolumesResponse/>"}) EXPECT_FALSE(read_page<Ec2Instance>(bad)) << bad;
  EXPECT_FALSE(read_error_xml("<html/>"));
  EXPECT_FALSE(read_sts_keys("<AssumeRoleResponse/>"));
  EXPECT_FALSE(read_sts_keys("<"));
  EXPECT_FALSE(read_account("<GetCallerIdentityResponse/>"));
  EXPECT_FALSE(read_account("<"));
  EXPECT_TRUE(read_page<Ec2Volume>("<DescribeVolumesResponse/>")->items.empty());
}

TEST(Ec2Answers, WhatAnswersInTheirPlaceIsToldByWhatWasAwaited) {
  const auto expect = [](const Error& error, const std::string& why, const std::string& hint) {
    EXPECT_EQ(error.code(), ErrorCode::protocol);
    EXPECT_EQ(error.why(), why);
    EXPECT_EQ(error.hint(), hint);
  };
  const std::string ec2 = "see whether AWS_ENDPOINT_URL leads to EC2";
  expect(read_page<Ec2Volume>("{}").error(), "the answer is not XML, but DescribeVolumesResponse awaited", ec2);
  expect(read_page<Ec2Volume>("<html/>").error(), "the answer is not a DescribeVolumesResponse", ec2);
  expect(read_page<Ec2Instance>("<html/>").error(), "the answer is not a DescribeInstancesResponse", ec2);
  expect(read_started("<html/>").error(), "the answer is not a RunInstancesResponse", ec2);
  expect(read_text("{}", "imageId").error(), "the answer is not XML, but imageId awaited", ec2);
  expect(read_text("<html/>", "imageId").error(), "the answer holds no imageId", ec2);
  const std::string sts = "see whether AWS_ENDPOINT_URL or AWS_ENDPOINT_URL_STS leads to AWS";
  expect(read_sts_keys("{}").error(), "the answer of STS is not XML", sts);
  expect(read_sts_keys("<html/>").error(), "the answer of STS holds no credentials", sts);
  expect(read_account("{}").error(), "the answer of STS is not XML", sts);
  expect(read_account("<html/>").error(), "the answer of STS names no account", sts);
}

TEST_F(Ec2Test, AnAnswerWithoutWhatWasAskedForIsNoAnswer) {
  const auto expect = [](const AwsFailure& failure, const std::string& sentence) {
    EXPECT_EQ(failure.error.code(), ErrorCode::protocol);
    EXPECT_EQ(failure.error.sentence(), sentence);
    EXPECT_EQ(failure.error.hint(), "see whether AWS_ENDPOINT_URL leads to AWS");
    EXPECT_EQ(failure.code, "") << "AWS has refused nothing";
  };
  log_.answers.emplace_back(answer_of(200, "<RunInstancesResponse/>"));
  expect(ec2_.run(Ec2Order{}).error(), "ec2 RunInstances: the answer holds no instance");
  log_.answers.emplace_back(answer_of(200, R"({"Parameter":{}})"));
  expect(ec2_.parameter("/a").error(), "ssm GetParameter /a: the answer holds no value");
  log_.answers.emplace_back(answer_of(200, R"({"Quota":{"Value":"8"}})"));
  expect(ec2_.quota("L-1").error(), "service-quotas GetServiceQuota L-1: the answer holds no value");
}

TEST_F(Ec2Test, AnInstanceThatNeverBecomesKnownIsNone) {
  for (int i = 0; i < 100; ++i)
    log_.answers.emplace_back(answer_of(200, "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>"));
  const AwsResult<Ec2Instance> none = ec2_.instance("i-9");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().error.code(), ErrorCode::not_found);
  EXPECT_EQ(none.error().error.why(), "there is no instance i-9");
  EXPECT_EQ(none.error().error.hint(), "`gpustrap ls` shows those there are");
  EXPECT_FALSE(time_.pauses.empty()) << "it may have been made a moment ago";
}

TEST(Ec2Answers, WhenOneWasStoppedStandsInAReason) {
  const auto stopped = [](const std::string& reason) {
    return read_page<Ec2Instance>(
               "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId><reason>" + reason +
               "</reason></item></instancesSet></item></reservationSet></DescribeInstancesResponse>")
        ->items.at(0)
        .stopped;
  };
  EXPECT_EQ(stopped("User initiated (2026-11-21 10:00:00 GMT)"), read_iso_time("2026-11-21T10:00:00Z"));
  for (const char* none : {"", "User initiated", "(", "(2026-11-21", "User initiated (some day or another)"})
    EXPECT_FALSE(stopped(none)) << none;
}

TEST(Ec2Answers, TypesAndGroups) {
  const Result<Ec2Page<Ec2InstanceType>> types = read_page<Ec2InstanceType>(
      "<DescribeInstanceTypesResponse><instanceTypeSet><item><instanceType>g5.12xlarge</instanceType><vCpuInfo><defaultVCpus>48</"
      "defaultVCpus></vCpuInfo>"
      "<memoryInfo><sizeInMiB>196608</sizeInMiB></memoryInfo><gpuInfo><gpus><item><name>A10G</name><manufacturer>NVIDIA</"
      "manufacturer><count>4</count>"
      "<memoryInfo><sizeInMiB>22888</sizeInMiB></memoryInfo></item></gpus></gpuInfo><processorInfo><supportedArchitectures><item>x86_64</"
      "item>"
      "</supportedArchitectures></processorInfo></item></instanceTypeSet></DescribeInstanceTypesResponse>");
  ASSERT_TRUE(types);
  EXPECT_EQ(types->items.at(0).vcpus, 48);
  EXPECT_EQ(types->items.at(0).gpus.at(0).count, 4);
  EXPECT_THAT(types->items.at(0).architectures, ElementsAre("x86_64"));
  const Result<Ec2Page<Ec2Group>> groups = read_page<Ec2Group>(
      "<DescribeSecurityGroupsResponse><securityGroupInfo><item><groupId>sg-1</groupId><groupName>n</groupName><vpcId>vpc-1</"
      "vpcId><ipPermissions><item>"
      "<ipProtocol>tcp</ipProtocol><fromPort>22</fromPort><toPort>22</toPort><ipRanges><item><cidrIp>198.51.100.7/32</cidrIp></item></"
      "ipRanges><prefixListIds><item><prefixListId>pl-1</prefixListId></item></prefixListIds></item>"
      "</ipPermissions></item></securityGroupInfo></DescribeSecurityGroupsResponse>");
  ASSERT_TRUE(groups);
  EXPECT_EQ(groups->items.at(0).rules.at(0).from_port, 22);
  EXPECT_THAT(groups->items.at(0).rules.at(0).sources, ElementsAre("198.51.100.7/32", "pl-1"));
}

TEST(Base64, BothWays) {
  for (const std::string& text : std::vector<std::string>{"", "a", "ab", "abc", std::string("\0\xff", 2)})
    EXPECT_EQ(base64_decoded(base64_encoded(text)), text);
  EXPECT_EQ(base64_encoded("abcd"), "YWJjZA==");
  EXPECT_FALSE(base64_decoded("a"));
  EXPECT_FALSE(base64_decoded("!!!!"));
}

}  // namespace
}  // namespace gpustrap
