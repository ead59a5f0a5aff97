#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "agent/protocol/json_fwd.h"
#include "controller/cloud/aws_errors.h"
#include "controller/cloud/aws_settings.h"
#include "controller/cloud/aws_time.h"
#include "controller/cloud/credentials.h"
#include "controller/cloud/http.h"

namespace gpustrap {

/// For what is good to know and not needed, one attempt that is soon over.
enum class Patience { usual, little };

/// Calls of AWS's Query and JSON protocols: signed, repeated where that helps, refusals in words. A call is repeated only as it was, so
/// one that makes something needs a ClientToken, or a name that can be there only once.
class AwsClient {
 public:
  AwsClient(AwsSettings settings, std::unique_ptr<Http> http, CloudClock clock);
  ~AwsClient();

  /// The body of the answer to a Query call; `parameters` without Action and Version.
  [[nodiscard]] AwsResult<std::string> query(const std::string& service, const std::string& version, const std::string& action,
                                             const Parameters& parameters);
  /// `target` as in "AmazonSSM.GetParameter".
  [[nodiscard]] AwsResult<Json> json(const std::string& service, const std::string& target, const Json& body,
                                     Patience patience = Patience::usual);

  /// The same login, account and clock in another region, for another thread: who has to log in for it does so once.
  [[nodiscard]] std::unique_ptr<AwsClient> in_region(const std::string& region, std::unique_ptr<Http> http) const;

  [[nodiscard]] const AwsSettings& settings() const { return settings_; }
  [[nodiscard]] const CloudClock& clock() const { return clock_; }
  [[nodiscard]] Http& http() { return *http_; }
  /// Takes what a person may want to know while it goes on: that AWS asks to go slower, that the clock is wrong.
  void on_notice(const std::function<void(const std::string&)>& notice) {
    notice_ = notice;
    source_.on_notice(notice);
  }
  /// Whether there are credentials, before anything else is asked.
  [[nodiscard]] Result<void> check_credentials();
  /// Whose things these calls make and see, as one word that can name a file: "123456789012". Of a cloud that is not AWS with where that
  /// cloud is, and where it does not tell accounts by the access key. Asked once, and only by who needs it.
  [[nodiscard]] Result<std::string> account();

 private:
  struct Call;
  AwsResult<std::string> send(const Call& call);
  AwsResult<std::string> send_once(const Call& call, std::optional<std::chrono::seconds>& skew, int& status);
  Result<Credentials> credentials();
  [[nodiscard]] std::string without_secrets(std::string text) const;
  void notice(const std::string& sentence) const {
    if (notice_) notice_(sentence);
  }

  AwsSettings settings_;
  std::unique_ptr<Http> http_;
  CloudClock clock_;
  CredentialSource source_;
  std::optional<Credentials> credentials_;
  std::string account_;
  std::function<void(const std::string&)> notice_;
};

/// The pause before attempt `n` (1: the first repetition): full jitter, so that many clients do not come back together.
[[nodiscard]] std::chrono::milliseconds retry_pause(int n, double random);

/// How far a time may be off before AWS takes it amiss, which it does from 5 minutes on.
constexpr auto kToleratedSkew = std::chrono::minutes(4);
/// The pause before a call is repeated that failed for the `attempt`th time; nothing where that would not help, or was tried as often as is
/// right, which is `most` where that is said. `status` 0: no answer came.
[[nodiscard]] std::optional<std::chrono::milliseconds> pause_after(const AwsFailure& failure, int status, int attempt,
                                                                   std::optional<int> most, double random);

/// From a JSON protocol's error: "com.amazonaws.ssm#ParameterNotFound" or "ParameterNotFound:http://…" is ParameterNotFound.
[[nodiscard]] std::string plain_error_code(std::string_view type);

}  // namespace gpustrap
