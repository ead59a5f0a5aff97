#include "agent/http_transfer.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <thread>
#include <utility>

#include <curl/curl.h>
#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/shown_url.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kMaxRedirects = 10;
constexpr milliseconds kLongestPause{30'000};
/// A Retry-After beyond this is not waited for in full: by then another mirror or a person should decide.
constexpr milliseconds kLongestAsked{60'000};
/// A page that comes with a redirect or an error is read this far, so that the connection can be used again.
constexpr std::size_t kMaxIgnoredBody = 64U << 10U;
/// An attempt that brought this much was worth making: the count of attempts starts afresh. Files of many gigabytes get
/// through a line that drops every few minutes, while one that breaks at once still ends.
constexpr std::uint64_t kWorthwhile = 1U << 20U;

struct EasyFree {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct MultiFree {
  void operator()(CURLM* handle) const { curl_multi_cleanup(handle); }
};
struct ListFree {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
struct UrlFree {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using EasyHandle = std::unique_ptr<CURL, EasyFree>;
using MultiHandle = std::unique_ptr<CURLM, MultiFree>;
using HeaderList = std::unique_ptr<curl_slist, ListFree>;
using UrlHandle = std::unique_ptr<CURLU, UrlFree>;

/// curl_easy_setopt is variadic and believes whatever width it is handed, so each kind of value has its own setter.
class Options {
 public:
  explicit Options(CURL* handle) : handle_(handle) {}
  void number(CURLoption option, long value) { note(curl_easy_setopt(handle_, option, value)); }
  void text(CURLoption option, const std::string& value) { note(curl_easy_setopt(handle_, option, value.c_str())); }
  void none(CURLoption option) { note(curl_easy_setopt(handle_, option, static_cast<char*>(nullptr))); }
  void pointer(CURLoption option, void* value) { note(curl_easy_setopt(handle_, option, value)); }
  void blob(CURLoption option, const std::string& bytes) {
    curl_blob value{const_cast<char*>(bytes.data()), bytes.size(), CURL_BLOB_NOCOPY};
    note(curl_easy_setopt(handle_, option, &value));
  }
  template <class Function> void function(CURLoption option, Function* value) { note(curl_easy_setopt(handle_, option, value)); }
  [[nodiscard]] CURLcode first_failure() const { return failure_; }

 private:
  void note(CURLcode code) {
    if (failure_ == CURLE_OK) failure_ = code;
  }
  CURL* handle_;
  CURLcode failure_ = CURLE_OK;
};

/// A URL taken apart: credentials apart from the rest, so that they go to the host they were meant for only.
struct Address {
  std::string url;     ///< without user and password
  std::string scheme;  ///< lower case
  std::string origin;  ///< scheme, host and port
  std::string user, password;
  [[nodiscard]] bool has_login() const { return !user.empty() || !password.empty(); }
};

std::string url_part(CURLU* url, CURLUPart part, unsigned flags) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return {};
  std::string copy(text);
  curl_free(text);
  return copy;
}

Result<Address> parse_address(const std::string& url) {
  const UrlHandle parsed(curl_url());
  const CURLUcode code = curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), CURLU_NON_SUPPORT_SCHEME);
  if (code != CURLUE_OK) {
    return fail(ErrorCode::recipe, fmt::format("{} is not a URL: {}", shown_url(url), curl_url_strerror(code)),
                "write it as https://host/path");
  }
  Address address;
  address.scheme = url_part(parsed.get(), CURLUPART_SCHEME, 0);
  if (address.scheme != "http" && address.scheme != "https") {
    return fail(ErrorCode::unsafe, fmt::format("{} is neither http nor https", shown_url(url)),
                "give an http or https address of the file");
  }
  address.user = url_part(parsed.get(), CURLUPART_USER, CURLU_URLDECODE);
  address.password = url_part(parsed.get(), CURLUPART_PASSWORD, CURLU_URLDECODE);
  curl_url_set(parsed.get(), CURLUPART_USER, nullptr, 0);
  curl_url_set(parsed.get(), CURLUPART_PASSWORD, nullptr, 0);
  address.url = url_part(parsed.get(), CURLUPART_URL, 0);
  address.origin = fmt::format("{}://{}:{}", address.scheme, url_part(parsed.get(), CURLUPART_HOST, 0),
                               url_part(parsed.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT));
  return address;
}

/// A turn of the loop that took this much longer than it may: the process was stopped meanwhile, because another transfer goes first.
constexpr milliseconds kStopped{500};

/// What one request came to.
struct Attempt {
  enum class Outcome { done, retry, restart, redirect, leads_away, failed } outcome = Outcome::failed;
  Error error{ErrorCode::internal, ""};  ///< for retry and failed
  std::string location;                  ///< for redirect
  milliseconds asked{0};                 ///< the server's Retry-After
  bool was_stopped = false;              ///< this process, meanwhile: that it failed says nothing of the server
};

std::string lower(std::string_view text) {
  std::string copy(text);
  std::transform(copy.begin(), copy.end(), copy.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return copy;
}

std::optional<std::uint64_t> to_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return number;
}

/// What the callbacks of one request share.
struct Exchange {
  CURL* handle = nullptr;
  TransferSink* sink = nullptr;
  bool asked_range = false;
  std::uint64_t have = 0;  ///< where a continued body has to begin
  std::string validator;   ///< of the version that is gone on with, and its size
  std::optional<std::uint64_t> total;
  bool checked_later = false;

  long status = 0;
  std::string etag, modified, content_range;
  std::optional<std::uint64_t> content_length;
  bool begun = false, wrong_range = false;
  std::size_t ignored = 0;
  std::uint64_t received = 0;
  std::optional<Error> sink_error;
  Clock::time_point last_byte = Clock::now();
  BodyStart start;

  [[nodiscard]] bool has_body() const { return status == 200 || status == 206; }
  /// Whether the body ended where the server said that the file does. A range may end before it, and be whole as such.
  [[nodiscard]] bool reached_the_end() const { return !begun || !start.total || start.offset + received == *start.total; }

  /// Whether what is sent goes on with the version that is there. A server may know no If-Range, or have several of the file: then two
  /// versions would become one file. What leaves out how long the file is may also end anywhere.
  bool continues() {
    // "bytes 500-999/1000"
    std::string_view range = trim(content_range);
    if (lower(range.substr(0, 6)) == "bytes ") range.remove_prefix(6);
    const std::size_t dash = range.find('-');
    const std::size_t slash = range.find('/');
    const std::optional<std::uint64_t> first = dash == std::string_view::npos ? std::nullopt : to_number(range.substr(0, dash));
    if (!asked_range || first != have) return false;
    const std::optional<std::uint64_t> said = slash == std::string_view::npos ? std::nullopt : to_number(range.substr(slash + 1));
    if (said && total && *said != *total) return false;
    start.total = said ? said : total;
    if (!start.total) return false;
    if (validator.empty()) return true;
    // A range has to come with its ETag, but need not repeat the date (RFC 9110, 15.3.7).
    const bool by_etag = validator.front() == '"';
    const std::string& given = by_etag ? etag : modified;
    if (given.empty() ? by_etag && !checked_later : given != validator) return false;
    start.validator = validator;
    return true;
  }

  /// Tells the sink where the body begins; false where it cannot be used.
  bool begin() {
    begun = true;
    // Only a strong ETag names bytes. A date serves where there is none; servers that change a file twice within a second are
    // left to the digest.
    start.validator = !etag.empty() && etag.front() == '"' ? etag : modified;
    start.modified_s = std::max<std::int64_t>(curl_getdate(modified.c_str(), nullptr), 0);
    if (status == 206) {
      wrong_range = !continues();
      if (wrong_range) return false;
      start.offset = have;
    } else {
      start.offset = 0;
      start.total = content_length;
    }
    if (Result<void> begun_well = sink->begin(start); !begun_well) {
      sink_error = std::move(begun_well).error();
      return false;
    }
    return true;
  }
};

std::size_t on_header(char* bytes, std::size_t size, std::size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const std::string_view line = trim(std::string_view(bytes, size * count));
  exchange.last_byte = Clock::now();
  if (line.substr(0, 5) == "HTTP/") {  // the next response: a proxy's or a 100 came before
    exchange.etag.clear();
    exchange.modified.clear();
    exchange.content_range.clear();
    exchange.content_length.reset();
    return size * count;
  }
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return size * count;
  const std::string name = lower(line.substr(0, colon));
  const std::string_view value = trim(line.substr(colon + 1));
  if (name == "etag") exchange.etag = value;
  if (name == "last-modified") exchange.modified = value;
  if (name == "content-range") exchange.content_range = value;
  if (name == "content-length") exchange.content_length = to_number(value);
  return size * count;
}

std::size_t on_body(char* bytes, std::size_t size, std::size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const std::size_t length = size * count;
  if (exchange.status == 0) curl_easy_getinfo(exchange.handle, CURLINFO_RESPONSE_CODE, &exchange.status);
  if (!exchange.has_body()) {
    exchange.ignored += length;
    exchange.last_byte = Clock::now();
    return exchange.ignored > kMaxIgnoredBody ? 0 : length;
  }
  if (!exchange.begun && !exchange.begin()) return 0;
  if (Result<void> added = exchange.sink->add({bytes, length}); !added) {
    exchange.sink_error = std::move(added).error();
    return 0;
  }
  exchange.received += length;
  exchange.last_byte = Clock::now();  // after the sink: a slow disk is not a stalled server
  return length;
}

std::string proxy_variable(const FetchOptions& options, std::string_view wanted) {
  for (const auto& [name, value] : options.proxy) {
    if (lower(name) == wanted && !value.empty()) return value;
  }
  return {};
}

Error transport_error(CURLcode code, const char* detail) {
  const std::string why = detail != nullptr && *detail != '\0' ? std::string(detail) : std::string(curl_easy_strerror(code));
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
      return {ErrorCode::tls, "the server's certificate was not accepted: " + why,
              "check the host's clock (`date`); behind a proxy that re-signs TLS, add its authority to the host's CA bundle or name one in "
              "SSL_CERT_FILE"};
    case CURLE_SSL_CACERT_BADFILE: return {ErrorCode::tls, "the CA bundle cannot be used: " + why, "reinstall the package ca-certificates"};
    case CURLE_COULDNT_RESOLVE_HOST: return {ErrorCode::unreachable, why, "check the name, and the name servers in /etc/resolv.conf"};
    case CURLE_COULDNT_RESOLVE_PROXY:
      return {ErrorCode::unreachable, why,
              "check --proxy, `proxy` of your configuration, or http_proxy and https_proxy of the login on the host"};
    case CURLE_COULDNT_CONNECT:
      return {ErrorCode::unreachable, why, "check that the host may connect there; a proxy or a mirror can be set"};
    case CURLE_OPERATION_TIMEDOUT:
      return {ErrorCode::timeout, why, "check that the host may connect there; a proxy or a mirror can be set"};
    default: return {ErrorCode::network, why, "try again: what has arrived is kept; a mirror may be nearer"};
  }
}

bool is_transient(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_WEIRD_SERVER_REPLY: return true;
    default: return false;
  }
}

