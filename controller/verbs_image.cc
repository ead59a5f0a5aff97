// Images of instances: made, and taken away.
#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/cloud/holdings.h"
#include "controller/cloud/launch_record.h"
#include "controller/cloud/prices.h"
#include "controller/cloud_verb.h"
#include "controller/complaint.h"

namespace gpustrap {
namespace {

VerbResult make_image(const Options& options, Ec2& ec2, const Ec2Instance& one) {
  const std::string name =
      options.hosts.size() > 1 ? options.hosts[1] : fmt::format("{}-{}", name_of(one), compact_time(std::chrono::system_clock::now()));
  if (!is_instance_name(name) || name.size() < 3 || means_something_else(name))
    return fail(ErrorCode::usage,
                fmt::format("`{}` cannot be an image's name: {}", strip_control(first_line(name, 80)),
                            means_something_else(name) ? "`--image` takes it for an id or a system"
                                                       : "expected 3 to 63 letters, digits, dots and dashes"),
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
  if (!options.cloud.no_wait) {
    if (const Result<void> ready = wait_for_image(ec2, *id); !ready) return fail(ready.error());
  }
  if (options.json) {
    print_document({{"image", 1},
                    {"name", name},
                    {"id", *id},
                    {"instance", one.id},
                    {"type", one.type},
                    {"state", options.cloud.no_wait ? "pending" : "available"}});
  } else {
    print(*id + "\n");
  }
  say(fmt::format("  gpustrap launch --type {} --image {}      a machine like it", one.type, name));
  return ExitCode::ok;
}

/// An image, or what is left of one: its disks are removed one by one after it.
struct Removal {
  std::string name;
  std::optional<Ec2Image> image;
  std::vector<Ec2Snapshot> snapshots;
};

Result<Removal> removal_of(Ec2& ec2, const std::string& word) {
  const std::string& region = ec2.client().settings().region;
  if (has_wildcard(word))
    return fail(ErrorCode::usage, fmt::format("`{}` is not the name of one image: a name has no `*`, `?` or `\\`", strip_control(word)),
                "name each: `gpustrap ls --orphans` shows them");
  const bool by_id = word.starts_with("ami-");
  AwsResult<std::vector<Ec2Image>> images =
      ec2.describe<Ec2Image>("DescribeImages", {{"Owner.1", "self"}}, {{by_id ? "image-id" : "name", {word}}});
  if (!images) return fail(std::move(images).error().error);
  std::erase_if(*images, [&](const Ec2Image& one) { return (by_id ? one.id : one.name) != word; });
  Removal removal{word, std::nullopt, {}};
  if (!images->empty()) {
    removal.image = std::move(images->front());
    if (!removal.image->tags.contains(kOwnerTag))
      return fail(
          ErrorCode::usage,
          fmt::format("the image {} ({}) is not one that `gpustrap image` has made", strip_control(removal.image->name), removal.image->id),
          "gpustrap removes its own alone; this one: aws ec2 deregister-image --image-id " + removal.image->id);
    removal.name = removal.image->name;
  }
  AwsResult<std::vector<Ec2Snapshot>> snapshots =
      ec2.describe<Ec2Snapshot>("DescribeSnapshots", {{"Owner.1", "self"}}, {{"tag-key", {kOwnerTag}}});
  if (!snapshots) return fail(std::move(snapshots).error().error);
  for (Ec2Snapshot& one : *snapshots) {
    const bool of_image = removal.image && std::any_of(removal.image->disks.begin(), removal.image->disks.end(),
                                                       [&](const Ec2Image::Disk& disk) { return disk.snapshot == one.id; });
    if (of_image || (!removal.image && one.tags.at(kOwnerTag) == word)) removal.snapshots.push_back(std::move(one));
  }
  if (removal.image || !removal.snapshots.empty()) return removal;
  AwsResult<std::vector<Ec2Image>> own = ec2.describe<Ec2Image>("DescribeImages", {{"Owner.1", "self"}}, {{"tag-key", {kOwnerTag}}});
  std::vector<std::string> names;
  for (const Ec2Image& one : own ? *own : std::vector<Ec2Image>{}) names.push_back(strip_control(one.name));
  const std::string near = nearest_name(word, names);
  return fail(ErrorCode::usage,
              fmt::format("gpustrap has no image `{}` in {}{}", strip_control(word), region,
                          near.empty() ? "" : fmt::format("; did you mean `{}`?", near)),
              names.empty() ? "it has none there; another region is asked with --region" : "there are: " + join(names, ", "));
}

VerbResult remove_images(const Options& options, Ec2& ec2) {
  std::vector<Removal> removals;
  std::string text = "This destroys, for good:\n";
  for (const std::string& word : options.hosts) {
    Result<Removal> one = removal_of(ec2, word);
    if (!one) return fail(std::move(one).error());
    text += one->image ? fmt::format("  the image {} ({}), of {}\n", one->name, one->image->id, one->image->created.substr(0, 10))
                       : fmt::format("  what is left of the image {}\n", one->name);
    for (const Ec2Snapshot& snapshot : one->snapshots)
      text += fmt::format("    its snapshot {} of a disk of {} GiB, at most {} a month\n", snapshot.id, snapshot.gib,
                          usd(static_cast<double>(snapshot.gib) * kSnapshotUsdPerGibMonth));
    removals.push_back(*std::move(one));
  }
  const Result<bool> yes = agreed(options, strip_control(text) + "Instances that were launched from it go on.\n", "Destroy it?");
  if (!yes) return fail(yes.error());
  if (!*yes) {
    say("Nothing was changed.");
    return ExitCode::cancelled;
  }
  bool all = true;
  for (const Removal& one : removals) {
    Json document = {{"image", 1},
                     {"name", one.name},
                     {"id", one.image ? Json(one.image->id) : Json()},
                     {"removed", true},
                     {"snapshots", Json::array()}};
    const auto remove = [&](const char* action, const char* parameter, const std::string& id) {
      const AwsResult<void> removed = ec2.remove(action, parameter, id);
      if (removed) return true;
      const Error error = Error(removed.error().error).in(fmt::format("removing {} of {}", id, one.name));
      complain(error);
      document["removed"] = false;
      document["error"] = error_document(error);
      all = false;
      return false;
    };
    // A disk of an image that is there is not given away; the same command again takes those that stay.
    if (!one.image || remove("DeregisterImage", "ImageId", one.image->id)) {
      for (const Ec2Snapshot& snapshot : one.snapshots) {
        if (remove("DeleteSnapshot", "SnapshotId", snapshot.id)) document["snapshots"].push_back(snapshot.id);
      }
      if (document["removed"] == true) say(fmt::format("{} is removed.", one.name));
    }
    if (options.json) print_document(document);
  }
  return all ? ExitCode::ok : ExitCode::cloud;
}

}  // namespace

VerbResult verb_image(const Options& options) {
  if (options.cloud.remove) {
    Result<std::unique_ptr<AwsClient>> client = open_cloud(options);
    if (!client) return of_cloud(fail(std::move(client).error()));
    Ec2 ec2(**client);
    return of_cloud(remove_images(options, ec2));
  }
  Options instance_alone = options;
  instance_alone.hosts.resize(1);
  return of_cloud(with_instances(instance_alone,
                                 [&](Ec2& ec2, const std::string&, const auto& named) { return make_image(options, ec2, named.front()); }));
}

}  // namespace gpustrap
