#include "controller/cloud/sigv4.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <map>

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "agent/base/sha256.h"
#include "agent/base/text.h"

namespace gpustrap {
namespace {

constexpr std::string_view kAlgorithm = "AWS4-HMAC-SHA256";

std::string percent_encoded(std::string_view text, std::string_view kept) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (plain || kept.find(c) != std::string_view::npos)
      out += c;
    else
      out += fmt::format("%{:02X}", byte);
  }
  return out;
}

std::string hmac(std::string_view key, std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  ::HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(text.data()), text.size(),
         digest.data(), &length);
  return {reinterpret_cast<const char*>(digest.data()), length};
}

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return out;
}

struct Place {
  std::string host, path;
};

/// Of "https://HOST:PORT/PATH"; a scheme's own port is left out, as HTTP does.
Place place_of(const std::string& url) {
  const std::size_t scheme = url.find("://");
  const std::size_t host = scheme == std::string::npos ? 0 : scheme + 3;
  const std::size_t slash = url.find('/', host);
  Place place{url.substr(host, slash == std::string::npos ? slash : slash - host), slash == std::string::npos ? "/" : url.substr(slash)};
  const std::string_view own_port = url.starts_with("https:") ? ":443" : ":80";
  if (place.host.ends_with(own_port)) place.host.resize(place.host.size() - own_port.size());
  return place;
}

}  // namespace

std::string form_encoded(const Parameters& parameters) {
  std::string body;
  for (const auto& [name, value] : parameters) {
    if (!body.empty()) body += '&';
    body += percent_encoded(name, "-_.~") + '=' + percent_encoded(value, "-_.~");
  }
  return body;
}

void sign_request(HttpRequest& request, const AwsKeys& keys, const SigningScope& scope) {
  const Place place = place_of(request.url);
  const std::string time = compact_time(scope.time);
  const std::string date = time.substr(0, 8);
  request.headers.emplace_back("Host", place.host);
  request.headers.emplace_back("X-Amz-Date", time);
  if (!keys.session_token.empty()) request.headers.emplace_back("X-Amz-Security-Token", keys.session_token);

  std::map<std::string, std::string> headers;  // sorted by name, as they are signed
  for (const auto& [name, value] : request.headers) {
    std::string lower;
    for (const char c : name) lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const std::string squeezed = join(words(value), " ");
    std::string& all = headers[lower];
    all += all.empty() ? squeezed : "," + squeezed;
  }
  std::string listed, names;
  for (const auto& [name, value] : headers) {
    listed += name + ":" + value + "\n";
    names += (names.empty() ? "" : ";") + name;
  }
  const std::string canonical =
      fmt::format("{}\n{}\n\n{}\n{}\n{}", request.method, percent_encoded(place.path, "-_.~/"), listed, names, sha256_hex(request.body));
  const std::string scope_text = fmt::format("{}/{}/{}/aws4_request", date, scope.region, scope.service);
  const std::string to_sign = fmt::format("{}\n{}\n{}\n{}", kAlgorithm, time, scope_text, sha256_hex(canonical));
  const std::string key = hmac(hmac(hmac(hmac("AWS4" + keys.secret_key, date), scope.region), scope.service), "aws4_request");
  request.headers.emplace_back("Authorization", fmt::format("{} Credential={}/{}, SignedHeaders={}, Signature={}", kAlgorithm,
                                                            keys.access_key, scope_text, names, hex(hmac(key, to_sign))));
}

}  // namespace gpustrap
