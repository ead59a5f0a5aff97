// What a launch would rent: types, image, zones, quota, and how that is told before it is agreed to.
#include <algorithm>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/cloud/holdings.h"
#include "controller/cloud/launch.h"
#include "controller/cloud/prices.h"

namespace gpustrap {
namespace {

std::string images_arch(const std::string& architecture) { return architecture == "arm64" ? "arm64" : "amd64"; }

/// As the table has it: 0.526, 16.288.
std::string usd(double amount) {
  std::string text = fmt::format("{:.4f}", amount);
  while (text.ends_with('0')) text.pop_back();
  if (text.ends_with('.')) text += "00";
  return text;
}

}  // namespace

std::string login_user_of(const std::string& image_name) {
  const auto has = [&](std::string_view part) { return image_name.find(part) != std::string::npos; };
  if (has("buntu")) return "ubuntu";
  if (has("ebian")) return "admin";
  if (has("al2023") || has("amzn") || has("Amazon Linux") || has("RHEL")) return "ec2-user";
  return "ubuntu";
}

Result<void> Launch::know_types() {
  AwsResult<std::vector<Ec2InstanceType>> types =
      ec2_.describe<Ec2InstanceType>("DescribeInstanceTypes", {}, {{"instance-type", wish_.types}});
  if (!types) return fail(std::move(types).error().error);
  types_ = *std::move(types);
  const auto is_unknown = [&](const std::string& type) { return known(type) == nullptr; };
  if (std::all_of(wish_.types.begin(), wish_.types.end(), is_unknown)) {
    return fail(ErrorCode::unsupported, fmt::format("{} has no {}", region(), join(wish_.types, ", ")),
                "another region may: --region us-east-1; or another machine: --gpu t4, --type g5.xlarge");
  }
  std::erase_if(wish_.types, is_unknown);
  return {};
}

Result<void> Launch::find_image() {
  const std::vector<std::string>& architectures = known(wish_.types.front())->architectures;
  const std::string arch = std::find(architectures.begin(), architectures.end(), "arm64") != architectures.end() ? "arm64" : "x86_64";
  std::string& wanted = wish_.image;
  const std::string version = wanted.find(':') == std::string::npos ? "" : wanted.substr(wanted.find(':') + 1);
  std::string parameter;
  if (wanted.starts_with("ubuntu:"))
    parameter = fmt::format("/aws/service/canonical/ubuntu/server/{}/stable/current/{}/hvm/ebs-gp3/ami-id", version, images_arch(arch));
  if (wanted.starts_with("debian:")) parameter = fmt::format("/aws/service/debian/release/{}/latest/{}", version, images_arch(arch));
  if (wanted == "dlami" || wanted.starts_with("dlami:"))
    parameter = fmt::format("/aws/service/deeplearning/ami/{}/base-oss-nvidia-driver-gpu-{}/latest/ami-id", arch,
                            version.empty() ? "ubuntu-24.04" : version);
  std::string id = wanted.starts_with("ami-") ? wanted : "";
  if (!parameter.empty()) {
    AwsResult<std::string> value = ec2_.parameter(parameter);
    if (!value && value.error().code == "ParameterNotFound" && wanted.starts_with("ubuntu:"))
      value = ec2_.parameter(parameter.replace(parameter.find("ebs-gp3"), 7, "ebs-gp2"));  // as releases before 24.04 have it
    if (!value && value.error().code == "ParameterNotFound") {
      return fail(ErrorCode::usage, fmt::format("--image {}: {} has no such image", wanted, region()),
                  "for instance ubuntu:24.04, ubuntu:22.04, debian:13, dlami, or an id: ami-…");
    }
    if (!value) return fail(std::move(value).error().error);
    id = *std::move(value);
  }
  Parameters parameters;
  std::vector<Ec2Filter> filters;
  if (id.empty()) {
    parameters = {{"Owner.1", "self"}};
    filters = {{"name", {wanted}}};
  } else {
    parameters = {{"ImageId.1", id}};
  }
  AwsResult<std::vector<Ec2Image>> images = ec2_.describe<Ec2Image>("DescribeImages", parameters, filters);
  if (!images) return fail(std::move(images).error().error);
  if (images->empty()) {
    return fail(ErrorCode::usage, fmt::format("--image {}: there is no image of that name or id in {}", wanted, region()),
                "for instance ubuntu:24.04, ubuntu:22.04, debian:13, dlami, ami-…, or one that `gpustrap image` made");
  }
  const Ec2Image& image = images->front();
  if (image.platform == "windows")
    return fail(ErrorCode::usage, fmt::format("--image {}: this is Windows", wanted), "gpustrap sets up Linux: --image ubuntu:24.04");
  if (image.state != "available")
    return fail(ErrorCode::busy, fmt::format("the image {} is {}", image.id, image.state), "wait until it is available, then run it again");
  const auto other_arch = [&](const std::string& type) {
    const std::vector<std::string>& all = known(type)->architectures;
    return !image.architecture.empty() && std::find(all.begin(), all.end(), image.architecture) == all.end();
  };
  if (std::all_of(wish_.types.begin(), wish_.types.end(), other_arch)) {
    return fail(ErrorCode::usage, fmt::format("the image {} is for {}, and {} is not", wanted, image.architecture, wish_.types.front()),
                "take an image by its system, for instance --image ubuntu:24.04");
  }
  std::erase_if(wish_.types, other_arch);
  image_ = {image.id, image.name, image.root_device.empty() ? "/dev/sda1" : image.root_device,
            login_user_of(wanted.starts_with("ami-") ? image.name : wanted), image.architecture};
  if (!wanted.starts_with("ami-") && parameter.empty()) {
    const auto noted = image.tags.find("gpustrap:user");
    image_.user = noted == image.tags.end() ? login_user_of(image.name) : noted->second;
  }
  for (const Ec2Image::Disk& disk : image.disks) {
    if (disk.device == image.root_device) image_.least_gib = disk.gib;
  }
  if (wish_.disk_gib < image_.least_gib) {
    talk_.say(fmt::format("The image needs a disk of {} GiB; it gets that.", image_.least_gib));
    wish_.disk_gib = image_.least_gib;
  }
  return {};
}

Result<void> Launch::find_places() {
  AwsResult<std::vector<Ec2Offering>> offers = ec2_.describe<Ec2Offering>(
      "DescribeInstanceTypeOfferings", {{"LocationType", "availability-zone"}}, {{"instance-type", wish_.types}});
  if (!offers) return fail(std::move(offers).error().error);
  AwsResult<std::vector<Ec2Subnet>> subnets = ec2_.describe<Ec2Subnet>("DescribeSubnets", {}, {{"default-for-az", {"true"}}});
  if (!subnets) return fail(std::move(subnets).error().error);
  if (subnets->empty()) {
    return fail(ErrorCode::unsupported, fmt::format("the account has no default network in {}", region()),
                fmt::format("make one: aws ec2 create-default-vpc --region {}", region()));
  }
  for (const std::string& type : wish_.types) {
    for (const Ec2Subnet& subnet : *subnets) {
      const bool offered =
          std::any_of(offers->begin(), offers->end(), [&](const Ec2Offering& one) { return one.type == type && one.zone == subnet.zone; });
      if (offered) places_.push_back({type, subnet.id, subnet.vpc, subnet.zone});
    }
  }
  if (places_.empty()) {
    return fail(
        ErrorCode::unsupported,
        fmt::format("{} is not offered in any zone of {} that the account has a default subnet in", join(wish_.types, ", "), region()),
        "another region may offer it: --region us-east-1");
  }
  return {};
}

Result<void> Launch::check_quota() {
  const std::string& type = places_.front().type;
  const std::string code = quota_code(type, wish_.spot);
  if (code.empty()) return {};
  const AwsResult<Ec2::Quota> quota = ec2_.quota(code);
  if (!quota) {
    talk_.say(fmt::format("The quota could not be looked up ({}); AWS itself says so if it does not suffice.", quota.error().error.why()));
    return {};
  }
  const AwsResult<double> used = used_vcpus(ec2_, code);
  const double taken = used ? *used : 0;
  const double needed = static_cast<double>(known(type)->vcpus);
  if (taken + needed <= quota->vcpus) return {};
  return fail(ErrorCode::unsupported,
              fmt::format("the account may have {:.0f} vCPUs of {} in {}, {:.0f} are in use, and {} has {:.0f}", quota->vcpus,
                          quota_title(code), region(), taken, type, needed),
              fmt::format("ask for more: gpustrap quota request {:.0f} --type {}{}, or "
                          "https://{}.console.aws.amazon.com/servicequotas/home/services/ec2/quotas/{}",
                          taken + needed, type, wish_.spot ? " --spot" : "", region(), code));
}

std::string Launch::price_text(const std::string& type, const std::string& known_source) {
  const std::optional<Price> price = prices_.price_of(type);
  if (!price) return "of a price that is not known here; see https://aws.amazon.com/ec2/pricing/on-demand/";
  // Another region's price is a guess at this one's.
  const bool about = !price->confirmed || (!price->listed && region() != "us-east-1");
  const std::string source = price->source == known_source ? "" : fmt::format(" ({})", price->source);
  return fmt::format("{}{} USD an hour{}", about ? "about " : "", usd(price->usd_per_hour), source);
}

Result<std::string> Launch::description() {
  const std::string& type = places_.front().type;
  const Ec2InstanceType& info = *known(type);
  std::vector<std::string> parts;
  for (const Ec2InstanceType::Gpu& gpu : info.gpus) parts.push_back(fmt::format("{}x {} {}", gpu.count, gpu.maker, gpu.name));
  parts.push_back(fmt::format("{} vCPUs", info.vcpus));
  parts.push_back(fmt::format("{} GiB", info.memory_mib / 1024));
  std::string text = fmt::format("This rents in {}, until you {} it:\n", region(), wish_.spot ? "terminate" : "stop or terminate");
  const auto line = [&](std::string_view what, const std::string& value) { text += fmt::format("  {:<9} {}\n", what, value); };
  line("machine", fmt::format("{}: {}", type, join(parts, ", ")));
  std::string price = "on demand " + price_text(type);
  const std::string source = prices_.price_of(type).value_or(Price{}).source;
  if (wish_.spot) {
    const AwsResult<std::vector<Ec2SpotPrice>> spot = ec2_.describe<Ec2SpotPrice>(
        "DescribeSpotPriceHistory",
        {{"InstanceType.1", type}, {"ProductDescription.1", "Linux/UNIX"}, {"StartTime", iso_time(ec2_.client().clock().now())}});
    if (spot && !spot->empty()) {
      const auto cheapest = std::min_element(spot->begin(), spot->end(), [](const Ec2SpotPrice& a, const Ec2SpotPrice& b) {
        return std::atof(a.price.c_str()) < std::atof(b.price.c_str());
      });
      price = fmt::format("spot, now {} USD an hour in {}; {}", usd(std::atof(cheapest->price.c_str())), cheapest->zone, price);
    } else {
      price = "spot, at most the price " + price;
    }
    price += "; AWS may take it back at two minutes' notice";
  }
  line("price", price);
  if (!prices_.trouble().empty()) line("", fmt::format("AWS's price list was not asked: {}", prices_.trouble()));
  std::vector<std::string> others;
  for (std::size_t i = 1; i < wish_.types.size(); ++i)
    others.push_back(fmt::format("{} at {}", wish_.types[i], price_text(wish_.types[i], source)));
  if (!others.empty()) line("else", join(others, "; "));
  line("disk",
       fmt::format("{} GiB, encrypted; about {} USD a month{}", wish_.disk_gib,
                   usd(static_cast<double>(wish_.disk_gib) * kVolumeUsdPerGibMonth), wish_.spot ? "" : ", also while it is stopped"));
  line("image", wish_.image == image_.id ? fmt::format("{} ({})", image_.id, strip_control(image_.name))
                                         : fmt::format("{} ({})", wish_.image, image_.id));
  line("network", fmt::format("SSH from {}, and nothing else", caller_));
  line("name", wish_.name);
  if (!wish_.stops.empty()) line("stops", wish_.stops + (wish_.spot ? "; a spot machine that stops is gone, and its disk" : ""));
  return text;
}

}  // namespace gpustrap