Attempt judge_status(long status, CURL* handle) {
  Attempt attempt;
  const std::string why = fmt::format("the server answered {}", status);
  if (status == 408 || status == 425 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504) {
    attempt.outcome = Attempt::Outcome::retry;
    attempt.error = Error(ErrorCode::network, why, "the server is busy or broken: try again later, or name a mirror");
    curl_off_t seconds = 0;
    curl_easy_getinfo(handle, CURLINFO_RETRY_AFTER, &seconds);
    attempt.asked = std::min(milliseconds(std::clamp<curl_off_t>(seconds, 0, 3600) * 1000), kLongestAsked);
  } else if (status == 404 || status == 410) {
    attempt.error =
        Error(ErrorCode::not_found, why + ": there is no such file", "check the address; the file may have moved or been withdrawn");
  } else if (status == 401 || status == 403) {
    attempt.error =
        Error(ErrorCode::permission, why + ": it does not give out the file", "check whether the address needs a login, or has expired");
  } else if (status == 407) {
    attempt.error = Error(ErrorCode::permission, why + ": the proxy wants a login",
                          "put it into http_proxy and https_proxy in /etc/environment on the host: http://user:password@proxy:port");
  } else {
    attempt.error = Error(ErrorCode::network, why, "check the address in a browser");
  }
  return attempt;
}

