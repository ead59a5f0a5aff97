// What is done with machines of EC2 that there are: start, stop, terminate, image; and how many there may be.
#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/cloud/holdings.h"
#include "controller/cloud/launch_record.h"
#include "controller/cloud/prices.h"
#include "controller/cloud_verb.h"
#include "controller/known_instance.h"
#include "controller/machine_choice.h"

namespace gpustrap {
namespace {

constexpr auto kImageWithin = std::chrono::minutes(60);

VerbResult start(const Options& options, Ec2& ec2, const std::string& state, const std::vector<Ec2Instance>& named) {
  for (const Ec2Instance& one : named) {
    if (one.state == "stopping") {
      say(fmt::format("{} is still stopping; waiting for that …", name_of(one)));
      if (const Result<Ec2Instance> stopped = wait_for(ec2, one.id, "stopped"); !stopped) return fail(stopped.error());
    }
    if (one.state == "running" || one.state == "pending") {
      say(fmt::format("{} runs already.", name_of(one)));
    } else if (const AwsResult<void> started = ec2.start(one.id); !started) {
      return fail(started.error().error);
    }
  }
  if (options.cloud.no_wait) return ExitCode::ok;
  for (const Ec2Instance& one : named) {
    const Result<Ec2Instance> running = wait_for(ec2, one.id, "running");
    if (!running) return fail(running.error());
    const std::optional<InstanceRecord> before = load_instance(state, one.id);
    const auto noted = running->tags.find("gpustrap:user");
    InstanceRecord record =
        before.value_or(InstanceRecord{"", noted == running->tags.end() ? "ubuntu" : noted->second, state + "/keys/ec2", {}});
    const std::string old_address = record.address;
    record.address = running->address;
    if (Result<void> known = make_known(state, one.id, record, old_address); !known) return fail(std::move(known).error());
    const auto price = usd_per_hour(*running);
    say(fmt::format("{} runs{}{}.", name_of(one), price ? fmt::format(", about {} an hour", usd(*price)) : "",
                    old_address.empty() || old_address == record.address
                        ? ""
                        : fmt::format("; it was at {} and is at {} now", old_address, record.address)));
    print(fmt::format("{}@{}\n", record.user, record.address));
  }
  return ExitCode::ok;
}

VerbResult stop(const Options& options, Ec2& ec2, const std::vector<Ec2Instance>& named) {
  std::vector<std::string> refused;  // the others are billed until they are told, too
  for (const Ec2Instance& one : named) {
    if (one.state == "stopped" || one.state == "stopping") continue;
    const AwsResult<void> stopped = ec2.stop(one.id);
    if (stopped) continue;
    complain(Error(stopped.error().error).in("stopping " + name_of(one)));
    refused.push_back(one.id);
  }
  for (const Ec2Instance& one : named) {
    if (std::find(refused.begin(), refused.end(), one.id) != refused.end()) continue;
    if (options.cloud.no_wait) {
      say(fmt::format("{} is stopping.", name_of(one)));
      continue;
    }
    if (const Result<Ec2Instance> stopped = wait_for(ec2, one.id, "stopped"); !stopped) return fail(stopped.error());
    say(fmt::format("{} is stopped. Its disk is still billed; `gpustrap start {}` goes on, `gpustrap terminate {}` ends it.", name_of(one),
                    name_of(one), name_of(one)));
  }
  return refused.empty() ? ExitCode::ok : ExitCode::cloud;
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
  bool all = true;
  for (const Ec2Instance& one : named) {
    if (const AwsResult<void> ended = ec2.terminate(one.id); !ended) {
      complain(Error(ended.error().error).in("terminating " + name_of(one)));
      all = false;
      continue;
    }
    forget(state, one);
    say(fmt::format("{} ({}) is being terminated; it is billed no more.", name_of(one), one.id));
  }
  return all ? ExitCode::ok : ExitCode::cloud;
}

VerbResult make_image(const Options& options, Ec2& ec2, const Ec2Instance& one) {
  const std::string name =
      options.hosts.size() > 1 ? options.hosts[1] : fmt::format("{}-{}", name_of(one), compact_time(std::chrono::system_clock::now()));
  if (!is_instance_name(name) || name.size() < 3)
    return fail(ErrorCode::usage,
                fmt::format("`{}` cannot be an image's name: expected 3 to 63 letters, digits, dots and dashes",
                            strip_control(first_line(name, 80))),
                fmt::format("gpustrap image {} lab-2026", name_of(one)));
  const AwsResult<std::vector<Ec2Image>> there = ec2.describe<Ec2Image>("DescribeImages", {{"Owner.1", "self"}}, {{"name", {name}}});
  if (!there) return fail(there.error().error);
  if (!there->empty())
    return fail(ErrorCode::usage, fmt::format("there is an image `{}` already, {}", name, there->front().id), "give it another name");
  if (one.state == "running" && !options.cloud.no_reboot) {
    const Result<bool> yes =
        agreed(options, fmt::format("{} ({}) restarts for the image, so that nothing is torn.\n", name_of(one), one.id), "Go on?");
    if (!yes) return fail(yes.error());
    if (!*yes) return ExitCode::cancelled;
  }
  const auto noted = one.tags.find("gpustrap:user");
  const AwsResult<std::string> id =
      ec2.create_image(one.id, name, !options.cloud.no_reboot,
                       {{"Name", name}, {kOwnerTag, name}, {"gpustrap:user", noted == one.tags.end() ? "ubuntu" : noted->second}});
  if (!id) return fail(id.error().error);
  say(fmt::format("{} is {}{}", name, *id,
                  options.cloud.no_wait ? "." : "; waiting until it can be used. It goes on without this command …"));
  const CloudClock& clock = ec2.client().clock();
  const AwsTime until = clock.now() + kImageWithin;
  for (auto pause = std::chrono::milliseconds(1000); !options.cloud.no_wait;
       pause = std::min(pause * 2, std::chrono::milliseconds(15'000))) {
    const AwsResult<std::vector<Ec2Image>> now = ec2.describe<Ec2Image>("DescribeImages", {{"ImageId.1", *id}});
    if (!now && remedy_of(now.error().code, 400) != AwsRemedy::not_yet) return fail(now.error().error);
    if (now && !now->empty() && now->front().state == "available") break;
    if (now && !now->empty() && now->front().state != "pending")
      return fail(ErrorCode::unsupported,
                  fmt::format("the image {} is {}: {}", *id, now->front().state, strip_control(now->front().state_reason)), "run it again");
    if (clock.now() >= until)
      return fail(ErrorCode::timeout, fmt::format("the image {} is not ready after an hour", *id), "see the EC2 console");
    clock.sleep(pause);
  }
  print(*id + "\n");
  say(fmt::format("  gpustrap launch --type {} --image {}      a machine like it", one.type, name));
  return ExitCode::ok;
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
  double limit = 0;
  for (const std::string& code : codes) {
    const AwsResult<Ec2::Quota> one = ec2.quota(code);
    if (!one) return fail(one.error().error);
    const AwsResult<double> used = used_vcpus(ec2, code);
    if (!used) return fail(used.error().error);
    limit = one->vcpus;
    text += fmt::format("  {:<42} {:>5.0f} of {:>5.0f} vCPUs  {}\n", quota_title(code), *used, one->vcpus, code);
  }
  if (options.cloud.vcpus <= 0) {
    print(fmt::format("In use in {}:\n{}", region, text));
    return ExitCode::ok;
  }
  if (limit >= options.cloud.vcpus) {
    say(fmt::format("The account may have {:.0f} vCPUs of {} already.", limit, quota_title(codes.front())));
    return ExitCode::ok;
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
  return ExitCode::ok;
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

VerbResult verb_image(const Options& options) {
  Options instance_alone = options;
  instance_alone.hosts.resize(1);
  return of_cloud(with_instances(instance_alone,
                                 [&](Ec2& ec2, const std::string&, const auto& named) { return make_image(options, ec2, named.front()); }));
}

VerbResult verb_quota(const Options& options) { return of_cloud(quota(options)); }

}  // namespace gpustrap
