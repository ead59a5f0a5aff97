#include <charconv>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "agent/base/text.h"
#include "controller/guard_wish.h"
#include "controller/option_parts.h"

namespace gpustrap {
namespace {

/// "64" or "64GiB".
Result<std::int64_t> read_disk(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const bool known = unit.empty() || unit == "G" || unit == "GB" || unit == "GiB" || unit == "g";
  if (problem == std::errc() && known && value >= 8 && value <= 16384) return value;
  return fail(ErrorCode::usage, fmt::format("--disk {}: expected a size from 8 to 16384 GiB", text), "for instance --disk 64");
}

void add_cloud_options(CLI::App& app, Options& options, RawOptions& raw) {
  app.add_option("--region", options.cloud.region, "where in EC2 (AWS_REGION, or the profile's)")->type_name("REGION")->group("Connection");
  app.add_option("--profile", options.cloud.profile, "whose keys of ~/.aws (AWS_PROFILE)")->type_name("NAME")->group("Connection");
  app.add_flag("--no-color,--no-colour", raw.no_colour, "no colours (also: NO_COLOR)")->group("Output");
}

/// What a machine of EC2 is to be.
void add_machine_options(CLI::App& app, Options& options, RawOptions& raw) {
  app.add_option("--gpu", options.gpus, "its GPU: t4, a10g, l4, l40s, 4xa10g")->type_name("GPU")->group("Run")->allow_extra_args(false);
  app.add_option("--type", raw.types, "EC2's name for it, and others to take where there is none: g5.xlarge,g6.xlarge")
      ->type_name("TYPE,...")
      ->group("Run");
  app.add_flag("--spot", options.cloud.spot, "cheaper, and AWS may take it back")->group("Run");
}

}  // namespace

void declare_cloud_verbs(const DeclaredLine& line) {
  CLI::App& launch =
      line.add_verb(Verb::launch, "launch", "Rents a machine of EC2; its host key is known before the first login.", line.app);
  add_machine_options(launch, line.options, line.raw);
  launch.add_option("--recipe", line.options.recipe, "then make it what this recipe says, as `up` does")->type_name("RECIPE")->group("Run");
  launch.add_option("--var", line.raw.vars, "value of a recipe's variable")->type_name("NAME=VALUE")->group("Run")->allow_extra_args(false);
  add_guard_options(launch, line.options.guard);
  launch.add_option("--name", line.options.cloud.name, "what to call it; by default as its GPU or type")->type_name("NAME")->group("Run");
  launch.add_option("--image", line.options.cloud.image, "ubuntu:24.04, debian:13, dlami, ami-..., or one of `gpustrap image`")
      ->type_name("IMAGE")
      ->group("Run");
  launch.add_option("--disk", line.raw.disk, "GiB (64)")->type_name("SIZE")->group("Run");
  launch.add_option("--ssh-from", line.options.cloud.ssh_from, "who may reach its SSH (this machine's address)")
      ->type_name("ADDRESS")
      ->group("Run");
  launch.add_flag("--no-wait", line.options.cloud.no_wait, "end as soon as it runs")->group("Run");
  launch.add_flag("--no-tunnel", line.options.no_tunnel, "with --recipe: prove the notebook once, then end")->group("Run");
  launch.add_flag("-y,--yes", line.options.yes, "ask nothing")->group("Run");
  add_json(launch, line.options);
  launch.get_option("--json")->description("the machine as one JSON document; with --recipe the run's events follow");
  launch.add_option("-i", line.options.identities, "private key to log in with; one is made where none is given")
      ->type_name("FILE")
      ->group("Connection")
      ->allow_extra_args(false);
  launch.add_option("-l", line.raw.login, "user to log in as (the image's)")->type_name("USER")->group("Connection");
  add_cloud_options(launch, line.options, line.raw);
  add_places(launch, "");
  CLI::App& ls = line.add_verb(Verb::ls, "ls", "The instances that gpustrap has launched: state, age, cost so far.", line.app);
  ls.add_flag("--idle", line.options.cloud.idle, "ask those that run whether they are in use")->group("Run");
  ls.add_flag("--orphans", line.options.cloud.orphans, "what it made and nothing uses; removed if you say so")->group("Run");
  ls.add_flag("--all-regions", line.options.cloud.all_regions, "ask all regions that the account has enabled")->group("Run");
  ls.add_flag("-y,--yes", line.options.yes, "with --orphans: ask nothing")->group("Run");
  add_json(ls, line.options);
  add_cloud_options(ls, line.options, line.raw);
  add_places(ls, "");
  for (const auto& [which, name, what, places] :
       {std::tuple{Verb::start, "start", "Starts instances again, and follows their new addresses.", "NAME..."},
        std::tuple{Verb::stop, "stop", "Stops instances; their disks stay, and are still billed.", "NAME..."},
        std::tuple{Verb::terminate, "terminate", "Ends instances for good, and their disks with them; says which before it asks.",
                   "NAME..."}}) {
    CLI::App& sub = line.add_verb(which, name, what, line.app);
    sub.add_flag("-y,--yes", line.options.yes, "ask nothing")->group("Run");
    if (which == Verb::start)
      sub.add_option("--ssh-from", line.options.cloud.ssh_from, "who may reach its SSH (this machine's address)")
          ->type_name("ADDRESS")
          ->group("Run");
    if (which != Verb::terminate) sub.add_flag("--no-wait", line.options.cloud.no_wait, "do not wait until it is done")->group("Run");
    add_json(sub, line.options);
    sub.get_option("--json")->description("a JSON document for each");
    add_cloud_options(sub, line.options, line.raw);
    add_places(sub, places);
  }
  CLI::App& image = line.add_verb(Verb::image, "image", "Makes an image of an instance, to launch others from; or removes it.", line.app);
  image.add_flag("--remove", line.options.cloud.remove, "take the image of that name away, and its snapshots")->group("Run");
  image.add_flag("--no-reboot", line.options.cloud.no_reboot, "without a restart; what is being written may be torn")->group("Run");
  image.add_flag("--no-wait", line.options.cloud.no_wait, "do not wait until it can be used")->group("Run");
  image.add_flag("-y,--yes", line.options.yes, "ask nothing; the instance restarts")->group("Run");
  add_json(image, line.options);
  add_cloud_options(image, line.options, line.raw);
  add_places(image, "NAME [IMAGE]");
  CLI::App& quota =
      line.add_verb(Verb::quota, "quota", "How many vCPUs the account may run, and how many it does; asks AWS for more.", line.app);
  add_machine_options(quota, line.options, line.raw);
  quota.add_flag("-y,--yes", line.options.yes, "ask nothing")->group("Run");
  add_json(quota, line.options);
  add_cloud_options(quota, line.options, line.raw);
  add_places(quota, "[request VCPUS]");
}

Result<void> check_cloud(Options& options, const RawOptions& raw) {
  options.hosts = raw.places;
  for (const std::string& list : split(raw.types, ',')) {
    if (!trim(list).empty()) options.cloud.types.emplace_back(trim(list));
  }
  if (!raw.disk.empty()) {
    const Result<std::int64_t> disk = read_disk(raw.disk);
    if (!disk) return fail(disk.error());
    options.cloud.disk_gib = *disk;
  }
  if (options.verb == Verb::launch && options.cloud.types.empty() && options.gpus.empty())
    return fail(ErrorCode::usage, "launch needs to know which machine", "gpustrap launch --gpu t4, or gpustrap launch --type g5.xlarge");
  if (!options.cloud.types.empty() && !options.gpus.empty())
    return fail(ErrorCode::usage, "--gpu and --type exclude each other", "a type has its GPU: leave --gpu out");
  if (options.gpus.size() > 1) return fail(ErrorCode::usage, "--gpu is given twice", "several of one kind: --gpu 4xa10g");
  if (options.cloud.no_wait && wants_guard(options.guard))
    return fail(ErrorCode::usage, "--no-wait ends before a machine can be told to stop by itself", "leave --no-wait out");
  if (options.cloud.idle && options.cloud.orphans)
    return fail(ErrorCode::usage, "--idle and --orphans exclude each other", "gpustrap ls --idle");
  if (options.cloud.all_regions && !options.cloud.region.empty())
    return fail(ErrorCode::usage, "--region and --all-regions exclude each other", "gpustrap ls --all-regions");
  if (options.cloud.remove && options.cloud.no_reboot)
    return fail(ErrorCode::usage, "--remove and --no-reboot exclude each other", "gpustrap image --remove lab-2026");
  if (options.verb != Verb::quota || options.hosts.empty()) return {};
  const std::string words_of = join(options.hosts, " ");
  if (options.hosts[0] != "request" || options.hosts.size() != 2)
    return fail(ErrorCode::usage, fmt::format("quota {}: expected nothing, or `request` and a number of vCPUs", words_of),
                "gpustrap quota request 8 --gpu t4");
  unsigned vcpus = 0;
  const std::string& number = options.hosts[1];
  const auto parsed = std::from_chars(number.data(), number.data() + number.size(), vcpus);
  if (parsed.ec != std::errc() || parsed.ptr != number.data() + number.size() || vcpus == 0 || vcpus > 100'000)
    return fail(ErrorCode::usage, fmt::format("quota request {}: expected a number of vCPUs", number), "gpustrap quota request 8 --gpu t4");
  if (options.cloud.types.empty() && options.gpus.empty())
    return fail(ErrorCode::usage, "quota request needs to know for which machines",
                fmt::format("gpustrap quota request {} --gpu t4", vcpus));
  options.cloud.vcpus = vcpus;
  return {};
}

}  // namespace gpustrap
