#include "controller/cloud/credentials.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "agent/protocol/json.h"
#include "controller/cloud/aws_client.h"
#include "controller/cloud/aws_errors.h"
#include "controller/cloud/ec2_answers.h"

namespace gpustrap {
namespace {

using Found = Result<std::optional<Credentials>>;

/// The instance's own service answers at once or is not there.
constexpr auto kMetadataLimit = std::chrono::milliseconds(1000);

std::string text_of(const Json& object, const char* name) {
  const auto member = object.find(name);
  return member != object.end() && member->is_string() ? member->get<std::string>() : "";
}

Error login_error(std::string why, std::string hint) { return {ErrorCode::authentication, std::move(why), std::move(hint)}; }

/// The terminal's foreground, lent to a child in a group of its own: as a group it can be ended with all that it has started. Back with us
/// once this is over.
class Foreground {
 public:
  Foreground() : terminal_(::open("/dev/tty", O_RDWR | O_CLOEXEC)), group_(::getpgrp()) {
    if (terminal_.valid() && ::tcgetpgrp(terminal_.get()) != group_) terminal_.reset();  // it was not ours to lend
  }
  ~Foreground() { give(group_); }
  Foreground(const Foreground&) = delete;
  Foreground& operator=(const Foreground&) = delete;
  /// In the child, after it has got its group.
  void take() const { give(::getpgrp()); }

