#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controller/cloud/launch.h"
#include "tests/support/fake_cloud.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string type_item(const std::string& name, int gpus) {
  return "<item><instanceType>" + name + "</instanceType><vCpuInfo><defaultVCpus>4</defaultVCpus></vCpuInfo><memoryInfo><sizeInMiB>16384" +
         "</sizeInMiB></memoryInfo><gpuInfo><gpus><item><name>T4</name><manufacturer>NVIDIA</manufacturer><count>" + std::to_string(gpus) +
         "</count></item></gpus></gpuInfo><processorInfo><supportedArchitectures><item>x86_64</item></supportedArchitectures>" +
         "</processorInfo></item>";
}

std::string spot_item(const std::string& type, const std::string& zone, const std::string& usd) {
  return "<item><instanceType>" + type + "</instanceType><availabilityZone>" + zone + "</availabilityZone><spotPrice>" + usd +
         "</spotPrice><timestamp>2026-11-21T11:00:00.000Z</timestamp></item>";
}

class LaunchOfferTest : public ::testing::Test {
 protected:
  LaunchOfferTest() : client_(settings(), std::make_unique<FakeCloud>(cloud_), time_.clock()), ec2_(client_) {
    cloud_.list("DescribeInstances", "reservationSet", "");
    cloud_.list("DescribeInstanceTypes", "instanceTypeSet", type_item("g4dn.xlarge", 1) + type_item("g4dn.2xlarge", 1));
    cloud_.answers["GetParameter"] = R"({"Parameter":{"Value":"ami-1"}})";
    cloud_.list("DescribeImages", "imagesSet",
                "<item><imageId>ami-1</imageId><name>ubuntu-24.04</name><imageState>available</imageState><architecture>x86_64"
                "</architecture><rootDeviceName>/dev/sda1</rootDeviceName></item>");
    std::string offers, subnets;
    for (const char* zone : {"us-east-1a", "us-east-1b", "us-east-1c"}) {
      for (const char* type : {"g4dn.xlarge", "g4dn.2xlarge"})
        offers += std::string("<item><instanceType>") + type + "</instanceType><location>" + zone + "</location></item>";
      subnets += std::string("<item><subnetId>subnet-") + zone + "</subnetId><vpcId>vpc-1</vpcId><availabilityZone>" + zone +
                 "</availabilityZone></item>";
    }
    cloud_.list("DescribeInstanceTypeOfferings", "instanceTypeOfferingSet", offers);
    cloud_.list("DescribeSubnets", "subnetSet", subnets);
    cloud_.list("DescribeSpotPriceHistory", "spotPriceHistorySet", "");
    cloud_.answers["GetServiceQuota"] = R"({"Quota":{"Value":64}})";
    wish_.types = {"g4dn.xlarge", "g4dn.2xlarge"};
    wish_.name = "lab";
    wish_.image = "ubuntu:24.04";
    wish_.ssh_from = "198.51.100.7";
  }
  static AwsSettings settings() {
    AwsSettings settings;
    settings.region = "us-east-1";
    settings.variables = [](const std::string& name) {
      return std::string(name.starts_with("AWS_ENDPOINT") || name.starts_with("AWS_IGNORE") ? "" : "x");
    };
    return settings;
  }
  /// What a person is asked to agree to, who says no; else the error.
  std::string offered() {
    std::string offer;
    Launch launch(ec2_, folder_.path(), wish_,
                  {[](const std::string&) {},
                   [&](const std::string& description) -> Result<bool> {
                     offer = description;
                     return false;
                   }});
    const Result<Launched> launched = launch.run();
    return offer.empty() ? launched.error().sentence() + " -> " + launched.error().hint() : offer;
  }

  TemporaryDirectory folder_;
  FakeCloud::Answers cloud_;
  FakeTime time_;
  AwsClient client_;
  Ec2 ec2_;
  LaunchWish wish_;
};

