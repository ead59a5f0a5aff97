#include "controller/cloud_verb.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controller/cloud/launch_record.h"
#include "tests/support/fake_cloud.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

class OpenOrdersTest : public ::testing::Test {
 protected:
  OpenOrdersTest() : client_(account_settings(), std::make_unique<FakeCloud>(cloud_), time_.clock()), ec2_(client_) {
    const Ec2Order order{"ami-1", "g5.xlarge", "k", "sg-1", "subnet-1", "/dev/sda1", 64, false, "token-1", "", {{"gpustrap", "lab"}}};
    static_cast<void>(record_.save(order, time_.now));
  }
  std::string told(const std::vector<Ec2Instance>& listed = {}) {
    ::testing::internal::CaptureStderr();
    tell_open_orders(ec2_, folder_.path(), listed);
    return ::testing::internal::GetCapturedStderr();
  }
  void made(const std::string& state) {
    cloud_.list("DescribeInstances", "reservationSet",
                "<item><instancesSet><item><instanceId>i-1</instanceId><instanceState><name>" + state +
                    "</name></instanceState></item></instancesSet></item>");
  }
  TemporaryDirectory folder_;
  FakeCloud::Answers cloud_;
  FakeTime time_;
  AwsClient client_;
  Ec2 ec2_;
  OrderRecord record_{folder_.path(), "us-east-1+123456789012", "lab"};
};

TEST_F(OpenOrdersTest, AYoungOneIsTold) {
  EXPECT_THAT(told(), HasSubstr("A launch of lab (g5.xlarge) was cut off: whether it is rented"));
  EXPECT_EQ(cloud_.count("DescribeInstances"), 0U);
  Ec2Instance lab;
  lab.id = "i-1", lab.tags = {{kOwnerTag, "lab"}};
  EXPECT_EQ(told({lab}), "");
}

TEST_F(OpenOrdersTest, OneOfAnotherAccountIsNotTold) {
  cloud_.answers["GetCallerIdentity"] =
      "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>210987654321</Account>"
      "</GetCallerIdentityResult></GetCallerIdentityResponse>";
  EXPECT_EQ(told(), "");
}

TEST_F(OpenOrdersTest, WithoutAnyNobodyIsAskedWhoseAccountItIs) {
  record_.remove();
  EXPECT_EQ(told(), "");
  EXPECT_TRUE(cloud_.asked.empty());
}

TEST_F(OpenOrdersTest, OneThatHasRentedNothingIsClosed) {
  time_.now += std::chrono::minutes(11);
  made("terminated");
  EXPECT_THAT(told(), HasSubstr("nothing of it is rented"));
  EXPECT_THAT(cloud_.asked.back(), HasSubstr("Filter.1.Name=client-token&Filter.1.Value.1=token-1"));
  EXPECT_FALSE(record_.load(time_.now));
  EXPECT_EQ(told(), "");
}

TEST_F(OpenOrdersTest, OneOfWhichNothingIsKnownStays) {
  time_.now += std::chrono::minutes(11);
  EXPECT_THAT(told(), HasSubstr("whether it is rented")) << "AWS was not reached";
  made("running");
  EXPECT_THAT(told(), HasSubstr("whether it is rented"));
  EXPECT_TRUE(record_.load(time_.now));
}

/// What is waited for, until it is there, is over, or takes too long.
class WaitingTest : public OpenOrdersTest {
 protected:
  void instance(const std::string& state, const std::string& reason = "") {
    cloud_.list("DescribeInstances", "reservationSet",
                "<item><instancesSet><item><instanceId>i-1</instanceId><ipAddress>203.0.113.7</ipAddress><instanceState><name>" + state +
                    "</name></instanceState><stateReason><message>" + reason + "</message></stateReason></item></instancesSet></item>");
  }
  void image(const std::string& state, const std::string& reason = "") {
    cloud_.list("DescribeImages", "imagesSet",
                "<item><imageId>ami-1</imageId><imageState>" + state + "</imageState><stateReason><message>" + reason +
                    "</message></stateReason></item>");
  }
};

TEST_F(WaitingTest, AnInstanceComesOrIsOverOrTakesTooLong) {
  instance("pending");
  time_.while_waiting = [this] { instance("running"); };
  EXPECT_EQ(wait_for(ec2_, "i-1", "running")->address, "203.0.113.7");
  time_.while_waiting = nullptr;
  const Result<Ec2Instance> late = wait_for(ec2_, "i-1", "stopped");
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), ErrorCode::timeout);
  EXPECT_EQ(late.error().why(), "i-1 is still running after 15 minutes");
  EXPECT_EQ(late.error().hint(), "`gpustrap ls` shows its state");
  instance("terminated", "Server.SpotInstanceTermination");
  const Result<Ec2Instance> gone = wait_for(ec2_, "i-1", "stopped");
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code(), ErrorCode::unsupported);
  EXPECT_EQ(gone.error().why(), "i-1 was terminated: Server.SpotInstanceTermination");
  EXPECT_THAT(gone.error().hint(), HasSubstr("gpustrap launch rents another"));
}

TEST_F(WaitingTest, AnImageComesOrFailsOrTakesTooLong) {
  image("pending");
  time_.while_waiting = [this] { image("available"); };
  EXPECT_TRUE(wait_for_image(ec2_, "ami-1"));
  time_.while_waiting = nullptr;
  image("pending");
  const Result<void> late = wait_for_image(ec2_, "ami-1");
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), ErrorCode::timeout);
  EXPECT_EQ(late.error().why(), "the image ami-1 is not ready after an hour");
  EXPECT_EQ(late.error().hint(), "see the EC2 console");
  image("failed", "the snapshot could not be made");
  const Result<void> failed = wait_for_image(ec2_, "ami-1");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), ErrorCode::unsupported);
  EXPECT_EQ(failed.error().why(), "the image ami-1 did not become ready, it is failed: the snapshot could not be made");
  EXPECT_EQ(failed.error().hint(), "run it again");
}

}  // namespace
}  // namespace gpustrap
