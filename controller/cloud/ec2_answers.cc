#include "controller/cloud/ec2_answers.h"

#include <cstring>

#include <fmt/format.h>
#include <pugixml.hpp>

namespace gpustrap {
namespace {

using Node = pugi::xml_node;

constexpr const char* kLeadsElsewhere = "see whether AWS_ENDPOINT_URL leads to EC2";
constexpr const char* kLeadsFromSts = "see whether AWS_ENDPOINT_URL or AWS_ENDPOINT_URL_STS leads to AWS";

struct Document {
  pugi::xml_document xml;
  Node root;
};

/// pugixml resolves no entities but the five of XML and reads no other file.
bool parse(std::string_view text, Document& document) {
  if (!document.xml.load_buffer(text.data(), text.size(), pugi::parse_default, pugi::encoding_utf8)) return false;
  document.root = document.xml.document_element();
  return !document.root.empty();
}

std::string text(Node node, const char* path) { return node.first_element_by_path(path).text().get(); }
bool truth(Node node, const char* path) { return text(node, path) == "true"; }
std::int64_t number(Node node, const char* path, std::int64_t missing = 0) {
  const Node found = node.first_element_by_path(path);
  return found ? found.text().as_llong(missing) : missing;
}

Ec2Tags tags_of(Node node) {
  Ec2Tags tags;
  for (const Node item : node.child("tagSet").children("item")) tags[text(item, "key")] = text(item, "value");
  return tags;
}

std::vector<std::string> texts(Node list, const char* name = nullptr) {
  std::vector<std::string> all;
  for (const Node item : list.children("item")) all.emplace_back(name == nullptr ? item.text().get() : item.child(name).text().get());
  return all;
}

/// "User initiated (2026-11-21 10:00:00 GMT)"
std::optional<AwsTime> time_in_reason(const std::string& reason) {
  const std::size_t open = reason.find('(');
  if (open == std::string::npos || reason.size() < open + 20 || reason[open + 11] != ' ') return std::nullopt;
  std::string time = reason.substr(open + 1, 19) + "Z";
  time[10] = 'T';
  return read_iso_time(time);
}

Ec2Instance instance_of(Node node) {
  Ec2Instance one;
  one.id = text(node, "instanceId");
  one.type = text(node, "instanceType");
  one.image = text(node, "imageId");
  one.key_name = text(node, "keyName");
  one.zone = text(node, "placement/availabilityZone");
  one.subnet = text(node, "subnetId");
  one.vpc = text(node, "vpcId");
  one.architecture = text(node, "architecture");
  one.state = text(node, "instanceState/name");
  one.state_code = text(node, "stateReason/code");
  one.state_reason = text(node, "stateReason/message");
  one.address = text(node, "ipAddress");
  one.dns_name = text(node, "dnsName");
  one.private_address = text(node, "privateIpAddress");
  one.lifecycle = text(node, "instanceLifecycle");
  one.client_token = text(node, "clientToken");
  one.launched = read_iso_time(text(node, "launchTime"));
  one.stopped = time_in_reason(text(node, "reason"));
  one.groups = texts(node.child("groupSet"), "groupId");
  for (const Node item : node.child("blockDeviceMapping").children("item"))
    one.disks.push_back({text(item, "deviceName"), text(item, "ebs/volumeId"), truth(item, "ebs/deleteOnTermination")});
  one.tags = tags_of(node);
  return one;
}

Ec2Status status_of(Node node) {
  Ec2Status one{text(node, "instanceId"), text(node, "instanceStatus/status"), text(node, "systemStatus/status"), {}};
  for (const Node item : node.child("eventsSet").children("item")) {
    // What is over is shown for a week, and says so: "[Completed] …".
    const std::string description = text(item, "description");
    if (!description.starts_with("[Completed]") && !description.starts_with("[Canceled]"))
      one.events.push_back({text(item, "code"), description, read_iso_time(text(item, "notBefore"))});
  }
  return one;
}

Ec2Image image_of(Node node) {
  Ec2Image one;
  one.id = text(node, "imageId");
  one.name = text(node, "name");
  one.state = text(node, "imageState");
  one.root_device = text(node, "rootDeviceName");
  one.architecture = text(node, "architecture");
  one.owner = text(node, "imageOwnerId");
  one.platform = text(node, "platform");
  one.created = text(node, "creationDate");
  one.state_reason = text(node, "stateReason/message");
  for (const Node item : node.child("blockDeviceMapping").children("item"))
    one.disks.push_back({text(item, "deviceName"), text(item, "ebs/snapshotId"), number(item, "ebs/volumeSize")});
  one.tags = tags_of(node);
  return one;
}

Ec2InstanceType type_of(Node node) {
  Ec2InstanceType one;
  one.name = text(node, "instanceType");
  one.vcpus = number(node, "vCpuInfo/defaultVCpus");
  one.memory_mib = number(node, "memoryInfo/sizeInMiB");
  for (const Node item : node.child("gpuInfo").child("gpus").children("item"))
    one.gpus.push_back({text(item, "name"), text(item, "manufacturer"), number(item, "count"), number(item, "memoryInfo/sizeInMiB")});
  one.architectures = texts(node.child("processorInfo").child("supportedArchitectures"));
  return one;
}

Ec2Group group_of(Node node) {
  Ec2Group one{text(node, "groupId"), text(node, "groupName"), text(node, "vpcId"), {}, tags_of(node)};
  for (const Node item : node.child("ipPermissions").children("item")) {
    Ec2Group::Rule rule{text(item, "ipProtocol"), number(item, "fromPort", -1), number(item, "toPort", -1),
                        texts(item.child("ipRanges"), "cidrIp")};
    for (std::string& source : texts(item.child("ipv6Ranges"), "cidrIpv6")) rule.sources.push_back(std::move(source));
    for (std::string& source : texts(item.child("groups"), "groupId")) rule.sources.push_back(std::move(source));
    for (std::string& source : texts(item.child("prefixListIds"), "prefixListId")) rule.sources.push_back(std::move(source));
    one.rules.push_back(std::move(rule));
  }
  return one;
}

Ec2Volume volume_of(Node node) {
  return {text(node, "volumeId"),
          text(node, "status"),
          text(node, "volumeType"),
          text(node, "attachmentSet/item/instanceId"),
          text(node, "snapshotId"),
          number(node, "size"),
          read_iso_time(text(node, "createTime")),
          tags_of(node)};
}

/// The items of a list, each made by `make`; all pages look alike.
template <class T, class Make> Result<Ec2Page<T>> page(std::string_view xml, const char* response, const char* list, Make make) {
  Document document;
  if (!parse(xml, document))
    return fail(ErrorCode::protocol, fmt::format("the answer is not XML, but {} awaited", response), kLeadsElsewhere);
  if (std::strcmp(document.root.name(), response) != 0)
    return fail(ErrorCode::protocol, fmt::format("the answer is not a {}", response), kLeadsElsewhere);
  Ec2Page<T> result;
  for (const Node item : document.root.child(list).children("item")) result.items.push_back(make(item));
  result.next = text(document.root, "nextToken");
  return result;
}

}  // namespace

std::optional<AwsAnswerError> read_error_xml(std::string_view xml) {
  Document document;
  if (!parse(xml, document)) return std::nullopt;
  Node error = document.root.first_element_by_path("Errors/Error");
  if (!error) error = document.root.child("Error");
  if (!error || !error.child("Code")) return std::nullopt;
  return AwsAnswerError{text(error, "Code"), text(error, "Message")};
}

Result<StsKeys> read_sts_keys(std::string_view xml) {
  Document document;
  if (!parse(xml, document)) return fail(ErrorCode::protocol, "the answer of STS is not XML", kLeadsFromSts);
  const Node result = document.root.first_child();
  const Node keys = result.child("Credentials");
  StsKeys read{text(keys, "AccessKeyId"), text(keys, "SecretAccessKey"), text(keys, "SessionToken"), text(keys, "Expiration")};
  if (read.access_key.empty() || read.secret_key.empty())
    return fail(ErrorCode::protocol, "the answer of STS holds no credentials", kLeadsFromSts);
  return read;
}

Result<std::string> read_account(std::string_view xml) {
  Document document;
  if (!parse(xml, document)) return fail(ErrorCode::protocol, "the answer of STS is not XML", kLeadsFromSts);
  std::string account = text(document.root, "GetCallerIdentityResult/Account");
  if (account.empty()) return fail(ErrorCode::protocol, "the answer of STS names no account", kLeadsFromSts);
  return account;
}

template <> Result<Ec2Page<Ec2Instance>> read_page(std::string_view xml) {
  Document document;
  if (!parse(xml, document) || std::strcmp(document.root.name(), "DescribeInstancesResponse") != 0)
    return fail(ErrorCode::protocol, "the answer is not a DescribeInstancesResponse", kLeadsElsewhere);
  Ec2Page<Ec2Instance> result;
  for (const Node reservation : document.root.child("reservationSet").children("item")) {
    for (const Node item : reservation.child("instancesSet").children("item")) result.items.push_back(instance_of(item));
  }
  result.next = text(document.root, "nextToken");
  return result;
}

template <> Result<Ec2Page<Ec2Status>> read_page(std::string_view xml) {
  return page<Ec2Status>(xml, "DescribeInstanceStatusResponse", "instanceStatusSet", status_of);
}
template <> Result<Ec2Page<Ec2Image>> read_page(std::string_view xml) {
  return page<Ec2Image>(xml, "DescribeImagesResponse", "imagesSet", image_of);
}
template <> Result<Ec2Page<Ec2InstanceType>> read_page(std::string_view xml) {
  return page<Ec2InstanceType>(xml, "DescribeInstanceTypesResponse", "instanceTypeSet", type_of);
}
template <> Result<Ec2Page<Ec2Offering>> read_page(std::string_view xml) {
  return page<Ec2Offering>(xml, "DescribeInstanceTypeOfferingsResponse", "instanceTypeOfferingSet", [](Node node) {
    return Ec2Offering{text(node, "instanceType"), text(node, "location")};
  });
}
template <> Result<Ec2Page<Ec2Subnet>> read_page(std::string_view xml) {
  return page<Ec2Subnet>(xml, "DescribeSubnetsResponse", "subnetSet", [](Node node) {
    return Ec2Subnet{text(node, "subnetId"), text(node, "vpcId"), text(node, "availabilityZone"), truth(node, "defaultForAz")};
  });
}
template <> Result<Ec2Page<Ec2Vpc>> read_page(std::string_view xml) {
  return page<Ec2Vpc>(xml, "DescribeVpcsResponse", "vpcSet", [](Node node) {
    return Ec2Vpc{text(node, "vpcId"), truth(node, "isDefault")};
  });
}
template <> Result<Ec2Page<Ec2Region>> read_page(std::string_view xml) {
  return page<Ec2Region>(xml, "DescribeRegionsResponse", "regionInfo", [](Node node) {
    return Ec2Region{text(node, "regionName"), text(node, "optInStatus") != "not-opted-in"};
  });
}
template <> Result<Ec2Page<Ec2Group>> read_page(std::string_view xml) {
  return page<Ec2Group>(xml, "DescribeSecurityGroupsResponse", "securityGroupInfo", group_of);
}
template <> Result<Ec2Page<Ec2KeyPair>> read_page(std::string_view xml) {
  return page<Ec2KeyPair>(xml, "DescribeKeyPairsResponse", "keySet", [](Node node) {
    return Ec2KeyPair{text(node, "keyPairId"), text(node, "keyName"), text(node, "keyFingerprint"), tags_of(node)};
  });
}
template <> Result<Ec2Page<Ec2Volume>> read_page(std::string_view xml) {
  return page<Ec2Volume>(xml, "DescribeVolumesResponse", "volumeSet", volume_of);
}
template <> Result<Ec2Page<Ec2Address>> read_page(std::string_view xml) {
  return page<Ec2Address>(xml, "DescribeAddressesResponse", "addressesSet", [](Node node) {
    return Ec2Address{text(node, "publicIp"), text(node, "allocationId"), text(node, "associationId"), text(node, "instanceId"),
                      tags_of(node)};
  });
}
template <> Result<Ec2Page<Ec2Snapshot>> read_page(std::string_view xml) {
  return page<Ec2Snapshot>(xml, "DescribeSnapshotsResponse", "snapshotSet", [](Node node) {
    return Ec2Snapshot{text(node, "snapshotId"), text(node, "status"), text(node, "description"), number(node, "volumeSize"),
                       tags_of(node)};
  });
}
template <> Result<Ec2Page<Ec2SpotPrice>> read_page(std::string_view xml) {
  return page<Ec2SpotPrice>(xml, "DescribeSpotPriceHistoryResponse", "spotPriceHistorySet", [](Node node) {
    return Ec2SpotPrice{text(node, "instanceType"), text(node, "availabilityZone"), text(node, "spotPrice"),
                        read_iso_time(text(node, "timestamp"))};
  });
}

Result<std::vector<Ec2Instance>> read_started(std::string_view xml) {
  Document document;
  if (!parse(xml, document) || std::strcmp(document.root.name(), "RunInstancesResponse") != 0)
    return fail(ErrorCode::protocol, "the answer is not a RunInstancesResponse", kLeadsElsewhere);
  std::vector<Ec2Instance> started;
  for (const Node item : document.root.child("instancesSet").children("item")) started.push_back(instance_of(item));
  return started;
}

Result<std::string> read_text(std::string_view xml, const char* name) {
  Document document;
  if (!parse(xml, document)) return fail(ErrorCode::protocol, fmt::format("the answer is not XML, but {} awaited", name), kLeadsElsewhere);
  const Node found = document.root.child(name);
  if (!found) return fail(ErrorCode::protocol, fmt::format("the answer holds no {}", name), kLeadsElsewhere);
  return std::string(found.text().get());
}

}  // namespace gpustrap
