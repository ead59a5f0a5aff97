// What is done with machines of EC2 that there are: start, stop, terminate; and how many there may be.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/cloud/asked_prices.h"
#include "controller/cloud/holdings.h"
#include "controller/cloud/launch.h"
#include "controller/cloud/launch_record.h"
#include "controller/cloud/prices.h"
#include "controller/cloud_verb.h"
#include "controller/complaint.h"
#include "controller/known_instance.h"
#include "controller/machine_choice.h"

namespace gpustrap {
namespace {

/// Notes where it is now, and opens its SSH to where the caller is now. `document` is what --json prints of it.
Result<void> follow(const Options& options, Ec2& ec2, const std::string& state, const Ec2Instance& running, AskedPrices& prices,
                    Json& document) {
  const std::optional<InstanceRecord> before = load_instance(state, running.id);
  const auto noted = running.tags.find("gpustrap:user");
  InstanceRecord record = before.value_or(InstanceRecord{"", noted == running.tags.end() ? "ubuntu" : noted->second, "", {}, "", "", ""});
  record.identity = key_file_of(running, state, "");
  if (record.identity.empty())
    say(fmt::format("{0} was launched with the key {1}, which is not here: log in with its file, as in `gpustrap ssh -i FILE {0}`.",
                    name_of(running), strip_control(running.key_name)));
  const std::string old_address = std::exchange(record.address, running.address);
  record.region = ec2.client().settings().region;
  if (Result<void> known = make_known(state, running, record, say); !known) return known;
  const std::optional<Price> price = prices.price_of(running);
  say(fmt::format("{} runs{}{}.", name_of(running), price ? fmt::format(", about {} an hour", usd(price->usd_per_hour)) : "",
                  old_address.empty() || old_address == record.address
                      ? ""
                      : fmt::format("; it was at {} and is at {} now", old_address, record.address)));
  document = running_document("start", running, record, price);
  if (!options.json) print(fmt::format("{}@{}\n", record.user, record.address));
  return open_ssh(options, ec2, running);
}

/// One of many that could not be dealt with is told, and the others go on.
class Troubles {
 public:
  void add(const std::string& what, const Ec2Instance& one, const Error& error) {
    const Error whole = Error(error).in(what + " " + name_of(one));
    complain(whole);
    by_id_.emplace(one.id, whole);
  }
  [[nodiscard]] bool with(const Ec2Instance& one) const { return by_id_.contains(one.id); }
  [[nodiscard]] VerbResult result() const { return by_id_.empty() ? ExitCode::ok : ExitCode::cloud; }
  /// What --json prints of one in the end.
  void print(const Ec2Instance& one, Json document) const {
    if (const auto trouble = by_id_.find(one.id); trouble != by_id_.end()) document["error"] = error_document(trouble->second);
    print_document(document);
  }

