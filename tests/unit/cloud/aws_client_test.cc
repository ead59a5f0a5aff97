#include "controller/cloud/aws_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/protocol/json.h"
#include "tests/support/fake_http.h"

namespace gpustrap {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class AwsClientTest : public ::testing::Test {
 protected:
  AwsClientTest() {
    variables_ = {{"AWS_ACCESS_KEY_ID", "AKID"}, {"AWS_SECRET_ACCESS_KEY", "thesecretkey"}, {"AWS_SESSION_TOKEN", "thesessiontoken"}};
  }
  AwsClient& client() {
    if (client_) return *client_;
    AwsSettings settings;
    settings.region = "us-east-1";
    settings.max_attempts = most_;
    settings.variables = [this](const std::string& name) {
      const auto found = variables_.find(name);
      return found == variables_.end() ? "" : found->second;
    };
    client_ = std::make_unique<AwsClient>(settings, std::make_unique<FakeHttp>(log_), time_.clock());
    client_->on_notice([this](const std::string& sentence) { notices_.push_back(sentence); });
    return *client_;
  }
  AwsResult<std::string> call() { return client().query("ec2", "2016-11-15", "DescribeInstances", {{"MaxResults", "5"}}); }
  void answers(std::initializer_list<HttpResponse> all) {
    for (const HttpResponse& one : all) log_.answers.emplace_back(one);
  }
  static std::string header(const HttpRequest& request, const std::string& name) {
    return HttpResponse{0, request.headers, ""}.header(name);
  }

  std::map<std::string, std::string> variables_;
  std::optional<int> most_;
  FakeHttp::Log log_;
  FakeTime time_;
  std::unique_ptr<AwsClient> client_;
  std::vector<std::string> notices_;
};

TEST_F(AwsClientTest, AMisspeltRegionIsToldWithItsNeighbour) {
  log_.answers.emplace_back(
      fail(ErrorCode::unknown_name, "ec2.us-esat-1.amazonaws.com cannot be found", "see whether it is on the network"));
  const std::unique_ptr<AwsClient> other = client().in_region("us-esat-1", std::make_unique<FakeHttp>(log_));
  const AwsResult<std::string> answer = other->query("ec2", "2016-11-15", "DescribeInstances", {});
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().error.hint(), HasSubstr("did you mean --region us-east-1?"));
  log_.answers.emplace_back(fail(ErrorCode::unknown_name, "cannot be found", "see whether it is on the network"));
  EXPECT_EQ(call().error().error.hint(), "see whether it is on the network") << "us-east-1 is one";
}

TEST_F(AwsClientTest, LogsInOnceForAllRegions) {
  answers({refusal_of(400, "RequestExpired", "x", {{"Date", "Sat, 21 Nov 2026 14:00:00 GMT"}}), answer_of(200, "<X/>")});
  ASSERT_TRUE(call());
  variables_.clear();  // whoever looked for keys now would find none
  FakeHttp::Log there;
  there.answers.emplace_back(answer_of(200, "<Y/>"));
  const std::unique_ptr<AwsClient> other = client().in_region("eu-west-3", std::make_unique<FakeHttp>(there));
  EXPECT_EQ(*other->query("ec2", "2016-11-15", "DescribeInstances", {}), "<Y/>");
  ASSERT_THAT(there.requests, SizeIs(1));
  EXPECT_THAT(header(there.requests[0], "Authorization"), HasSubstr("/eu-west-3/ec2/"));
  EXPECT_THAT(there.requests[0].url, HasSubstr("eu-west-3"));
  EXPECT_EQ(header(there.requests[0], "X-Amz-Date"), "20261121T140000Z") << "the clock's correction, too";
}

TEST_F(AwsClientTest, RepeatsAsOftenAsTheSettingsSay) {
  most_ = 2;
  answers({refusal_of(503, "RequestLimitExceeded", "slower"), refusal_of(503, "Unavailable", "x"), answer_of(200, "<X/>")});
  EXPECT_EQ(call().error().code, "Unavailable");
  EXPECT_THAT(log_.requests, SizeIs(2));
}

