#include "controller/cloud/credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "tests/support/fake_http.h"
#include "tests/support/process_state.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kRoleAnswer =
    "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>"
    "<AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>rolesecret</SecretAccessKey><SessionToken>roletoken</SessionToken>"
    "<Expiration>2026-11-21T13:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

class CredentialSourceTest : public ::testing::Test {
 protected:
  CredentialSourceTest() {
    variables_ = {{"AWS_CONFIG_FILE", folder_ / "config"},
                  {"AWS_SHARED_CREDENTIALS_FILE", folder_ / "credentials"},
                  {"HOME", folder_.path()},
                  {"AWS_REGION", "us-east-1"}};
  }
  void config(const std::string& text) { std::ofstream(folder_ / "config") << text; }
  void stored(const std::string& text) { std::ofstream(folder_ / "credentials") << text; }
  Result<Credentials> find(const std::string& profile = "") {
    const Result<AwsSettings> settings = settings_for(profile, "", [this](const std::string& name) {
      const auto found = variables_.find(name);
      return found == variables_.end() ? "" : found->second;
    });
    if (!settings) return fail(settings.error());
    FakeHttp http(log_);
    CredentialSource source(*settings, http, time_.clock());
    source.on_notice([this](const std::string& sentence) { notices_ += sentence + "\n"; });
    source.be_patient(patience_.first, patience_.second);
    return source.find();
  }
  /// All that was asked of the network.
  std::string asked() const {
    std::string text;
    for (const HttpRequest& request : log_.requests) text += request.method + " " + request.url + "\n";
    return text;
  }

  TemporaryDirectory folder_;
  std::map<std::string, std::string> variables_;
  FakeHttp::Log log_;
  FakeTime time_;
  std::string notices_;
  std::pair<std::chrono::milliseconds, std::chrono::milliseconds> patience_{60'000, 60'000};
};

TEST_F(CredentialSourceTest, TheEnvironmentComesFirst) {
  stored("[default]\naws_access_key_id=STORED\naws_secret_access_key=s\n");
  variables_["AWS_ACCESS_KEY_ID"] = "ENV";
  variables_["AWS_SECRET_ACCESS_KEY"] = "e";
  variables_["AWS_SESSION_TOKEN"] = "t";
  EXPECT_EQ(find()->keys.access_key, "ENV");
  EXPECT_EQ(find()->keys.session_token, "t");
  EXPECT_EQ(find("default")->keys.access_key, "STORED") << "a profile that is named on the command line is meant";
  variables_.erase("AWS_SECRET_ACCESS_KEY");
  EXPECT_THAT(find().error().why(), HasSubstr("AWS_SECRET_ACCESS_KEY is not"));
}

TEST_F(CredentialSourceTest, KeysOfAProfile) {
  stored("[lab]\naws_access_key_id=LAB\naws_secret_access_key=topsecret\n[half]\naws_access_key_id=HALF\n");
  const Result<Credentials> lab = find("lab");
  ASSERT_TRUE(lab) << lab.error().sentence();
  EXPECT_EQ(lab->keys.secret_key, "topsecret");
  EXPECT_THAT(lab->from, AllOf(HasSubstr("profile lab"), Not(HasSubstr("topsecret"))));
  EXPECT_EQ(find("half").error().code(), ErrorCode::authentication);
}

TEST_F(CredentialSourceTest, ARoleIsTakenWithTheKeysOfItsSourceProfile) {
  config("[profile base]\nregion=us-east-1\n[profile role]\nrole_arn=arn:aws:iam::1:role/r\nsource_profile=base\nexternal_id=x1\n");
  stored("[base]\naws_access_key_id=BASE\naws_secret_access_key=s\n");
  log_.answers.push_back(answer_of(200, kRoleAnswer));
  const Result<Credentials> role = find("role");
  ASSERT_TRUE(role) << role.error().sentence();
  EXPECT_EQ(role->keys.access_key, "ASIA");
  EXPECT_EQ(role->keys.session_token, "roletoken");
  EXPECT_EQ(role->expires, read_iso_time("2026-11-21T13:00:00Z"));
  ASSERT_EQ(log_.requests.size(), 1U);
  EXPECT_EQ(log_.requests[0].url, "https://sts.us-east-1.amazonaws.com/");
  EXPECT_THAT(log_.requests[0].body,
              AllOf(HasSubstr("Action=AssumeRole&"), HasSubstr("RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr"), HasSubstr("ExternalId=x1")));
  EXPECT_THAT(log_.requests[0].headers.back().second, HasSubstr("Credential=BASE/20261121/us-east-1/sts/"));
}

