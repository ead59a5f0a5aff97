#include "controller/cloud_verb.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "controller/cloud/holdings.h"
#include "controller/cloud/launch_record.h"
#include "controller/cloud/ssh_access.h"
#include "controller/complaint.h"
#include "controller/console.h"
#include "controller/display_width.h"
#include "controller/known_instance.h"
#include "controller/prompt.h"
#include "controller/run_log.h"

namespace gpustrap {
namespace {

constexpr auto kStateWithin = std::chrono::minutes(15);
constexpr auto kImageWithin = std::chrono::minutes(60);
/// What an order made is listed within seconds; one that was still under way when its command ended is long over.
constexpr auto kOrderIsSeen = std::chrono::minutes(10);

/// For a terminal: broken between words, what belongs to a line further in than it begins; in a table below its second column.
std::string wrapped(const std::string& text) {
  const Console console = console_of(STDERR_FILENO, ColourChoice::never);
  const std::size_t columns = console.person ? console.size().columns - 1 : 0;
  std::string all;
  for (const std::string& line : split(strip_control(text), '\n')) {
    const std::size_t begin = line.find_first_not_of(' ');
    if (columns == 0 || begin == std::string::npos || display_width(line) <= columns) {
      all += line + "\n";
      continue;
    }
    const std::size_t second = line.find_first_not_of(' ', line.find("  ", begin));
    for (const std::string& one : wrap_to_width(line, columns, std::string(second < 24 ? second : begin + 2, ' '))) all += one + "\n";
  }
  all.pop_back();  // of the last line, which had none
  return all;
}

/// The instances that the words name, each once.
Result<std::vector<Ec2Instance>> named_instances(const std::vector<Ec2Instance>& all, const Options& options, const std::string& region) {
  std::vector<Ec2Instance> named;
  for (const std::string& word : options.hosts) {
    Result<Ec2Instance> one = own_instance(all, word, region);
    if (!one) return fail(std::move(one).error());
    const bool twice = std::any_of(named.begin(), named.end(), [&](const Ec2Instance& other) { return other.id == one->id; });
    if (!twice) named.push_back(*std::move(one));
  }
  return named;
}

/// What is known of a word that fits nothing here.
struct Missing {
  std::string word;
  std::vector<std::string> regions;  ///< where it was last seen
};
std::vector<Missing> missing_words(const std::vector<Ec2Instance>& all, const Options& options, const std::string& state,
                                   const std::string& here) {
  const std::vector<KnownInstance> known = known_instances(state);
  std::vector<Missing> missing;
  for (const std::string& word : options.hosts) {
    if (instances_called(all, word).empty()) missing.push_back({word, other_regions_of(known, word, here)});
  }
  return missing;
}

/// The one region where all that was named was last seen; empty: there is no such region.
std::string common_region(const std::vector<Missing>& missing, std::size_t words) {
  if (missing.empty() || missing.size() != words || missing.front().regions.size() != 1) return {};
  const bool same = std::all_of(missing.begin(), missing.end(), [&](const Missing& one) { return one.regions == missing.front().regions; });
  return same ? missing.front().regions.front() : "";
}

/// Terminated elsewhere, or another account's: EC2 shows it to these keys no more.
VerbResult forget_gone(const Options& options, const std::string& state, const std::vector<Ec2Instance>& all, const std::string& here,
                       bool& done) {
  std::vector<KnownInstance> gone;
  for (const KnownInstance& one : known_instances(state)) {
    const bool listed = std::any_of(all.begin(), all.end(), [&](const Ec2Instance& instance) { return instance.id == one.id; });
    if (one.record.region == here && !listed && options.hosts.size() == 1 && one.is_called(options.hosts.front())) gone.push_back(one);
  }
  if (gone.empty()) return ExitCode::ok;
  done = true;
  std::string text = fmt::format("AWS shows these keys no such instance in {} any more. What this machine remembers of it goes:\n", here);
  for (const KnownInstance& one : gone) text += fmt::format("  {}  {}, its address and host keys\n", one.record.name, one.id);
  const Result<bool> yes = agreed(options, strip_control(text), "Forget it?");
  if (!yes) return fail(yes.error());
  if (!*yes) return ExitCode::cancelled;
  for (const KnownInstance& one : gone) {
    Ec2Instance instance;
    instance.id = one.id;
    forget(state, instance);
  }
  say("Forgotten; nothing was changed in EC2.");
  return ExitCode::ok;
}

/// Whether EC2 says that what the order made, if it made anything, is over.
bool has_rented_nothing(Ec2& ec2, const Ec2Order& order) {
  const AwsResult<std::vector<Ec2Instance>> made =
      ec2.describe<Ec2Instance>("DescribeInstances", {}, {{"client-token", {order.client_token}}});
  return made && std::all_of(made->begin(), made->end(),
                             [](const Ec2Instance& one) { return one.state == "terminated" || one.state == "shutting-down"; });
}

}  // namespace

void print(const std::string& text) { static_cast<void>(write_all(STDOUT_FILENO, text).has_value()); }

void say(const std::string& text) { static_cast<void>(write_all(STDERR_FILENO, wrapped(text) + "\n").has_value()); }

void complain(const Error& error) {
  const Console console = console_of(STDERR_FILENO, ColourChoice::never);
  static_cast<void>(write_all(STDERR_FILENO, complaint(error, "", console.person ? console.size().columns - 1 : 0)).has_value());
}

void print_document(const Json& document) { print(to_line(document)); }

Json instance_document(const std::string& verb, const Ec2Instance& instance) {
  return {{verb, 1},
          {"name", name_of(instance)},
          {"instance", instance.id},
          {"type", instance.type},
          {"zone", instance.zone},
          {"spot", instance.lifecycle == "spot"},
          {"state", instance.state}};
}

Json running_document(const std::string& verb, const Ec2Instance& instance, const InstanceRecord& record,
                      const std::optional<Price>& price) {
  Json document = instance_document(verb, instance);
  document["region"] = record.region;
  document["host"] = record.host;
  document["user"] = record.user;
  document["address"] = record.address;
  document["identity"] = record.identity;
  document["host_keys"] = record.host_keys.size();
  document["usd_per_hour"] = price ? Json(price->usd_per_hour) : Json();
  document["price_from"] = price ? Json(price->source) : Json();
  return document;
}

VerbResult of_cloud(VerbResult result) {
  if (result) return result;
  const ErrorCode code = result.error().code();
  if (code == ErrorCode::usage || code == ErrorCode::recipe || code == ErrorCode::cancelled) return result;
  complain(result.error());
  return ExitCode::cloud;
}

Result<std::unique_ptr<AwsClient>> open_cloud(const Options& options) {
  // Whoever asks all regions need not have chosen one: this one tells of the others.
  Result<AwsSettings> settings =
      settings_for(options.cloud.profile, options.cloud.region, process_environment(), options.cloud.all_regions ? "us-east-1" : "");
  if (!settings) return fail(std::move(settings).error());
  const std::string ca_bundle = settings->ca_bundle;
  auto client = std::make_unique<AwsClient>(*std::move(settings), make_http(ca_bundle), real_clock());
  client->on_notice(say);
  if (Result<void> found = client->check_credentials(); !found) return fail(std::move(found).error());
  return client;
}

Result<bool> agreed(const Options& options, const std::string& description, const std::string& question) {
  if (options.yes) {
    say(std::string(trim(description)));
    return true;
  }
  if (!can_ask()) {
    return fail(ErrorCode::usage, fmt::format("nobody can be asked whether to go on:\n{}", trim(description)), "add -y to say yes");
  }
  return ask_yes_no(wrapped(description) + question);
}

std::string usd(double amount) { return fmt::format("{:.2f} USD", amount); }

double hours_since(const std::optional<AwsTime>& time) {
  if (!time) return 0;
  return std::max(0.0, std::chrono::duration<double, std::ratio<3600>>(std::chrono::system_clock::now() - *time).count());
}

std::string age_since(const std::optional<AwsTime>& time) {
  return human_duration(std::chrono::milliseconds(static_cast<std::int64_t>(hours_since(time) * 3'600'000)));
}

std::string age_of(const Ec2Instance& instance) { return age_since(instance.launched); }

Result<Ec2Instance> wait_for(Ec2& ec2, const std::string& id, const std::string& state) {
  const CloudClock& clock = ec2.client().clock();
  const AwsTime until = clock.now() + kStateWithin;
  for (auto pause = std::chrono::milliseconds(1000);; pause = std::min(pause * 3 / 2, std::chrono::milliseconds(10'000))) {
    AwsResult<Ec2Instance> now = ec2.instance(id);
    if (!now) return fail(std::move(now).error().error);
    if (now->state == state && (state != "running" || !now->address.empty())) return *std::move(now);
    if (now->state == "terminated")
      return fail(ErrorCode::unsupported, fmt::format("{} was terminated: {}", id, strip_control(now->state_reason)),
                  "`gpustrap ls` shows what there is; gpustrap launch rents another");
    if (clock.now() >= until)
      return fail(ErrorCode::timeout, fmt::format("{} is still {} after 15 minutes", id, now->state), "`gpustrap ls` shows its state");
    clock.sleep(pause);
  }
}

Result<void> wait_for_image(Ec2& ec2, const std::string& id) {
  const CloudClock& clock = ec2.client().clock();
  const AwsTime until = clock.now() + kImageWithin;
  for (auto pause = std::chrono::milliseconds(1000);; pause = std::min(pause * 2, std::chrono::milliseconds(15'000))) {
    const AwsResult<std::vector<Ec2Image>> now = ec2.describe<Ec2Image>("DescribeImages", {{"ImageId.1", id}});
    if (!now && remedy_of(now.error().code, 400) != AwsRemedy::not_yet) return fail(now.error().error);
    if (now && !now->empty() && now->front().state == "available") return {};
    if (now && !now->empty() && now->front().state != "pending")
      return fail(
          ErrorCode::unsupported,
          fmt::format("the image {} did not become ready, it is {}: {}", id, now->front().state, strip_control(now->front().state_reason)),
          "run it again");
    if (clock.now() >= until)
      return fail(ErrorCode::timeout, fmt::format("the image {} is not ready after an hour", id), "see the EC2 console");
    clock.sleep(pause);
  }
}

Result<void> open_ssh(const Options& options, Ec2& ec2, const Ec2Instance& instance) {
  const Result<std::string> found = options.cloud.ssh_from.empty() ? caller_source(ec2) : read_source(options.cloud.ssh_from);
  if (!found && found.error().code() == ErrorCode::usage) return fail(found.error());
  if (!found) {
    complain(Error(found.error()).in("looking whether its SSH is open to you"));
    return {};
  }
  const std::string& source = *found;
  const std::string name = name_of(instance);
  const Result<SshAccess> access = ssh_access(ec2, instance, source);
  if (!access) return fail(Error(access.error()).in("looking whether SSH is open to " + source));
  if (!access->wider.empty())
    say(
        fmt::format("Somebody has opened {} further than to SSH from one place: {}. Take that out again: aws ec2 "
                    "revoke-security-group-ingress, or the EC2 console.",
                    name, strip_control(join(access->wider, "; "))));
  if (access->open) return {};
  if (access->own.empty()) {
    say(fmt::format("The SSH of {} is not open to {}; its security groups are not gpustrap's, which leaves them as they are.", name,
                    source));
    return {};
  }
  const std::string change = fmt::format("The SSH of {} is open to {}; {} {}.", name, strip_control(join(access->sources, ", ")),
                                         options.cloud.ssh_from.empty() ? "you come from" : "asked for is", source);
  if (!options.yes && !can_ask()) {
    say(change + " It stays so; the same command with -y opens it there instead.");
    return {};
  }
  const Result<bool> yes = agreed(options, change + "\n", fmt::format("Open it to {} instead?", source));
  if (!yes) return fail(yes.error());
  if (!*yes) return {};
  if (Result<void> moved = move_ssh_access(ec2, instance, *access, source); !moved)
    return fail(std::move(moved).error().in("opening SSH to " + source));
  say(fmt::format("The SSH of {} is open to {} now.", name, source));
  return {};
}

void tell_open_orders(Ec2& ec2, const std::string& state, const std::vector<Ec2Instance>& listed) {
  AwsClient& client = ec2.client();
  if (!regions_with_orders(state).contains(client.settings().region)) return;
  const Result<std::string> place = order_place(client, state);
  if (!place) {
    complain(Error(place.error()).in("looking whether a launch was cut off"));
    return;
  }
  const AwsTime now = client.clock().now();
  for (const OpenOrder& one : open_orders(state, *place, now)) {
    const bool is_listed =
        std::any_of(listed.begin(), listed.end(), [&](const Ec2Instance& instance) { return name_of(instance) == one.name; });
    if (is_listed) continue;
    if (now - one.when > kOrderIsSeen && has_rented_nothing(ec2, one.order)) {
      OrderRecord(state, *place, one.name).remove();
      say(fmt::format("A launch of {} ({}) was cut off; nothing of it is rented.", one.name, one.order.type));
      continue;
    }
    say(
        fmt::format("A launch of {0} ({1}) was cut off: whether it is rented, AWS has not said. The same launch again finds out, and "
                    "`gpustrap terminate {0}` then ends it.",
                    one.name, one.order.type));
  }
}

void tell_other_machines(const std::string& state, const std::set<std::string>& asked, const std::vector<Ec2Instance>& listed) {
  std::map<std::string, std::vector<std::string>> by_region;
  std::set<std::string> elsewhere;
  for (const KnownInstance& one : known_instances(state)) {
    const bool is_listed = std::any_of(listed.begin(), listed.end(), [&](const Ec2Instance& instance) { return instance.id == one.id; });
    if (!is_listed) by_region[one.record.region].push_back(strip_control(one.record.name));
  }
  for (const auto& [region, names] : by_region) {
    const bool one = names.size() == 1;
    if (asked.contains(region))
      say(fmt::format("{} {} known here, and AWS shows these keys no such instance in {} any more: `gpustrap terminate {}` forgets it.",
                      join(names, ", "), one ? "is" : "are", region, names.front()));
    else if (!region.empty())
      say(fmt::format("{} {} last seen in {}: gpustrap ls --region {}", join(names, ", "), one ? "was" : "were", region, region)),
          elsewhere.insert(region);
  }
  for (const std::string& region : regions_with_orders(state)) {
    if (asked.contains(region)) continue;
    say(fmt::format("A launch in {0} was cut off, and may have rented something: gpustrap ls --region {0}", region));
    elsewhere.insert(region);
  }
  if (elsewhere.size() > 1) say("All of them at once: gpustrap ls --all-regions");
}

VerbResult with_instances(const Options& options, const InstanceVerb& act) {
  Result<std::unique_ptr<AwsClient>> client = open_cloud(options);
  if (!client) return fail(std::move(client).error());
  Ec2 ec2(**client);
  const std::string here = (*client)->settings().region;
  const Result<std::string> state = state_directory();
  if (!state) return fail(state.error());
  const AwsResult<std::vector<Ec2Instance>> all = own_instances(ec2);
  if (!all) return fail(all.error().error);
  Result<std::vector<Ec2Instance>> named = named_instances(*all, options, here);
  if (named) return act(ec2, *state, *named);

  const std::vector<Missing> missing = missing_words(*all, options, *state, here);
  const std::string elsewhere = common_region(missing, options.hosts.size());
  if (!elsewhere.empty() && options.cloud.region.empty()) {
    say(fmt::format("{} {} not in {}, and was last seen in {}; going on there.", join(options.hosts, ", "),
                    options.hosts.size() == 1 ? "is" : "are", here, elsewhere));
    Options there = options;
    there.cloud.region = elsewhere;
    return with_instances(there, act);
  }
  for (const Missing& one : missing) {
    for (const std::string& region : one.regions)
      say(fmt::format("{0} was last seen in {1}: the same command with --region {1}", strip_control(one.word), region));
  }
  if (options.verb == Verb::terminate) {
    bool done = false;
    VerbResult forgotten = forget_gone(options, *state, *all, here, done);
    if (done) return forgotten;
  }
  tell_open_orders(ec2, *state, *all);
  return fail(std::move(named).error());
}

}  // namespace gpustrap
