#include "controller/cloud/sigv4.h"

#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "agent/protocol/json.h"
#include "tests/support/folders.h"

namespace gpustrap {
namespace {

std::string header_of(const HttpRequest& request, const std::string& name) {
  for (const auto& [one, value] : request.headers) {
    if (one == name) return value;
  }
  return {};
}

/// What botocore's signer makes of the same requests, AWS's published cases among them; make_sigv4.py beside the file wrote it.
TEST(SigV4, SignsAsAwsAndBotocoreDo) {
  const Json golden = Json::parse(read_file(source_folder() + "/tests/golden/cloud/sigv4.json").value_or("{}"));
  ASSERT_GE(golden.at("cases").size(), 12U);
  const AwsTime time = *read_iso_time(golden.at("time").get<std::string>());
  for (const Json& one : golden.at("cases")) {
    HttpRequest request;
    request.url = one.at("url").get<std::string>();
    request.body = one.at("body").get<std::string>();
    for (const auto& [name, value] : one.at("headers").items()) request.headers.emplace_back(name, value.get<std::string>());
    sign_request(
        request,
        {golden.at("access_key").get<std::string>(), golden.at("secret_key").get<std::string>(), one.at("token").get<std::string>()},
        {one.at("region").get<std::string>(), one.at("service").get<std::string>(), time});
    EXPECT_EQ(header_of(request, "Authorization"), one.at("authorization").get<std::string>()) << one.at("name");
  }
}

TEST(SigV4, TheSecretKeyIsInNoHeader) {
  HttpRequest request;
  request.url = "https://ec2.us-east-1.amazonaws.com/";
  sign_request(request, {"AKID", "thesecretkey", ""}, {"us-east-1", "ec2", *read_iso_time("2026-11-21T12:00:00Z")});
  for (const auto& [name, value] : request.headers) EXPECT_EQ(value.find("thesecretkey"), std::string::npos) << name;
  EXPECT_EQ(header_of(request, "X-Amz-Security-Token"), "") << "keys for good have no token";
}

TEST(FormEncoding, KeepsWhatRfc3986KeepsAndNothingElse) {
  EXPECT_EQ(form_encoded({{"Filter.1.Value.1", "a b/c+d~e=f&*"}, {"Name", "北"}}),
            "Filter.1.Value.1=a%20b%2Fc%2Bd~e%3Df%26%2A&Name=%E5%8C%97");
  EXPECT_EQ(form_encoded({}), "");
}

TEST(AwsTimes, AreReadInTheFormsThatAwsWrites) {
  const AwsTime time = *read_iso_time("2015-08-30T12:36:00Z");
  EXPECT_EQ(compact_time(time), "20150830T123600Z");
  EXPECT_EQ(iso_time(time), "2015-08-30T12:36:00Z");
  EXPECT_EQ(read_iso_time("2015-08-30T12:36:00.000Z"), time);
  EXPECT_EQ(read_iso_time("2015-08-30T12:36:00UTC"), time) << "as the CLI's SSO cache has it";
  EXPECT_EQ(read_iso_time("2015-08-30T12:36:00+00:00"), time);
  EXPECT_EQ(read_http_date("Sun, 30 Aug 2015 12:36:00 GMT"), time);
  for (const char* bad : {"", "tomorrow", "2015-08-30", "2015-08-30T12:36:00+02:00"}) EXPECT_FALSE(read_iso_time(bad)) << bad;
}

}  // namespace
}  // namespace gpustrap
