#include "controller/cloud/aws_errors.h"

#include <cstdlib>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

struct Row {
  std::string_view code;  ///< a `*` at the end stands for any rest
  ErrorCode kind;
  AwsRemedy remedy;
  std::string_view cause, advice;  ///< {action} {region} {keys} {service} are filled in
};

constexpr std::string_view kAskAccount =
    "whoever runs the account grants the permission {service}:{action}; docs/ec2.md lists all that gpustrap asks for";
constexpr std::string_view kOtherPlace = "another zone, another region (--region) or another type (--type) may have some";
constexpr std::string_view kQuota = "`gpustrap quota` shows what the account may run and asks for more";
constexpr std::string_view kLogin = "log in again: `aws configure`, `aws sso login`, or new values for AWS_ACCESS_KEY_ID and its company";

/// The first row that fits counts.
constexpr Row kRows[] = {
    // who asks
    {"UnauthorizedOperation", ErrorCode::permission, AwsRemedy::none, "{keys} may not do this", kAskAccount},
    {"AccessDenied*", ErrorCode::permission, AwsRemedy::none, "{keys} may not do this", kAskAccount},
    {"AuthFailure", ErrorCode::authentication, AwsRemedy::none, "AWS does not accept {keys} in {region}",
     "see whether the keys are still active, and whether the region is enabled for the account (`aws account list-regions`)"},
    {"InvalidClientTokenId", ErrorCode::authentication, AwsRemedy::none, "AWS does not know {keys} in {region}",
     "log in again (`aws configure`, `aws sso login`), or see whether the region is enabled for the account: `aws account list-regions`"},
    {"UnrecognizedClientException", ErrorCode::authentication, AwsRemedy::none, "AWS does not know {keys}", kLogin},
    {"MissingAuthenticationToken*", ErrorCode::authentication, AwsRemedy::none, "the request came without credentials", kLogin},
    {"SignatureDoesNotMatch", ErrorCode::authentication, AwsRemedy::none, "the secret key does not belong to the access key ({keys})",
     "copy both again, whole; a secret key has 40 characters"},
    {"InvalidSignatureException", ErrorCode::authentication, AwsRemedy::none, "the secret key does not belong to the access key ({keys})",
     "copy both again, whole; a secret key has 40 characters"},
    {"IncompleteSignature*", ErrorCode::authentication, AwsRemedy::none, "AWS cannot read the signature made with {keys}",
     "an access key is 20 letters and digits; look for a blank or a quote too many"},
    {"ExpiredToken*", ErrorCode::authentication, AwsRemedy::new_keys, "{keys} have expired", kLogin},
    {"RequestExpired", ErrorCode::authentication, AwsRemedy::clock, "AWS does not accept the time of the request",
     "set this machine's clock: `timedatectl set-ntp true`"},
    {"RequestTimeTooSkewed", ErrorCode::authentication, AwsRemedy::clock, "AWS does not accept the time of the request",
     "set this machine's clock: `timedatectl set-ntp true`"},
    {"RequestInTheFuture", ErrorCode::authentication, AwsRemedy::clock, "AWS does not accept the time of the request",
     "set this machine's clock: `timedatectl set-ntp true`"},
    {"OptInRequired", ErrorCode::permission, AwsRemedy::none, "the account is not signed up for this in {region}",
     "AWS's message names the page to accept terms at; a region is enabled with `aws account enable-region --region-name {region}`"},
    {"PendingVerification", ErrorCode::permission, AwsRemedy::none, "AWS still verifies the account",
     "it usually takes minutes, at most four hours; then run it again"},
    {"Blocked", ErrorCode::permission, AwsRemedy::none, "AWS has blocked the account", "see the account's mail, or ask AWS support"},
    {"AccountDisabled", ErrorCode::permission, AwsRemedy::none, "the account is disabled", "see the account's mail, or ask AWS support"},
    // how much
    {"VcpuLimitExceeded", ErrorCode::unsupported, AwsRemedy::none, "the account's quota of vCPUs in {region} is used up", kQuota},
    {"MaxSpotInstanceCountExceeded", ErrorCode::unsupported, AwsRemedy::none,
     "the account's quota of spot instances in {region} is used up", kQuota},
    {"InstanceLimitExceeded", ErrorCode::unsupported, AwsRemedy::none, "the account's quota of instances in {region} is used up", kQuota},
    {"VolumeLimitExceeded", ErrorCode::unsupported, AwsRemedy::none, "the account's quota of volumes in {region} is used up",
     "`gpustrap ls --orphans` finds volumes that nothing uses"},
    {"SecurityGroupLimitExceeded", ErrorCode::unsupported, AwsRemedy::none, "there are as many security groups as the account may have",
     "`gpustrap ls --orphans` finds those that nothing uses"},
    {"ResourceLimitExceeded", ErrorCode::unsupported, AwsRemedy::none, "a quota of the account in {region} is used up", kQuota},
    {"ResourceAlreadyExists*", ErrorCode::busy, AwsRemedy::none, "AWS has such a request already, and has not answered it",
     "it answers within minutes or a few days, by mail; the Service Quotas console shows what is asked"},
    {"QuotaExceeded*", ErrorCode::unsupported, AwsRemedy::none, "the account has asked for as many quotas at once as it may",
     "wait until AWS has answered those; the Service Quotas console shows them"},
    {"IllegalArgument*", ErrorCode::usage, AwsRemedy::none, "AWS does not accept that number",
     "ask for more vCPUs than the account may run now (`gpustrap quota`), and for no more than you need"},
    {"DependencyAccessDenied*", ErrorCode::permission, AwsRemedy::none, "Service Quotas may not look at EC2 for {keys}",
     "whoever runs the account, or its organization, asks in the Service Quotas console"},
    {"InvalidResourceState*", ErrorCode::busy, AwsRemedy::none, "the quota is in a state that does not allow this",
     "an earlier request may be under way: see the Service Quotas console, and run it again later"},
    // where
    {"InsufficientInstanceCapacity", ErrorCode::unsupported, AwsRemedy::elsewhere, "AWS has no such machine free there now", kOtherPlace},
    {"InsufficientHostCapacity", ErrorCode::unsupported, AwsRemedy::elsewhere, "AWS has no such machine free there now", kOtherPlace},
    {"InsufficientCapacity*", ErrorCode::unsupported, AwsRemedy::elsewhere, "AWS has no such machine free there now", kOtherPlace},
    {"UnfulfillableCapacity", ErrorCode::unsupported, AwsRemedy::elsewhere, "AWS has no such machine free there now", kOtherPlace},
    {"InsufficientFreeAddressesInSubnet", ErrorCode::unsupported, AwsRemedy::elsewhere, "the subnet has no address left", kOtherPlace},
    {"SpotMaxPriceTooLow", ErrorCode::unsupported, AwsRemedy::elsewhere, "the spot price is above what was offered there", kOtherPlace},
    {"Unsupported", ErrorCode::unsupported, AwsRemedy::elsewhere, "this type or setting is not offered there", kOtherPlace},
    {"UnsupportedOperation", ErrorCode::unsupported, AwsRemedy::none, "this instance or type cannot do that",
     "AWS's message says what it lacks; a spot instance, for one, may not be stopped"},
    // what was named
    {"InvalidAMIID*", ErrorCode::not_found, AwsRemedy::none, "there is no such image in {region}",
     "an image belongs to one region: see --region, or name it by what it is: --image ubuntu:24.04"},
    {"InvalidKeyPair.NotFound", ErrorCode::not_found, AwsRemedy::not_yet, "there is no such key pair in {region}",
     "run the same command again: it uploads the key where it is missing"},
    {"InvalidKeyPair.*", ErrorCode::unsupported, AwsRemedy::none, "there is such a key pair already", "run it again"},
    {"InvalidKey.Format", ErrorCode::usage, AwsRemedy::none, "AWS does not take this kind of key", "ed25519 and RSA keys are taken"},
    {"InvalidGroup.Duplicate", ErrorCode::busy, AwsRemedy::none, "there is such a security group already", "run it again"},
    {"InvalidPermission.Duplicate", ErrorCode::busy, AwsRemedy::none, "the rule is there already", "run it again"},
    {"DependencyViolation", ErrorCode::busy, AwsRemedy::none, "something still uses it", "wait for what uses it to end, then run it again"},
    {"IncorrectInstanceState", ErrorCode::busy, AwsRemedy::none, "the instance is in a state that does not allow this",
     "`gpustrap ls` shows its state; wait until it is running or stopped, then run it again"},
    {"IdempotentParameterMismatch", ErrorCode::busy, AwsRemedy::none,
     "an earlier, unfinished launch under this name asked for something else",
     "give this one another --name, or end the other: `gpustrap terminate NAME`"},
    {"OperationNotPermitted", ErrorCode::permission, AwsRemedy::none, "the instance is protected against this",
     "its termination protection is switched off in the EC2 console"},
    {"InvalidInstanceID.Malformed", ErrorCode::usage, AwsRemedy::none, "this is no instance id", "`gpustrap ls` shows them"},
    {"VPCIdNotSpecified", ErrorCode::unsupported, AwsRemedy::none, "the account has no default network in {region}",
     "make one: `aws ec2 create-default-vpc --region {region}`"},
    {"InvalidParameter*", ErrorCode::usage, AwsRemedy::none, "AWS does not accept a value", "AWS's message names it"},
    {"DryRunOperation", ErrorCode::internal, AwsRemedy::none, "the request was a trial", ""},
    // AWS's own state
    {"RequestLimitExceeded", ErrorCode::busy, AwsRemedy::throttled, "AWS takes no more requests from the account for the moment",
     "wait a minute, then run it again"},
    {"Throttl*", ErrorCode::busy, AwsRemedy::throttled, "AWS takes no more requests from the account for the moment",
     "wait a minute, then run it again"},
    {"EC2ThrottledException", ErrorCode::busy, AwsRemedy::throttled, "AWS takes no more requests from the account for the moment",
     "wait a minute, then run it again"},
    {"TooManyRequests*", ErrorCode::busy, AwsRemedy::throttled, "AWS takes no more requests from the account for the moment",
     "wait a minute, then run it again"},
    {"SlowDown", ErrorCode::busy, AwsRemedy::throttled, "AWS takes no more requests from the account for the moment",
     "wait a minute, then run it again"},
    {"InternalError", ErrorCode::network, AwsRemedy::soon, "AWS has trouble of its own",
     "run it again; https://health.aws.amazon.com shows larger troubles"},
    {"InternalFailure", ErrorCode::network, AwsRemedy::soon, "AWS has trouble of its own",
     "run it again; https://health.aws.amazon.com shows larger troubles"},
    {"Unavailable", ErrorCode::network, AwsRemedy::soon, "AWS has trouble of its own",
     "run it again; https://health.aws.amazon.com shows larger troubles"},
    {"ServiceUnavailable*", ErrorCode::network, AwsRemedy::soon, "AWS has trouble of its own",
     "run it again; https://health.aws.amazon.com shows larger troubles"},
    {"RequestTimeout*", ErrorCode::network, AwsRemedy::soon, "AWS has waited in vain for the request", "run it again"},
};

