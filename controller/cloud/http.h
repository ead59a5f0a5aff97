#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method = "POST";
  std::string url;
  HttpHeaders headers;
  std::string body;
  std::chrono::milliseconds connect_timeout{10'000}, timeout{60'000};
  bool through_proxy = true;  ///< false for addresses that only the machine itself can reach
};

struct HttpResponse {
  int status = 0;
  HttpHeaders headers;
  std::string body;

  /// The first header of that name, in any case of letters; empty where there is none.
  [[nodiscard]] std::string header(std::string_view name) const;
};

/// One exchange at a time, no redirects, no retries. Every answer is a response, whatever its status.
/// Errors: unknown_name, unreachable, tls, timeout, and network for a connection that was cut.
class Http {
 public:
  virtual ~Http() = default;
  [[nodiscard]] virtual Result<HttpResponse> send(const HttpRequest& request) = 0;
};

/// Over libcurl; `ca_bundle` instead of the system's where it is not empty. Connections are kept between exchanges.
[[nodiscard]] std::unique_ptr<Http> make_http(const std::string& ca_bundle);

}  // namespace gpustrap