using ErrorDetail = std::array<char, CURL_ERROR_SIZE>;

/// One file.
class HttpTransfer {
 public:
  HttpTransfer(CURLM* multi, CURL* easy, ErrorDetail& detail, const TransferRequest& request, const FetchOptions& options,
               const Authorities& authorities, TransferSink& sink)
      : request_(request),
        options_(options),
        authorities_(authorities),
        sink_(sink),
        have_(request.have),
        validator_(request.validator),
        total_(request.total),
        detail_(detail),
        multi_(multi),
        easy_(easy) {}

  Result<TransferEnd> run() {
    Result<Address> first = parse_address(request_.url);
    if (!first) return fail(std::move(first).error());
    std::uint64_t furthest = have_;
    milliseconds pause = options_.first_pause;
    for (int number = 1;; ++number) {
      Attempt attempt = follow(*first);
      if (attempt.outcome == Attempt::Outcome::restart) {
        // The server cannot go on where we stopped. Asking for all of it is not another attempt: it did answer.
        have_ = 0;
        validator_.clear();
        total_.reset();
        attempt = follow(*first);
        if (attempt.outcome == Attempt::Outcome::restart) {
          attempt.outcome = Attempt::Outcome::failed;
          attempt.error = Error(ErrorCode::network, "the server sent a part of the file although all of it was asked for", "name a mirror");
        }
      }
      if (attempt.outcome == Attempt::Outcome::done) return TransferEnd::whole;
      if (attempt.outcome == Attempt::Outcome::leads_away) return TransferEnd::leads_away;
      if (attempt.outcome == Attempt::Outcome::failed) return fail(std::move(attempt.error));
      if (have_ >= furthest + kWorthwhile) {
        furthest = have_;
        number = 1;
        pause = options_.first_pause;
      }
      if (attempt.was_stopped) --number;
      if (number >= options_.attempts) {
        return fail(Error(attempt.error.code(), fmt::format("{} (tried {} times)", attempt.error.why(), number), attempt.error.hint()));
      }
      const milliseconds wait = std::max(pause, attempt.asked);
      sink_.say(fmt::format("{}: {}; again in {}", shown_url(request_.url), attempt.error.why(), human_duration(wait)));
      std::this_thread::sleep_for(wait);
      pause = std::min(pause * 2, kLongestPause);
    }
  }

