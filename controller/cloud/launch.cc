#include "controller/cloud/launch.h"

#include <arpa/inet.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/cloud/holdings.h"
#include "controller/cloud/host_keys.h"
#include "controller/cloud/prices.h"

namespace gpustrap {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

constexpr auto kStartsWithin = minutes(10);
/// cloud-init prints the keys 30 s to 3 minutes after the start; EC2 shows them with a delay of its own.
constexpr auto kKeysWithin = minutes(7);
constexpr auto kPollAtFirst = seconds(2), kPollAtLast = seconds(10);
/// A record that is younger may belong to an instance that EC2 does not list yet.
constexpr auto kBecomesListed = seconds(30);

std::string new_token() {
  std::array<unsigned char, 16> bytes{};
  RAND_bytes(bytes.data(), static_cast<int>(bytes.size()));
  std::string token = "gpustrap-";
  for (const unsigned char byte : bytes) token += fmt::format("{:02x}", byte);
  return token;
}

std::string images_arch(const std::string& architecture) { return architecture == "arm64" ? "arm64" : "amd64"; }

/// Whether AWS says that nothing was made. Its own trouble, an order to wait and a login that is over say so of the last repetition
/// alone: one before it may have been obeyed, its answer lost. A token that was used before says that one was.
bool is_refusal(const AwsFailure& failure) {
  const ErrorCode kind = failure.error.code();
  return !failure.code.empty() && kind != ErrorCode::network && kind != ErrorCode::busy && kind != ErrorCode::authentication;
}

/// As the table has it: 0.526, 16.288.
std::string usd(double amount) {
  std::string text = fmt::format("{:.4f}", amount);
  while (text.ends_with('0')) text.pop_back();
  if (text.ends_with('.')) text += "00";
  return text;
}

}  // namespace

Result<std::string> read_source(const std::string& text) {
  const std::size_t slash = text.find('/');
  const std::string address = text.substr(0, slash);
  std::array<unsigned char, 16> bytes{};
  const bool v4 = ::inet_pton(AF_INET, address.c_str(), bytes.data()) == 1;
  const bool v6 = !v4 && ::inet_pton(AF_INET6, address.c_str(), bytes.data()) == 1;
  const unsigned most = v4 ? 32 : 128;
  unsigned bits = most;
  bool whole = v4 || v6;
  if (whole && slash != std::string::npos) {
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + slash + 1, end, bits);
    whole = parsed.ec == std::errc() && parsed.ptr == end && bits <= most;
  }
  if (!whole) {
    return fail(ErrorCode::usage, fmt::format("--ssh-from {}: expected an address or a network", strip_control(first_line(text, 60))),
                "for instance --ssh-from 198.51.100.7 or --ssh-from 198.51.100.0/24");
  }
  if (bits < (v4 ? 8U : 16U))  // 0.0.0.0/1 is half of everybody
    return fail(ErrorCode::usage, fmt::format("--ssh-from {}: this is everybody, or nearly", text),
                "name the address or the network that you come from");
  // As AWS keeps it, 198.51.100.7/24 as 198.51.100.0/24: the rule is compared with this when the group is used again.
  for (unsigned bit = bits; bit < most; ++bit) bytes[bit / 8] = static_cast<unsigned char>(bytes[bit / 8] & ~(0x80U >> (bit % 8)));
  std::array<char, INET6_ADDRSTRLEN> shown{};
  ::inet_ntop(v4 ? AF_INET : AF_INET6, bytes.data(), shown.data(), shown.size());
  return fmt::format("{}/{}", shown.data(), bits);
}

std::string login_user_of(const std::string& image_name) {
  const auto has = [&](std::string_view part) { return image_name.find(part) != std::string::npos; };
  if (has("buntu")) return "ubuntu";
  if (has("ebian")) return "admin";
  if (has("al2023") || has("amzn") || has("Amazon Linux") || has("RHEL")) return "ec2-user";
  return "ubuntu";
}

Launch::Launch(Ec2& ec2, std::string state, LaunchWish wish, LaunchTalk talk)
    : ec2_(ec2),
      state_(std::move(state)),
      wish_(std::move(wish)),
      talk_(std::move(talk)),
      record_(state_, ec2_.client().settings().region, wish_.name) {}

