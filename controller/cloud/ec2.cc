#include "controller/cloud/ec2.h"

#include <openssl/evp.h>

#include <chrono>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

constexpr const char* kVersion = "2016-11-15";
constexpr const char* kLeadsElsewhere = "see whether AWS_ENDPOINT_URL leads to AWS";
/// How long what was just made may be unknown to EC2, by its own documentation and some.
constexpr auto kBecomesKnown = std::chrono::seconds(60);

void add_tags(Parameters& parameters, int number, std::string_view kind, const Ec2Tags& tags) {
  const std::string prefix = fmt::format("TagSpecification.{}.", number);
  parameters.emplace_back(prefix + "ResourceType", kind);
  int count = 0;
  for (const auto& [key, value] : tags) {
    ++count;
    parameters.emplace_back(fmt::format("{}Tag.{}.Key", prefix, count), key);
    parameters.emplace_back(fmt::format("{}Tag.{}.Value", prefix, count), value);
  }
}

tl::unexpected<AwsFailure> unreadable(Error error, const std::string& action) {
  return tl::unexpected(AwsFailure{"", std::move(error).in("ec2 " + action)});
}

}  // namespace

bool has_wildcard(std::string_view name) { return name.find_first_of("*?\\") != std::string_view::npos; }

void add_filters(Parameters& parameters, const std::vector<Ec2Filter>& filters) {
  for (std::size_t i = 0; i < filters.size(); ++i) {
    parameters.emplace_back(fmt::format("Filter.{}.Name", i + 1), filters[i].name);
    for (std::size_t j = 0; j < filters[i].values.size(); ++j)
      parameters.emplace_back(fmt::format("Filter.{}.Value.{}", i + 1, j + 1), filters[i].values[j]);
  }
}

std::string base64_encoded(std::string_view bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<const unsigned char*>(bytes.data()),
                                     static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(length));
  return out;
}

std::optional<std::string> base64_decoded(std::string_view text) {
  std::string dense;
  for (const char c : text) {
    if (c != '\n' && c != '\r' && c != ' ' && c != '\t') dense += c;
  }
  if (dense.size() % 4 != 0) return std::nullopt;
  std::string out(dense.size() / 4 * 3, '\0');
  const int length = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<const unsigned char*>(dense.data()),
                                     static_cast<int>(dense.size()));
  if (length < 0) return std::nullopt;
  // OpenSSL counts the padding as bytes.
  std::size_t padding = 0;
  while (padding < 2 && padding < dense.size() && dense[dense.size() - 1 - padding] == '=') ++padding;
  out.resize(static_cast<std::size_t>(length) - padding);
  return out;
}

Parameters parameters_of(const Ec2Order& order) {
  Parameters parameters = {
      {"ImageId", order.image}, {"InstanceType", order.type}, {"MinCount", "1"}, {"MaxCount", "1"}, {"ClientToken", order.client_token}};
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) parameters.emplace_back(name, value);
  };
  add("KeyName", order.key_name);
  add("SecurityGroupId.1", order.group);
  add("SubnetId", order.subnet);
  if (!order.user_data.empty()) add("UserData", base64_encoded(order.user_data));
  add("BlockDeviceMapping.1.DeviceName", order.root_device);
  if (order.disk_gib > 0) add("BlockDeviceMapping.1.Ebs.VolumeSize", std::to_string(order.disk_gib));
  add("BlockDeviceMapping.1.Ebs.VolumeType", "gp3");
  add("BlockDeviceMapping.1.Ebs.Encrypted", "true");
  add("BlockDeviceMapping.1.Ebs.DeleteOnTermination", "true");
  // Metadata only for who asks with a token, and no further than one hop: not for what runs in containers, not through a proxy.
  add("MetadataOptions.HttpTokens", "required");
  add("MetadataOptions.HttpPutResponseHopLimit", "1");
  add("MetadataOptions.HttpEndpoint", "enabled");
  if (order.spot) {
    add("InstanceMarketOptions.MarketType", "spot");
    add("InstanceMarketOptions.SpotOptions.SpotInstanceType", "one-time");
  } else {
    // A one-time spot instance cannot be stopped, and RunInstances refuses to be told so.
    add("InstanceInitiatedShutdownBehavior", "stop");
  }
  add_tags(parameters, 1, "instance", order.tags);
  add_tags(parameters, 2, "volume", order.tags);
  return parameters;
}

AwsResult<std::string> Ec2::call(const std::string& action, const Parameters& parameters) {
  return client_.query("ec2", kVersion, action, parameters);
}

AwsResult<void> Ec2::call_alone(const std::string& action, const Parameters& parameters) {
  AwsResult<std::string> answer = call(action, parameters);
  if (!answer) return tl::unexpected(std::move(answer).error());
  return {};
}