 private:
  /// One request and the redirects it leads through.
  Attempt follow(const Address& first) {
    Address address = first;
    for (int hops = 0;; ++hops) {
      Attempt attempt = exchange(address);
      if (attempt.outcome != Attempt::Outcome::redirect) return attempt;
      Attempt refused;
      if (hops == kMaxRedirects) {
        refused.error =
            Error(ErrorCode::network, fmt::format("more than {} redirects, the last to {}", kMaxRedirects, shown_url(attempt.location)),
                  "check the address in a browser");
        return refused;
      }
      Result<Address> next = parse_address(attempt.location);
      if (!next) {
        refused.error = std::move(next).error().in("following a redirect from " + shown_url(address.url));
        return refused;
      }
      if (address.scheme == "https" && next->scheme == "http") {
        refused.error = Error(ErrorCode::unsafe,
                              fmt::format("{} redirects to {}, which is not encrypted", shown_url(address.url), shown_url(next->url)),
                              "use an https address that stays https, or give the final http address and its sha256 yourself");
        return refused;
      }
      if (next->origin != address.origin && request_.redirects == TransferRequest::Redirects::within_origin) {
        attempt.outcome = Attempt::Outcome::leads_away;
        return attempt;
      }
      if (!next->has_login() && next->origin == address.origin) {
        next->user = address.user;
        next->password = address.password;
      }
      address = std::move(*next);
    }
  }

