#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "controller/cloud/aws_time.h"
#include "controller/cloud/http.h"

// What AWS asks of a request. The signer is our own: libcurl's differs from release to release in what it gets wrong (a date of the
// caller's, suppressed headers, the order of headers), and a wrong signature is refused with words that mislead.

namespace gpustrap {

struct AwsKeys {
  std::string access_key, secret_key;
  std::string session_token;  ///< of temporary ones; else empty
};

struct SigningScope {
  std::string region, service;
  AwsTime time;
};

using Parameters = std::vector<std::pair<std::string, std::string>>;
/// application/x-www-form-urlencoded, in the order given; a space is %20.
[[nodiscard]] std::string form_encoded(const Parameters& parameters);

/// Adds Host, X-Amz-Date, X-Amz-Security-Token and Authorization; all headers there are before are signed. The URL has no query.
void sign_request(HttpRequest& request, const AwsKeys& keys, const SigningScope& scope);

}  // namespace gpustrap