AwsResult<Ec2Instance> Ec2::run(const Ec2Order& order) {
  // Group and key were made a moment ago, and may not be known everywhere yet; the token keeps a repetition from making a second one.
  const AwsTime until = client_.clock().now() + kBecomesKnown;
  for (int attempt = 1;; ++attempt) {
    AwsResult<std::string> xml = call("RunInstances", parameters_of(order));
    if (!xml) {
      const std::string& code = xml.error().code;
      const bool young = code == "InvalidGroup.NotFound" || code == "InvalidKeyPair.NotFound";
      if (!young || client_.clock().now() >= until) return tl::unexpected(std::move(xml).error());
      client_.clock().sleep(retry_pause(attempt, 1.0) / 2);
      continue;
    }
    Result<std::vector<Ec2Instance>> started = read_started(*xml);
    if (!started) return unreadable(std::move(started).error(), "RunInstances");
    if (started->empty()) return unreadable(Error(ErrorCode::protocol, "the answer holds no instance", kLeadsElsewhere), "RunInstances");
    return started->front();
  }
}

AwsResult<void> Ec2::start(const std::string& instance) { return call_alone("StartInstances", {{"InstanceId.1", instance}}); }
AwsResult<void> Ec2::stop(const std::string& instance) { return call_alone("StopInstances", {{"InstanceId.1", instance}}); }
AwsResult<void> Ec2::terminate(const std::string& instance) { return call_alone("TerminateInstances", {{"InstanceId.1", instance}}); }

AwsResult<Ec2Instance> Ec2::instance(const std::string& id) {
  const AwsTime until = client_.clock().now() + kBecomesKnown;
  for (int attempt = 1;; ++attempt) {
    AwsResult<std::vector<Ec2Instance>> found = describe<Ec2Instance>("DescribeInstances", {{"InstanceId.1", id}});
    if (found && !found->empty()) return std::move(found->front());
    if (!found && remedy_of(found.error().code, 400) != AwsRemedy::not_yet) return tl::unexpected(std::move(found).error());
    if (client_.clock().now() >= until) {
      if (!found) return tl::unexpected(std::move(found).error());
      return tl::unexpected(AwsFailure{"InvalidInstanceID.NotFound", Error(ErrorCode::not_found, fmt::format("there is no instance {}", id),
                                                                           "`gpustrap ls` shows those there are")});
    }
    client_.clock().sleep(retry_pause(attempt, 1.0) / 2);
  }
}

AwsResult<std::string> Ec2::console_output(const std::string& instance) {
  // The latest is there at once; without that word EC2 shows what it took some minutes after the start. Machines before Nitro have that
  // alone.
  AwsResult<std::string> xml = call("GetConsoleOutput", {{"InstanceId", instance}, {"Latest", "true"}});
  if (!xml && xml.error().code == "UnsupportedOperation") xml = call("GetConsoleOutput", {{"InstanceId", instance}});
  if (!xml) return xml;
  const Result<std::string> text = read_text(*xml, "output");
  if (!text) return std::string();
  std::optional<std::string> decoded = base64_decoded(*text);
  return decoded ? *std::move(decoded) : std::string();
}

AwsResult<std::string> Ec2::create_group(const std::string& name, const std::string& why, const std::string& vpc, const Ec2Tags& tags) {
  Parameters parameters = {{"GroupName", name}, {"GroupDescription", why}};
  if (!vpc.empty()) parameters.emplace_back("VpcId", vpc);
  add_tags(parameters, 1, "security-group", tags);
  AwsResult<std::string> xml = call("CreateSecurityGroup", parameters);
  if (!xml) return xml;
  Result<std::string> id = read_text(*xml, "groupId");
  if (!id) return unreadable(std::move(id).error(), "CreateSecurityGroup");
  return *std::move(id);
}

AwsResult<void> Ec2::allow_ssh(const std::string& group, const std::string& from) {
  const bool v6 = from.find(':') != std::string::npos;
  const Parameters parameters = {{"GroupId", group},
                                 {"IpPermissions.1.IpProtocol", "tcp"},
                                 {"IpPermissions.1.FromPort", "22"},
                                 {"IpPermissions.1.ToPort", "22"},
                                 {v6 ? "IpPermissions.1.Ipv6Ranges.1.CidrIpv6" : "IpPermissions.1.IpRanges.1.CidrIp", from}};
  const AwsTime until = client_.clock().now() + kBecomesKnown;
  for (int attempt = 1;; ++attempt) {
    AwsResult<void> allowed = call_alone("AuthorizeSecurityGroupIngress", parameters);
    if (allowed || allowed.error().code == "InvalidPermission.Duplicate") return {};
    if (allowed.error().code != "InvalidGroup.NotFound" || client_.clock().now() >= until) return allowed;
    client_.clock().sleep(retry_pause(attempt, 1.0) / 2);
  }
}