const Ec2InstanceType* Launch::known(const std::string& type) const {
  const auto found = std::find_if(types_.begin(), types_.end(), [&](const Ec2InstanceType& one) { return one.name == type; });
  return found == types_.end() ? nullptr : &*found;
}

Result<Launched> Launch::run() {
  const Result<UniqueFd> alone = record_.lock();
  if (!alone) return fail(alone.error());
  Result<std::optional<Ec2Instance>> there = existing();
  if (!there) return fail(std::move(there).error());
  Launched launched;
  if (*there) {
    launched.was_there = true;
    launched.instance = **std::move(there);
    if (std::find(wish_.types.begin(), wish_.types.end(), launched.instance.type) == wish_.types.end()) {
      return fail(ErrorCode::usage,
                  fmt::format("there is an instance `{}` already, {}, a {}", wish_.name, launched.instance.id, launched.instance.type),
                  fmt::format("give another --name, or end that one: gpustrap terminate {}", wish_.name));
    }
    if (launched.instance.state != "running" && launched.instance.state != "pending") {
      return fail(
          ErrorCode::usage,
          fmt::format("there is an instance `{}` already, {}, and it is {}", wish_.name, launched.instance.id, launched.instance.state),
          fmt::format("gpustrap start {}", wish_.name));
    }
    talk_.say(fmt::format("{} is there already: {}, {}.", wish_.name, launched.instance.id, launched.instance.state));
  } else {
    Result<std::optional<Ec2Instance>> again = order_again();
    if (!again) return fail(std::move(again).error());
    if (*again) {
      launched.instance = **std::move(again);
    } else {
      for (const auto step : {&Launch::know_types, &Launch::find_image, &Launch::find_places, &Launch::check_quota}) {
        if (Result<void> done = (this->*step)(); !done) return fail(std::move(done).error());
      }
      const Result<std::string> from = caller();
      if (!from) return fail(from.error());
      caller_ = *from;
      Result<std::string> what = description();
      if (!what) return fail(std::move(what).error());
      const Result<bool> agreed = talk_.agree(*what);
      if (!agreed) return fail(agreed.error());
      if (!*agreed) return fail(ErrorCode::cancelled, "nothing was rented");
      if (Result<void> uploaded = upload_key(); !uploaded) return fail(std::move(uploaded).error());
      Result<Ec2Instance> made = order();
      if (!made) return fail(std::move(made).error());
      launched.instance = *std::move(made);
    }
  }
  const auto note = launched.instance.tags.find("gpustrap:user");
  launched.user = !wish_.user.empty() ? wish_.user : note != launched.instance.tags.end() ? note->second : image_.user;
  if (launched.user.empty()) launched.user = "ubuntu";
  launched.identity = wish_.identity.empty() ? state_ + "/keys/ec2" : wish_.identity;
  Result<Ec2Instance> running = wait_until_running(launched.instance.id);
  if (!running) return fail(std::move(running).error());
  launched.instance = *std::move(running);
  record_.remove();
  return launched;
}

Result<std::optional<Ec2Instance>> Launch::existing() {
  AwsResult<std::vector<Ec2Instance>> found = ec2_.describe<Ec2Instance>(
      "DescribeInstances", {},
      {{std::string("tag:") + kOwnerTag, {wish_.name}}, {"instance-state-name", {"pending", "running", "stopping", "stopped"}}});
  if (!found) return fail(std::move(found).error().error);
  if (found->size() > 1) {
    return fail(ErrorCode::busy, fmt::format("there are {} instances called `{}`", found->size(), wish_.name),
                "`gpustrap ls` shows them; end one by its id: gpustrap terminate " + found->front().id);
  }
  if (found->empty()) return std::nullopt;
  return std::move(found->front());
}