  Attempt exchange(const Address& address) {
    Attempt attempt;
    if (address.scheme == "https" && !authorities_) {
      attempt.error = authorities_.error();
      return attempt;
    }
    Exchange exchange;
    exchange.handle = easy_;
    exchange.sink = &sink_;
    exchange.have = have_;
    exchange.validator = validator_;
    exchange.total = total_;
    exchange.checked_later = request_.resume == TransferRequest::Resume::checked_later;
    exchange.asked_range = have_ > 0 && (!validator_.empty() || exchange.checked_later);

    detail_.fill('\0');
    HeaderList headers;
    if (exchange.asked_range && !validator_.empty()) headers.reset(curl_slist_append(nullptr, ("If-Range: " + validator_).c_str()));
    if (const CURLcode code = set_options(address, exchange, headers.get()); code != CURLE_OK) {
      attempt.error = Error(ErrorCode::internal, fmt::format("an option was refused by libcurl: {}", curl_easy_strerror(code)));
      return attempt;
    }
    bool stalled = false, was_stopped = false;
    const CURLcode code = perform(exchange, stalled, was_stopped);
    curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &exchange.status);
    if (code == CURLE_OK && exchange.has_body() && !exchange.begun) (void)exchange.begin();  // an empty body
    if (exchange.begun && !exchange.wrong_range) {
      have_ = exchange.start.offset + exchange.received;
      validator_ = exchange.start.validator;
      total_ = exchange.start.total;
    }
    attempt = judge(exchange, code, stalled);
    attempt.was_stopped = was_stopped;
    return attempt;
  }

  Attempt judge(Exchange& exchange, CURLcode code, bool stalled) {
    Attempt attempt;
    if (exchange.sink_error) {
      attempt.error = std::move(*exchange.sink_error);
    } else if (exchange.wrong_range || (exchange.status == 416 && exchange.asked_range)) {
      attempt.outcome = Attempt::Outcome::restart;
    } else if (stalled) {
      attempt.outcome = Attempt::Outcome::retry;
      attempt.error = Error(ErrorCode::timeout, fmt::format("no byte came for {}", human_duration(options_.stall)),
                            "try again: what has arrived is kept; a mirror may be nearer");
    } else if (exchange.status >= 300 && exchange.status < 400) {
      char* location = nullptr;
      curl_easy_getinfo(easy_, CURLINFO_REDIRECT_URL, &location);
      if (location == nullptr) return judge_status(exchange.status, easy_);
      attempt.outcome = Attempt::Outcome::redirect;
      attempt.location = location;
    } else if (exchange.status != 0 && !exchange.has_body() && (code == CURLE_OK || code == CURLE_WRITE_ERROR)) {
      attempt = judge_status(exchange.status, easy_);
    } else if (long proxy_status = 0;
               curl_easy_getinfo(easy_, CURLINFO_HTTP_CONNECTCODE, &proxy_status) == CURLE_OK && proxy_status == 407) {
      attempt = judge_status(proxy_status, easy_);
    } else if (code == CURLE_OK && !exchange.reached_the_end()) {
      attempt.outcome = Attempt::Outcome::retry;
      attempt.error =
          Error(ErrorCode::network, fmt::format("the server's answer ended at byte {} of a file of {}", have_, *exchange.start.total),
                "try again: what has arrived is kept; a mirror may be nearer");
    } else if (code == CURLE_OK) {
      attempt.outcome = Attempt::Outcome::done;
    } else {
      attempt.outcome = is_transient(code) ? Attempt::Outcome::retry : Attempt::Outcome::failed;
      attempt.error = transport_error(code, detail_.data());
    }
    return attempt;
  }

  CURLcode set_options(const Address& address, Exchange& exchange, curl_slist* headers) {
    curl_easy_reset(easy_);
    Options set(easy_);
    set.pointer(CURLOPT_ERRORBUFFER, detail_.data());
    set.text(CURLOPT_URL, address.url);
    set.text(CURLOPT_PROTOCOLS_STR, "http,https");
    set.number(CURLOPT_FOLLOWLOCATION, 0);  // redirects are ours to judge
    set.number(CURLOPT_NOSIGNAL, 1);
    set.number(CURLOPT_TCP_KEEPALIVE, 1);
    set.number(CURLOPT_BUFFERSIZE, 256L << 10U);
    set.number(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options_.connect_timeout.count()));
    set.number(CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
    set.text(CURLOPT_USERAGENT, "gpustrap/" GPUSTRAP_VERSION);
    if (authorities_) {
      // As text, because the child may not be allowed to read the file; and no directory beside it, so that what was named counts.
      set.blob(CURLOPT_CAINFO_BLOB, *authorities_);
      set.blob(CURLOPT_PROXY_CAINFO_BLOB, *authorities_);
      set.none(CURLOPT_CAPATH);
      set.none(CURLOPT_PROXY_CAPATH);
    }
    if (address.has_login()) {
      set.text(CURLOPT_USERNAME, address.user);
      set.text(CURLOPT_PASSWORD, address.password);
    }
    std::string proxy = proxy_variable(options_, address.scheme + "_proxy");
    if (proxy.empty()) proxy = proxy_variable(options_, "all_proxy");
    set.text(CURLOPT_PROXY, proxy);  // "" keeps libcurl from asking the environment
    set.text(CURLOPT_NOPROXY, proxy_variable(options_, "no_proxy"));
    if (exchange.asked_range) set.text(CURLOPT_RANGE, fmt::format("{}-", have_));
    if (headers != nullptr) set.pointer(CURLOPT_HTTPHEADER, headers);
    set.function(CURLOPT_HEADERFUNCTION, on_header);
    set.pointer(CURLOPT_HEADERDATA, &exchange);
    set.function(CURLOPT_WRITEFUNCTION, on_body);
    set.pointer(CURLOPT_WRITEDATA, &exchange);
    return set.first_failure();
  }

  /// Runs the request to its end. libcurl's own low-speed limit counts whole seconds and the time that our sink takes.
  CURLcode perform(Exchange& exchange, bool& stalled, bool& was_stopped) {
    if (curl_multi_add_handle(multi_, easy_) != CURLM_OK) return CURLE_FAILED_INIT;
    const int longest_poll = static_cast<int>(std::clamp<std::int64_t>(options_.stall.count() / 4, 1, 1000));
    exchange.last_byte = Clock::now();
    CURLcode code = CURLE_OK;
    for (int running = 1; running > 0;) {
      if (curl_multi_perform(multi_, &running) != CURLM_OK) {
        code = CURLE_FAILED_INIT;
        break;
      }
      if (running == 0) break;
      if (Clock::now() - exchange.last_byte > options_.stall) {
        stalled = true;
        break;
      }
      const Clock::time_point before = Clock::now();
      curl_multi_poll(multi_, nullptr, 0, longest_poll, nullptr);
      if (const auto gap = Clock::now() - before; gap > milliseconds(longest_poll) + kStopped) {
        was_stopped = true;
        exchange.last_byte += gap;
      }
    }
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
      if (message->msg == CURLMSG_DONE) code = message->data.result;
    }
    curl_multi_remove_handle(multi_, easy_);
    return code;
  }

  const TransferRequest& request_;
  const FetchOptions& options_;
  const Authorities& authorities_;
  TransferSink& sink_;
  std::uint64_t have_;
  std::string validator_;
  std::optional<std::uint64_t> total_;
  ErrorDetail& detail_;
  CURLM* multi_;
  CURL* easy_;
};

