#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/compat_lookup.h"
#include "agent/protocol/json.h"
#include "controller/cloud/holdings.h"
#include "controller/cloud/host_keys.h"
#include "controller/cloud/launch.h"
#include "controller/cloud/prices.h"
#include "controller/compat_loader.h"
#include "controller/complaint.h"
#include "controller/console.h"
#include "controller/display_width.h"
#include "controller/host_access.h"
#include "controller/hosts_file.h"
#include "controller/prompt.h"
#include "controller/recipe_explain.h"
#include "controller/recipe_loader.h"
#include "controller/run_log.h"
#include "controller/user_recipes.h"
#include "controller/verbs.h"

namespace gpustrap {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

constexpr auto kStateWithin = minutes(15), kImageWithin = minutes(60);
constexpr auto kSshWithin = seconds(300);

void print(const std::string& text) { static_cast<void>(write_all(STDOUT_FILENO, text).has_value()); }

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

void say(const std::string& text) { static_cast<void>(write_all(STDERR_FILENO, wrapped(text) + "\n").has_value()); }

void complain(const Error& error) {
  const Console console = console_of(STDERR_FILENO, ColourChoice::never);
  static_cast<void>(write_all(STDERR_FILENO, complaint(error, "", console.person ? console.size().columns - 1 : 0)).has_value());
}

/// What EC2 is to blame for ends with an exit code of its own, whatever kind of failure it is.
VerbResult of_cloud(VerbResult result) {
  if (result) return result;
  const ErrorCode code = result.error().code();
  if (code == ErrorCode::usage || code == ErrorCode::recipe || code == ErrorCode::cancelled) return result;
  complain(result.error());
  return ExitCode::cloud;
}

Result<std::unique_ptr<AwsClient>> open_cloud(const Options& options) {
  Result<AwsSettings> settings = settings_for(options.cloud.profile, options.cloud.region, process_environment());
  if (!settings) return fail(std::move(settings).error());
  const std::string ca_bundle = settings->ca_bundle;
  auto client = std::make_unique<AwsClient>(*std::move(settings), make_http(ca_bundle), real_clock());
  client->on_notice(say);
  if (Result<void> found = client->check_credentials(); !found) return fail(std::move(found).error());
  return client;
}

/// Whether the person says yes to what is described; an error where nobody can be asked.
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

std::string age_of(const Ec2Instance& instance) {
  return human_duration(std::chrono::milliseconds(static_cast<std::int64_t>(hours_since(instance.launched) * 3'600'000)));
}

/// The recipe is checked, and its CUDA against the GPU, before anything is rented.
Result<void> check_recipe(const Options& options, const std::string& gpu) {
  if (options.recipe.empty()) return {};
  const Result<LoadedRecipe> recipe = load_recipe(options.recipe, LoadOptions{recipe_sources(), options.vars});
  if (!recipe) return fail(recipe.error());
  const Result<Compat> compat = load_builtin_compat();
  if (!compat) return fail(compat.error());
  const std::string& image = options.cloud.image;
  const std::string os = image.starts_with("ubuntu:") || image.starts_with("debian:") ? image : image == "dlami" ? "ubuntu:24.04" : "";
  const Result<ImaginedMachine> machine =
      imagine_machine(*compat, gpu.empty() ? std::vector<std::string>{} : std::vector<std::string>{gpu}, os, "");
  if (!machine) return fail(machine.error());
  const Explanation explanation = explain_recipe(*recipe, *compat, *machine, 0);
  if (!explanation.would_fail) return {};
  std::string why;
  for (const std::string& line : split(explanation.text, '\n')) {
    const std::string_view bare = trim(line);
    if (why.empty() && bare.starts_with("would fail: ")) why = bare.substr(12);
  }
  return fail(ErrorCode::recipe, fmt::format("the recipe {} would fail on that machine, so it is not rented: {}", options.recipe, why),
              fmt::format("gpustrap recipe explain {}{}{} says more", shell_quote(options.recipe), gpu.empty() ? "" : " --gpu " + gpu,
                          os.empty() ? "" : " --os " + os));
}

struct Machines {
  std::vector<std::string> types;
  std::string gpu;  ///< as compat.yaml knows it, with its count; empty: none or not known
};

/// "t4", "4xa10g": the types that have them.
Result<Machines> machines_of(const Options& options) {
  const PriceTable& prices = builtin_prices();
  if (!options.cloud.types.empty()) {
    const std::string& type = options.cloud.types.front();
    const std::string gpu = prices.gpu_of(type);
    const PriceRow* row = prices.find(type);
    for (const std::string& one : options.cloud.types) {
      if (one.find('.') == std::string::npos)
        return fail(ErrorCode::usage, fmt::format("--type {}: a type has a size", strip_control(one)),
                    fmt::format("for instance --type {}.xlarge", strip_control(one)));
    }
    return Machines{options.cloud.types, gpu.empty() || row == nullptr || row->gpus == 1 ? gpu : fmt::format("{}x{}", row->gpus, gpu)};
  }
  const Result<Compat> compat = load_builtin_compat();
  if (!compat) return fail(compat.error());
  const std::string& word = options.gpus.front();
  const Result<ImaginedMachine> machine = imagine_machine(*compat, {word}, "", "");
  if (!machine) return fail(machine.error());
  const std::size_t x = word.find('x');
  const bool counted = x != std::string::npos && x > 0 && word.find_first_not_of("0123456789") == x;
  const GpuRow* row = find_gpu_by_name(*compat, counted ? word.substr(x + 1) : word);
  const unsigned count = static_cast<unsigned>(machine->facts.gpus.size());
  std::vector<std::string> types;
  for (const std::string& alias : row == nullptr ? std::vector<std::string>{} : row->aliases.items) {
    if (types.empty()) types = prices.types_with(alias, count);
  }
  if (types.empty()) {
    const bool retired = row != nullptr && row->retired;
    std::string families = row == nullptr ? "" : join(row->instances.items, ", ");
    return fail(ErrorCode::usage,
                retired ? fmt::format("--gpu {}: EC2 has retired its machines ({})", word, families)
                        : fmt::format("--gpu {}: no type with {} of them is known here", word, count),
                retired || families.empty() ? "machines there are: --gpu t4, a10g, l4, l40s, 8xa100, h100"
                                            : fmt::format("name its type: --type {}.SIZE", row->instances.items.front()));
  }
  return Machines{types, word};
}

std::string absolute(const std::string& path) { return std::filesystem::absolute(path).lexically_normal().string(); }

Result<SshTarget> target_of(const std::string& address, const std::string& user, const std::string& identity) {
  return resolve_target(SshRequest{address, user, std::nullopt, {identity}});
}

/// Makes this machine know the instance: its host keys, how to log in.
Result<void> make_known(const std::string& state, const std::string& id, const InstanceRecord& record, const std::string& old_address) {
  const Result<SshTarget> target = target_of(record.address, record.user, record.identity);
  if (!target) return fail(target.error());
  if (!record.host_keys.empty()) {
    if (Result<void> pinned = pin_host_keys(target->known_hosts, record.address, record.host_keys); !pinned) return pinned;
  }
  const Result<HostsFile> hosts = HostsFile::open();
  if (!hosts) return fail(hosts.error());
  const bool moved = !old_address.empty() && old_address != record.address;
  Result<std::optional<RememberedHost>> known = hosts->find(moved ? old_address : record.address);
  if (!known) return fail(std::move(known).error());
  RememberedHost entry = known->value_or(RememberedHost{});
  entry.host = record.address;
  entry.user = record.user;
  entry.identities = {record.identity};
  if (Result<void> remembered = hosts->remember(entry); !remembered) return remembered;
  if (moved) {
    if (const Result<bool> forgotten = hosts->forget(old_address); !forgotten) return fail(forgotten.error());
    if (Result<void> forgotten = forget_host_keys(target->known_hosts, old_address); !forgotten) return forgotten;
  }
  return save_instance(state, id, record);
}

void forget(const std::string& state, const Ec2Instance& instance) {
  const std::optional<InstanceRecord> record = load_instance(state, instance.id);
  if (!record) return;
  if (const Result<HostsFile> hosts = HostsFile::open(); hosts && !record->address.empty()) {
    static_cast<void>(hosts->forget(record->address));
    if (const Result<SshTarget> target = target_of(record->address, record->user, record->identity))
      static_cast<void>(forget_host_keys(target->known_hosts, record->address));
  }
  remove_instance(state, instance.id);
}

/// Waits until the instance is in that state.
Result<Ec2Instance> wait_for(Ec2& ec2, const std::string& id, const std::string& state) {
  const CloudClock& clock = ec2.client().clock();
  const AwsTime until = clock.now() + kStateWithin;
  for (auto pause = std::chrono::milliseconds(1000);; pause = std::min(pause * 3 / 2, std::chrono::milliseconds(10'000))) {
    AwsResult<Ec2Instance> now = ec2.instance(id);
    if (!now) return fail(std::move(now).error().error);
    if (now->state == state && (state != "running" || !now->address.empty())) return *std::move(now);
    if (now->state == "terminated")
      return fail(ErrorCode::unsupported, fmt::format("{} was terminated: {}", id, strip_control(now->state_reason)), "gpustrap ls");
    if (clock.now() >= until)
      return fail(ErrorCode::timeout, fmt::format("{} is still {} after 15 minutes", id, now->state), "`gpustrap ls` shows its state");
    clock.sleep(pause);
  }
}

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

  InstanceRecord record{instance.address, launched->user, launched->identity, {}};
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
  if (Result<void> known = make_known(*state, instance.id, record, before ? before->address : ""); !known)
    return fail(std::move(known).error().in(fmt::format("noting {}, which runs and is billed", wish.name)));
  if (record.host_keys.empty() && !options.cloud.no_wait)
    say("Its console shows no host keys; the first connection will ask whether to trust what it sees.");
  if (!record.host_keys.empty() && !options.cloud.no_wait) {
    say(fmt::format("Its host keys are known now ({}). Waiting for its SSH …", record.host_keys.size()));
    const Result<SshTarget> target = target_of(record.address, record.user, record.identity);
    if (!target) return fail(target.error());
    SshPrompts prompts;
    prompts.notice = say;
    const Result<SshSession> session = SshSession::connect_patiently(*target, prompts, kSshWithin, [](const Error&) {});
    if (!session) {  // no longer EC2's doing: the codes of `up` say what it is
      complain(Error(session.error())
                   .in(fmt::format("logging in to {}, which runs and is billed", wish.name))
                   .with_hint(fmt::format("end it with: gpustrap terminate {}", wish.name)));
      return exit_code_of(session.error().code());
    }
  }
  const std::string destination = record.user + "@" + record.address;
  const auto price = usd_per_hour(instance);
  say(fmt::format("{} runs: {}, {} in {}{}.", wish.name, instance.id, instance.type, instance.zone,
                  price ? fmt::format(", about {} an hour", usd(*price)) : ""));
  if (options.recipe.empty()) {
    print(destination + "\n");
    if (record.host_keys.empty() && options.cloud.no_wait)
      say("Its host key is not known yet; the same command without --no-wait waits for it.");
    const bool spot = instance.lifecycle == "spot";
    const std::string end = fmt::format("gpustrap {} {}", spot ? "terminate" : "stop", wish.name);
    say(fmt::format("  {:<36} sets it up\n  {:<36} a shell\n  {:<36} {}", "gpustrap up jupyter " + record.address,
                    "gpustrap ssh " + record.address, end, spot ? "ends it, and the bill" : "ends the bill but the disk's"));
    return ExitCode::ok;
  }
  Options up = options;
  up.verb = Verb::up;
  up.host = record.address;
  up.hosts = {record.address};
  up.user = record.user;
  up.identities = {record.identity};
  up.gpus.clear();
  up.wait = kSshWithin;
  up.yes = options.yes || !launched->was_there;  // nobody else is on a machine that was made a minute ago
  then_up = std::move(up);
  return ExitCode::ok;
}

VerbResult list_instances(const Options& options, Ec2& ec2) {
  AwsResult<std::vector<Ec2Instance>> all = own_instances(ec2);
  if (!all) return fail(std::move(all).error().error);
  std::sort(all->begin(), all->end(), [](const Ec2Instance& a, const Ec2Instance& b) { return name_of(a) < name_of(b); });
  const std::string& region = ec2.client().settings().region;
  if (options.json) {
    Json list = Json::array();
    for (const Ec2Instance& one : *all) {
      Json entry = {{"name", name_of(one)},
                    {"instance", one.id},
                    {"type", one.type},
                    {"state", one.state},
                    {"address", one.address},
                    {"zone", one.zone},
                    {"spot", one.lifecycle == "spot"}};
      if (one.launched) entry["started"] = iso_time(*one.launched);
      const auto price = usd_per_hour(one);
      if (price && one.state == "running") entry["usd_so_far"] = std::round(*price * hours_since(one.launched) * 100) / 100;
      list.push_back(std::move(entry));
    }
    print(Json{{"version", 1}, {"region", region}, {"prices_as_of", builtin_prices().as_of}, {"instances", std::move(list)}}.dump(2) +
          "\n");
    return ExitCode::ok;
  }
  if (all->empty()) {
    say(fmt::format("gpustrap has no instance in {}.", region));
    return ExitCode::ok;
  }
  std::vector<std::vector<std::string>> rows = {{"NAME", "INSTANCE", "TYPE", "STATE", "SINCE", "ADDRESS", "COST"}};
  for (const Ec2Instance& one : *all) {
    const auto price = usd_per_hour(one);
    const bool runs = one.state == "running";
    const std::string cost = !runs                     ? (one.state == "stopped" ? "its disk" : "")
                             : price                   ? usd(*price * hours_since(one.launched))
                             : one.lifecycle == "spot" ? "spot"
                                                       : "?";
    rows.push_back({name_of(one), one.id, one.type, one.state, runs ? age_of(one) : "", one.address, cost});
  }
  std::vector<std::size_t> widths(rows.front().size(), 0);
  for (std::vector<std::string>& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] = strip_control(row[i]);
      widths[i] = std::max(widths[i], display_width(row[i]));
    }
  }
  std::string text;
  for (const std::vector<std::string>& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) line += fit_to_width(row[i], widths[i]) + "  ";
    while (line.ends_with(' ')) line.pop_back();
    text += line + "\n";
  }
  print(text);
  say(fmt::format("Since the last start, without disks; prices of us-east-1, {}.", builtin_prices().as_of));
  return ExitCode::ok;
}

