#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

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
  LaunchOfferTest() : client_(account_settings(), std::make_unique<FakeCloud>(cloud_), time_.clock()), ec2_(client_) {
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
  /// What a person is asked to agree to, who says no; else the error.
  std::string offered() {
    std::string offer;
    Launch launch(ec2_, folder_.path(), wish_,
                  {[](const std::string&) {},
                   [&](const std::string& description) -> Result<bool> {
                     offer = description;
                     return agrees_;
                   },
                   asks_});
    const Result<Launched> launched = launch.run();
    if (launched) return launched->instance.id + " " + launched->identity;
    return offer.empty() || agrees_ ? launched.error().sentence() + " -> " + launched.error().hint() : offer;
  }

  TemporaryDirectory folder_;
  FakeCloud::Answers cloud_;
  FakeTime time_;
  AwsClient client_;
  Ec2 ec2_;
  LaunchWish wish_;
  bool agrees_ = false, asks_ = true;
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
  const Result<Launched> launched = launch.run();
  ASSERT_FALSE(launched);
  EXPECT_THAT(launched.error().sentence(),
              HasSubstr("AWS has none of these now: g4dn.xlarge in us-east-1c b a (InsufficientInstanceCapacity)"));
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

/// Everything that can stand in the way of an offer, each told with what to do.
TEST_F(LaunchOfferTest, AnImageThatCannotBeStartedIsRefused) {
  const auto image = [&](const std::string& state, const std::string& platform, const std::string& architecture) {
    cloud_.list("DescribeImages", "imagesSet",
                "<item><imageId>ami-1</imageId><name>one</name><imageState>" + state + "</imageState><platform>" + platform +
                    "</platform><architecture>" + architecture + "</architecture></item>");
  };
  wish_.image = "ami-1";
  image("available", "windows", "x86_64");
  EXPECT_EQ(offered(), "--image ami-1: this is Windows -> gpustrap sets up Linux: --image ubuntu:24.04");
  image("pending", "", "x86_64");
  EXPECT_EQ(offered(), "the image ami-1 is pending -> wait until it is available, then run it again");
  image("available", "", "arm64");
  EXPECT_EQ(offered(),
            "the image ami-1 is for arm64, and g4dn.xlarge is not -> take an image by its system, for instance --image ubuntu:24.04");
  wish_.image = "ubuntu:99.04";
  cloud_.refusals["GetParameter"] = {400, "ParameterNotFound"};
  EXPECT_THAT(offered(), AllOf(HasSubstr("--image ubuntu:99.04: us-east-1 has no such image"), HasSubstr("-> for instance ubuntu:24.04")));
}

TEST_F(LaunchOfferTest, WhereThereIsNoPlaceForAMachineAnotherIsNamed) {
  const FakeCloud::Answers all = cloud_;
  cloud_.list("DescribeInstanceTypes", "instanceTypeSet", "");
  EXPECT_THAT(offered(), AllOf(HasSubstr("us-east-1 has no g4dn.xlarge, g4dn.2xlarge"), HasSubstr("-> another region may")));
  cloud_ = all;
  cloud_.list("DescribeSubnets", "subnetSet", "");
  EXPECT_EQ(offered(), "the account has no default network in us-east-1 -> make one: aws ec2 create-default-vpc --region us-east-1");
  cloud_ = all;
  cloud_.list("DescribeInstanceTypeOfferings", "instanceTypeOfferingSet", "");
  EXPECT_EQ(offered(),
            "g4dn.xlarge, g4dn.2xlarge is not offered in any zone of us-east-1 that the account has a default subnet in -> another region "
            "may offer it: --region us-east-1");
}

TEST_F(LaunchOfferTest, WhoIsNotAskedAgreesToNoPriceThatNobodyKnows) {
  cloud_.list("DescribeInstanceTypes", "instanceTypeSet", type_item("m7i.large", 0));
  cloud_.list("DescribeInstanceTypeOfferings", "instanceTypeOfferingSet",
              "<item><instanceType>m7i.large</instanceType><location>us-east-1a</location></item>");
  wish_.types = {"m7i.large"};
  EXPECT_THAT(offered(), HasSubstr("of a price that is not known here")) << "a person sees that";
  asks_ = false;
  EXPECT_THAT(offered(), AllOf(HasSubstr("what an hour of m7i.large costs is not known here"), HasSubstr("leave -y out")));
  wish_.spot = true;
  cloud_.list("DescribeSpotPriceHistory", "spotPriceHistorySet", spot_item("m7i.large", "us-east-1a", "0.03"));
  EXPECT_THAT(offered(), HasSubstr("spot, now 0.03 USD an hour"));
}

TEST_F(LaunchOfferTest, AKeyPairThatIsAnotherKeyIsNotUsed) {
  const Result<OwnKey> key = own_key(folder_ / "keys/ec2", MakeKey::where_missing);
  ASSERT_TRUE(key);
  cloud_.list(
      "DescribeKeyPairs", "keySet",
      "<item><keyName>" + key->name() + "</keyName><keyFingerprint>YqyHyuVhHI/McpgiWHT//qlol1OPezr3hqb9cfoK6Kk=</keyFingerprint></item>");
  agrees_ = true;
  EXPECT_THAT(offered(),
              AllOf(HasSubstr("is not the key in"), HasSubstr("aws ec2 delete-key-pair --region us-east-1 --key-name " + key->name())));
  EXPECT_EQ(cloud_.count("RunInstances"), 0U);
}

TEST_F(LaunchOfferTest, AnOrderThatCannotBeNotedIsNotGiven) {
  cloud_.list("DescribeKeyPairs", "keySet", "");
  cloud_.answers["ImportKeyPair"] = "<ImportKeyPairResponse/>";
  cloud_.list("DescribeSecurityGroups", "securityGroupInfo", "");
  cloud_.answers["CreateSecurityGroup"] = "<CreateSecurityGroupResponse><groupId>sg-1</groupId></CreateSecurityGroupResponse>";
  cloud_.answers["AuthorizeSecurityGroupIngress"] = "<AuthorizeSecurityGroupIngressResponse/>";
  std::filesystem::create_directories(folder_ / "ec2/orders/us-east-1+123456789012/lab.json/x");
  agrees_ = true;
  EXPECT_THAT(offered(), AllOf(HasSubstr("noting the order before it is given"), HasSubstr("nothing was ordered"),
                               Not(HasSubstr("may have been rented"))));
  EXPECT_EQ(cloud_.count("RunInstances"), 0U);
}

TEST_F(LaunchOfferTest, AConsoleThatShowsNothingIsWaitedForSevenMinutesAndThatIsSaid) {
  cloud_.answers["GetConsoleOutput"] = "<GetConsoleOutputResponse><output></output></GetConsoleOutputResponse>";
  cloud_.list("DescribeInstanceStatus", "instanceStatusSet", "<item><instanceId>i-1</instanceId></item>");
  std::vector<std::string> said;
  Launch launch(ec2_, folder_.path(), wish_,
                {[&](const std::string& text) { said.push_back(text); }, [](const std::string&) -> Result<bool> { return false; }});
  const AwsTime begin = time_.now;
  const Result<std::vector<std::string>> keys = launch.read_host_keys("i-1", true);
  ASSERT_TRUE(keys);
  EXPECT_TRUE(keys->empty());
  EXPECT_LE(time_.now - begin, std::chrono::minutes(7) + std::chrono::seconds(5));
  ASSERT_EQ(said.size(), 1U);
  EXPECT_THAT(said[0], AllOf(HasSubstr("Still none after 4 minutes; waiting 3 more"), HasSubstr("gpustrap terminate lab")));
}

/// Of a machine that is there, or was ordered: what is asked for now is compared with it.
class LaunchAgainTest : public LaunchOfferTest {
 protected:
  LaunchAgainTest() { key_ = own_key(folder_ / "keys/ec2", MakeKey::where_missing)->name(); }
  static std::string instance(const std::string& key, const std::string& lifecycle, const std::string& image_word) {
    return "<item><instancesSet><item><instanceId>i-1</instanceId><imageId>ami-1</imageId><instanceType>g4dn.xlarge</"
           "instanceType><keyName>" +
           key + "</keyName><ipAddress>203.0.113.7</ipAddress><instanceState><name>running</name></instanceState>" +
           (lifecycle.empty() ? "" : "<instanceLifecycle>" + lifecycle + "</instanceLifecycle>") +
           "<blockDeviceMapping><item><deviceName>/dev/sda1</deviceName><ebs><volumeId>vol-1</volumeId></ebs></item></blockDeviceMapping>" +
           "<tagSet><item><key>gpustrap</key><value>lab</value></item><item><key>gpustrap:image</key><value>" + image_word +
           "</value></item></tagSet></item></instancesSet></item>";
  }
  void there(const std::string& lifecycle = "", const std::string& image_word = "ubuntu:24.04") {
    cloud_.list("DescribeInstances", "reservationSet", instance(key_, lifecycle, image_word));
    cloud_.list("DescribeVolumes", "volumeSet", "<item><volumeId>vol-1</volumeId><size>64</size></item>");
  }
  void in_state(const std::string& state, const std::string& reason = "") {
    there();
    std::string& answer = cloud_.answers["DescribeInstances"];
    const std::string running = "<instanceState><name>running</name></instanceState>";
    answer.replace(answer.find(running), running.size(),
                   "<instanceState><name>" + state + "</name></instanceState><stateReason><message>" + reason + "</message></stateReason>");
  }
  void ordered(bool spot = false, const std::string& image_word = "ubuntu:24.04") {
    const Ec2Order order{"ami-1",
                         "g4dn.xlarge",
                         key_,
                         "sg-1",
                         "subnet-1",
                         "/dev/sda1",
                         64,
                         spot,
                         "token",
                         "",
                         {{"gpustrap", "lab"}, {"gpustrap:image", image_word}}};
    ASSERT_TRUE(OrderRecord(folder_.path(), "us-east-1+123456789012", "lab").save(order, time_.now));
  }
  std::string key_;
};

TEST_F(LaunchAgainTest, TheSameWishTakesWhatIsThere) {
  there();
  EXPECT_EQ(offered(), "i-1 " + (folder_ / "keys/ec2"));
  wish_.disk_gib = 32, wish_.disk_said = true;
  EXPECT_EQ(offered(), "i-1 " + (folder_ / "keys/ec2")) << "a larger disk does";
}

TEST_F(LaunchAgainTest, AnotherWishIsRefusedWithWhatDiffers) {
  there("spot");
  EXPECT_THAT(offered(), AllOf(HasSubstr("it is spot, and --spot is not asked for"), HasSubstr("give another --name")));
  there();
  wish_.spot = true;
  EXPECT_THAT(offered(), HasSubstr("it is not spot"));
  wish_.spot = false;
  wish_.disk_gib = 200, wish_.disk_said = true;
  EXPECT_THAT(offered(), HasSubstr("its disk has 64 GiB, not 200"));
  wish_.disk_gib = 64, wish_.disk_said = false;
  there("", "dlami");
  EXPECT_EQ(offered(), "i-1 " + (folder_ / "keys/ec2")) << "nobody has said which image";
  wish_.image = "debian:13", wish_.image_said = true;
  EXPECT_THAT(offered(), HasSubstr("its image is dlami, not debian:13"));
  wish_.image = "ami-2";
  EXPECT_THAT(offered(), HasSubstr("its image is ami-1, not ami-2"));
}

TEST_F(LaunchAgainTest, AnotherTypeOrAStoppedMachineIsSaidSo) {
  there();
  wish_.types = {"g5.xlarge"};
  EXPECT_EQ(offered(),
            "there is an instance `lab` already, i-1, a g4dn.xlarge -> give another --name, or end that one: gpustrap terminate lab");
  wish_.types = {"g4dn.xlarge"};
  in_state("stopped");
  EXPECT_EQ(offered(), "there is an instance `lab` already, i-1, and it is stopped -> gpustrap start lab");
}

TEST_F(LaunchAgainTest, OfTwoOfOneNameNeitherIsTaken) {
  cloud_.list("DescribeInstances", "reservationSet", instance(key_, "", "ubuntu:24.04") + instance(key_, "", "ubuntu:24.04"));
  EXPECT_EQ(offered(), "there are 2 instances called `lab` -> `gpustrap ls` shows them; end one by its id: gpustrap terminate i-1");
}

TEST_F(LaunchAgainTest, OneThatDoesNotComeUpIsNotWaitedForForEver) {
  in_state("pending");
  EXPECT_EQ(offered(), "i-1 has not started within 10 minutes -> see `gpustrap ls`, or end it: gpustrap terminate lab");
  in_state("pending");
  time_.while_waiting = [this] { in_state("terminated", "Server.InternalError: it broke"); };
  EXPECT_EQ(
      offered(),
      "i-1 did not start; it is terminated: Server.InternalError: it broke -> nothing of it is billed any more; run it again, and another "
      "zone or type may do (--type a,b)");
}

TEST_F(LaunchAgainTest, OneWithoutAnAddressIsOfNoUse) {
  cloud_.list("DescribeInstances", "reservationSet", [&] {
    std::string text = instance(key_, "", "ubuntu:24.04");
    const std::string address = "<ipAddress>203.0.113.7</ipAddress>";
    return text.erase(text.find(address), address.size());
  }());
  EXPECT_EQ(offered(), "i-1 runs, but has no public address -> its subnet gives none; end it: gpustrap terminate lab");
}

TEST_F(LaunchAgainTest, OneThatStopsWhileItsChecksAreAwaitedIsTold) {
  in_state("terminated", "Server.SpotInstanceTermination");
  cloud_.list("DescribeInstanceStatus", "instanceStatusSet", "");
  Launch launch(ec2_, folder_.path(), wish_, {[](const std::string&) {}, [](const std::string&) -> Result<bool> { return true; }});
  const Result<void> checked = launch.wait_for_checks("i-1");
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code(), ErrorCode::unsupported);
  EXPECT_EQ(checked.error().why(), "lab did not go on running; it is terminated: Server.SpotInstanceTermination");
  EXPECT_THAT(checked.error().hint(), HasSubstr("nothing of it is billed any more"));
}