constexpr std::size_t kLongestAnswer = 2U << 20U;

std::size_t take_answer(char* bytes, std::size_t size, std::size_t count, void* body) {
  auto& text = *static_cast<std::string*>(body);
  if (text.size() + size * count > kLongestAnswer) return 0;  // which ends the transfer
  text.append(bytes, size * count);
  return size * count;
}

Result<void> initialise() {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (initialised != CURLE_OK) return fail(ErrorCode::internal, fmt::format("libcurl: {}", curl_easy_strerror(initialised)));
  return {};
}

}  // namespace

struct HttpClient::Handles {
  ErrorDetail detail{};  // outlives the handles, which write into it
  MultiHandle multi;
  EasyHandle easy;
};

HttpClient::HttpClient() : handles_(std::make_unique<Handles>()) {}
HttpClient::~HttpClient() = default;

Result<TransferEnd> HttpClient::transfer(const TransferRequest& request, const FetchOptions& options, const Authorities& authorities,
                                         TransferSink& sink) {
  // c-ares before 1.20 waits 5 s for a dead first name server whatever resolv.conf says; this makes it 1 s. Others ignore the names.
  ::setenv("RES_OPTIONS", "retrans:1000 retry:2", 0);
  if (Result<void> ready = initialise(); !ready) return fail(std::move(ready).error());
  if (!handles_->multi) handles_->multi.reset(curl_multi_init());
  if (!handles_->easy) handles_->easy.reset(curl_easy_init());
  if (!handles_->multi || !handles_->easy) return fail(ErrorCode::internal, "libcurl could not be initialised");
  Result<TransferEnd> end =
      HttpTransfer(handles_->multi.get(), handles_->easy.get(), handles_->detail, request, options, authorities, sink).run();
  curl_easy_reset(handles_->easy.get());  // forgets what is gone now; its connections stay
  return end;
}

