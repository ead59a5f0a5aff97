#include "controller/cloud/holdings.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/cloud/prices.h"

namespace gpustrap {
namespace {

const std::vector<std::string> kAlive = {"pending", "running", "stopping", "stopped", "shutting-down"};
const Ec2Filter kOwn{"tag-key", {kOwnerTag}};

}  // namespace

std::string name_of(const Ec2Instance& instance) {
  const auto tag = instance.tags.find(kOwnerTag);
  return tag == instance.tags.end() ? instance.id : strip_control(tag->second);
}

std::string checks_text(const Ec2Status& status) {
  std::vector<std::string> impaired;
  if (status.system == "impaired") impaired.emplace_back("system");
  if (status.machine == "impaired") impaired.emplace_back("instance");
  if (!impaired.empty()) return fmt::format("impaired ({})", join(impaired, ", "));
  return status.system == "initializing" || status.machine == "initializing" ? "checks under way" : "";
}

AwsResult<std::vector<Ec2Instance>> own_instances(Ec2& ec2) {
  return ec2.describe<Ec2Instance>("DescribeInstances", {}, {kOwn, {"instance-state-name", kAlive}});
}

std::vector<Ec2Instance> instances_called(const std::vector<Ec2Instance>& all, const std::string& word) {
  std::vector<Ec2Instance> called;
  for (const Ec2Instance& one : all) {
    if (one.state == "shutting-down") continue;
    if (one.id == word) return {one};  // whatever others are called
    if (name_of(one) == word || (!one.address.empty() && one.address == word)) called.push_back(one);
  }
  return called;
}

Result<Ec2Instance> own_instance(const std::vector<Ec2Instance>& all, const std::string& word, const std::string& region) {
  std::vector<Ec2Instance> called = instances_called(all, word);
  if (called.size() == 1) return std::move(called.front());
  if (called.size() > 1)
    return fail(ErrorCode::usage, fmt::format("{} instances are called `{}`", called.size(), word),
                "name one by its id; `gpustrap ls` shows them");
  std::vector<std::string> names;
  for (const Ec2Instance& one : all) {
    if (one.state != "shutting-down") names.push_back(name_of(one));
  }
  const std::string near = nearest_name(word, names);
  return fail(ErrorCode::usage,
              fmt::format("gpustrap has no instance `{}` in {}{}", strip_control(word), region,
                          near.empty() ? "" : fmt::format("; did you mean `{}`?", near)),
              names.empty() ? "it has none there; another region is asked with --region" : "there are: " + join(names, ", "));
}

AwsResult<std::vector<std::string>> enabled_regions(Ec2& ec2) {
  AwsResult<std::vector<Ec2Region>> regions = ec2.describe<Ec2Region>("DescribeRegions", {});
  if (!regions) return tl::unexpected(std::move(regions).error());
  std::vector<std::string> names;
  for (Ec2Region& one : *regions) {
    if (one.enabled && is_region(one.name)) names.push_back(std::move(one.name));  // it becomes part of a host's name
  }
  std::sort(names.begin(), names.end());
  return names;
}

AwsResult<double> used_vcpus(Ec2& ec2, const std::string& quota) {
  AwsResult<std::vector<Ec2Instance>> running =
      ec2.describe<Ec2Instance>("DescribeInstances", {}, {{"instance-state-name", {"pending", "running"}}});
  if (!running) return tl::unexpected(std::move(running).error());
  std::map<std::string, int> count;
  for (const Ec2Instance& one : *running) {
    if (quota_code(one.type, one.lifecycle == "spot") == quota) ++count[one.type];
  }
  if (count.empty()) return 0.0;
  std::vector<std::string> types;
  for (const auto& [type, number] : count) types.push_back(type);
  AwsResult<std::vector<Ec2InstanceType>> known = ec2.describe<Ec2InstanceType>("DescribeInstanceTypes", {}, {{"instance-type", types}});
  if (!known) return tl::unexpected(std::move(known).error());
  double vcpus = 0;
  for (const Ec2InstanceType& type : *known) vcpus += static_cast<double>(type.vcpus) * count[type.name];
  return vcpus;
}

AwsResult<std::vector<Orphan>> find_orphans(Ec2& ec2) {
  // All instances, not only gpustrap's: somebody else's may use a group or a key of it.
  AwsResult<std::vector<Ec2Instance>> instances = ec2.describe<Ec2Instance>("DescribeInstances", {}, {{"instance-state-name", kAlive}});
  if (!instances) return tl::unexpected(std::move(instances).error());
  std::set<std::string> groups, keys, images;
  for (const Ec2Instance& one : *instances) {
    groups.insert(one.groups.begin(), one.groups.end());
    keys.insert(one.key_name);
    images.insert(one.image);
  }
  std::vector<Orphan> orphans;
  AwsResult<std::vector<Ec2Volume>> volumes = ec2.describe<Ec2Volume>("DescribeVolumes", {}, {kOwn, {"status", {"available"}}});
  if (!volumes) return tl::unexpected(std::move(volumes).error());
  for (const Ec2Volume& one : *volumes) {
    const auto name = one.tags.find(kOwnerTag);
    orphans.push_back({"volume", one.id,
                       fmt::format("{} GiB, was of {}; what it holds is lost with it", one.gib,
                                   name == one.tags.end() ? "?" : strip_control(name->second)),
                       static_cast<double>(one.gib) * kVolumeUsdPerGibMonth, "DeleteVolume", "VolumeId"});
  }
  AwsResult<std::vector<Ec2Address>> addresses = ec2.describe<Ec2Address>("DescribeAddresses", {}, {kOwn});
  if (!addresses) return tl::unexpected(std::move(addresses).error());
  for (const Ec2Address& one : *addresses) {
    if (one.association.empty())
      orphans.push_back({"address", one.allocation, one.address, kAddressUsdPerMonth, "ReleaseAddress", "AllocationId"});
  }
  AwsResult<std::vector<Ec2Group>> all_groups = ec2.describe<Ec2Group>("DescribeSecurityGroups", {}, {kOwn});
  if (!all_groups) return tl::unexpected(std::move(all_groups).error());
  for (const Ec2Group& one : *all_groups) {
    if (!groups.contains(one.id)) orphans.push_back({"group", one.id, strip_control(one.name), 0, "DeleteSecurityGroup", "GroupId"});
  }
  AwsResult<std::vector<Ec2KeyPair>> all_keys = ec2.describe<Ec2KeyPair>("DescribeKeyPairs", {}, {kOwn});
  if (!all_keys) return tl::unexpected(std::move(all_keys).error());
  for (const Ec2KeyPair& one : *all_keys) {
    if (!keys.contains(one.name))
      orphans.push_back({"key", strip_control(one.name), "its private half stays here", 0, "DeleteKeyPair", "KeyName"});
  }
  AwsResult<std::vector<Ec2Image>> all_images = ec2.describe<Ec2Image>("DescribeImages", {{"Owner.1", "self"}}, {kOwn});
  if (!all_images) return tl::unexpected(std::move(all_images).error());
  std::set<std::string> in_images;
  for (const Ec2Image& one : *all_images) {
    std::int64_t gib = 0;
    for (const Ec2Image::Disk& disk : one.disks) {
      gib += disk.gib;
      in_images.insert(disk.snapshot);
    }
    if (!images.contains(one.id))
      orphans.push_back({"image", one.id,
                         fmt::format("{0}, made to be launched from; kept: `gpustrap image --remove {0}`", strip_control(one.name)),
                         static_cast<double>(gib) * kSnapshotUsdPerGibMonth, "", ""});
  }
  // Of images that were taken away, and their disks not.
  AwsResult<std::vector<Ec2Snapshot>> snapshots = ec2.describe<Ec2Snapshot>("DescribeSnapshots", {{"Owner.1", "self"}}, {kOwn});
  if (!snapshots) return tl::unexpected(std::move(snapshots).error());
  for (const Ec2Snapshot& one : *snapshots) {
    if (in_images.contains(one.id) || one.state == "pending") continue;
    const auto name = one.tags.find(kOwnerTag);
    orphans.push_back({"snapshot", one.id, fmt::format("{} GiB, was of the image {}", one.gib, strip_control(name->second)),
                       static_cast<double>(one.gib) * kSnapshotUsdPerGibMonth, "DeleteSnapshot", "SnapshotId"});
  }
  return orphans;
}

}  // namespace gpustrap
