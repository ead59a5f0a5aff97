#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "controller/cloud/aws_errors.h"
#include "controller/cloud/aws_settings.h"
#include "controller/cloud/aws_time.h"
#include "controller/cloud/http.h"
#include "controller/cloud/sigv4.h"

namespace gpustrap {

struct Credentials {
  AwsKeys keys;
  std::optional<AwsTime> expires;
  std::string from;  ///< "the keys of profile lab", for messages; never a secret
};

/// Looks where the AWS command line looks, in its order: environment; the profile's role, SSO session, keys, credential_process; a
/// container's endpoint; the instance's metadata (IMDSv2 only). Errors (authentication) say where was looked, or which command to run.
class CredentialSource {
 public:
  CredentialSource(const AwsSettings& settings, Http& http, CloudClock clock)
      : settings_(settings), http_(http), clock_(std::move(clock)) {}
  [[nodiscard]] Result<Credentials> find();
  void on_notice(std::function<void(const std::string&)> notice) { notice_ = std::move(notice); }
  /// Added to this machine's time, where AWS's differs.
  [[nodiscard]] std::chrono::seconds correction() const { return correction_; }
  void correct_clock(std::chrono::seconds correction) { correction_ = correction; }
  /// Of a credential_process: after how long it is said what is waited for, and after how long no more is.
  void be_patient(std::chrono::milliseconds say_after, std::chrono::milliseconds end_after) {
    say_after_ = say_after, end_after_ = end_after;
  }

 private:
  Result<std::optional<Credentials>> of_environment();
  Result<std::optional<Credentials>> of_profile(const std::string& profile, std::vector<std::string>& chain);
  Result<std::optional<Credentials>> assume_role(const std::string& profile, std::vector<std::string>& chain);
  Result<std::optional<Credentials>> of_web_identity(const std::string& role, const std::string& token_file, const std::string& session);
  Result<std::optional<Credentials>> of_sso(const std::string& profile);
  Result<std::optional<Credentials>> of_process(const std::string& profile);
  Result<std::optional<Credentials>> of_container();
  Result<std::optional<Credentials>> of_metadata();
  struct StsCall;
  AwsResult<Credentials> ask_sts_once(const StsCall& call, std::optional<std::chrono::seconds>& skew, int& status);
  Result<Credentials> ask_sts(const StsCall& call);
  void notice(const std::string& sentence) const {
    if (notice_) notice_(sentence);
  }
  std::string value(const std::string& profile, const std::string& key) const { return settings_.config.value(profile, key); }

  const AwsSettings& settings_;
  Http& http_;
  CloudClock clock_;
  std::chrono::seconds correction_{0};
  std::chrono::milliseconds say_after_{5'000}, end_after_{120'000};
  std::function<void(const std::string&)> notice_;
};

/// From what credential_process, a container or the metadata answer. `label` names it in errors, which never quote the text.
[[nodiscard]] Result<Credentials> read_credentials_json(const std::string& text, const std::string& label);

}  // namespace gpustrap