Result<HttpAnswer> http_ask(const HttpQuestion& question) {
  if (Result<void> ready = initialise(); !ready) return fail(std::move(ready).error());
  const EasyHandle easy(curl_easy_init());
  if (!easy) return fail(ErrorCode::internal, "libcurl gave no handle");
  HeaderList headers;
  for (const std::string& header : question.headers) {
    curl_slist* longer = curl_slist_append(headers.get(), header.c_str());
    if (longer == nullptr) return fail(ErrorCode::internal, "no memory");
    static_cast<void>(headers.release());
    headers.reset(longer);
  }
  HttpAnswer answer;
  Options set(easy.get());
  set.text(CURLOPT_URL, question.url);
  set.text(CURLOPT_PROTOCOLS_STR, "http,https");
  set.text(CURLOPT_CUSTOMREQUEST, question.method);
  set.number(CURLOPT_FOLLOWLOCATION, 0);
  set.number(CURLOPT_NOSIGNAL, 1);
  set.number(CURLOPT_TIMEOUT_MS, static_cast<long>(question.limit.count()));
  set.text(CURLOPT_USERAGENT, "gpustrap/" GPUSTRAP_VERSION);
  set.text(CURLOPT_PROXY, "");  // "" keeps libcurl from asking the environment
  if (question.any_certificate) {
    set.number(CURLOPT_SSL_VERIFYPEER, 0);
    set.number(CURLOPT_SSL_VERIFYHOST, 0);
  }
  if (headers) set.pointer(CURLOPT_HTTPHEADER, headers.get());
  set.function(CURLOPT_WRITEFUNCTION, take_answer);
  set.pointer(CURLOPT_WRITEDATA, &answer.body);
  if (set.first_failure() != CURLE_OK)
    return fail(ErrorCode::internal, fmt::format("libcurl: {}", curl_easy_strerror(set.first_failure())));
  const CURLcode code = curl_easy_perform(easy.get());
  if (code != CURLE_OK) return fail(ErrorCode::network, fmt::format("{}: {}", shown_url(question.url), curl_easy_strerror(code)));
  long status = 0;
  curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
  answer.status = static_cast<int>(status);
  return answer;
}

}  // namespace gpustrap
