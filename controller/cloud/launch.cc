#include "controller/cloud/launch.h"

#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/cloud/holdings.h"
#include "controller/cloud/host_keys.h"
#include "controller/cloud/prices.h"
#include "controller/cloud/ssh_access.h"

namespace gpustrap {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

constexpr auto kStartsWithin = minutes(10);
/// cloud-init prints the keys 30 s to 3 minutes after the start; EC2 shows them with a delay of its own.
constexpr auto kKeysWithin = minutes(7), kKeysAreLate = minutes(3);
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

std::string room_for(const std::string& folder) {
  return fmt::format("make room on the disk of {}, or see who may write there, and run it again", folder);
}

/// What is to be done where AWS has ended one by itself.
std::string advice_on_end(const std::string& code, const std::string& name) {
  if (code == "Client.VolumeLimitExceeded")
    return "ask for more storage of gp3 in the Service Quotas console, take a smaller --disk, or see `gpustrap ls --orphans`";
  if (code.starts_with("Client.InternalError") || code.starts_with("Client.InvalidSnapshot"))
    return "its disk could not be made: see in the EC2 console, under EBS encryption, whether the account's default key may be used";
  if (code.starts_with("Client.User") || code.starts_with("Client.Instance"))
    return fmt::format("somebody, or something on it, has ended it; the same command rents another `{}`", name);
  return "nothing of it is billed any more; run it again, and another zone or type may do (--type a,b)";
}

/// Whether AWS says that nothing was made. Its own trouble, an order to wait and a login that is over say so of the last repetition
/// alone: one before it may have been obeyed, its answer lost. A token that was used before says that one was.
bool is_refusal(const AwsFailure& failure) {
  const ErrorCode kind = failure.error.code();
  return !failure.code.empty() && kind != ErrorCode::network && kind != ErrorCode::busy && kind != ErrorCode::authentication;
}

}  // namespace

Launch::Launch(Ec2& ec2, std::string state, LaunchWish wish, LaunchTalk talk)
    : ec2_(ec2), state_(std::move(state)), wish_(std::move(wish)), talk_(std::move(talk)), prices_(ec2_.client(), state_) {}

const Ec2InstanceType* Launch::known(const std::string& type) const {
  const auto found = std::find_if(types_.begin(), types_.end(), [&](const Ec2InstanceType& one) { return one.name == type; });
  return found == types_.end() ? nullptr : &*found;
}

