#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include <curl/curl.h>
#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "controller/cloud/http.h"

namespace gpustrap {
namespace {

/// DescribeInstanceTypes without a filter is 3 MB a page; nothing else comes near.
constexpr std::size_t kMaxBody = 32U << 20U;
constexpr std::size_t kMaxHeaders = 64U << 10U;

/// curl_global_init for the one time that it is needed, by the first who asks: a command that sends nothing pays nothing.
bool curl_is_ready() {
  static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  return ready;
}

/// Where this machine keeps certificate authorities; a libcurl that is linked in has no place of its own. Empty where there are none.
std::string system_authorities() {
  for (const char* name : {"CURL_CA_BUNDLE", "SSL_CERT_FILE"}) {
    if (const char* path = std::getenv(name); path != nullptr && *path != '\0') return path;
  }
  for (const char* path : {"/etc/ssl/certs/ca-certificates.crt",  // Debian, Ubuntu, Alpine, Arch
                           "/etc/pki/tls/certs/ca-bundle.crt",    // Fedora, RHEL, Amazon Linux
                           "/etc/ssl/ca-bundle.pem",              // SUSE
                           "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"}) {
    std::error_code missing;
    if (std::filesystem::file_size(path, missing) > 0 && !missing) return path;
  }
  return {};
}

struct EasyFree {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct ListFree {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using EasyHandle = std::unique_ptr<CURL, EasyFree>;
using HeaderList = std::unique_ptr<curl_slist, ListFree>;

bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

struct Arriving {
  HttpResponse response;
  std::size_t header_bytes = 0;
  const char* too_long = nullptr;  ///< what is, in words
};

std::size_t take_body(char* bytes, std::size_t, std::size_t count, void* into) {
  auto& arriving = *static_cast<Arriving*>(into);
  if (arriving.response.body.size() + count > kMaxBody) arriving.too_long = "an answer of more than 32 MiB";
  if (arriving.too_long != nullptr) return 0;
  arriving.response.body.append(bytes, count);
  return count;
}

std::size_t take_header(char* bytes, std::size_t, std::size_t count, void* into) {
  auto& arriving = *static_cast<Arriving*>(into);
  const std::string_view line = trim(std::string_view(bytes, count));
  arriving.header_bytes += count;
  if (arriving.header_bytes > kMaxHeaders) arriving.too_long = "headers of more than 64 KiB";
  if (arriving.too_long != nullptr) return 0;
  if (line.starts_with("HTTP/")) arriving.response.headers.clear();  // a proxy's answer, or "100 Continue", came before
  const std::size_t colon = line.find(':');
  if (colon != std::string_view::npos) arriving.response.headers.emplace_back(line.substr(0, colon), trim(line.substr(colon + 1)));
  return count;
}

/// curl_easy_setopt is variadic and believes whatever width it is handed: a setter for each kind.
class Setup {
 public:
  explicit Setup(CURL* handle) : handle_(handle) {}
  void number(CURLoption option, long value) { curl_easy_setopt(handle_, option, value); }
  void size(CURLoption option, std::size_t value) { curl_easy_setopt(handle_, option, static_cast<curl_off_t>(value)); }
  void text(CURLoption option, const std::string& value) { curl_easy_setopt(handle_, option, value.c_str()); }
  void pointer(CURLoption option, void* value) { curl_easy_setopt(handle_, option, value); }
  template <class Function> void function(CURLoption option, Function* value) { curl_easy_setopt(handle_, option, value); }

 private:
  CURL* handle_;
};

/// "https://ec2.eu-west-1.amazonaws.com", without path: what a person wants to know of where it failed.
std::string origin_of(const std::string& url) {
  const std::size_t host = url.find("://");
  return host == std::string::npos ? url : url.substr(0, url.find('/', host + 3));
}

Error error_of(CURLcode code, const std::string& said, const HttpRequest& request, const std::string& ca_bundle) {
  const std::string where = origin_of(request.url);
  const std::string why = fmt::format("{}: {}", where, said.empty() ? curl_easy_strerror(code) : said);
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
      return {ErrorCode::unknown_name, fmt::format("{} cannot be found: {}", where.substr(where.rfind('/') + 1), said),
              "see whether this machine is on the network, and whether the region is written right"};
    case CURLE_COULDNT_RESOLVE_PROXY: return {ErrorCode::unknown_name, why, "see the variables https_proxy and http_proxy of this shell"};
    case CURLE_COULDNT_CONNECT:
      return {ErrorCode::unreachable, why, "see whether this machine is on the network and needs a proxy (https_proxy)"};
    case CURLE_OPERATION_TIMEDOUT: return {ErrorCode::timeout, why, "see whether this machine is on the network; then run it again"};
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
      if (ca_bundle.empty() || !path_exists(ca_bundle))
        return {ErrorCode::tls,
                why + (ca_bundle.empty() ? "; this machine has no certificate authorities" : "; there is no file " + ca_bundle),
                ca_bundle.empty() ? "install the package ca-certificates"
                                  : "see AWS_CA_BUNDLE, CURL_CA_BUNDLE and SSL_CERT_FILE of this shell"};
      return {ErrorCode::tls, why, "where a proxy signs what passes it, name its certificate file: export AWS_CA_BUNDLE=/path/ca.pem"};
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL: return {ErrorCode::usage, why, "an address begins with https:// or http://"};
    default: return {ErrorCode::network, why, "run it again"};
  }
}

class CurlHttp : public Http {
 public:
  explicit CurlHttp(const std::string& ca_bundle) : ca_bundle_(ca_bundle.empty() ? system_authorities() : ca_bundle) {
    if (curl_is_ready()) handle_.reset(curl_easy_init());
  }

