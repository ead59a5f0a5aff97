// What a launch would rent: types, image, zones, quota, and how that is told before it is agreed to.
#include <algorithm>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/cloud/holdings.h"
#include "controller/cloud/launch.h"
#include "controller/cloud/prices.h"
#include "controller/cloud/spot_prices.h"

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

/// A type that shares one among several machines counts none.
std::int64_t whole_gpus(const Ec2InstanceType& type) {
  std::int64_t count = 0;
  for (const Ec2InstanceType::Gpu& gpu : type.gpus) count += gpu.count;
  return count;
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
  const auto is_unfit = [&](const std::string& type) { return whole_gpus(*known(type)) == 0; };
  const auto unfit = std::find_if(wish_.types.begin(), wish_.types.end(), is_unfit);
  if (!wish_.gpu_needed_by.empty() && unfit != wish_.types.end()) {
    return fail(ErrorCode::recipe,
                fmt::format("the recipe {} needs a GPU, and {} has {}", wish_.gpu_needed_by, *unfit,
                            known(*unfit)->gpus.empty() ? "none" : "a part of one, which takes AWS's own driver alone"),
                "take a type with a whole one: --gpu t4, --gpu a10g, --type g5.xlarge");
  }
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
  if (has_wildcard(wanted))
    return fail(ErrorCode::usage, fmt::format("--image {}: a name has no `*`, `?` or `\\`", strip_control(wanted)),
                "name one: `gpustrap ls --orphans` shows the images there are");
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
  std::erase_if(*images, [&](const Ec2Image& one) { return id.empty() ? one.name != wanted : one.id != id; });
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
  if (wish_.spot) sort_by_spot_price();
  return {};
}

/// The cheapest zone of a type is asked first: that is the price that is shown. Zones whose price is not known come last.
void Launch::sort_by_spot_price() {
  const AwsResult<SpotPrices> prices = spot_prices(ec2_, wish_.types);
  if (!prices) return;
  for (Place& place : places_) {
    const auto known_price = prices->find({place.type, place.zone});
    if (known_price != prices->end()) place.spot_usd = known_price->second;
  }
  const auto order_of = [&](const Place& place) {
    const auto type = std::find(wish_.types.begin(), wish_.types.end(), place.type);
    return std::tuple(type - wish_.types.begin(), place.spot_usd <= 0, place.spot_usd);
  };
  std::stable_sort(places_.begin(), places_.end(), [&](const Place& a, const Place& b) { return order_of(a) < order_of(b); });
}

std::string Launch::spot_text(const std::string& type) const {
  double least = 0, most = 0;
  for (const Place& place : places_) {
    if (place.type != type || place.spot_usd <= 0) continue;
    least = least <= 0 ? place.spot_usd : std::min(least, place.spot_usd);
    most = std::max(most, place.spot_usd);
  }
  if (least <= 0) return "";
  return least < most ? fmt::format("now {} to {} USD an hour, by zone", usd(least), usd(most))
                      : fmt::format("now {} USD an hour", usd(least));
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
  for (const Ec2InstanceType::Gpu& gpu : info.gpus)
    parts.push_back(gpu.count > 0 ? fmt::format("{}x {} {}", gpu.count, gpu.maker, gpu.name)
                                  : fmt::format("a part of an {} {}", gpu.maker, gpu.name));
  parts.push_back(fmt::format("{} vCPUs", info.vcpus));
  parts.push_back(fmt::format("{} GiB", info.memory_mib / 1024));
  std::string text = fmt::format("This rents in {}, until you {} it:\n", region(), wish_.spot ? "terminate" : "stop or terminate");
  const auto line = [&](std::string_view what, const std::string& value) { text += fmt::format("  {:<9} {}\n", what, value); };
  line("machine", fmt::format("{}: {}", type, join(parts, ", ")));
  std::string price = "on demand " + price_text(type);
  const std::string source = prices_.price_of(type).value_or(Price{}).source;
  if (wish_.spot) {
    const Place& first = places_.front();
    const std::string zones = spot_text(type);
    price = first.spot_usd <= 0 ? "spot, at most the price " + price
                                : fmt::format("spot, now {} USD an hour in {}, which is asked first{}; {}", usd(first.spot_usd), first.zone,
                                              zones.find(" to ") == std::string::npos ? "" : fmt::format(" ({})", zones), price);
    price += "; AWS may take it back at two minutes' notice";
  }
  line("price", price);
  if (!prices_.trouble().empty()) line("", fmt::format("AWS's price list was not asked: {}", prices_.trouble()));
  std::vector<std::string> others;
  for (const Place& place : places_) {
    const bool told =
        std::any_of(others.begin(), others.end(), [&](const std::string& one) { return one.starts_with(place.type + " at "); });
    if (place.type == type || told) continue;
    const std::string on_demand = price_text(place.type, source), spot = wish_.spot ? spot_text(place.type) : "";
    others.push_back(fmt::format("{} at {}", place.type,
                                 !spot.empty() ? fmt::format("spot, {} (on demand {})", spot, on_demand)
                                 : wish_.spot  ? "spot, at most " + on_demand
                                               : on_demand));
  }
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
