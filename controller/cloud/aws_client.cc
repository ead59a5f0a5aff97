#include "controller/cloud/aws_client.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>

#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/cloud/ec2_answers.h"

namespace gpustrap {
namespace {

/// Trouble on the way or AWS's own: about 7 s of waiting on average before a person is told.
constexpr int kAttempts = 5;
/// Throttling is an order to wait, not a failure: 40 s on average.
constexpr int kThrottledAttempts = 8;
constexpr auto kSoon = std::chrono::milliseconds(3'000);
constexpr auto kLongestPause = std::chrono::milliseconds(20'000);
/// Keys that end so soon are fetched anew: a call with its repetitions may take as long.
constexpr auto kKeysLeft = std::chrono::minutes(2);

/// Through whatever door of AWS's: a network's own endpoint for EC2 leads to the same accounts.
bool leads_to_aws(std::string_view url) {
  url.remove_prefix(std::min(url.size(), url.find("://") == std::string_view::npos ? 0 : url.find("://") + 3));
  url = url.substr(0, url.find_first_of("/:"));
  return url.ends_with(".amazonaws.com") || url.ends_with(".amazonaws.com.cn") || url.ends_with(".api.aws");
}

bool is_word(std::string_view text) {
  return !text.empty() && text.size() <= 64 &&
         std::all_of(text.begin(), text.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-'; });
}

std::string short_digest(std::string_view text) { return sha256_hex(text).substr(0, 16); }

bool worth_repeating(ErrorCode code) { return code == ErrorCode::unreachable || code == ErrorCode::timeout || code == ErrorCode::network; }

}  // namespace

std::chrono::milliseconds retry_pause(int n, double random) {
  const double most =
      std::min(static_cast<double>(kLongestPause.count()), 1000.0 * static_cast<double>(1U << static_cast<unsigned>(std::clamp(n, 0, 16))));
  return std::chrono::milliseconds(static_cast<std::int64_t>(random * most));
}

std::optional<std::chrono::milliseconds> pause_after(const AwsFailure& failure, int status, int attempt, std::optional<int> most,
                                                     double random) {
  const AwsRemedy remedy = failure.code.empty() && status == 0 ? AwsRemedy::none : remedy_of(failure.code, status);
  const bool throttled = remedy == AwsRemedy::throttled;
  const bool repeat = throttled || remedy == AwsRemedy::soon || (status == 0 && worth_repeating(failure.error.code()));
  if (!repeat || attempt >= most.value_or(throttled ? kThrottledAttempts : kAttempts)) return std::nullopt;
  return retry_pause(attempt, random);
}

std::string plain_error_code(std::string_view type) {
  if (const std::size_t hash = type.rfind('#'); hash != std::string_view::npos) type.remove_prefix(hash + 1);
  return std::string(type.substr(0, type.find(':')));
}

struct AwsClient::Call {
  std::string service, action;
  HttpHeaders headers;
  std::string body;
  bool json = false;
  Patience patience = Patience::usual;
};

AwsClient::AwsClient(AwsSettings settings, std::unique_ptr<Http> http, CloudClock clock)
    : settings_(std::move(settings)), http_(std::move(http)), clock_(std::move(clock)), source_(settings_, *http_, clock_) {}
AwsClient::~AwsClient() = default;

AwsResult<std::string> AwsClient::query(const std::string& service, const std::string& version, const std::string& action,
                                        const Parameters& parameters) {
  Parameters all = {{"Action", action}, {"Version", version}};
  all.insert(all.end(), parameters.begin(), parameters.end());
  return send({service, action, {{"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"}}, form_encoded(all)});
}

AwsResult<Json> AwsClient::json(const std::string& service, const std::string& target, const Json& body, Patience patience) {
  const std::string action = target.substr(target.rfind('.') + 1);
  AwsResult<std::string> text =
      send({service, action, {{"Content-Type", "application/x-amz-json-1.1"}, {"X-Amz-Target", target}}, body.dump(), true, patience});
  if (!text) return tl::unexpected(std::move(text).error());
  Json answer = Json::parse(*text, nullptr, false);
  if (answer.is_object()) return answer;
  return tl::unexpected(AwsFailure{
      "", Error(ErrorCode::protocol, "the answer is not JSON", "see whether AWS_ENDPOINT_URL leads to AWS").in(service + " " + action)});
}

std::unique_ptr<AwsClient> AwsClient::in_region(const std::string& region, std::unique_ptr<Http> http) const {
  AwsSettings settings = settings_;
  settings.region = region;
  auto there = std::make_unique<AwsClient>(std::move(settings), std::move(http), clock_);
  there->credentials_ = credentials_;
  there->account_ = account_;
  there->source_.correct_clock(source_.correction());
  if (notice_) there->on_notice(notice_);
  return there;
}

Result<void> AwsClient::check_credentials() {
  const Result<Credentials> found = credentials();
  return found ? Result<void>{} : fail(found.error());
}

Result<Credentials> AwsClient::credentials() {
  if (credentials_ && (!credentials_->expires || *credentials_->expires - kKeysLeft > clock_.now() + source_.correction()))
    return *credentials_;
  Result<Credentials> found = source_.find();
  if (found) credentials_ = *found;
  return found;
}

Result<std::string> AwsClient::account() {
  if (!account_.empty()) return account_;
  const std::string cloud = settings_.endpoint("ec2");
  const bool is_aws = leads_to_aws(cloud);
  std::string id;
  // The keys of another cloud are no business of AWS's.
  if (is_aws || !leads_to_aws(settings_.endpoint("sts"))) {
    const AwsResult<std::string> xml = query("sts", "2011-06-15", "GetCallerIdentity", {});
    const Result<std::string> told = xml ? read_account(*xml) : Result<std::string>(fail(xml.error().error));
    if (told) id = is_word(*told) ? *told : short_digest(*told);
    // Who is only not reached, or busy, may tell in a minute: by another name than now an order would not be found again.
    const bool has_none = !told && !is_aws &&
                          (told.error().code() == ErrorCode::unsupported || told.error().code() == ErrorCode::not_found ||
                           told.error().code() == ErrorCode::protocol || told.error().code() == ErrorCode::usage);
    if (!told && !has_none) return fail(Error(told.error()).in("finding out which account the keys are of"));
  }
  if (id.empty()) {
    const Result<Credentials> keys = credentials();
    if (!keys) return fail(keys.error());
    id = "key-" + short_digest(keys->keys.access_key);
  }
  account_ = is_aws ? id : id + "+" + short_digest(cloud);
  return account_;
}

std::string AwsClient::without_secrets(std::string text) const {
  if (!credentials_) return text;
  for (const std::string& secret : {credentials_->keys.secret_key, credentials_->keys.session_token}) {
    if (secret.size() < 8) continue;
    for (std::size_t at = text.find(secret); at != std::string::npos; at = text.find(secret, at + 3))
      text.replace(at, secret.size(), "***");
  }
  return text;
}

AwsResult<std::string> AwsClient::send_once(const Call& call, std::optional<std::chrono::seconds>& skew, int& status) {
  const Result<Credentials> keys = credentials();
  if (!keys) return tl::unexpected(AwsFailure{"", keys.error()});
  HttpRequest request;
  request.url = settings_.endpoint(call.service) + "/";
  request.headers = call.headers;
  request.body = call.body;
  if (call.patience == Patience::little) request.connect_timeout = kSoon, request.timeout = 2 * kSoon;
  const std::string region = settings_.region_of(call.service);
  const std::string signing_name = call.service == "service-quotas" ? "servicequotas" : call.service;
  sign_request(request, keys->keys, {region, signing_name, clock_.now() + source_.correction()});
  const AwsTime sent = clock_.now();
  Result<HttpResponse> response = http_->send(request);
  if (!response) {
    Error error = std::move(response).error();
    const std::string meant = region_meant_by(settings_.region);
    if (error.code() == ErrorCode::unknown_name && !meant.empty() && request.url.find(settings_.region) != std::string::npos)
      error = Error(ErrorCode::unknown_name, error.why(),
                    fmt::format("there may be no region `{}`; did you mean --region {}? Else see whether this machine is on the network",
                                settings_.region, meant));
    return tl::unexpected(AwsFailure{"", std::move(error).in(fmt::format("{} {}", call.service, call.action))});
  }
  status = response->status;
  if (response->status >= 200 && response->status < 300) return std::move(response->body);

  if (const std::optional<AwsTime> theirs = read_http_date(response->header("Date")))
    skew = std::chrono::duration_cast<std::chrono::seconds>(sent - *theirs);
  AwsRefusal refusal;
  if (call.json) {
    const Json answer = Json::parse(response->body, nullptr, false);
    const auto text = [&](const char* name) {
      const auto found = answer.is_object() ? answer.find(name) : answer.end();
      return answer.is_object() && found != answer.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    refusal.code = plain_error_code(text("__type").empty() ? response->header("x-amzn-ErrorType") : text("__type"));
    refusal.message = text("message").empty() ? text("Message") : text("message");
  } else if (const std::optional<AwsAnswerError> error = read_error_xml(response->body)) {
    refusal.code = error->code;
    refusal.message = error->message;
  }
  refusal.code = strip_control(first_line(refusal.code, 100));
  // So EC2 calls a session that is over, too; where the clocks agree that is what it means.
  const bool in_time = skew && std::chrono::abs(*skew + source_.correction()) <= kToleratedSkew;
  if (refusal.code == "RequestExpired" && in_time && !keys->keys.session_token.empty()) refusal.code = "ExpiredToken";
  refusal.message = without_secrets(refusal.message);
  refusal.status = response->status;
  refusal.service = call.service, refusal.action = call.action, refusal.region = region, refusal.keys_from = keys->from;
  // Only where the time may be why: else a wrong clock would hide another cause.
  const AwsRemedy remedy = remedy_of(refusal.code, refusal.status);
  const bool about_login = remedy == AwsRemedy::clock || refusal.code == "AuthFailure" || refusal.code.starts_with("Signature") ||
                           refusal.code.starts_with("InvalidSignature");
  if (about_login && skew) refusal.skew = *skew + source_.correction();
  if (!about_login) skew.reset();
  return tl::unexpected(explain_refusal(refusal));
}

AwsResult<std::string> AwsClient::send(const Call& call) {
  bool clock_tried = false, keys_tried = false;
  for (int attempt = 1;; ++attempt) {
    std::optional<std::chrono::seconds> skew;
    int status = 0;
    AwsResult<std::string> answer = send_once(call, skew, status);
    if (answer) return answer;
    const AwsFailure& failure = answer.error();
    const AwsRemedy remedy = failure.code.empty() && status == 0 ? AwsRemedy::none : remedy_of(failure.code, status);
    if (skew && !clock_tried && std::chrono::abs(*skew + source_.correction()) > kToleratedSkew) {
      clock_tried = true;
      source_.correct_clock(-*skew);
      notice(fmt::format("This machine's clock is {}; requests are dated by that one.", skew_text(*skew)));
      continue;
    }
    if (remedy == AwsRemedy::new_keys && !keys_tried) {
      keys_tried = true;
      const std::string old = credentials_ ? credentials_->keys.access_key + credentials_->keys.session_token : "";
      credentials_.reset();
      const Result<Credentials> fresh = credentials();
      if (fresh && fresh->keys.access_key + fresh->keys.session_token != old) continue;
      return answer;
    }
    const std::optional<int> most = call.patience == Patience::little ? 1 : settings_.max_attempts;
    const std::optional<std::chrono::milliseconds> pause = pause_after(failure, status, attempt, most, clock_.random());
    if (!pause) return answer;
    if (remedy == AwsRemedy::throttled && attempt == 3) notice("AWS asks to go slower; waiting.");
    clock_.sleep(*pause);
  }
}

}  // namespace gpustrap