Result<Launched> Launch::run() {
  const Result<std::string> orders = order_place(ec2_.client(), state_);
  if (!orders) return fail(orders.error());
  record_.emplace(state_, *orders, wish_.name);
  const Result<UniqueFd> alone = record_->lock();
  if (!alone) return fail(Error(alone.error()).with_hint("nothing was ordered; " + room_for(state_)));
  Result<std::optional<Ec2Instance>> there = existing();
  if (!there) return fail(std::move(there).error());
  Launched launched;
  if (*there) {
    Result<Launched> taken = take_existing(**std::move(there));
    if (!taken) return taken;
    launched = *std::move(taken);
  } else {
    Result<std::optional<Ec2Instance>> again = order_again();
    if (!again) return fail(std::move(again).error());
    if (*again) {
      launched.instance = **std::move(again);
      launched.taken_up = true;
    } else {
      for (const auto step : {&Launch::know_types, &Launch::find_image, &Launch::find_places, &Launch::check_quota}) {
        if (Result<void> done = (this->*step)(); !done) return fail(std::move(done).error());
      }
      const Result<std::string> from = wish_.ssh_from.empty() ? caller_source(ec2_) : read_source(wish_.ssh_from);
      if (!from) return fail(from.error());
      caller_ = *from;
      std::vector<std::string> types;
      for (const Place& place : places_) {
        if (place.spot_usd <= 0) types.push_back(place.type);
      }
      if (Result<void> priced = know_prices(types); !priced) return fail(std::move(priced).error());
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
  if (launched.identity.empty()) launched.identity = wish_.identity.empty() ? state_ + "/keys/ec2" : wish_.identity;
  Result<Ec2Instance> running = wait_until_running(launched.instance.id);
  if (!running) return fail(std::move(running).error());
  launched.instance = *std::move(running);
  record_->remove();
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

std::string key_file_of(const Ec2Instance& instance, const std::string& state, const std::string& said) {
  std::vector<std::string> paths = {said};
  if (said.empty()) {
    const std::optional<InstanceRecord> record = load_instance(state, instance.id);
    paths = {record ? record->identity : "", state + "/keys/ec2"};
  }
  for (const std::string& path : paths) {
    if (path.empty()) continue;
    if (instance.key_name.empty()) return path;  // made by other means, with who knows which
    if (const Result<OwnKey> key = own_key(path, MakeKey::never); key && key->name() == instance.key_name) return path;
  }
  return {};
}

std::vector<std::string> Launch::differences(const Found& found) const {
  std::vector<std::string> all;
  if (found.spot != wish_.spot) all.emplace_back(found.spot ? "it is spot, and --spot is not asked for" : "it is not spot");
  const bool by_id = wish_.image.starts_with("ami-");
  const std::string& image = by_id || found.image_word.empty() ? found.image : found.image_word;
  if (wish_.image_said && image != wish_.image && (by_id || !found.image_word.empty()))
    all.push_back(fmt::format("its image is {}, not {}", strip_control(image), wish_.image));
  if (wish_.disk_said && found.disk_gib > 0 && found.disk_gib < wish_.disk_gib)
    all.push_back(fmt::format("its disk has {} GiB, not {}", found.disk_gib, wish_.disk_gib));
  return all;
}

/// 0 where it cannot be told: whoever may not ask goes on without.
std::int64_t Launch::disk_of(const Ec2Instance& instance) {
  if (!wish_.disk_said || instance.disks.empty()) return 0;
  const AwsResult<std::vector<Ec2Volume>> volumes =
      ec2_.describe<Ec2Volume>("DescribeVolumes", {{"VolumeId.1", instance.disks.front().volume}});
  return volumes && !volumes->empty() ? volumes->front().gib : 0;
}

/// An instance of that name: whether it is what is asked for now.
Result<Launched> Launch::take_existing(Ec2Instance instance) {
  const std::string there = fmt::format("there is an instance `{}` already, {}", wish_.name, instance.id);
  const std::string other = fmt::format("give another --name, or end that one: gpustrap terminate {}", wish_.name);
  if (std::find(wish_.types.begin(), wish_.types.end(), instance.type) == wish_.types.end())
    return fail(ErrorCode::usage, fmt::format("{}, a {}", there, instance.type), other);
  if (instance.state != "running" && instance.state != "pending")
    return fail(ErrorCode::usage, fmt::format("{}, and it is {}", there, instance.state), fmt::format("gpustrap start {}", wish_.name));
  const auto word = instance.tags.find("gpustrap:image");
  const Found found{instance.lifecycle == "spot", instance.image, word == instance.tags.end() ? "" : word->second, instance.key_name,
                    disk_of(instance)};
  if (const std::vector<std::string> unlike = differences(found); !unlike.empty())
    return fail(ErrorCode::usage, fmt::format("{}, and it is not what is asked for: {}", there, join(unlike, "; ")), other);
  Launched launched;
  launched.identity = key_file_of(instance, state_, wish_.identity);
  if (launched.identity.empty())
    return fail(ErrorCode::usage,
                fmt::format("{} was launched with the key {}, {}", wish_.name, strip_control(instance.key_name),
                            wish_.identity.empty() ? "which is not here" : fmt::format("and {} is another", wish_.identity)),
                wish_.identity.empty()
                    ? "give its file: -i FILE; it is on the computer that launched it, below ~/.local/state/gpustrap/keys"
                    : "leave -i out, or give the file of that key");
  talk_.say(fmt::format("{} is there already: {}, {}.", wish_.name, instance.id, instance.state));
  if (wish_.disk_said && found.disk_gib > wish_.disk_gib) talk_.say(fmt::format("Its disk has {} GiB.", found.disk_gib));
  launched.was_there = true;
  launched.instance = std::move(instance);
  return launched;
}

/// Who asks nothing agrees to no price that nobody knows.
Result<void> Launch::know_prices(const std::vector<std::string>& types) {
  if (talk_.asks) return {};
  const auto unknown = std::find_if(types.begin(), types.end(), [&](const std::string& type) { return !prices_.price_of(type); });
  if (unknown == types.end()) return {};
  return fail(ErrorCode::usage, fmt::format("what an hour of {} costs is not known here, and -y would agree to any price", *unknown),
              "leave -y out: then it shows the machine and asks; https://aws.amazon.com/ec2/pricing/on-demand/ has the prices");
}

/// An order that an earlier command gave and did not see answered.
Result<std::optional<Ec2Instance>> Launch::order_again() {
  const std::optional<Ec2Order> order = record_->load(ec2_.client().clock().now());
  if (!order) return std::nullopt;
  const auto word = order->tags.find("gpustrap:image");
  std::vector<std::string> unlike =
      differences({order->spot, order->image, word == order->tags.end() ? "" : word->second, order->key_name, order->disk_gib});
  if (std::find(wish_.types.begin(), wish_.types.end(), order->type) == wish_.types.end()) unlike.push_back("it is a " + order->type);
  const std::string path = wish_.identity.empty() ? state_ + "/keys/ec2" : wish_.identity;
  if (const Result<OwnKey> key = own_key(path, MakeKey::never); !key || key->name() != order->key_name)
    unlike.push_back(fmt::format("its key is {}, which is not {}", order->key_name, path));
  if (!unlike.empty()) {
    // Something else is wanted now. If that order has made an instance, it is listed by then, and found.
    ec2_.client().clock().sleep(kBecomesListed);
    Result<std::optional<Ec2Instance>> there = existing();
    if (!there) return there;
    record_->remove();
    if (!*there) return std::nullopt;
    return fail(ErrorCode::usage,
                fmt::format("an earlier launch has made `{}`, {}, and it is not what is asked for: {}", wish_.name, (*there)->id,
                            join(unlike, "; ")),
                fmt::format("give another --name, or end that one: gpustrap terminate {}", wish_.name));
  }
  if (Result<void> priced = know_prices({order->type}); !priced) return fail(std::move(priced).error());
  talk_.say(fmt::format("Taking up the launch of {} that did not come to its end.", wish_.name));
  const Result<bool> agreed = talk_.agree(
      fmt::format("An earlier command ordered this in {} and saw no answer. It is asked for again, which rents it, or finds it rented:\n"
                  "  {}, {}, {} GiB, {}{}\n",
                  region(), order->type, price_text(order->type), order->disk_gib, order->image, order->spot ? ", spot" : ""));
  if (!agreed) return fail(agreed.error());
  if (!*agreed) return fail(ErrorCode::cancelled, "nothing more was rented; `gpustrap ls` shows whether that order was obeyed");
  AwsResult<Ec2Instance> made = ec2_.run(*order);
  if (made && made->state != "terminated" && made->state != "shutting-down") return *std::move(made);
  if (!made && made.error().code == "IdempotentParameterMismatch") {  // ordered by another version of gpustrap
    ec2_.client().clock().sleep(kBecomesListed);
    Result<std::optional<Ec2Instance>> there = existing();
    if (there) record_->remove();
    return there;
  }
  if (!made && !is_refusal(made.error())) return fail(std::move(made).error().error);
  record_->remove();  // it was refused, or its instance is over
  return std::nullopt;
}

Result<void> Launch::upload_key() {
  const std::string path = wish_.identity.empty() ? state_ + "/keys/ec2" : wish_.identity;
  Result<OwnKey> key = own_key(path, wish_.identity.empty() ? MakeKey::where_missing : MakeKey::never);
  if (!key) return fail(std::move(key).error());
  key_ = *std::move(key);
  const AwsResult<std::vector<Ec2KeyPair>> there = ec2_.describe<Ec2KeyPair>("DescribeKeyPairs", {}, {{"key-name", {key_->name()}}});
  if (!there) return fail(there.error().error);
  if (!there->empty()) {
    const std::string& told = there->front().fingerprint;
    if (has_fingerprint(key_->public_key, told).value_or(true)) return {};
    return fail(
        ErrorCode::unsafe,
        fmt::format("the key pair {} in {} is not the key in {}, after which it is named (its fingerprint is {}): machines would let "
                    "in somebody else",
                    key_->name(), region(), path, strip_control(told)),
        fmt::format("take it away, and run this again: aws ec2 delete-key-pair --region {} --key-name {}", region(), key_->name()));
  }
  // Its name is made of the key: whoever else made it a moment ago made the same.
  const AwsResult<void> imported = ec2_.import_key(key_->name(), key_->public_key, {{kOwnerTag, "key"}});
  if (!imported && imported.error().code != "InvalidKeyPair.Duplicate") return fail(imported.error().error);
  return {};
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
                 {{"Name", wish_.name},
                  {kOwnerTag, wish_.name},
                  {"gpustrap:user", wish_.user.empty() ? image_.user : wish_.user},
                  {"gpustrap:image", wish_.image}}};
  // With a code, as of whoever refuses: nothing was asked for.
  if (const Result<void> saved = record_->save(order, ec2_.client().clock().now()); !saved)
    return tl::unexpected(AwsFailure{
        "NotNoted", Error(saved.error()).in("noting the order before it is given").with_hint("nothing was ordered; " + room_for(state_))});
  AwsResult<Ec2Instance> made = ec2_.run(order);
  // Without a code no answer came, and the instance may be there: the record stays, and the next command asks with the same token.
  if (!made && is_refusal(made.error())) record_->remove();
  return made;
}

Result<Ec2Instance> Launch::order() {
  std::vector<std::string> refused;
  std::optional<AwsFailure> last;
  for (const Place& place : places_) {
    std::string& group = groups_[place.vpc];
    if (group.empty()) {
      Result<std::string> made = ssh_group(ec2_, place.vpc, caller_);
      if (!made) return fail(std::move(made).error());
      group = *std::move(made);
    }
    talk_.say(fmt::format("Asking for {} in {} …", place.type, place.zone));
    AwsResult<Ec2Instance> made = order_at(place, group);
    if (made) {
      talk_.say(fmt::format("{} is {}.", wish_.name, made->id));
      return *std::move(made);
    }
    last = made.error();
    if (!is_refusal(*last))
      return fail(std::move(last->error)
                      .in(fmt::format(
                          "ordering {0}, which may have been rented (the same command again finds out; `gpustrap terminate {0}` ends it)",
                          wish_.name)));
    const bool over_quota = last->code == "VcpuLimitExceeded" || last->code == "MaxSpotInstanceCountExceeded";
    const bool too_many = over_quota && quota_code(places_.back().type, wish_.spot) != quota_code(place.type, wish_.spot);
    if (remedy_of(last->code, 400) != AwsRemedy::elsewhere && !too_many) return fail(last->error);
    // "g5.xlarge in us-east-1a b c": a line for fifteen places is not read.
    const std::string zone = place.zone.starts_with(region()) ? place.zone.substr(region().size()) : place.zone;
    if (!refused.empty() && refused.back().starts_with(place.type + " in "))
      refused.back() += " " + zone;
    else
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
      record_->remove();
      return fail(ErrorCode::unsupported,
                  fmt::format("{} did not start; it is {}: {}", id, now->state,
                              strip_control(now->state_reason.empty() ? now->state_code : now->state_reason)),
                  advice_on_end(now->state_code, wish_.name));
    }
    if (ec2_.client().clock().now() >= until)
      return fail(ErrorCode::timeout, fmt::format("{} has not started within 10 minutes", id),
                  fmt::format("see `gpustrap ls`, or end it: gpustrap terminate {}", wish_.name));
    ec2_.client().clock().sleep(pause);
    pause = std::min<std::chrono::milliseconds>(pause * 3 / 2, kPollAtLast);
  }
}

/// What is amiss, in words; empty: nothing is known to be. Who may not ask for it goes on without.
Result<std::string> Launch::look_at_checks(const std::string& instance) {
  const AwsResult<std::vector<Ec2Status>> all = ec2_.describe<Ec2Status>("DescribeInstanceStatus", {{"InstanceId.1", instance}});
  if (!all) return std::string();
  if (all->empty()) {  // it shows those that run
    const AwsResult<Ec2Instance> now = ec2_.instance(instance);
    if (now && now->state != "running" && now->state != "pending")
      return fail(ErrorCode::unsupported,
                  fmt::format("{} did not go on running; it is {}: {}", wish_.name, now->state,
                              strip_control(now->state_reason.empty() ? now->state_code : now->state_reason)),
                  now->state == "stopped" || now->state == "stopping" ? "gpustrap start " + wish_.name
                                                                      : advice_on_end(now->state_code, wish_.name));
    return std::string("checks under way");
  }
  std::string amiss = checks_text(all->front());
  if (amiss.starts_with("impaired") && !std::exchange(fault_told_, true))
    talk_.say(fmt::format("AWS's own check finds a fault with {0}: {1}. Where that stays: gpustrap terminate {0}, and launch again.",
                          wish_.name, amiss));
  return amiss;
}

Result<void> Launch::wait_for_checks(const std::string& instance) {
  const AwsTime until = ec2_.client().clock().now() + kStartsWithin;
  for (;;) {
    const Result<std::string> amiss = look_at_checks(instance);
    if (!amiss) return fail(amiss.error());
    if (amiss->empty() || fault_told_ || ec2_.client().clock().now() >= until) return {};
    ec2_.client().clock().sleep(kPollAtLast);
  }
}

Result<std::vector<std::string>> Launch::read_host_keys(const std::string& instance, bool patient) {
  const AwsTime until = ec2_.client().clock().now() + kKeysWithin;
  bool late_told = false;
  for (int look = 1;; ++look) {
    const AwsResult<std::string> console = ec2_.console_output(instance);
    if (!console && console.error().code != "InvalidInstanceID.NotFound") return fail(console.error().error);
    std::vector<std::string> keys = console ? host_keys_in(*console) : std::vector<std::string>{};
    if (!keys.empty() || !patient || ec2_.client().clock().now() >= until) return keys;
    if (!late_told && ec2_.client().clock().now() >= until - kKeysAreLate) {
      late_told = true;
      talk_.say(
          fmt::format("Still none after {} minutes; waiting {} more, then going on without. It is billed meanwhile: gpustrap terminate {}",
                      (kKeysWithin - kKeysAreLate).count(), kKeysAreLate.count(), wish_.name));
    }
    if (look % 4 == 0) {
      if (const Result<std::string> amiss = look_at_checks(instance); !amiss) return fail(amiss.error());
    }
    ec2_.client().clock().sleep(std::chrono::seconds(5));
  }
}

}  // namespace gpustrap
