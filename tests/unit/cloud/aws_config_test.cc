#include "controller/cloud/aws_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "controller/cloud/aws_settings.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kConfig =
    "# made by hand\n"
    "[default]\n"
    "region = eu-west-1\n"
    "s3 =\n"
    "  addressing_style = path\n"
    "output=json\n"
    "\n"
    "[profile lab]\n"
    "Region=us-west-2\n"
    "services = local\n"
    "[profile \"my lab\"]\n"
    "region = ap-northeast-1\n"
    "[services local]\n"
    "ec2 =\n"
    "  endpoint_url = http://127.0.0.1:9/\n";

AwsConfig config_of(const std::string& config, const std::string& credentials = "") {
  return {*read_config_sections(config, "config"), *read_config_sections(credentials, "credentials")};
}

TEST(AwsConfigFile, IsReadAsTheCommandLineReadsIt) {
  const AwsConfig config =
      config_of(kConfig, "[default]\r\naws_access_key_id = AKID\r\naws_secret_access_key=a/b+c=\r\n[lab]\nregion=from-credentials\n");
  EXPECT_EQ(config.value("default", "region"), "eu-west-1");
  EXPECT_EQ(config.value("default", "s3.addressing_style"), "path");
  EXPECT_EQ(config.value("default", "output"), "json") << "behind a nested value";
  EXPECT_EQ(config.value("default", "aws_secret_access_key"), "a/b+c=");
  EXPECT_EQ(config.value("my lab", "region"), "ap-northeast-1");
  EXPECT_EQ(config.value("lab", "region"), "from-credentials") << "the credentials file is stronger";
  EXPECT_EQ(config.value_in("services local", "ec2.endpoint_url"), "http://127.0.0.1:9/");
  EXPECT_EQ(config.value("absent", "region"), "");
  EXPECT_EQ(config.profile_names(), "default, lab, my lab");
  EXPECT_TRUE(config.has_profile("lab"));
  EXPECT_FALSE(config.has_profile("services local"));
}

TEST(AwsConfigFile, SaysWhereItIsWrongAndNeverQuotesTheLine) {
  for (const auto& [text, where] : std::map<std::string, std::string>{{"region = x\n", "config:1: "},
                                                                      {"[default]\n\nwJalrXUtnFEMIsecret\n", "config:3: "},
                                                                      {"[default\n", "config:1: "},
                                                                      {"[]\n", "config:1: "},
                                                                      {"[default]\n= secret\n", "config:2: "}}) {
    const Result<ConfigSections> read = read_config_sections(text, "config");
    ASSERT_FALSE(read) << text;
    EXPECT_THAT(read.error().sentence(), AllOf(HasSubstr(where), Not(HasSubstr("secret")))) << text;
    EXPECT_EQ(read.error().code(), ErrorCode::usage);
  }
}

class Settings : public ::testing::Test {
 protected:
  Settings() {
    std::ofstream(folder_ / "config") << kConfig;
    variables_ = {
        {"AWS_CONFIG_FILE", folder_ / "config"}, {"AWS_SHARED_CREDENTIALS_FILE", folder_ / "credentials"}, {"HOME", folder_.path()}};
  }
  Result<AwsSettings> settings(const std::string& profile = "", const std::string& region = "") {
    return settings_for(profile, region, [this](const std::string& name) {
      const auto found = variables_.find(name);
      return found == variables_.end() ? "" : found->second;
    });
  }
  TemporaryDirectory folder_;
  std::map<std::string, std::string> variables_;
};

TEST_F(Settings, TheRegionIsThatOfTheStrongestWhoNamesOne) {
  EXPECT_EQ(settings()->region, "eu-west-1");
  variables_["AWS_PROFILE"] = "lab";
  EXPECT_EQ(settings()->region, "us-west-2");
  variables_["AWS_DEFAULT_REGION"] = "us-east-2";
  EXPECT_EQ(settings()->region, "us-east-2");
  variables_["AWS_REGION"] = "us-east-1";
  EXPECT_EQ(settings()->region, "us-east-1");
  EXPECT_EQ(settings("", "cn-north-1")->region, "cn-north-1");
}