 private:
  std::map<std::string, Error> by_id_;
};

VerbResult start(const Options& options, Ec2& ec2, const std::string& state, const std::vector<Ec2Instance>& named) {
  Troubles troubles;
  for (const Ec2Instance& one : named) {
    if (one.state == "running" || one.state == "pending") {
      say(fmt::format("{} runs already.", name_of(one)));
      continue;
    }
    if (one.state == "stopping") {
      say(fmt::format("{} is still stopping; waiting for that …", name_of(one)));
      if (const Result<Ec2Instance> stopped = wait_for(ec2, one.id, "stopped"); !stopped) {
        troubles.add("starting", one, stopped.error());
        continue;
      }
    }
    if (const AwsResult<void> started = ec2.start(one.id); !started) troubles.add("starting", one, started.error().error);
  }
  AskedPrices prices(ec2.client(), state);
  for (const Ec2Instance& one : named) {
    Json document = instance_document("start", one);
    if (options.cloud.no_wait && !options.cloud.ssh_from.empty() && !troubles.with(one)) {
      if (const Result<void> open = open_ssh(options, ec2, one); !open) troubles.add("finding the way to", one, open.error());
    }
    if (options.cloud.no_wait || troubles.with(one)) {
      if (!troubles.with(one) && one.state != "running") document["state"] = "pending";
    } else if (const Result<Ec2Instance> running = wait_for(ec2, one.id, "running"); !running) {
      troubles.add("starting", one, running.error());
    } else if (const Result<void> followed = follow(options, ec2, state, *running, prices, document); !followed) {
      troubles.add("finding the way to", one, followed.error());
    }
    if (options.json) troubles.print(one, std::move(document));
  }
  return troubles.result();
}

VerbResult stop(const Options& options, Ec2& ec2, const std::vector<Ec2Instance>& named) {
  Troubles troubles;  // the others are billed until they are told, too
  for (const Ec2Instance& one : named) {
    if (one.state == "stopped" || one.state == "stopping") continue;
    if (const AwsResult<void> stopped = ec2.stop(one.id); !stopped) troubles.add("stopping", one, stopped.error().error);
  }
  for (const Ec2Instance& one : named) {
    Json document = instance_document("stop", one);
    const auto end = [&](const char* now) {
      document["state"] = now;
      if (options.json) troubles.print(one, document);
    };
    if (troubles.with(one)) {
      end(one.state.c_str());
      continue;
    }
    if (options.cloud.no_wait) {
      say(fmt::format("{} is stopping.", name_of(one)));
      end(one.state == "stopped" ? "stopped" : "stopping");
      continue;
    }
    if (const Result<Ec2Instance> stopped = wait_for(ec2, one.id, "stopped"); !stopped) {
      troubles.add("stopping", one, stopped.error());
      end("stopping");
      continue;
    }
    end("stopped");
    say(fmt::format("{} is stopped. Its disk is still billed; `gpustrap start {}` goes on, `gpustrap terminate {}` ends it.", name_of(one),
                    name_of(one), name_of(one)));
  }
  return troubles.result();
}

/// The order that made it is answered now. Whoever cannot find it leaves it: the next launch of that name asks for it, and hears that it is
/// over.
void close_order(AwsClient& client, const std::string& state, const Ec2Instance& one) {
  if (!regions_with_orders(state).contains(client.settings().region)) return;
  const Result<std::string> place = order_place(client, state);
  if (!place) return;
  const OrderRecord order(state, *place, name_of(one));
  const std::optional<Ec2Order> open = order.load(client.clock().now());
  if (open && (one.client_token.empty() || open->client_token == one.client_token)) order.remove();
}

VerbResult terminate(const Options& options, Ec2& ec2, const std::string& state, const std::vector<Ec2Instance>& named) {
  std::string text = "This destroys, for good:\n";
  for (const Ec2Instance& one : named) {
    const std::string since = one.state == "running" ? fmt::format(", {}, for {}", one.state, age_of(one)) : ", " + one.state;
    text += fmt::format("  {}  {}, {}{}\n", name_of(one), one.id, one.type, since);
    for (const Ec2Instance::Disk& disk : one.disks) {
      text += disk.goes_with_instance
                  ? fmt::format("    its disk {} ({}), with all that is on it\n", disk.volume, disk.device)
                  : fmt::format("    not its disk {} ({}), which stays and is billed; `gpustrap ls --orphans` finds it\n", disk.volume,
                                disk.device);
    }
  }
  const Result<bool> yes = agreed(options, strip_control(text), "Destroy it?");
  if (!yes) return fail(yes.error());
  if (!*yes) {
    say("Nothing was changed.");
    return ExitCode::cancelled;
  }
  Troubles troubles;
  for (const Ec2Instance& one : named) {
    Json document = instance_document("terminate", one);
    document["disks_left"] = Json::array();
    for (const Ec2Instance::Disk& disk : one.disks) {
      if (!disk.goes_with_instance) document["disks_left"].push_back(disk.volume);
    }
    const AwsResult<void> ended = ec2.terminate(one.id);
    if (!ended) troubles.add("terminating", one, ended.error().error);
    if (ended) document["state"] = "shutting-down";
    if (options.json) troubles.print(one, std::move(document));
    if (!ended) continue;
    forget(state, one);
    close_order(ec2.client(), state, one);
    say(fmt::format("{} ({}) is being terminated; it is billed no more.", name_of(one), one.id));
  }
  return troubles.result();
}

VerbResult quota(const Options& options) {
  std::vector<std::string> codes = {"L-DB2E81BA", "L-417A185B", "L-1216C47A", "L-3819A6DF", "L-7212CCBC", "L-C4BD4855", "L-34B43A08"};
  if (!options.cloud.types.empty() || !options.gpus.empty()) {
    const Result<Machines> machines = machines_of(options);
    if (!machines) return fail(machines.error());
    codes = {quota_code(machines->types.front(), options.cloud.spot)};
    if (codes.front().empty())
      return fail(ErrorCode::usage, fmt::format("which quota counts for {} is not known here", machines->types.front()),
                  "see the Service Quotas console");
  }
  Result<std::unique_ptr<AwsClient>> client = open_cloud(options);
  if (!client) return fail(std::move(client).error());
  Ec2 ec2(**client);
  const std::string& region = (*client)->settings().region;
  std::string text;
  Json document = {{"quota", 1}, {"region", region}, {"quotas", Json::array()}, {"request", nullptr}};
  const auto end = [&] {
    if (options.json) print_document(document);
    return ExitCode::ok;
  };
  double limit = 0;
  for (const std::string& code : codes) {
    const AwsResult<Ec2::Quota> one = ec2.quota(code);
    if (!one) return fail(one.error().error);
    const AwsResult<double> used = used_vcpus(ec2, code);
    if (!used) return fail(used.error().error);
    limit = one->vcpus;
    document["quotas"].push_back({{"code", code}, {"title", quota_title(code)}, {"used", *used}, {"vcpus", one->vcpus}});
    text += fmt::format("  {:<42} {:>5.0f} of {:>5.0f} vCPUs  {}\n", quota_title(code), *used, one->vcpus, code);
  }
  if (options.cloud.vcpus <= 0) {
    if (!options.json) print(fmt::format("In use in {}:\n{}", region, text));
    return end();
  }
  if (limit >= options.cloud.vcpus) {
    say(fmt::format("The account may have {:.0f} vCPUs of {} already.", limit, quota_title(codes.front())));
    return end();
  }
  const Result<bool> yes = agreed(options,
                                  fmt::format("This asks AWS to raise {} in {} from {:.0f} to {:.0f} vCPUs.\n", quota_title(codes.front()),
                                              region, limit, options.cloud.vcpus),
                                  "Ask?");
  if (!yes) return fail(yes.error());
  if (!*yes) return ExitCode::cancelled;
  const AwsResult<std::string> asked = ec2.request_quota(codes.front(), options.cloud.vcpus);
  if (!asked) return fail(asked.error().error);
  say(fmt::format("Asked; the request is {}. AWS answers within minutes or a few days, by mail.", strip_control(*asked)));
  document["request"] = {{"id", *asked}, {"code", codes.front()}, {"vcpus", options.cloud.vcpus}};
  return end();
}

}  // namespace

VerbResult verb_start(const Options& options) {
  return of_cloud(
      with_instances(options, [&](Ec2& ec2, const std::string& state, const auto& named) { return start(options, ec2, state, named); }));
}

VerbResult verb_stop(const Options& options) {
  return of_cloud(with_instances(options, [&](Ec2& ec2, const std::string&, const auto& named) { return stop(options, ec2, named); }));
}

VerbResult verb_terminate(const Options& options) {
  return of_cloud(with_instances(
      options, [&](Ec2& ec2, const std::string& state, const auto& named) { return terminate(options, ec2, state, named); }));
}

VerbResult verb_quota(const Options& options) { return of_cloud(quota(options)); }

}  // namespace gpustrap