VerbResult list_orphans(const Options& options, Ec2& ec2) {
  const AwsResult<std::vector<Orphan>> orphans = find_orphans(ec2);
  if (!orphans) return fail(orphans.error().error);
  if (orphans->empty()) {
    say(fmt::format("Nothing of gpustrap's is left over in {}.", ec2.client().settings().region));
    return ExitCode::ok;
  }
  double total = 0;
  std::string text;
  std::size_t removable = 0;
  for (const Orphan& one : *orphans) {
    text += fmt::format("  {:<8} {:<22} {:>9}/month  {}\n", one.kind, one.id, usd(one.usd_per_month), one.what);
    total += one.usd_per_month;
    removable += one.action.empty() ? 0 : 1;
  }
  print(fmt::format("{}  in all {} a month\n", text, usd(total)));
  if (removable == 0) return ExitCode::ok;
  if (!options.yes && !can_ask()) {
    say("Add -y to remove what is not kept.");
    return ExitCode::ok;
  }
  if (!options.yes && !ask_yes_no(fmt::format("Remove {} of them for good?", removable))) return ExitCode::ok;
  for (const Orphan& one : *orphans) {
    if (one.action.empty()) continue;
    if (const AwsResult<void> removed = ec2.remove(one.action, one.parameter, one.id); !removed)
      return fail(Error(removed.error().error).in(fmt::format("removing {} {}", one.kind, one.id)));
    say(fmt::format("Removed: {} {}.", one.kind, one.id));
  }
  return ExitCode::ok;
}