TEST_F(AwsClientTest, AQueryIsAForm) {
  answers({answer_of(200, "<X/>")});
  EXPECT_EQ(*call(), "<X/>");
  ASSERT_THAT(log_.requests, SizeIs(1));
  EXPECT_EQ(log_.requests[0].url, "https://ec2.us-east-1.amazonaws.com/");
  EXPECT_EQ(log_.requests[0].body, "Action=DescribeInstances&Version=2016-11-15&MaxResults=5");
  EXPECT_THAT(header(log_.requests[0], "Authorization"), HasSubstr("AKID/20261121/us-east-1/ec2/aws4_request"));
  EXPECT_EQ(header(log_.requests[0], "X-Amz-Security-Token"), "thesessiontoken");
}

TEST_F(AwsClientTest, JsonCallsNameTheirTarget) {
  answers({answer_of(200, R"({"Parameter":{"Value":"ami-1"}})"), answer_of(200, "<html>")});
  const AwsResult<Json> answer = client().json("ssm", "AmazonSSM.GetParameter", Json{{"Name", "/a"}});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->at("Parameter").at("Value"), "ami-1");
  EXPECT_EQ(header(log_.requests[0], "X-Amz-Target"), "AmazonSSM.GetParameter");
  EXPECT_EQ(log_.requests[0].body, R"({"Name":"/a"})");
  EXPECT_EQ(client().json("ssm", "AmazonSSM.GetParameter", Json::object()).error().error.code(), ErrorCode::protocol);
}

TEST_F(AwsClientTest, AwsOwnTroubleAndCutConnectionsAreTriedAgainThenTold) {
  answers({refusal_of(503, "Unavailable", "busy")});
  log_.answers.push_back(fail(ErrorCode::network, "cut"));
  answers({answer_of(200, "<X/>")});
  EXPECT_TRUE(call());
  EXPECT_THAT(time_.pauses, ElementsAre(milliseconds(1000), milliseconds(2000))) << "half of 2 s, then of 4 s: the fake's chance is 0.5";

  log_.requests.clear();
  time_.pauses.clear();
  EXPECT_EQ(call().error().error.code(), ErrorCode::unreachable);
  EXPECT_THAT(log_.requests, SizeIs(5));
  EXPECT_THAT(time_.pauses, SizeIs(4)) << "nobody waits before giving up";
}

TEST_F(AwsClientTest, ANameThatIsNotFoundIsToldAtOnce) {
  log_.answers.push_back(fail(ErrorCode::unknown_name, "ec2.us-east-1.amazonaws.com cannot be found"));
  EXPECT_EQ(call().error().error.code(), ErrorCode::unknown_name);
  EXPECT_THAT(time_.pauses, IsEmpty());
}