AwsResult<void> Ec2::set_groups(const std::string& instance, const std::vector<std::string>& groups) {
  Parameters parameters = {{"InstanceId", instance}};
  for (std::size_t i = 0; i < groups.size(); ++i) parameters.emplace_back(fmt::format("GroupId.{}", i + 1), groups[i]);
  const AwsTime until = client_.clock().now() + kBecomesKnown;
  for (int attempt = 1;; ++attempt) {  // a group that was made a moment ago
    AwsResult<void> set = call_alone("ModifyInstanceAttribute", parameters);
    if (set || set.error().code != "InvalidGroup.NotFound" || client_.clock().now() >= until) return set;
    client_.clock().sleep(retry_pause(attempt, 1.0) / 2);
  }
}

AwsResult<void> Ec2::import_key(const std::string& name, const std::string& public_key, const Ec2Tags& tags) {
  Parameters parameters = {{"KeyName", name}, {"PublicKeyMaterial", base64_encoded(public_key)}};
  add_tags(parameters, 1, "key-pair", tags);
  return call_alone("ImportKeyPair", parameters);
}

AwsResult<std::string> Ec2::create_image(const std::string& instance, const std::string& name, bool reboot, const Ec2Tags& tags) {
  Parameters parameters = {{"InstanceId", instance}, {"Name", name}, {"NoReboot", reboot ? "false" : "true"}};
  add_tags(parameters, 1, "image", tags);
  add_tags(parameters, 2, "snapshot", tags);
  AwsResult<std::string> xml = call("CreateImage", parameters);
  if (!xml && xml.error().code == "InvalidAMIName.Duplicate") {  // made by a call whose answer was lost
    const AwsResult<std::vector<Ec2Image>> made = describe<Ec2Image>("DescribeImages", {{"Owner.1", "self"}}, {{"name", {name}}});
    if (made && made->size() == 1 && made->front().tags == tags) return made->front().id;
  }
  if (!xml) return xml;
  Result<std::string> id = read_text(*xml, "imageId");
  if (!id) return unreadable(std::move(id).error(), "CreateImage");
  return *std::move(id);
}

AwsResult<void> Ec2::remove(const std::string& action, const std::string& parameter, const std::string& id) {
  AwsResult<void> removed = call_alone(action, {{parameter, id}});
  if (!removed && (removed.error().code.ends_with(".NotFound") || removed.error().code.ends_with(".Unavailable"))) return {};
  return removed;
}

AwsResult<std::string> Ec2::parameter(const std::string& name) {
  AwsResult<Json> answer = client_.json("ssm", "AmazonSSM.GetParameter", Json{{"Name", name}});
  if (!answer) return tl::unexpected(std::move(answer).error());
  const Json::json_pointer place("/Parameter/Value");
  if (answer->contains(place) && answer->at(place).is_string()) return answer->at(place).get<std::string>();
  return tl::unexpected(
      AwsFailure{"", Error(ErrorCode::protocol, "the answer holds no value", kLeadsElsewhere).in("ssm GetParameter " + name)});
}

AwsResult<Ec2::Quota> Ec2::quota(const std::string& code) {
  AwsResult<Json> answer =
      client_.json("service-quotas", "ServiceQuotasV20190624.GetServiceQuota", Json{{"ServiceCode", "ec2"}, {"QuotaCode", code}});
  if (!answer && answer.error().code == "NoSuchResourceException") {
    // Never raised for this account: the default counts.
    answer = client_.json("service-quotas", "ServiceQuotasV20190624.GetAWSDefaultServiceQuota",
                          Json{{"ServiceCode", "ec2"}, {"QuotaCode", code}});
  }
  if (!answer) return tl::unexpected(std::move(answer).error());
  const Json::json_pointer value("/Quota/Value"), adjustable("/Quota/Adjustable");
  if (!answer->contains(value) || !answer->at(value).is_number())
    return tl::unexpected(AwsFailure{
        "", Error(ErrorCode::protocol, "the answer holds no value", kLeadsElsewhere).in("service-quotas GetServiceQuota " + code)});
  return Quota{answer->at(value).get<double>(), !answer->contains(adjustable) || answer->at(adjustable) != Json(false)};
}

AwsResult<std::string> Ec2::request_quota(const std::string& code, double vcpus) {
  AwsResult<Json> answer = client_.json("service-quotas", "ServiceQuotasV20190624.RequestServiceQuotaIncrease",
                                        Json{{"ServiceCode", "ec2"}, {"QuotaCode", code}, {"DesiredValue", vcpus}});
  if (!answer) return tl::unexpected(std::move(answer).error());
  const Json::json_pointer status("/RequestedQuota/Status");
  return answer->contains(status) && answer->at(status).is_string() ? answer->at(status).get<std::string>() : std::string("PENDING");
}

}  // namespace gpustrap
