#include "controller/cloud/aws_errors.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include "tests/support/golden_file.h"

namespace gpustrap {
namespace {

AwsRefusal refusal(const std::string& code, const std::string& message, int status = 400) {
  return {code, message, status, "ec2", "RunInstances", "eu-west-1", "the keys of profile lab", {}};
}

/// tests/golden/cloud/refusals.txt: what a person reads, for each code that AWS is known to refuse with.
TEST(AwsErrors, EachIsToldWithItsCauseAndWhatToDo) {
  const std::pair<const char*, const char*> samples[] = {
      {"UnauthorizedOperation",
       "You are not authorized to perform this operation. User: arn:aws:iam::1:user/u is not authorized to perform: "
       "ec2:RunInstances. Encoded authorization failure message: AbC_def-123"},
      {"AuthFailure", "AWS was not able to validate the provided access credentials"},
      {"InvalidClientTokenId", "The security token included in the request is invalid."},
      {"SignatureDoesNotMatch", "The request signature we calculated does not match"},
      {"ExpiredToken", "The security token included in the request is expired"},
      {"RequestExpired", "Request has expired."},
      {"OptInRequired", "You are not subscribed to this service. Please go to http://aws.amazon.com to subscribe."},
      {"PendingVerification", "Your account is currently being verified."},
      {"VcpuLimitExceeded", "You have requested more vCPU capacity than your current vCPU limit of 0 allows"},
      {"MaxSpotInstanceCountExceeded", "Max spot instance count exceeded"},
      {"InstanceLimitExceeded", "Your quota allows for 0 more running instance(s)."},
      {"VolumeLimitExceeded", "You have exceeded your maximum gp3 storage limit"},
      {"InsufficientInstanceCapacity", "We currently do not have sufficient g5.xlarge capacity in the Availability Zone you requested"},
      {"Unsupported", "Your requested instance type (g5.xlarge) is not supported in your requested Availability Zone"},
      {"UnsupportedOperation", "You can't stop the Spot Instance 'i-1'"},
      {"InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist"},
      {"InvalidAMIID.Malformed", "Invalid id: \"ami\""},
      {"InvalidKeyPair.NotFound", "The key pair 'k' does not exist"},
      {"InvalidInstanceID.NotFound", "The instance ID 'i-1' does not exist"},
      {"ResourceAlreadyExistsException", "Only one open service quota increase request is allowed per quota"},
      {"QuotaExceededException", "You have exceeded your service quota"},
      {"IllegalArgumentException", "You must provide a quota value greater than or equal to the current quota value"},
      {"DependencyAccessDeniedException", "You can't perform this action because a dependency does not have access"},
      {"InvalidResourceStateException", "The resource is in an invalid state"},
      {"IncorrectInstanceState", "The instance 'i-1' is not in a state from which it can be started."},
      {"IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent"},
      {"OperationNotPermitted", "The instance 'i-1' may not be terminated."},
      {"RequestLimitExceeded", "Request limit exceeded."},
      {"Throttling", "Rate exceeded"},
      {"InternalError", "An internal error has occurred"},
      {"SomethingNobodyKnows", "Some words\x1b[31m of AWS's"},
  };
  std::string text;
  for (const auto& [code, message] : samples) {
    const AwsFailure failure = explain_refusal(refusal(code, message));
    EXPECT_EQ(failure.code, code);
    text += fmt::format("{}\n  {}\n  -> {}\n", code, failure.error.sentence(), failure.error.hint());
  }
  expect_golden("cloud/refusals.txt", text);
}

TEST(AwsErrors, APermissionIsNamedAsPoliciesHaveIt) {
  AwsRefusal quota = refusal("AccessDeniedException", "no");
  quota.service = "service-quotas", quota.action = "GetServiceQuota";
  EXPECT_NE(explain_refusal(quota).error.hint().find("servicequotas:GetServiceQuota"), std::string::npos);
}

TEST(AwsErrors, AClockThatIsWrongIsTheCauseWhereItIsMeasured) {
  AwsRefusal wrong = refusal("AuthFailure", "AWS was not able to validate");
  wrong.skew = std::chrono::hours(-9);
  EXPECT_NE(explain_refusal(wrong).error.why().find("clock is 9 hours behind"), std::string::npos);
  wrong.skew = std::chrono::seconds(20);
  EXPECT_EQ(explain_refusal(wrong).error.why().find("clock"), std::string::npos);
}

TEST(AwsErrors, RemediesFollowTheCodeAndOnlyThenTheStatus) {
  EXPECT_EQ(remedy_of("InsufficientInstanceCapacity", 500), AwsRemedy::elsewhere);
  EXPECT_EQ(remedy_of("VcpuLimitExceeded", 500), AwsRemedy::none) << "asking again does not raise a quota";
  EXPECT_EQ(remedy_of("Whatever", 503), AwsRemedy::soon);
  EXPECT_EQ(remedy_of("Whatever", 400), AwsRemedy::none);
  EXPECT_EQ(remedy_of("ThrottlingException", 400), AwsRemedy::throttled);
  EXPECT_EQ(remedy_of("", 429), AwsRemedy::throttled);
  EXPECT_EQ(remedy_of("InvalidInstanceID.NotFound", 400), AwsRemedy::not_yet);
  EXPECT_EQ(remedy_of("RequestTimeTooSkewed", 403), AwsRemedy::clock);
  EXPECT_EQ(remedy_of("ExpiredTokenException", 400), AwsRemedy::new_keys);
}

}  // namespace
}  // namespace gpustrap
