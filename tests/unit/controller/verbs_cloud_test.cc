#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/socket.h>

#include <array>
#include <cstdlib>
#include <map>
#include <string>

#include "agent/base/file.h"
#include "controller/verbs.h"
#include "tests/support/environment.h"
#include "tests/support/loopback_server.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

/// EC2 on a loopback port: each call is answered by its action.
class CloudVerbs : public ::testing::Test {
 protected:
  static void serve(int connection, const std::map<std::string, std::string>& answers) {
    std::string asked;
    std::array<char, 4096> bytes{};
    for (ssize_t got = 0; (got = ::recv(connection, bytes.data(), bytes.size(), 0)) > 0;) {
      asked.append(bytes.data(), static_cast<std::size_t>(got));
      for (const auto& [action, answer] : answers) {
        if (asked.find("Action=" + action + "&") == std::string::npos) continue;
        const std::string response =
            "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(answer.size()) + "\r\nConnection: close\r\n\r\n" + answer;
        static_cast<void>(write_all(connection, response));
        return;
      }
    }
  }
  Error error_of(const VerbResult& result) {
    EXPECT_FALSE(result);
    return result ? Error(ErrorCode::internal, "it went well") : result.error();
  }

  TemporaryDirectory folder_;
  EnvironmentVariable home_{"HOME", folder_.path()}, state_{"XDG_STATE_HOME", folder_.path()};
};

TEST_F(CloudVerbs, ALaunchNeedsANameThatOtherVerbsTakeForOne) {
  Options options;
  options.verb = Verb::launch;
  options.cloud.types = {"g4dn.xlarge"};
  options.cloud.name = "my lab";
  const Error odd = error_of(verb_launch(options));
  EXPECT_EQ(odd.code(), ErrorCode::usage);
  EXPECT_EQ(odd.why(), "--name my lab: expected letters, digits, dots and dashes");
  EXPECT_EQ(odd.hint(), "for instance --name lab-1");
  options.cloud.name = "ubuntu";
  const Error taken = error_of(verb_launch(options));
  EXPECT_EQ(taken.code(), ErrorCode::usage);
  EXPECT_EQ(taken.why(), "--name ubuntu: other verbs take this for an id or a system, not for a name");
  EXPECT_EQ(taken.hint(), "for instance --name lab-1");
}

TEST_F(CloudVerbs, ALaunchTakesOneKey) {
  Options options;
  options.verb = Verb::launch;
  options.cloud.types = {"g4dn.xlarge"};
  options.identities = {"a.pem", "b.pem"};
  const Error error = error_of(verb_launch(options));
  EXPECT_EQ(error.code(), ErrorCode::usage);
  EXPECT_EQ(error.why(), "-i is given twice");
  EXPECT_EQ(error.hint(), "an instance begins with one key");
}

TEST_F(CloudVerbs, AnImageThatIsNotThereIsToldWithThoseThatAre) {
  const std::map<std::string, std::string> answers = {
      {"DescribeImages",
       "<DescribeImagesResponse><imagesSet><item><imageId>ami-1</imageId><name>lab-2025</name></item></imagesSet></"
       "DescribeImagesResponse>"},
      {"DescribeSnapshots", "<DescribeSnapshotsResponse><snapshotSet/></DescribeSnapshotsResponse>"}};
  const LoopbackServer ec2([&](int connection) { serve(connection, answers); });
  const EnvironmentVariable endpoint("AWS_ENDPOINT_URL", "http://127.0.0.1:" + std::to_string(ec2.port())), key("AWS_ACCESS_KEY_ID", "id"),
      secret("AWS_SECRET_ACCESS_KEY", "secret"), session("AWS_SESSION_TOKEN", std::nullopt), profile("AWS_PROFILE", std::nullopt),
      proxy("http_proxy", std::nullopt);
  Options options;
  options.verb = Verb::image;
  options.cloud.remove = true;
  options.cloud.region = "us-east-1";
  options.hosts = {"lab-2026"};
  const Error error = error_of(verb_image(options));
  EXPECT_EQ(error.code(), ErrorCode::usage);
  EXPECT_EQ(error.why(), "gpustrap has no image `lab-2026` in us-east-1; did you mean `lab-2025`?");
  EXPECT_EQ(error.hint(), "there are: lab-2025");
}

}  // namespace
}  // namespace gpustrap