bool fits(const Row& row, std::string_view code) {
  if (row.code.ends_with('*')) return code.starts_with(row.code.substr(0, row.code.size() - 1));
  return code == row.code;
}

const Row* row_of(std::string_view code) {
  for (const Row& row : kRows) {
    if (fits(row, code)) return &row;
  }
  return nullptr;
}

/// As permissions have it.
std::string iam_prefix_of(const std::string& service) { return service == "service-quotas" ? "servicequotas" : service; }

std::string filled_in(std::string_view text, const AwsRefusal& refusal) {
  std::string out(text);
  const std::pair<std::string_view, std::string> values[] = {{"{action}", refusal.action},
                                                             {"{region}", refusal.region},
                                                             {"{service}", iam_prefix_of(refusal.service)},
                                                             {"{keys}", refusal.keys_from.empty() ? "the credentials" : refusal.keys_from}};
  for (const auto& [name, value] : values) {
    for (std::size_t at = out.find(name); at != std::string::npos; at = out.find(name, at + value.size()))
      out.replace(at, name.size(), value);
  }
  return out;
}

/// AWS's message without what helps nobody here: the blob that an administrator could decode, and what was signed, token included.
std::string said_by_aws(const AwsRefusal& refusal) {
  if (refusal.code.starts_with("Signature") || refusal.code.starts_with("InvalidSignature") ||
      refusal.code.starts_with("IncompleteSignature"))
    return refusal.code;
  std::string message = strip_control(refusal.message);
  if (const std::size_t blob = message.find("Encoded authorization failure message"); blob != std::string::npos) message.resize(blob);
  message = first_line(trim(message), 300);
  while (message.ends_with('.')) message.pop_back();
  return message.empty() ? refusal.code : fmt::format("{}: {}", refusal.code, message);
}

}  // namespace