TEST_F(AwsClientTest, ThrottlingIsWaitedOutLonger) {
  for (int i = 0; i < 7; ++i) answers({refusal_of(503, "RequestLimitExceeded", "Request limit exceeded.")});
  answers({answer_of(200, "<X/>")});
  EXPECT_TRUE(call());
  EXPECT_THAT(time_.pauses, SizeIs(7));
  EXPECT_EQ(time_.pauses.back(), milliseconds(10'000)) << "half of the longest pause";
  EXPECT_THAT(notices_, ElementsAre(HasSubstr("slower")));
  for (int i = 0; i < 20; ++i) answers({refusal_of(503, "RequestLimitExceeded", "Request limit exceeded.")});
  log_.requests.clear();
  EXPECT_EQ(call().error().code, "RequestLimitExceeded");
  EXPECT_THAT(log_.requests, SizeIs(8));
}

TEST_F(AwsClientTest, LackOfCapacityIsNoTroubleThatPasses) {
  answers({refusal_of(500, "InsufficientInstanceCapacity", "We currently do not have sufficient g5.xlarge capacity")});
  EXPECT_EQ(call().error().code, "InsufficientInstanceCapacity");
  EXPECT_THAT(log_.requests, SizeIs(1));
}

TEST_F(AwsClientTest, AClockThatIsWrongIsCorrectedByAwsOwn) {
  const HttpHeaders date = {{"Date", "Sat, 21 Nov 2026 13:30:00 GMT"}};
  answers({refusal_of(400, "RequestExpired", "Request has expired.", date), answer_of(200, "<X/>"), answer_of(200, "<X/>")});
  EXPECT_TRUE(call());
  EXPECT_EQ(header(log_.requests[0], "X-Amz-Date"), "20261121T120000Z");
  EXPECT_EQ(header(log_.requests[1], "X-Amz-Date"), "20261121T133000Z");
  EXPECT_THAT(notices_, ElementsAre(HasSubstr("90 minutes behind")));
  EXPECT_TRUE(call());
  EXPECT_EQ(header(log_.requests[2], "X-Amz-Date"), "20261121T133000Z") << "once is enough";
}

TEST_F(AwsClientTest, AWrongKeyWithARightClockIsNoMatterOfTime) {
  const HttpHeaders date = {{"Date", "Sat, 21 Nov 2026 12:00:30 GMT"}};
  answers({refusal_of(401, "AuthFailure", "AWS was not able to validate the provided access credentials", date)});
  const AwsResult<std::string> answer = call();
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().error.why(), AllOf(HasSubstr("the keys of AWS_ACCESS_KEY_ID"), Not(HasSubstr("clock"))));
  EXPECT_THAT(log_.requests, SizeIs(1));
}

TEST_F(AwsClientTest, ASessionThatIsOverIsNoMatterOfTimeThoughEc2SaysSo) {
  const HttpHeaders date = {{"Date", "Sat, 21 Nov 2026 12:00:30 GMT"}};
  answers({refusal_of(400, "RequestExpired", "Request has expired.", date)});
  EXPECT_EQ(call().error().code, "ExpiredToken");
}

TEST_F(AwsClientTest, ExpiredKeysAreFetchedAnewOnce) {
  answers({refusal_of(400, "ExpiredToken", "The security token included in the request is expired")});
  EXPECT_EQ(call().error().code, "ExpiredToken") << "those of the environment stay what they are";
  EXPECT_THAT(log_.requests, SizeIs(1));
  answers({refusal_of(400, "ExpiredToken", "expired"), answer_of(200, "<X/>")});
  client();
  variables_["AWS_SESSION_TOKEN"] = "anothersessiontoken";  // as a credential_process would give another
  const std::size_t before = log_.requests.size();
  EXPECT_TRUE(call());
  EXPECT_EQ(log_.requests.size(), before + 2);
  EXPECT_EQ(header(log_.requests.back(), "X-Amz-Security-Token"), "anothersessiontoken");
}

TEST_F(AwsClientTest, SecretsAreInNoMessage) {
  answers({refusal_of(403, "SignatureDoesNotMatch", "The Canonical String should have been 'x-amz-security-token:thesessiontoken'"),
           refusal_of(400, "SomethingNew", "you sent thesessiontoken and thesecretkey")});
  for (int i = 0; i < 2; ++i) {
    const AwsResult<std::string> answer = call();
    ASSERT_FALSE(answer);
    EXPECT_THAT(answer.error().error.sentence() + answer.error().error.hint(),
                AllOf(Not(HasSubstr("thesessiontoken")), Not(HasSubstr("thesecretkey"))));
  }
}

TEST_F(AwsClientTest, ErrorsOfJsonServicesAreReadInAllTheirForms) {
  EXPECT_EQ(plain_error_code("com.amazonaws.ssm#ParameterNotFound"), "ParameterNotFound");
  EXPECT_EQ(plain_error_code("ParameterNotFound:http://internal.amazon.com/x"), "ParameterNotFound");
  answers({answer_of(400, R"({"__type":"a.b#ParameterNotFound","message":"no /a"})")});
  const AwsResult<Json> answer = client().json("ssm", "AmazonSSM.GetParameter", Json::object());
  EXPECT_EQ(answer.error().code, "ParameterNotFound");
  EXPECT_THAT(answer.error().error.why(), HasSubstr("no /a"));
}

TEST_F(AwsClientTest, AnAnswerOfSomethingElseIsNamedSo) {
  answers({answer_of(404, "<html><body>nginx</body></html>")});
  const AwsResult<std::string> answer = call();
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().error.why(), HasSubstr("HTTP 404"));
  EXPECT_THAT(answer.error().error.hint(), HasSubstr("AWS_ENDPOINT_URL"));
}

TEST(RetryPause, GrowsUpToItsLimit) {
  EXPECT_EQ(retry_pause(1, 0.0), milliseconds(0));
  EXPECT_EQ(retry_pause(1, 1.0), milliseconds(2000));
  EXPECT_EQ(retry_pause(3, 0.5), milliseconds(4000));
  EXPECT_EQ(retry_pause(60, 1.0), milliseconds(20'000));
}

}  // namespace
}  // namespace gpustrap