/// The instances that the words name, each once.
Result<std::vector<Ec2Instance>> named_instances(Ec2& ec2, const Options& options) {
  std::vector<Ec2Instance> named;
  for (const std::string& word : options.hosts) {
    Result<Ec2Instance> one = own_instance(ec2, word);
    if (!one) return fail(std::move(one).error());
    const bool twice = std::any_of(named.begin(), named.end(), [&](const Ec2Instance& other) { return other.id == one->id; });
    if (!twice) named.push_back(*std::move(one));
  }
  return named;
}

/// Opens the cloud and the instances named, for verbs about them.
template <class Act> VerbResult with_instances(const Options& options, Act act) {
  Result<std::unique_ptr<AwsClient>> client = open_cloud(options);
  if (!client) return fail(std::move(client).error());
  Ec2 ec2(**client);
  const Result<std::string> state = state_directory();
  if (!state) return fail(state.error());
  Result<std::vector<Ec2Instance>> named = named_instances(ec2, options);
  if (!named) return fail(std::move(named).error());
  return act(ec2, *state, *named);
}

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

VerbResult verb_launch(const Options& options) {
  std::optional<Options> up;
  VerbResult launched = of_cloud(launch(options, up));
  if (!launched || !up) return launched;
  return verb_up(*up);
}

VerbResult verb_ls(const Options& options) {
  Result<std::unique_ptr<AwsClient>> client = open_cloud(options);
  if (!client) return of_cloud(fail(std::move(client).error()));
  Ec2 ec2(**client);
  return of_cloud(options.cloud.orphans ? list_orphans(options, ec2) : list_instances(options, ec2));
}

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
