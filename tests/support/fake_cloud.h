#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "controller/cloud/aws_client.h"
#include "tests/support/fake_http.h"

namespace gpustrap {

/// An account's, with no endpoint of its own; every other variable is "x".
inline AwsSettings account_settings(const std::string& region = "us-east-1") {
  AwsSettings settings;
  settings.region = region;
  settings.variables = [](const std::string& name) {
    return std::string(name.starts_with("AWS_ENDPOINT") || name.starts_with("AWS_IGNORE") ? "" : "x");
  };
  return settings;
}

/// Answers each call by its action, as often as it is asked. What has no answer is not reached.
class FakeCloud : public Http {
 public:
  struct Answers {
    std::map<std::string, std::string> answers;
    std::map<std::string, std::pair<int, std::string>> refusals;  ///< status and code; stronger than an answer
    std::vector<std::string> asked;                               ///< "RunInstances Action=RunInstances&…"

    /// A page of a Describe call.
    void list(const std::string& action, const std::string& set, const std::string& items) {
      answers[action] = "<" + action + "Response><" + set + ">" + items + "</" + set + "></" + action + "Response>";
    }
    [[nodiscard]] std::size_t count(const std::string& action) const {
      std::size_t number = 0;
      for (const std::string& one : asked) number += one.starts_with(action + " ") ? 1 : 0;
      return number;
    }
  };
  explicit FakeCloud(Answers& answers) : answers_(answers) {
    answers_.answers.try_emplace("GetCallerIdentity",
                                 "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account>"
                                 "</GetCallerIdentityResult></GetCallerIdentityResponse>");
  }

  Result<HttpResponse> send(const HttpRequest& request) override {
    const std::string target = HttpResponse{0, request.headers, ""}.header("X-Amz-Target");
    const std::string body = request.body.substr(0, request.body.find('&'));
    const std::string action = target.empty() ? body.substr(body.find('=') + 1) : target.substr(target.rfind('.') + 1);
    answers_.asked.push_back(action + " " + request.body);
    if (const auto refused = answers_.refusals.find(action); refused != answers_.refusals.end())
      return target.empty() ? refusal_of(refused->second.first, refused->second.second, "because")
                            : answer_of(refused->second.first, R"({"__type":")" + refused->second.second + R"("})");
    const auto found = answers_.answers.find(action);
    if (found == answers_.answers.end()) return fail(ErrorCode::tls, "nobody answers " + action);
    return answer_of(200, found->second);
  }

 private:
  Answers& answers_;
};

}  // namespace gpustrap