TEST_F(LaunchAgainTest, WhatAnEarlierOrderHasMadeMeanwhileIsNotRentedOver) {
  ordered();
  wish_.types = {"g4dn.2xlarge"};
  time_.while_waiting = [this] { there(); };
  EXPECT_EQ(
      offered(),
      "an earlier launch has made `lab`, i-1, and it is not what is asked for: it is a g4dn.xlarge -> give another --name, or end that "
      "one: gpustrap terminate lab");
  EXPECT_EQ(cloud_.count("RunInstances"), 0U);
}

TEST_F(LaunchAgainTest, AKeyThatItWasNotLaunchedWithIsNeverNoted) {
  there();
  ASSERT_TRUE(own_key(folder_ / "mine", MakeKey::where_missing));
  wish_.identity = folder_ / "mine";
  EXPECT_THAT(offered(), AllOf(HasSubstr("launched with the key " + key_), HasSubstr("mine is another"), HasSubstr("leave -i out")));
  wish_.identity.clear();
  key_ = "gpustrap-0123456789ab";
  there();
  EXPECT_THAT(offered(), AllOf(HasSubstr("launched with the key gpustrap-0123456789ab, which is not here"), HasSubstr("-i FILE")));
}

TEST_F(LaunchAgainTest, AnOrderIsTakenUpOnlyForTheSameWish) {
  ordered();
  EXPECT_THAT(offered(), HasSubstr("An earlier command ordered this"));
  wish_.spot = true;
  EXPECT_THAT(offered(), HasSubstr("This rents in us-east-1")) << "it has made nothing, and is over";
  EXPECT_FALSE(OrderRecord(folder_.path(), "us-east-1+123456789012", "lab").load(time_.now));
  wish_.spot = false;
  ordered(false, "dlami");
  wish_.image_said = true;
  EXPECT_THAT(offered(), HasSubstr("This rents in us-east-1"));
  ordered();
  std::filesystem::remove(folder_ / "keys/ec2");
  EXPECT_THAT(offered(), HasSubstr("This rents in us-east-1")) << "the key that it was ordered with is gone";
}

}  // namespace
}  // namespace gpustrap