 private:
  void give(pid_t group) const {
    if (!terminal_.valid()) return;
    sigset_t alone{}, before{};  // who is in the background is stopped where he asks for the foreground
    sigemptyset(&alone);
    sigaddset(&alone, SIGTTOU);
    ::pthread_sigmask(SIG_BLOCK, &alone, &before);
    ::tcsetpgrp(terminal_.get(), group);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  UniqueFd terminal_;
  pid_t group_;
};

/// Says something once, where this lives longer than so.
class SaidLate {
 public:
  SaidLate(std::chrono::milliseconds after, std::function<void()> say)
      : waiting_([this, after, say = std::move(say)] {
          std::unique_lock lock(mutex_);
          if (!over_told_.wait_for(lock, after, [this] { return over_; })) say();
        }) {}
  ~SaidLate() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    over_told_.notify_one();
    waiting_.join();
  }
  SaidLate(const SaidLate&) = delete;
  SaidLate& operator=(const SaidLate&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable over_told_;
  bool over_ = false;
  std::thread waiting_;  // last: it looks at the others
};

std::string sha1_hex(std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  EVP_Digest(text.data(), text.size(), digest.data(), &length, EVP_sha1(), nullptr);
  std::string out;
  for (unsigned int i = 0; i < length; ++i) out += fmt::format("{:02x}", digest[i]);
  return out;
}

}  // namespace

Result<Credentials> read_credentials_json(const std::string& text, const std::string& label) {
  const Json document = Json::parse(text, nullptr, false);
  if (!document.is_object()) return fail(login_error(label + " did not answer with JSON", "see what it prints when it is run by hand"));
  Credentials credentials;
  credentials.from = "the keys of " + label;
  credentials.keys.access_key = text_of(document, "AccessKeyId");
  credentials.keys.secret_key = text_of(document, "SecretAccessKey");
  credentials.keys.session_token = text_of(document, "SessionToken");
  if (credentials.keys.session_token.empty()) credentials.keys.session_token = text_of(document, "Token");
  if (credentials.keys.access_key.empty() || credentials.keys.secret_key.empty())
    return fail(login_error(label + " gave no AccessKeyId or no SecretAccessKey", "see what it prints when it is run by hand"));
  credentials.expires = read_iso_time(text_of(document, "Expiration"));
  return credentials;
}

Result<Credentials> CredentialSource::find() {
  if (!settings_.profile_said) {
    Found found = of_environment();
    if (!found) return fail(std::move(found).error());
    if (*found) return **std::move(found);
  }
  std::vector<std::string> chain;
  Found found = of_profile(settings_.profile, chain);
  if (found && !*found) found = of_container();
  if (found && !*found) found = of_metadata();
  if (!found) return fail(std::move(found).error());
  if (*found) return **std::move(found);
  return fail(login_error(fmt::format("no AWS credentials: the environment has none, profile `{}` has none, and this machine is not on EC2",
                                      strip_control(settings_.profile)),
                          "`aws configure` stores keys, `aws sso login` signs in; or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"));
}

Found CredentialSource::of_environment() {
  Credentials credentials;
  credentials.keys = {settings_.variables("AWS_ACCESS_KEY_ID"), settings_.variables("AWS_SECRET_ACCESS_KEY"),
                      settings_.variables("AWS_SESSION_TOKEN")};
  credentials.from = "the keys of AWS_ACCESS_KEY_ID";
  if (credentials.keys.access_key.empty()) return std::nullopt;
  if (credentials.keys.secret_key.empty())
    return fail(login_error("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not", "export both, or unset the first"));
  credentials.expires = read_iso_time(settings_.variables("AWS_CREDENTIAL_EXPIRATION"));
  return credentials;
}

Found CredentialSource::of_profile(const std::string& profile, std::vector<std::string>& chain) {
  if (std::find(chain.begin(), chain.end(), profile) != chain.end())
    return fail(login_error(
        fmt::format("the profiles {} and {} name each other as source_profile", strip_control(chain.back()), strip_control(profile)),
        "one of them has to hold keys"));
  chain.push_back(profile);
  const bool own_keys = chain.size() > 1 && !value(profile, "aws_access_key_id").empty();
  if (!value(profile, "role_arn").empty() && !own_keys) return assume_role(profile, chain);
  if (profile == settings_.profile && !settings_.variables("AWS_ROLE_ARN").empty() &&
      !settings_.variables("AWS_WEB_IDENTITY_TOKEN_FILE").empty())
    return of_web_identity(settings_.variables("AWS_ROLE_ARN"), settings_.variables("AWS_WEB_IDENTITY_TOKEN_FILE"),
                           settings_.variables("AWS_ROLE_SESSION_NAME"));
  if (!value(profile, "sso_session").empty() || !value(profile, "sso_start_url").empty()) return of_sso(profile);
  Credentials credentials;
  credentials.keys = {value(profile, "aws_access_key_id"), value(profile, "aws_secret_access_key"), value(profile, "aws_session_token")};
  credentials.from = fmt::format("the keys of profile {}", strip_control(profile));
  if (!credentials.keys.access_key.empty()) {
    if (credentials.keys.secret_key.empty())
      return fail(login_error(fmt::format("profile `{}` has aws_access_key_id and no aws_secret_access_key", strip_control(profile)),
                              fmt::format("aws configure --profile {}", shell_quote(profile))));
    return credentials;
  }
  if (!value(profile, "credential_process").empty()) return of_process(profile);
  return std::nullopt;
}

struct CredentialSource::StsCall {
  Parameters parameters;
  const Credentials* signer = nullptr;  ///< none: the call carries a token of its own
  std::string from;
};

AwsResult<Credentials> CredentialSource::ask_sts_once(const StsCall& call, std::optional<std::chrono::seconds>& skew, int& status) {
  HttpRequest request;
  request.url = settings_.endpoint("sts") + "/";
  request.headers = {{"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"}};
  request.body = form_encoded(call.parameters);
  const AwsTime sent = clock_.now();
  if (call.signer != nullptr) sign_request(request, call.signer->keys, {settings_.region, "sts", sent + correction_});
  const Result<HttpResponse> response = http_.send(request);
  if (!response) return tl::unexpected(AwsFailure{"", Error(response.error()).in("asking for " + call.from)});
  status = response->status;
  if (status == 200) {
    Result<StsKeys> keys = read_sts_keys(response->body);
    if (!keys) return tl::unexpected(AwsFailure{"", std::move(keys).error()});
    return Credentials{{keys->access_key, keys->secret_key, keys->session_token}, read_iso_time(keys->expiration), call.from};
  }
  AwsRefusal refusal;
  if (const std::optional<AwsAnswerError> error = read_error_xml(response->body))
    refusal.code = error->code, refusal.message = error->message;
  refusal.status = status;
  refusal.service = "sts", refusal.action = call.parameters.front().second, refusal.region = settings_.region;
  refusal.keys_from = call.signer == nullptr ? "the identity token" : call.signer->from;
  // STS says of a wrong time that the signature has expired, or is not yet current.
  const bool about_time = remedy_of(refusal.code, status) == AwsRemedy::clock || refusal.code.starts_with("Signature");
  if (const std::optional<AwsTime> theirs = read_http_date(response->header("Date")); theirs && about_time && call.signer != nullptr) {
    skew = std::chrono::duration_cast<std::chrono::seconds>(sent - *theirs);
    refusal.skew = *skew + correction_;
  }
  AwsFailure failure = explain_refusal(refusal);
  if (refusal.code.starts_with("AccessDenied")) failure.error = std::move(failure.error).with_hint("see the role's trust policy");
  return tl::unexpected(std::move(failure));
}

/// With the client's patience, and its trust in AWS's clock.
Result<Credentials> CredentialSource::ask_sts(const StsCall& call) {
  bool clock_tried = false;
  for (int attempt = 1;; ++attempt) {
    std::optional<std::chrono::seconds> skew;
    int status = 0;
    AwsResult<Credentials> answer = ask_sts_once(call, skew, status);
    if (answer) return *std::move(answer);
    if (skew && !clock_tried && std::chrono::abs(*skew + correction_) > kToleratedSkew) {
      clock_tried = true;
      correction_ = -*skew;
      notice(fmt::format("This machine's clock is {}; requests are dated by that one.", skew_text(*skew)));
      continue;
    }
    const auto pause = pause_after(answer.error(), status, attempt, settings_.max_attempts, clock_.random());
    if (!pause) return fail(std::move(answer).error().error);
    clock_.sleep(*pause);
  }
}

Found CredentialSource::assume_role(const std::string& profile, std::vector<std::string>& chain) {
  const std::string shown = strip_control(profile);
  const std::string role = value(profile, "role_arn");
  const std::string session = value(profile, "role_session_name");
  if (const std::string file = value(profile, "web_identity_token_file"); !file.empty()) return of_web_identity(role, file, session);
  if (!value(profile, "mfa_serial").empty()) {
    return fail(login_error(
        fmt::format("profile `{}` asks for a code of a second factor, which gpustrap does not ask for", shown),
        fmt::format("eval \"$(aws configure export-credentials --profile {} --format env)\", then run it again", shell_quote(profile))));
  }
  const std::string source = value(profile, "source_profile"), named = value(profile, "credential_source");
  Found base = std::optional<Credentials>();
  if (!source.empty()) {
    if (!settings_.config.has_profile(source))
      return fail(login_error(fmt::format("profile `{}` has source_profile = {}, which does not exist", shown, strip_control(source)),
                              "profiles there are: " + settings_.config.profile_names()));
    if (source == profile && value(profile, "aws_access_key_id").empty())
      return fail(login_error(fmt::format("profile `{}` names itself as source_profile and holds no keys", shown),
                              "give it keys, or another source_profile"));
    if (source == profile)
      base = std::optional<Credentials>(
          Credentials{{value(profile, "aws_access_key_id"), value(profile, "aws_secret_access_key"), value(profile, "aws_session_token")},
                      {},
                      "the keys of profile " + shown});
    else
      base = of_profile(source, chain);
  } else if (named == "Environment") {
    base = of_environment();
  } else if (named == "Ec2InstanceMetadata") {
    base = of_metadata();
  } else if (named == "EcsContainer") {
    base = of_container();
  } else {
    return fail(login_error(fmt::format("profile `{}` has role_arn, but neither source_profile nor credential_source", shown),
                            "add source_profile = NAME: the profile whose keys may take the role"));
  }
  if (!base) return base;
  if (!*base) {
    return fail(login_error(fmt::format("profile `{}` takes its role with the credentials of {}, and there are none", shown,
                                        source.empty() ? named : "profile " + strip_control(source)),
                            "`aws configure list --profile " + shell_quote(profile) + "` shows where they should come from"));
  }
  Parameters parameters = {
      {"Action", "AssumeRole"},
      {"Version", "2011-06-15"},
      {"RoleArn", role},
      {"RoleSessionName", session.empty() ? "gpustrap-" + std::to_string(std::chrono::system_clock::to_time_t(clock_.now())) : session}};
  if (const std::string id = value(profile, "external_id"); !id.empty()) parameters.emplace_back("ExternalId", id);
  if (const std::string seconds = value(profile, "duration_seconds"); !seconds.empty()) parameters.emplace_back("DurationSeconds", seconds);
  Result<Credentials> taken = ask_sts({parameters, &**base, fmt::format("the role of profile {}", shown)});
  if (!taken) return fail(std::move(taken).error());
  return *std::move(taken);
}

Found CredentialSource::of_web_identity(const std::string& role, const std::string& token_file, const std::string& session) {
  const Result<std::string> token = read_file(token_file, 64U << 10U);
  if (!token) return fail(Error(token.error()).in("reading the web identity token"));
  Result<Credentials> taken = ask_sts(
      {{{"Action", "AssumeRoleWithWebIdentity"},
        {"Version", "2011-06-15"},
        {"RoleArn", role},
        {"RoleSessionName", session.empty() ? "gpustrap-" + std::to_string(std::chrono::system_clock::to_time_t(clock_.now())) : session},
        {"WebIdentityToken", std::string(trim(*token))}},
       nullptr,
       "the role of AWS_ROLE_ARN"});
  if (!taken) return fail(std::move(taken).error());
  return *std::move(taken);
}

Found CredentialSource::of_sso(const std::string& profile) {
  const std::string session = value(profile, "sso_session");
  const auto setting = [&](const char* key) {
    const std::string own = value(profile, key);
    return own.empty() && !session.empty() ? settings_.config.value_in("sso-session " + session, key) : own;
  };
  const std::string start = setting("sso_start_url"), region = setting("sso_region");
  const std::string account = value(profile, "sso_account_id"), role = value(profile, "sso_role_name");
  const std::string shown = strip_control(profile);
  if (start.empty() || region.empty() || account.empty() || role.empty())
    return fail(login_error(fmt::format("profile `{}` lacks one of sso_start_url, sso_region, sso_account_id, sso_role_name", shown),
                            "aws configure sso"));
  const Error log_in = login_error(fmt::format("profile `{}` is not signed in", shown), "aws sso login --profile " + shell_quote(profile));
  const std::string cache = settings_.variables("HOME") + "/.aws/sso/cache/" + sha1_hex(session.empty() ? start : session) + ".json";
  const Result<std::string> text = read_file(cache, 1U << 20U);
  if (!text) return fail(log_in);
  const Json login = Json::parse(*text, nullptr, false);
  if (!login.is_object()) return fail(log_in);
  const std::string token = text_of(login, "accessToken");
  const std::optional<AwsTime> until = read_iso_time(text_of(login, "expiresAt"));
  if (token.empty() || !until || *until <= clock_.now() + correction_) return fail(log_in);

  HttpRequest request;
  request.method = "GET";
  const std::string own = settings_.variables("AWS_ENDPOINT_URL_SSO");
  request.url =
      fmt::format("{}/federation/credentials?{}", own.empty() ? fmt::format("https://portal.sso.{}.{}", region, domain_of(region)) : own,
                  form_encoded({{"role_name", role}, {"account_id", account}}));
  request.headers = {{"x-amz-sso_bearer_token", token}};
  const Result<HttpResponse> response = http_.send(request);
  if (!response) return fail(Error(response.error()).in("asking for the role of profile " + shown));
  if (response->status == 401) return fail(log_in);
  const Json answer = Json::parse(response->body, nullptr, false);
  const auto keys = answer.is_object() ? answer.find("roleCredentials") : answer.end();
  if (response->status != 200 || !answer.is_object() || keys == answer.end() || !keys->is_object()) {
    return fail(login_error(fmt::format("the sign-in of profile `{}` gives no access to role {} of account {} (HTTP {})", shown,
                                        strip_control(role), strip_control(account), response->status),
                            "see sso_role_name and sso_account_id of the profile, or ask whoever runs the account"));
  }
  Credentials credentials{{text_of(*keys, "accessKeyId"), text_of(*keys, "secretAccessKey"), text_of(*keys, "sessionToken")},
                          {},
                          "the sign-in of profile " + shown};
  if (const auto end = keys->find("expiration"); end != keys->end() && end->is_number_integer())
    credentials.expires = AwsTime(std::chrono::milliseconds(end->get<std::int64_t>()));
  return credentials;
}

Found CredentialSource::of_process(const std::string& profile) {
  const std::string label = fmt::format("the credential_process of profile {}", strip_control(profile));
  Subprocess process;
  process.argv = {"/bin/sh", "-c", value(profile, "credential_process")};
  process.timeout = end_after_;
  const Foreground foreground;  // it may ask for a passphrase on the terminal, which stops who is not in its foreground
  process.in_child = [&] { foreground.take(); };
  const SaidLate said(say_after_, [&] { notice(fmt::format("Waiting for {} …", label)); });
  const Result<SubprocessResult> ended = run_subprocess(process);
  if (!ended) return fail(Error(ended.error()).in("running " + label));
  if (ended->timed_out)
    return fail(login_error(fmt::format("{} did not end within {}", label, human_duration(end_after_)),
                            "run it by hand and see what it waits for"));
  if (ended->exit_code != 0) {
    // What it printed on stdout may be keys; what it says on stderr is for people.
    return fail(login_error(fmt::format("{} ended with {}: {}", label, ended->exit_code, strip_control(first_line(trim(ended->err)))),
                            "run it by hand and see what it lacks"));
  }
  Result<Credentials> credentials = read_credentials_json(ended->out, label);
  if (!credentials) return fail(std::move(credentials).error());
  return *std::move(credentials);
}

Found CredentialSource::of_container() {
  const std::string relative = settings_.variables("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
  const std::string full = settings_.variables("AWS_CONTAINER_CREDENTIALS_FULL_URI");
  if (relative.empty() && full.empty()) return std::nullopt;
  HttpRequest request;
  request.method = "GET";
  request.url = relative.empty() ? full : "http://169.254.170.2" + relative;
  request.through_proxy = false;
  request.connect_timeout = request.timeout = 2 * kMetadataLimit;
  if (relative.empty() && !full.starts_with("https://")) {
    const std::size_t start = full.find("://") == std::string::npos ? 0 : full.find("://") + 3;
    const std::string host = full.substr(start, full.find_first_of("/?", start) - start);
    bool near = false;
    for (const std::string_view one : {"127.0.0.1", "localhost", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "[::1]"})
      near = near || host == one || (host.starts_with(one) && host.substr(one.size()).starts_with(":"));
    if (!near)
      return fail(login_error("AWS_CONTAINER_CREDENTIALS_FULL_URI leads to another machine without https://",
                              "keys are taken only by https, or from this machine's own addresses"));
  }
  std::string token = settings_.variables("AWS_CONTAINER_AUTHORIZATION_TOKEN");
  if (const std::string file = settings_.variables("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); !file.empty()) {
    const Result<std::string> text = read_file(file, 64U << 10U);
    if (!text) return fail(Error(text.error()).in("reading the container's token"));
    token = trim(*text);
  }
  if (!token.empty()) request.headers = {{"Authorization", token}};
  const Result<HttpResponse> response = http_.send(request);
  if (!response) return fail(Error(response.error()).in("asking the container's endpoint for credentials"));
  if (response->status != 200)
    return fail(login_error(fmt::format("the container's endpoint answered with HTTP {}", response->status),
                            "see the role of the container's task"));
  Result<Credentials> credentials = read_credentials_json(response->body, "the container's role");
  if (!credentials) return fail(std::move(credentials).error());
  return *std::move(credentials);
}

/// What does not answer is no error: most machines are not on EC2.
Found CredentialSource::of_metadata() {
  if (settings_.variables("AWS_EC2_METADATA_DISABLED") == "true") return std::nullopt;
  std::string base = settings_.variables("AWS_EC2_METADATA_SERVICE_ENDPOINT");
  if (base.empty()) base = "http://169.254.169.254";
  while (base.ends_with('/')) base.pop_back();
  const auto ask = [&](const char* method, const std::string& path, HttpHeaders headers) -> std::optional<std::string> {
    HttpRequest request{method, base + path, std::move(headers), "", kMetadataLimit, kMetadataLimit, false};
    const Result<HttpResponse> response = http_.send(request);
    if (!response || response->status != 200) return std::nullopt;
    return response->body;
  };
  const std::optional<std::string> token = ask("PUT", "/latest/api/token", {{"x-aws-ec2-metadata-token-ttl-seconds", "21600"}});
  if (!token) return std::nullopt;
  const HttpHeaders headers = {{"x-aws-ec2-metadata-token", std::string(trim(*token))}};
  const std::string folder = "/latest/meta-data/iam/security-credentials/";
  const std::optional<std::string> role = ask("GET", folder, headers);
  if (!role || trim(*role).empty()) return std::nullopt;
  const std::optional<std::string> text = ask("GET", folder + std::string(trim(first_line(*role))), headers);
  if (!text) return std::nullopt;
  Result<Credentials> credentials = read_credentials_json(*text, "this instance's role");
  if (!credentials) return fail(std::move(credentials).error());
  return *std::move(credentials);
}

}  // namespace gpustrap