  Result<HttpResponse> send(const HttpRequest& request) override {
    if (!handle_) return fail(ErrorCode::internal, "libcurl could not be initialised");
    if (!request.url.starts_with("https://") && !request.url.starts_with("http://"))
      return fail(ErrorCode::usage, fmt::format("`{}` is no address: it does not begin with https://", strip_control(request.url)),
                  "see AWS_ENDPOINT_URL of this shell, and endpoint_url of the profile");
    curl_easy_reset(handle_.get());  // keeps its connections
    std::array<char, CURL_ERROR_SIZE> said{};
    Arriving arriving;
    Setup set(handle_.get());
    set.text(CURLOPT_URL, request.url);
    set.text(CURLOPT_PROTOCOLS_STR, "http,https");
    set.text(CURLOPT_USERAGENT, "gpustrap/" GPUSTRAP_VERSION);
    set.text(CURLOPT_ACCEPT_ENCODING, "");
    set.number(CURLOPT_NOSIGNAL, 1);
    set.number(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(request.connect_timeout.count()));
    set.number(CURLOPT_TIMEOUT_MS, static_cast<long>(request.timeout.count()));
    if (!ca_bundle_.empty()) set.text(CURLOPT_CAINFO, ca_bundle_);
    if (!request.through_proxy) set.text(CURLOPT_PROXY, "");
    if (request.method == "POST") set.number(CURLOPT_POST, 1);
    const bool is_head = request.method == "HEAD";
    if (is_head) set.number(CURLOPT_NOBODY, 1);
    if (request.method != "POST" && request.method != "GET" && !is_head) set.text(CURLOPT_CUSTOMREQUEST, request.method);
    if (request.method != "GET" && !is_head) {
      set.size(CURLOPT_POSTFIELDSIZE_LARGE, request.body.size());
      set.text(CURLOPT_POSTFIELDS, request.body);
    }
    HeaderList headers;
    // Waiting to be told to go on costs a round trip, and proxies get it wrong.
    add(headers, "Expect:");
    for (const auto& [name, value] : request.headers) add(headers, value.empty() ? name + ";" : name + ": " + value);
    set.pointer(CURLOPT_HTTPHEADER, headers.get());
    set.function(CURLOPT_WRITEFUNCTION, take_body);
    set.pointer(CURLOPT_WRITEDATA, &arriving);
    set.function(CURLOPT_HEADERFUNCTION, take_header);
    set.pointer(CURLOPT_HEADERDATA, &arriving);
    set.pointer(CURLOPT_ERRORBUFFER, said.data());
    const CURLcode code = curl_easy_perform(handle_.get());
    if (arriving.too_long != nullptr)
      return fail(ErrorCode::network, fmt::format("{} sends {}", origin_of(request.url), arriving.too_long),
                  "AWS sends no such thing: see AWS_ENDPOINT_URL and https_proxy of this shell");
    if (code != CURLE_OK) return fail(error_of(code, strip_control(first_line(said.data())), request, ca_bundle_));
    long status = 0;
    curl_easy_getinfo(handle_.get(), CURLINFO_RESPONSE_CODE, &status);
    arriving.response.status = static_cast<int>(status);
    return std::move(arriving.response);
  }

 private:
  static void add(HeaderList& list, const std::string& line) {
    curl_slist* longer = curl_slist_append(list.get(), line.c_str());
    if (longer == nullptr) return;
    static_cast<void>(list.release());
    list.reset(longer);
  }

  std::string ca_bundle_;
  EasyHandle handle_;
};

}  // namespace

std::string HttpResponse::header(std::string_view name) const {
  const auto found = std::find_if(headers.begin(), headers.end(), [&](const auto& one) { return same_name(one.first, name); });
  return found == headers.end() ? "" : found->second;
}

std::unique_ptr<Http> make_http(const std::string& ca_bundle) { return std::make_unique<CurlHttp>(ca_bundle); }

}  // namespace gpustrap