TEST_F(CredentialSourceTest, ARefusedRoleSaysWhatAwsSaid) {
  config("[profile role]\nrole_arn=arn:r\nsource_profile=base\n");
  stored("[base]\naws_access_key_id=BASE\naws_secret_access_key=topsecret\n");
  log_.answers.push_back(answer_of(403,
                                   "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User u is not authorized"
                                   "</Message></Error></ErrorResponse>"));
  const Result<Credentials> role = find("role");
  ASSERT_FALSE(role);
  EXPECT_THAT(role.error().sentence(), AllOf(HasSubstr("AssumeRole"), HasSubstr("profile base"), HasSubstr("User u is not authorized"),
                                             Not(HasSubstr("topsecret"))));
}

TEST_F(CredentialSourceTest, ARoleIsAskedForAgainWhereAwsIsBusyAndDatedByItsClock) {
  config("[profile role]\nrole_arn=arn:r\nsource_profile=base\n");
  stored("[base]\naws_access_key_id=BASE\naws_secret_access_key=topsecret\n");
  const auto refused = [](int status, const std::string& code) {
    return answer_of(status, "<ErrorResponse><Error><Code>" + code + "</Code><Message>m</Message></Error></ErrorResponse>",
                     {{"Date", "Sat, 21 Nov 2026 14:00:30 GMT"}});
  };
  log_.answers.emplace_back(refused(400, "Throttling"));
  log_.answers.emplace_back(fail(ErrorCode::network, "cut"));
  log_.answers.emplace_back(refused(403, "SignatureDoesNotMatch"));
  log_.answers.emplace_back(answer_of(200, kRoleAnswer));
  const Result<Credentials> role = find("role");
  ASSERT_TRUE(role) << role.error().sentence();
  ASSERT_EQ(log_.requests.size(), 4U);
  const auto date = [&](std::size_t at) { return HttpResponse{0, log_.requests[at].headers, ""}.header("X-Amz-Date"); };
  EXPECT_THAT(date(2), HasSubstr("20261121T12"));
  EXPECT_THAT(date(3), HasSubstr("20261121T14")) << "two hours later, as it is there";
  EXPECT_THAT(notices_, HasSubstr("clock is 2 hours behind"));
  log_ = {};
  log_.answers.emplace_back(refused(403, "AccessDenied"));
  EXPECT_FALSE(find("role"));
  EXPECT_EQ(log_.requests.size(), 1U) << "no is no";
}

TEST_F(CredentialSourceTest, AProcessThatHangsIsToldAndEndedWithAllThatItStarted) {
  const std::string pid_file = folder_ / "pid";
  config("[profile p]\ncredential_process = sleep 600 & echo $! > " + pid_file + "; wait\n");
  patience_ = {std::chrono::milliseconds(1), std::chrono::milliseconds(500)};
  const Result<Credentials> hung = find("p");
  ASSERT_FALSE(hung);
  EXPECT_THAT(hung.error().why(), HasSubstr("did not end within"));
  EXPECT_THAT(notices_, HasSubstr("Waiting for the credential_process of profile p"));
  EXPECT_TRUE(ends_soon(std::stoi(*read_file(pid_file)))) << "its child goes on";
}

TEST_F(CredentialSourceTest, ProfilesThatNameEachOtherComeToAnEnd) {
  config(
      "[profile a]\nrole_arn=arn:a\nsource_profile=b\n[profile b]\nrole_arn=arn:b\nsource_profile=a\n[profile c]\nrole_arn=r\n"
      "source_profile=c\n[profile d]\nrole_arn=r\nsource_profile=e\n[profile f]\nrole_arn=r\n[profile "
      "m]\nrole_arn=r\nsource_profile=a\nmfa_serial=s\n");
  EXPECT_THAT(find("a").error().why(), HasSubstr("name each other"));
  EXPECT_THAT(find("c").error().why(), HasSubstr("names itself"));
  EXPECT_THAT(find("d").error().why(), HasSubstr("does not exist"));
  EXPECT_THAT(find("f").error().hint(), HasSubstr("source_profile"));
  EXPECT_THAT(find("m").error().hint(), HasSubstr("aws configure export-credentials"));
  EXPECT_EQ(asked(), "");
}

