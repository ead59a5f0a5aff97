// Renting a machine of EC2, as far as a login; `up` goes on from there.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/money.h"
#include "controller/cloud/asked_prices.h"
#include "controller/cloud/holdings.h"
#include "controller/cloud/launch.h"
#include "controller/cloud/spot_prices.h"
#include "controller/cloud/ssh_access.h"
#include "controller/cloud_verb.h"
#include "controller/guard_wish.h"
#include "controller/known_instance.h"
#include "controller/machine_choice.h"
#include "controller/run_log.h"
#include "controller/ssh_session.h"

namespace gpustrap {
namespace {

constexpr auto kSshWithin = std::chrono::seconds(300);
/// As the recipe idle-stop has it.
constexpr const char* kUsualPause = "30m";

std::string absolute(const std::string& path) { return std::filesystem::absolute(path).lexically_normal().string(); }

/// Who ends the command once the order may have been given is told so.
class RentedWarning {
 public:
  RentedWarning() : before_{::signal(SIGINT, warn), ::signal(SIGTERM, warn)} {}
  ~RentedWarning() { ::signal(SIGINT, before_[0]), ::signal(SIGTERM, before_[1]); }
  RentedWarning(const RentedWarning&) = delete;
  RentedWarning& operator=(const RentedWarning&) = delete;

