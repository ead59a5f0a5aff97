// Renting a machine of EC2, as far as a login; `up` goes on from there.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/cloud/holdings.h"
#include "controller/cloud/launch.h"
#include "controller/cloud/asked_prices.h"
#include "controller/cloud/ssh_access.h"
#include "controller/cloud_verb.h"
#include "controller/known_instance.h"
#include "controller/machine_choice.h"
#include "controller/run_log.h"
#include "controller/ssh_session.h"

namespace gpustrap {
namespace {

constexpr auto kSshWithin = std::chrono::seconds(300);

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

VerbResult launch(const Options& options, std::optional<Options>& then_up) {
  const Result<Machines> machines = machines_of(options);
  if (!machines) return fail(machines.error());
  if (Result<void> fits = check_recipe(options, machines->gpu); !fits) return fail(std::move(fits).error());
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
  wish.image = options.cloud.image;
  wish.user = options.user;
  wish.ssh_from = options.cloud.ssh_from;
  if (!wish.ssh_from.empty()) {
    if (const Result<std::string> source = read_source(wish.ssh_from); !source) return fail(source.error());
  }
  if (options.identities.size() > 1) return fail(ErrorCode::usage, "-i is given twice", "an instance begins with one key");
  if (!options.identities.empty()) wish.identity = absolute(options.identities.front());
  wish.disk_gib = options.cloud.disk_gib;
  wish.spot = options.cloud.spot;

  Result<std::unique_ptr<AwsClient>> client = open_cloud(options);
  if (!client) return fail(std::move(client).error());
  Ec2 ec2(**client);
  std::optional<RentedWarning> warning;
  Launch launching(ec2, *state, wish, {say, [&](const std::string& what) {
                                         Result<bool> yes = agreed(options, what, "Rent it?");
                                         if (yes && *yes) warning.emplace();
                                         return yes;
                                       }});
  Result<Launched> launched = launching.run();
  if (!launched) return fail(std::move(launched).error());
  const Ec2Instance& instance = launched->instance;
  if (launched->was_there) {
    const Result<void> open = open_ssh(options, ec2, instance);
    if (!open) return fail(open.error());
  }

  InstanceRecord record{instance.address, launched->user, launched->identity, {}, "", (*client)->settings().region};
  const std::optional<InstanceRecord> before = load_instance(*state, instance.id);
  if (before) {
    record.host_keys = before->host_keys;
    if (options.user.empty() && !before->user.empty()) record.user = before->user;
    if (options.identities.empty() && !before->identity.empty()) record.identity = before->identity;
  }
  if (record.host_keys.empty()) {
    if (!options.cloud.no_wait) say("Waiting for its host keys on the console: they come one to four minutes after the start …");
    Result<std::vector<std::string>> keys = launching.read_host_keys(instance.id, !options.cloud.no_wait);
    if (!keys) return fail(std::move(keys).error().in(fmt::format("reading the host keys of {}, which runs and is billed", wish.name)));
    record.host_keys = *std::move(keys);
  }
  if (Result<void> known = make_known(*state, instance, record, say); !known)
    return fail(std::move(known).error().in(fmt::format("noting {}, which runs and is billed", wish.name)));
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
    if (!session) static_cast<void>(launching.look_at_checks(instance.id));
    if (!session) {  // no longer EC2's doing: the codes of `up` say what it is
      complain(Error(session.error())
                   .in(fmt::format("logging in to {}, which runs and is billed", wish.name))
                   .with_hint(fmt::format("end it with: gpustrap terminate {}", wish.name)));
      return exit_code_of(session.error().code());
    }
  }
  const std::string destination = record.user + "@" + record.address;
  const std::optional<Price> price = AskedPrices(**client, *state).price_of(instance);
  say(fmt::format("{} runs: {}, {} in {}{}.", wish.name, instance.id, instance.type, instance.zone,
                  price ? fmt::format(", about {} an hour", usd(price->usd_per_hour)) : ""));
  if (options.recipe.empty()) {
    print(destination + "\n");
    if (record.host_keys.empty() && options.cloud.no_wait)
      say("Its host key is not known yet; the same command without --no-wait waits for it.");
    const bool spot = instance.lifecycle == "spot";
    const std::string end = fmt::format("gpustrap {} {}", spot ? "terminate" : "stop", wish.name);
    say(fmt::format("  {:<36} sets it up\n  {:<36} a shell\n  {:<36} {}", "gpustrap up jupyter " + record.host,
                    "gpustrap ssh " + record.host, end, spot ? "ends it, and the bill" : "ends the bill but the disk's"));
    return ExitCode::ok;
  }
  Options up = options;
  up.verb = Verb::up;
  up.host = record.host;
  up.hosts = {record.host};
  up.address = record.address;
  up.user = record.user;
  up.identities = {record.identity};
  up.gpus.clear();
  up.wait = kSshWithin;
  up.yes = options.yes || !launched->was_there;  // nobody else is on a machine that was made a minute ago
  then_up = std::move(up);
  return ExitCode::ok;
}

}  // namespace

VerbResult verb_launch(const Options& options) {
  std::optional<Options> up;
  VerbResult launched = of_cloud(launch(options, up));
  if (!launched || !up) return launched;
  return verb_up(*up);
}

}  // namespace gpustrap