AwsRemedy remedy_of(std::string_view code, int status) {
  if (const Row* row = row_of(code); row != nullptr && row->remedy != AwsRemedy::none) return row->remedy;
  if (code.ends_with(".NotFound") || code.ends_with(".Unknown")) return AwsRemedy::not_yet;
  if (status == 429) return AwsRemedy::throttled;
  // Of a code that is known, the table has the last word: lack of capacity comes as a 500, too.
  return status >= 500 && row_of(code) == nullptr ? AwsRemedy::soon : AwsRemedy::none;
}

std::string skew_text(std::chrono::seconds ahead) {
  const long seconds = std::labs(static_cast<long>(ahead.count()));
  const auto text = seconds < 120       ? fmt::format("{} seconds", seconds)
                    : seconds < 7170    ? fmt::format("{} minutes", (seconds + 30) / 60)
                    : seconds < 172'800 ? fmt::format("{} hours", (seconds + 1800) / 3600)
                                        : fmt::format("{} days", seconds / 86'400);
  return text + (ahead.count() < 0 ? " behind AWS's" : " ahead of AWS's");
}

AwsFailure explain_refusal(const AwsRefusal& refusal) {
  const std::string said = said_by_aws(refusal);
  const Row* row = row_of(refusal.code);
  const bool not_found = refusal.code.ends_with(".NotFound");
  const ErrorCode kind = row != nullptr          ? row->kind
                         : not_found             ? ErrorCode::not_found
                         : refusal.status >= 500 ? ErrorCode::network
                                                 : ErrorCode::unsupported;
  std::string why = row != nullptr         ? fmt::format("{} ({})", filled_in(row->cause, refusal), said)
                    : not_found            ? fmt::format("it does not exist in {} ({})", refusal.region, said)
                    : refusal.code.empty() ? fmt::format("{} answered with HTTP {} and no word of AWS's", refusal.service, refusal.status)
                                           : fmt::format("AWS refuses it ({})", said);
  std::string advice = row != nullptr ? filled_in(row->advice, refusal)
                       : not_found    ? "`gpustrap ls` shows what there is; another region is asked with --region"
                       : refusal.code.empty()
                           ? "see whether the endpoint (AWS_ENDPOINT_URL) is that of a cloud, and what a proxy on the way does"
                           : "";
  if (refusal.skew && std::labs(static_cast<long>(refusal.skew->count())) > 240) {
    why = fmt::format("this machine's clock is {} ({})", skew_text(*refusal.skew), said);
    advice = "set the clock: `timedatectl set-ntp true`";
  }
  return {refusal.code,
          Error(kind, std::move(why), std::move(advice)).in(fmt::format("{} {} in {}", refusal.service, refusal.action, refusal.region))};
}

}  // namespace gpustrap