TEST_F(CredentialSourceTest, ASignInIsTakenFromTheCommandLinesCache) {
  config(
      "[profile dev]\nsso_session=corp\nsso_account_id=123\nsso_role_name=Dev Ops\n"
      "[sso-session corp]\nsso_start_url=https://corp.awsapps.com/start\nsso_region=eu-west-1\n");
  EXPECT_EQ(find("dev").error().hint(), "aws sso login --profile dev");
  std::filesystem::create_directories(folder_ / ".aws/sso/cache");
  const std::string login = folder_ / ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";  // SHA-1 of "corp"
  std::ofstream(login) << R"({"accessToken":"sso-token","expiresAt":"2026-11-21T11:59:00Z"})";
  EXPECT_EQ(find("dev").error().hint(), "aws sso login --profile dev") << "over by a minute";
  std::ofstream(login) << R"({"accessToken":"sso-token","expiresAt":"2026-11-21T20:00:00Z"})";
  log_.answers.push_back(
      answer_of(200, R"({"roleCredentials":{"accessKeyId":"SSO","secretAccessKey":"s","sessionToken":"t","expiration":1795262400000}})"));
  const Result<Credentials> dev = find("dev");
  ASSERT_TRUE(dev) << dev.error().sentence();
  EXPECT_EQ(dev->keys.access_key, "SSO");
  EXPECT_EQ(asked(), "GET https://portal.sso.eu-west-1.amazonaws.com/federation/credentials?role_name=Dev%20Ops&account_id=123\n");
  EXPECT_EQ(log_.requests[0].headers[0].second, "sso-token");
}

TEST_F(CredentialSourceTest, AProcessMayGiveThem) {
  config(
      "[profile p]\ncredential_process = printf '%s' "
      "'{\"Version\":1,\"AccessKeyId\":\"PROC\",\"SecretAccessKey\":\"s\",\"Expiration\":\"2026-11-21T13:00:00Z\"}'\n"
      "[profile odd]\ncredential_process = echo hello topsecret\n[profile broken]\ncredential_process = echo why >&2; exit 3\n");
  EXPECT_EQ(find("p")->keys.access_key, "PROC");
  EXPECT_THAT(find("odd").error().sentence(), Not(HasSubstr("topsecret"))) << "what it printed may be a key";
  EXPECT_THAT(find("broken").error().why(), AllOf(HasSubstr("ended with 3"), HasSubstr("why")));
}

TEST_F(CredentialSourceTest, ContainersAndInstancesAreAskedLast) {
  variables_["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "/v2/x";
  log_.answers.push_back(answer_of(200, R"({"AccessKeyId":"ECS","SecretAccessKey":"s","Token":"t","Expiration":"2026-11-21T13:00:00Z"})"));
  EXPECT_EQ(find()->keys.access_key, "ECS");
  EXPECT_EQ(asked(), "GET http://169.254.170.2/v2/x\n");
  EXPECT_FALSE(log_.requests[0].through_proxy);

  variables_.erase("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
  variables_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://169.254.170.2.evil.example/x";
  EXPECT_THAT(find().error().why(), HasSubstr("another machine"));

  variables_.erase("AWS_CONTAINER_CREDENTIALS_FULL_URI");
  log_ = {};
  log_.answers.push_back(answer_of(200, "tok"));
  log_.answers.push_back(answer_of(200, "my-role\n"));
  log_.answers.push_back(
      answer_of(200, R"({"Code":"Success","AccessKeyId":"IMDS","SecretAccessKey":"s","Token":"t","Expiration":"2026-11-21T18:00:00Z"})"));
  EXPECT_EQ(find()->keys.access_key, "IMDS");
  EXPECT_EQ(asked(),
            "PUT http://169.254.169.254/latest/api/token\n"
            "GET http://169.254.169.254/latest/meta-data/iam/security-credentials/\n"
            "GET http://169.254.169.254/latest/meta-data/iam/security-credentials/my-role\n");
  EXPECT_EQ(log_.requests[1].headers[0].second, "tok") << "version 2 alone is spoken";
}

TEST_F(CredentialSourceTest, WithNoneTheErrorSaysWhereWasLookedAndWhatHelps) {
  const Result<Credentials> none = find();
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), ErrorCode::authentication);
  EXPECT_THAT(none.error().hint(), AllOf(HasSubstr("aws configure"), HasSubstr("AWS_ACCESS_KEY_ID")));
  variables_["AWS_EC2_METADATA_DISABLED"] = "true";
  log_ = {};
  ASSERT_FALSE(find());
  EXPECT_EQ(asked(), "");
}

}  // namespace
}  // namespace gpustrap