TEST_F(LaunchOfferTest, SpotIsOfferedAtThePriceOfTheZoneThatIsAskedFirst) {
  wish_.spot = true;
  cloud_.list("DescribeSpotPriceHistory", "spotPriceHistorySet",
              spot_item("g4dn.xlarge", "us-east-1b", "0.31") + spot_item("g4dn.xlarge", "us-east-1c", "0.21") +
                  spot_item("g4dn.2xlarge", "us-east-1a", "0.4"));
  const std::string offer = offered();
  EXPECT_THAT(offer, HasSubstr("spot, now 0.21 USD an hour in us-east-1c, which is asked first (now 0.21 to 0.31 USD an hour, by zone)"));
  EXPECT_THAT(offer, HasSubstr("else      g4dn.2xlarge at spot, now 0.4 USD an hour (on demand about 0.752 USD an hour)"));
}

TEST_F(LaunchOfferTest, SpotZonesAreAskedByPriceAndThoseWithoutOneLast) {
  wish_.spot = true;
  wish_.types = {"g4dn.xlarge"};
  cloud_.list("DescribeSpotPriceHistory", "spotPriceHistorySet",
              spot_item("g4dn.xlarge", "us-east-1b", "0.31") + spot_item("g4dn.xlarge", "us-east-1c", "0.21"));
  cloud_.list("DescribeKeyPairs", "keySet", "");
  cloud_.answers["ImportKeyPair"] = "<ImportKeyPairResponse/>";
  cloud_.list("DescribeSecurityGroups", "securityGroupInfo", "");
  cloud_.answers["CreateSecurityGroup"] = "<CreateSecurityGroupResponse><groupId>sg-1</groupId></CreateSecurityGroupResponse>";
  cloud_.answers["AuthorizeSecurityGroupIngress"] = "<AuthorizeSecurityGroupIngressResponse/>";
  cloud_.refusals["RunInstances"] = {500, "InsufficientInstanceCapacity"};
  std::string said;
  Launch launch(ec2_, folder_.path(), wish_,
                {[&](const std::string& text) { said += text + "\n"; }, [](const std::string&) -> Result<bool> { return true; }});
  EXPECT_FALSE(launch.run());
  const std::size_t c = said.find("in us-east-1c"), b = said.find("in us-east-1b"), a = said.find("in us-east-1a");
  ASSERT_NE(a, std::string::npos) << said;
  EXPECT_LT(c, b) << said;
  EXPECT_LT(b, a) << said;
}

TEST_F(LaunchOfferTest, SpotWithoutAPriceIsAtMostThatOfDemand) {
  wish_.spot = true;
  EXPECT_THAT(offered(), AllOf(HasSubstr("spot, at most the price on demand 0.526 USD an hour"),
                               HasSubstr("g4dn.2xlarge at spot, at most about 0.752 USD an hour")));
}

TEST_F(LaunchOfferTest, ARecipeThatNeedsAGpuIsNotGivenATypeWithoutAWholeOne) {
  cloud_.list("DescribeInstanceTypes", "instanceTypeSet", type_item("g4dn.xlarge", 1) + type_item("g4dn.2xlarge", 0));
  EXPECT_THAT(offered(), HasSubstr("g4dn.2xlarge")) << "without a recipe it is shown as it is";
  wish_.gpu_needed_by = "d2l";
  EXPECT_THAT(offered(), AllOf(HasSubstr("the recipe d2l needs a GPU, and g4dn.2xlarge has a part of one"), HasSubstr("--gpu t4")));
}

TEST_F(LaunchOfferTest, AnImageIsTheOneOfThatNameAndNoOther) {
  wish_.image = "lab*";
  EXPECT_THAT(offered(), HasSubstr("a name has no `*`"));
  wish_.image = "ubuntu-24";
  EXPECT_THAT(offered(), HasSubstr("there is no image of that name"));
  wish_.image = "ubuntu-24.04";
  EXPECT_THAT(offered(), AllOf(HasSubstr("ubuntu-24.04 (ami-1)"), Not(HasSubstr("spot"))));
}

}  // namespace
}  // namespace gpustrap