TEST_F(Settings, WithoutARegionTheyAreRefusedWithWaysToNameOne) {
  variables_["AWS_CONFIG_FILE"] = folder_ / "none";
  const Result<AwsSettings> none = settings();
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), ErrorCode::usage);
  EXPECT_THAT(none.error().hint(), HasSubstr("--region us-east-1"));
}

TEST_F(Settings, WhatIsNoRegionNeverBecomesPartOfAHostsName) {
  for (const char* bad : {"us-east-1.evil.example/", "US-EAST-1", "us east 1", "-us-east-1", "us-east", "1-1-1"}) {
    ASSERT_FALSE(settings("", bad)) << bad;
    EXPECT_THAT(settings("", bad).error().why(), HasSubstr("is not a region"));
  }
  EXPECT_THAT(settings("", "us-east-1a").error().hint(), HasSubstr("its region is us-east-1"));
}

TEST_F(Settings, AProfileThatDoesNotExistIsNamedWithThoseThatDo) {
  const Result<AwsSettings> none = settings("labb");
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().why(), HasSubstr("`labb`"));
  EXPECT_THAT(none.error().hint(), HasSubstr("default, lab, my lab"));
}

TEST_F(Settings, EndpointsFollowTheEnvironmentThenTheProfile) {
  EXPECT_EQ(settings()->endpoint("ec2"), "https://ec2.eu-west-1.amazonaws.com");
  EXPECT_EQ(settings()->endpoint("service-quotas"), "https://servicequotas.eu-west-1.amazonaws.com");
  EXPECT_EQ(settings("", "cn-northwest-1")->endpoint("ssm"), "https://ssm.cn-northwest-1.amazonaws.com.cn");
  EXPECT_EQ(settings("lab")->endpoint("ec2"), "http://127.0.0.1:9");
  EXPECT_EQ(settings("lab")->endpoint("ssm"), "https://ssm.us-west-2.amazonaws.com");
  variables_["AWS_ENDPOINT_URL"] = "http://127.0.0.1:1/";
  variables_["AWS_ENDPOINT_URL_EC2"] = "http://127.0.0.1:2";
  EXPECT_EQ(settings()->endpoint("ec2"), "http://127.0.0.1:2");
  EXPECT_EQ(settings()->endpoint("ssm"), "http://127.0.0.1:1");
  variables_["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "true";
  EXPECT_EQ(settings()->endpoint("ec2"), "https://ec2.eu-west-1.amazonaws.com");
}

TEST_F(Settings, PricesAreToldInOneRegionForAll) {
  EXPECT_EQ(settings()->endpoint("pricing"), "https://api.pricing.us-east-1.amazonaws.com");
  variables_["AWS_ENDPOINT_URL_PRICING"] = "http://127.0.0.1:3";
  EXPECT_EQ(settings()->endpoint("pricing"), "http://127.0.0.1:3");
}

TEST_F(Settings, AttemptsAreThoseOfTheEnvironmentThenTheProfile) {
  EXPECT_FALSE(settings()->max_attempts);
  std::ofstream(folder_ / "config") << "[default]\nregion = eu-west-1\nmax_attempts = 7\nretry_mode = standard\n";
  EXPECT_EQ(settings()->max_attempts, 7);
  variables_["AWS_MAX_ATTEMPTS"] = "1";
  EXPECT_EQ(settings()->max_attempts, 1);
  for (const char* bad : {"0", "-1", "many", "3x", "101", " "}) {
    variables_["AWS_MAX_ATTEMPTS"] = bad;
    ASSERT_FALSE(settings()) << bad;
    EXPECT_THAT(settings().error().why(), HasSubstr("AWS_MAX_ATTEMPTS: `")) << bad;
  }
}

}  // namespace
}  // namespace gpustrap