 private:
  static void warn(int number) {
    constexpr std::string_view kText = "\nA machine may be rented by now: `gpustrap ls` shows it; the same launch goes on with it.\n";
    [[maybe_unused]] const ssize_t wrote = ::write(STDERR_FILENO, kText.data(), kText.size());
    ::signal(number, SIG_DFL);
    ::raise(number);  // its turn comes when this returns
  }
  void (*before_[2])(int);
};

/// What the guard is to reckon with, as the step takes it; empty where it is not known. A spot machine costs what its zone costs now: that
/// moves, and the guard says what it was told.
std::string hourly_price(Ec2& ec2, AskedPrices& prices, const Ec2Instance& instance) {
  std::optional<Price> price = prices.price_of(instance.type);
  if (instance.lifecycle == "spot") {
    const SpotPrices spot = spot_prices(ec2, {instance.type}).value_or(SpotPrices{});
    if (const auto now = spot.find({instance.type, instance.zone}); now != spot.end()) price = Price{now->second, true, true, ""};
  }
  return price ? price_text(HourlyPrice{Money{std::llround(price->usd_per_hour * 1e6), "USD"}}) : "";
}

/// A budget needs a price; better to hear of it before something is rented.
Result<void> check_budget(const GuardWish& guard, AskedPrices& prices, const std::vector<std::string>& types) {
  if (guard.budget.empty() || !guard.price.empty()) return {};
  const auto unknown = std::find_if(types.begin(), types.end(), [&](const std::string& type) { return !prices.price_of(type); });
  if (unknown != types.end())
    return fail(ErrorCode::usage, fmt::format("--budget {}: what an hour of {} costs is not known here", guard.budget, *unknown),
                "say it: --price 0.526USD/h");
  if (!guard.budget.ends_with("USD"))
    return fail(ErrorCode::usage, fmt::format("--budget {}: AWS's prices are in USD", guard.budget),
                "say the budget in USD, or give a --price in the same currency");
  return {};
}

/// A machine that runs, what there is to say of it, and what `up` is to do next.
struct ToDo {
  Options up;
  std::string destination, farewell;  ///< told at the end, where no recipe was asked for
};

VerbResult launch(const Options& options, std::optional<ToDo>& then) {
  const Result<Machines> machines = machines_of(options);
  if (!machines) return fail(machines.error());
  GuardWish guard = options.guard;
  const bool is_guard_alone = options.recipe.empty() && wants_guard(guard);
  if (is_guard_alone && guard.idle_stop.empty()) guard.idle_stop = kUsualPause;
  const Result<GpuNeed> need = check_recipe(options, *machines);
  if (!need) return fail(need.error());
  const Result<std::string> state = state_directory();
  if (!state) return fail(state.error());

  LaunchWish wish;
  wish.types = machines->types;
  wish.name = options.cloud.name;
  if (wish.name.empty()) {
    wish.name = options.gpus.empty() ? machines->types.front() : options.gpus.front();
    std::replace(wish.name.begin(), wish.name.end(), '.', '-');
  }
  if (!is_instance_name(wish.name))
    return fail(ErrorCode::usage,
                fmt::format("--name {}: expected letters, digits, dots and dashes", strip_control(first_line(wish.name, 80))),
                "for instance --name lab-1");
  if (means_something_else(wish.name))
    return fail(ErrorCode::usage, fmt::format("--name {}: other verbs take this for an id or a system, not for a name", wish.name),
                "for instance --name lab-1");
  wish.image = options.cloud.image;
  wish.user = options.user;
  wish.ssh_from = options.cloud.ssh_from;
  if (!wish.ssh_from.empty()) {
    if (const Result<std::string> source = read_source(wish.ssh_from); !source) return fail(source.error());
  }
  if (options.identities.size() > 1) return fail(ErrorCode::usage, "-i is given twice", "an instance begins with one key");
  if (!options.identities.empty()) wish.identity = absolute(options.identities.front());
  wish.disk_gib = options.cloud.disk_gib;
  wish.image_said = wish.image != CloudChoice{}.image;
  wish.disk_said = wish.disk_gib != CloudChoice{}.disk_gib;
  wish.spot = options.cloud.spot;
  wish.stops = guard_text(guard);
  if (*need == GpuNeed::always) wish.gpu_needed_by = options.recipe;

  Result<std::unique_ptr<AwsClient>> client = open_cloud(options);
  if (!client) return fail(std::move(client).error());
  Ec2 ec2(**client);
  for (const std::string& region : other_regions_of(known_instances(*state), wish.name, (*client)->settings().region))
    say(fmt::format("{} is also the name of a machine that was last seen in {}.", wish.name, region));
  AskedPrices prices(**client, *state);
  if (Result<void> affordable = check_budget(guard, prices, machines->types); !affordable) return fail(std::move(affordable).error());
  std::optional<RentedWarning> warning;
  Launch launching(ec2, *state, wish,
                   {say,
                    [&](const std::string& what) {
                      Result<bool> yes = agreed(options, what, "Rent it?");
                      if (yes && *yes) warning.emplace();
                      return yes;
                    },
                    !options.yes});
  Result<Launched> launched = launching.run();
  if (!launched) return fail(std::move(launched).error());
  const Ec2Instance& instance = launched->instance;
  if (launched->was_there || launched->taken_up) {
    const Result<void> open = open_ssh(options, ec2, instance);
    if (!open) return fail(open.error());
  }

  InstanceRecord record{instance.address, launched->user, launched->identity, {}, "", (*client)->settings().region, wish.name};
  const std::optional<InstanceRecord> before = load_instance(*state, instance.id);
  if (before) {
    record.host_keys = before->host_keys;
    if (options.user.empty() && !before->user.empty()) record.user = before->user;
  }
  if (record.host_keys.empty()) {
    if (!options.cloud.no_wait) say("Waiting for its host keys on the console: they come one to four minutes after the start …");
    Result<std::vector<std::string>> keys = launching.read_host_keys(instance.id, !options.cloud.no_wait);
    if (!keys) return fail(std::move(keys).error().in(fmt::format("reading the host keys of {}, which runs and is billed", wish.name)));
    record.host_keys = *std::move(keys);
  }
  if (Result<void> known = make_known(*state, instance, record, say); !known)
    return fail(std::move(known)
                    .error()
                    .in(fmt::format("noting {}, which runs and is billed", wish.name))
                    .with_hint(fmt::format("with that mended the same command goes on; else end it: gpustrap terminate {}", wish.name)));
  if (record.host_keys.empty() && !options.cloud.no_wait) {
    say("Its console shows no host keys; the first connection will ask whether to trust what it sees. Waiting for AWS's own checks …");
    if (Result<void> checked = launching.wait_for_checks(instance.id); !checked)
      return fail(std::move(checked).error().in("waiting for " + wish.name));
  }
  if (!record.host_keys.empty() && !options.cloud.no_wait) {
    say(fmt::format("Its host keys are known now ({}). Waiting for its SSH …", record.host_keys.size()));
    const Result<SshTarget> target = target_of(record.address, record.user, record.identity);
    if (!target) return fail(target.error());
    SshPrompts prompts;
    prompts.notice = say;
    const Result<SshSession> session = SshSession::connect_patiently(*target, prompts, kSshWithin, [](const Error&) {});
    // Whoever can be logged in to has passed the better check; AWS's come to their end minutes later.
    if (!session) {
      if (const Result<std::string> looked = launching.look_at_checks(instance.id); !looked) return fail(looked.error());
    }
    if (!session) {  // no longer EC2's doing: the codes of `up` say what it is
      complain(Error(session.error())
                   .in(fmt::format("logging in to {}, which runs and is billed", wish.name))
                   .with_hint(fmt::format("end it with: gpustrap terminate {}", wish.name)));
      return exit_code_of(session.error().code());
    }
  }
  const std::string destination = record.user + "@" + record.address;
  const std::optional<Price> price = prices.price_of(instance);
  say(fmt::format("{} runs: {}, {} in {}{}.", wish.name, instance.id, instance.type, instance.zone,
                  price ? fmt::format(", about {} an hour", usd(price->usd_per_hour)) : ""));
  if (options.json) {
    Json document = running_document("launch", instance, record, price);
    document["was_there"] = launched->was_there;
    print_document(document);
  }
  const bool spot = instance.lifecycle == "spot";
  const std::string end = fmt::format("gpustrap {} {}", spot ? "terminate" : "stop", wish.name);
  const std::string farewell =
      fmt::format("  {:<36} sets it up\n  {:<36} a shell\n  {:<36} {}", "gpustrap up jupyter " + record.host, "gpustrap ssh " + record.host,
                  end, spot ? "ends it, and the bill" : "ends the bill but the disk's");
  if (options.recipe.empty() && !is_guard_alone) {
    if (!options.json) print(destination + "\n");
    if (record.host_keys.empty() && options.cloud.no_wait)
      say("Its host key is not known yet; the same command without --no-wait waits for it.");
    say(farewell);
    return ExitCode::ok;
  }
  Options up = options;
  up.verb = Verb::up;
  if (is_guard_alone) up.recipe = "idle-stop";
  if (!guard.budget.empty() && guard.price.empty()) guard.price = hourly_price(ec2, prices, instance);
  up.guard = guard;
  up.host = record.host;
  up.hosts = {record.host};
  up.address = record.address;
  up.user = record.user;
  up.identities = {record.identity};
  up.gpus.clear();
  up.wait = kSshWithin;
  up.yes = options.yes || !launched->was_there;  // nobody else is on a machine that was made a minute ago
  then = ToDo{std::move(up), is_guard_alone ? destination : "", farewell};
  return ExitCode::ok;
}

}  // namespace

VerbResult verb_launch(const Options& options) {
  std::optional<ToDo> then;
  VerbResult launched = of_cloud(launch(options, then));
  if (!launched || !then) return launched;
  VerbResult up = verb_up(then->up);
  if (wants_guard(then->up.guard) && (!up || *up != ExitCode::ok))
    say("The machine runs and is billed; whether it stops by itself, `gpustrap status` says.");
  if (up && !then->destination.empty()) {
    if (!then->up.json) print(then->destination + "\n");
    say(then->farewell);
  }
  return up;
}

}  // namespace gpustrap