/// An order that an earlier command gave and did not see answered.
Result<std::optional<Ec2Instance>> Launch::order_again() {
  const std::optional<Ec2Order> order = record_.load(ec2_.client().clock().now());
  if (!order) return std::nullopt;
  const bool same = std::find(wish_.types.begin(), wish_.types.end(), order->type) != wish_.types.end() && order->spot == wish_.spot &&
                    order->disk_gib >= wish_.disk_gib && (!wish_.image.starts_with("ami-") || order->image == wish_.image);
  if (!same) {
    // Something else is wanted now. If that order has made an instance, it is listed by then, and found.
    ec2_.client().clock().sleep(kBecomesListed);
    Result<std::optional<Ec2Instance>> there = existing();
    if (!there) return there;
    record_.remove();
    if (!*there) return std::nullopt;
    return fail(ErrorCode::usage, fmt::format("an earlier launch has made `{}`, {}, a {}", wish_.name, (*there)->id, (*there)->type),
                fmt::format("give another --name, or end that one: gpustrap terminate {}", wish_.name));
  }
  talk_.say(fmt::format("Taking up the launch of {} that did not come to its end.", wish_.name));
  const Result<bool> agreed = talk_.agree(fmt::format(
      "An earlier command ordered this in {} and saw no answer. It is asked for again, which rents it, or finds it rented:\n"
      "  {}, {}, {} GiB, {}{}\n",
      region(), order->type, price_text(order->type), order->disk_gib, order->image, order->spot ? ", spot" : ""));
  if (!agreed) return fail(agreed.error());
  if (!*agreed) return fail(ErrorCode::cancelled, "nothing more was rented; `gpustrap ls` shows whether that order was obeyed");
  AwsResult<Ec2Instance> made = ec2_.run(*order);
  if (made && made->state != "terminated" && made->state != "shutting-down") return *std::move(made);
  if (!made && made.error().code == "IdempotentParameterMismatch") {  // ordered by another version of gpustrap
    ec2_.client().clock().sleep(kBecomesListed);
    Result<std::optional<Ec2Instance>> there = existing();
    if (there) record_.remove();
    return there;
  }
  if (!made && !is_refusal(made.error())) return fail(std::move(made).error().error);
  record_.remove();  // it was refused, or its instance is over
  return std::nullopt;
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

std::string Launch::price_text(const std::string& type) const {
  const PriceTable& prices = builtin_prices();
  const PriceRow* row = prices.find(type);
  if (row == nullptr) return "its price is not in the table; see https://aws.amazon.com/ec2/pricing/on-demand/";
  return fmt::format("{}{} USD an hour", row->confirmed ? "" : "about ", usd(row->usd_per_hour));
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
  std::string price = fmt::format("on demand {} (us-east-1, {})", price_text(type), builtin_prices().as_of);
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
  std::vector<std::string> others;
  for (std::size_t i = 1; i < wish_.types.size(); ++i)
    others.push_back(fmt::format("{} at {}", wish_.types[i], price_text(wish_.types[i])));
  if (!others.empty()) line("else", join(others, "; "));
  line("disk",
       fmt::format("{} GiB, encrypted; about {} USD a month{}", wish_.disk_gib,
                   usd(static_cast<double>(wish_.disk_gib) * kVolumeUsdPerGibMonth), wish_.spot ? "" : ", also while it is stopped"));
  line("image", wish_.image == image_.id ? fmt::format("{} ({})", image_.id, strip_control(image_.name))
                                         : fmt::format("{} ({})", wish_.image, image_.id));
  line("network", fmt::format("SSH from {}, and nothing else", caller_));
  line("name", wish_.name);
  return text;
}

Result<std::string> Launch::caller() {
  if (!wish_.ssh_from.empty()) return read_source(wish_.ssh_from);
  HttpRequest request;
  request.method = "GET";
  request.url = ec2_.client().settings().variables("AWS_ENDPOINT_URL_CHECKIP");
  if (request.url.empty()) request.url = "https://checkip.amazonaws.com/";
  request.timeout = std::chrono::milliseconds(10'000);
  const Result<HttpResponse> response = ec2_.client().http().send(request);
  const std::string hint = "name the address that you come from: --ssh-from 198.51.100.7";
  if (!response) return fail(ErrorCode::network, "this machine's address could not be looked up: " + response.error().why(), hint);
  Result<std::string> source = read_source(std::string(trim(response->body)));
  if (response->status != 200 || !source)
    return fail(ErrorCode::network, fmt::format("{} did not answer with an address", request.url), hint);
  return source;
}

Result<void> Launch::upload_key() {
  const std::string path = wish_.identity.empty() ? state_ + "/keys/ec2" : wish_.identity;
  Result<OwnKey> key = own_key(path, wish_.identity.empty() ? MakeKey::where_missing : MakeKey::never);
  if (!key) return fail(std::move(key).error());
  key_ = *std::move(key);
  const AwsResult<std::vector<Ec2KeyPair>> there = ec2_.describe<Ec2KeyPair>("DescribeKeyPairs", {}, {{"key-name", {key_->name()}}});
  if (!there) return fail(there.error().error);
  if (!there->empty()) return {};
  // Its name is made of the key: whoever else made it a moment ago made the same.
  const AwsResult<void> imported = ec2_.import_key(key_->name(), key_->public_key, {{kOwnerTag, "key"}});
  if (!imported && imported.error().code != "InvalidKeyPair.Duplicate") return fail(imported.error().error);
  return {};
}

Result<std::string> Launch::make_group(const std::string& vpc) {
  if (const auto known_group = groups_.find(vpc); known_group != groups_.end()) return known_group->second;
  const std::string name = "gpustrap ssh from " + caller_;
  const auto find = [&]() -> Result<std::optional<Ec2Group>> {
    AwsResult<std::vector<Ec2Group>> found =
        ec2_.describe<Ec2Group>("DescribeSecurityGroups", {}, {{"group-name", {name}}, {"vpc-id", {vpc}}});
    if (!found) return fail(std::move(found).error().error);
    if (found->empty()) return std::nullopt;
    return std::move(found->front());
  };
  Result<std::optional<Ec2Group>> there = find();
  if (!there) return fail(std::move(there).error());
  std::string id = *there ? (*there)->id : "";
  if (id.empty()) {
    AwsResult<std::string> made = ec2_.create_group(name, "made by gpustrap: SSH from one address", vpc, {{kOwnerTag, "ssh"}});
    if (!made && made.error().code == "InvalidGroup.Duplicate") {
      there = find();
      if (!there) return fail(std::move(there).error());
      if (!*there) return fail(std::move(made).error().error);
      id = (*there)->id;
    } else if (!made) {
      return fail(std::move(made).error().error);
    } else {
      id = *std::move(made);
    }
  }
  bool allowed = false;
  for (const Ec2Group::Rule& rule : *there ? (*there)->rules : std::vector<Ec2Group::Rule>{}) {
    const bool ssh =
        rule.protocol == "tcp" && rule.from_port == 22 && rule.to_port == 22 && rule.sources == std::vector<std::string>{caller_};
    if (!ssh) {
      return fail(ErrorCode::unsafe,
                  fmt::format("somebody has opened the security group `{}` ({}) further than its name says: {} {} to {} from {}", name, id,
                              rule.protocol, rule.from_port, rule.to_port, strip_control(join(rule.sources, ", "))),
                  fmt::format("take that rule out again, or delete the group: aws ec2 delete-security-group --group-id {}", id));
    }
    allowed = true;
  }
  if (!allowed) {
    if (const AwsResult<void> done = ec2_.allow_ssh(id, caller_); !done) return fail(done.error().error);
  }
  groups_[vpc] = id;
  return id;
}

AwsResult<Ec2Instance> Launch::order_at(const Place& place, const std::string& group) {
  Ec2Order order{image_.id,
                 place.type,
                 key_->name(),
                 group,
                 place.subnet,
                 image_.root_device,
                 wish_.disk_gib,
                 wish_.spot,
                 new_token(),
                 "",
                 {{"Name", wish_.name}, {kOwnerTag, wish_.name}, {"gpustrap:user", wish_.user.empty() ? image_.user : wish_.user}}};
  if (const Result<void> saved = record_.save(order, ec2_.client().clock().now()); !saved)
    return tl::unexpected(AwsFailure{"", saved.error()});
  AwsResult<Ec2Instance> made = ec2_.run(order);
  // Without a code no answer came, and the instance may be there: the record stays, and the next command asks with the same token.
  if (!made && is_refusal(made.error())) record_.remove();
  return made;
}

Result<Ec2Instance> Launch::order() {
  std::vector<std::string> refused;
  std::optional<AwsFailure> last;
  for (const Place& place : places_) {
    const Result<std::string> group = make_group(place.vpc);
    if (!group) return fail(group.error());
    talk_.say(fmt::format("Asking for {} in {} …", place.type, place.zone));
    AwsResult<Ec2Instance> made = order_at(place, *group);
    if (made) {
      talk_.say(fmt::format("{} is {}.", wish_.name, made->id));
      return *std::move(made);
    }
    last = made.error();
    if (!is_refusal(*last))
      return fail(std::move(last->error).in(fmt::format(
          "ordering {0}, which may have been rented (the same command again finds out; `gpustrap terminate {0}` ends it)", wish_.name)));
    const bool over_quota = last->code == "VcpuLimitExceeded" || last->code == "MaxSpotInstanceCountExceeded";
    const bool too_many = over_quota && quota_code(places_.back().type, wish_.spot) != quota_code(place.type, wish_.spot);
    if (remedy_of(last->code, 400) != AwsRemedy::elsewhere && !too_many) return fail(last->error);
    refused.push_back(fmt::format("{} in {}", place.type, place.zone));
    talk_.say(fmt::format("There is none ({}).", last->code));
  }
  if (last->code == "Unsupported") return fail(last->error);  // a reason that no time mends; AWS's message names it
  return fail(ErrorCode::unsupported, fmt::format("AWS has none of these now: {} ({})", join(refused, ", "), last->code),
              "try again later, another region (--region), another machine (--gpu, --type g5.xlarge,g6.xlarge)" +
                  std::string(wish_.spot ? ", or without --spot" : ""));
}

Result<Ec2Instance> Launch::wait_until_running(std::string id) {
  const AwsTime until = ec2_.client().clock().now() + kStartsWithin;
  auto pause = std::chrono::duration_cast<std::chrono::milliseconds>(kPollAtFirst);
  for (;;) {
    AwsResult<Ec2Instance> now = ec2_.instance(id);
    if (!now) return fail(std::move(now).error().error.in(fmt::format("waiting for {}, which is rented", wish_.name)));
    if (now->state == "running" && (!now->address.empty() || ec2_.client().clock().now() >= until)) {
      if (now->address.empty()) {
        return fail(ErrorCode::unsupported, fmt::format("{} runs, but has no public address", id),
                    fmt::format("its subnet gives none; end it: gpustrap terminate {}", wish_.name));
      }
      return *std::move(now);
    }
    if (now->state != "pending" && now->state != "running") {
      record_.remove();
      return fail(ErrorCode::unsupported,
                  fmt::format("{} did not start; it is {}: {}", id, now->state,
                              strip_control(now->state_reason.empty() ? now->state_code : now->state_reason)),
                  "run it again; another zone or type may do (--type)");
    }
    if (ec2_.client().clock().now() >= until)
      return fail(ErrorCode::timeout, fmt::format("{} has not started within 10 minutes", id),
                  fmt::format("see `gpustrap ls`, or end it: gpustrap terminate {}", wish_.name));
    ec2_.client().clock().sleep(pause);
    pause = std::min<std::chrono::milliseconds>(pause * 3 / 2, kPollAtLast);
  }
}

Result<std::vector<std::string>> Launch::read_host_keys(const std::string& instance, bool patient) {
  const AwsTime until = ec2_.client().clock().now() + kKeysWithin;
  for (;;) {
    const AwsResult<std::string> console = ec2_.console_output(instance);
    if (!console && console.error().code != "InvalidInstanceID.NotFound") return fail(console.error().error);
    std::vector<std::string> keys = console ? host_keys_in(*console) : std::vector<std::string>{};
    if (!keys.empty() || !patient || ec2_.client().clock().now() >= until) return keys;
    ec2_.client().clock().sleep(std::chrono::seconds(5));
  }
}

}  // namespace gpustrap
