// `up` and `plan` on many hosts.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/compat_loader.h"
#include "controller/complaint.h"
#include "controller/consent.h"
#include "controller/console.h"
#include "controller/fleet.h"
#include "controller/fleet_hosts.h"
#include "controller/fleet_json.h"
#include "controller/fleet_members.h"
#include "controller/fleet_printer.h"
#include "controller/fleet_record.h"
#include "controller/guard_wish.h"
#include "controller/hosts_file.h"
#include "controller/notebook.h"
#include "controller/planned_changes.h"
#include "controller/prompt.h"
#include "controller/recipe_loader.h"
#include "controller/run_log.h"
#include "controller/secret_input.h"
#include "controller/user_config.h"
#include "controller/user_recipes.h"
#include "controller/verbs.h"

namespace gpustrap {
namespace {

std::string absolute(const std::string& path) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::absolute(path, error);
  return error ? path : whole.lexically_normal().string();
}

/// What is said for all hosts on the command line, as the user would type it again.
std::string command_of(const Options& options, const std::string& limit) {
  std::string command = fmt::format("gpustrap {} {}", options.verb == Verb::plan ? "plan" : "up", shell_quote(options.recipe));
  if (options.hosts_file.empty()) {
    for (const std::string& host : options.hosts) command += " " + shell_quote(host);
  } else {
    command += " -f " + shell_quote(options.hosts_file);
  }
  for (const auto& [name, value] : options.vars) command += " --var " + shell_quote(name + "=" + value);
  command += words_of(options.guard);
  command += words_of(options.steps);
  if (options.mirror) command += " --mirror " + shell_quote(*options.mirror);
  if (options.proxy) command += " --proxy " + shell_quote(*options.proxy);
  if (options.allow_disruption) command += " --allow-disruption";
  if (options.ask_sudo_password) command += " --ask-sudo-password";
  if (!limit.empty()) command += " --limit " + shell_quote(limit);
  return command;
}

Result<FleetRecord> record_of(const Options& options) {
  const std::string recipe = is_recipe_file(options.recipe) ? absolute(options.recipe) : options.recipe;
  std::vector<std::string> names = options.hosts;
  std::sort(names.begin(), names.end());
  const std::string hosts = options.hosts_file.empty() ? join(names, " ") : absolute(options.hosts_file);
  return state_directory().and_then([&](const std::string& state) { return FleetRecord::load(state, recipe, hosts); });
}

/// Indexes of the hosts that --limit leaves.
Result<std::vector<std::size_t>> chosen(const Options& options, const FleetHosts& hosts, const FleetRecord& record) {
  std::vector<std::size_t> all(hosts.hosts.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  if (options.limit.empty()) return all;
  if (options.limit != "failed") return select_hosts(hosts, options.limit);
  if (record.empty()) {
    return fail(ErrorCode::usage, "--limit failed: nothing is known of an earlier run of this recipe on these hosts",
                fmt::format("run it on all of them first: {}", command_of(options, "")));
  }
  std::erase_if(all, [&](std::size_t i) { return !record.has_failed(hosts.hosts[i].name); });
  return all;
}

/// The recipe of each host; hosts for which the file says the same share one.
class RecipeShelf {
 public:
  RecipeShelf(const Options& options, const FleetHosts& hosts) : options_(options), hosts_(hosts) {}

  Result<std::shared_ptr<const Recipe>> recipe_for(std::size_t index) {
    const FleetHost& host = hosts_.hosts[index];
    Json key = Json::array();
    for (const HostVar& var : host.settings.vars) key.push_back({var.name, *var.value});
    if (each_its_own_) key.push_back(index);
    const auto known = recipes_.find(key.dump());
    if (known != recipes_.end()) return known->second;
    LoadOptions load;
    load.sources = recipe_sources();
    load.vars = options_.vars;
    load.host_vars = host.settings.vars;
    load.hosts = &hosts_;
    load.host = index;
    Result<LoadedRecipe> loaded = load_recipe(options_.recipe, load);
    if (!loaded) return fail(std::move(loaded).error());
    for (const std::string& line : loaded->next) {
      if (std::find(next_.begin(), next_.end(), line) == next_.end()) next_.push_back(line);
    }
    add_guard(loaded->recipe, options_.guard);
    if (Result<void> added = add_compat(loaded->recipe); !added) return fail(std::move(added).error());
    if (options_.allow_disruption) allow_disruption(loaded->recipe);
    if (loaded->of_one_host && !std::exchange(each_its_own_, true)) key.push_back(index);
    return recipes_[key.dump()] = std::make_shared<const Recipe>(std::move(loaded->recipe));
  }

  /// What the recipe says of all of them once they are done; what it says of several hosts alike, once.
  [[nodiscard]] const std::vector<std::string>& next() const { return next_; }

  /// Every step of every one of them, for what has to be asked before.
  [[nodiscard]] Recipe all_steps() const {
    Recipe all;
    for (const auto& [key, recipe] : recipes_) {
      if (all.steps.empty())
        all = *recipe;
      else
        all.steps.insert(all.steps.end(), recipe->steps.begin(), recipe->steps.end());
    }
    return all;
  }

 private:
  const Options& options_;
  const FleetHosts& hosts_;
  bool each_its_own_ = false;  ///< the recipe asks which host it is for
  std::map<std::string, std::shared_ptr<const Recipe>> recipes_;
  std::vector<std::string> next_;
};

std::unique_ptr<FleetView> make_view(const Options& options, const std::string& recipe, std::vector<std::string> names) {
  const auto writer = [](int descriptor) -> JsonPrinter::Write {
    return [descriptor](std::string_view text) { static_cast<void>(write_all(descriptor, text).has_value()); };
  };
  if (options.json) return std::make_unique<FleetJson>(std::move(names), writer(STDOUT_FILENO), writer(STDERR_FILENO));
  return std::make_unique<FleetPrinter>(console_of(STDOUT_FILENO, options.colour), recipe, std::move(names), options.detail);
}

/// Whether the hosts may be begun: where a run would install a driver or restart one, somebody says yes for all of them. `ends` takes
/// those that could not be looked at; they are not begun.
Result<bool> agreed(Fleet& fleet, const std::vector<FleetMember>& members, std::vector<std::optional<HostEnd>>& ends) {
  std::vector<std::size_t> everyone(members.size());
  std::iota(everyone.begin(), everyone.end(), std::size_t{0});
  const std::vector<Rehearsal> rehearsals = fleet.rehearse(everyone);
  if (fleet.interrupted()) return fail(ErrorCode::cancelled, "interrupted", "nothing was changed");
  PlannedChanges changes;
  std::map<std::string, std::vector<std::string>> disrupted;
  for (std::size_t i = 0; i < members.size(); ++i) {
    ends[i] = rehearsals[i].failure;
    const Disruption disruption = disruption_in(rehearsals[i].plan);
    if (disruption.what.empty()) continue;
    disrupted[disruption.what].push_back(members[i].name);
    for (const Event& event : rehearsals[i].plan) {
      if (const auto* step = std::get_if<StepFinished>(&event.body)) changes.take(members[i].name, *step);
    }
  }
  if (disrupted.empty()) return true;
  std::size_t count = 0;
  std::vector<std::string> what;
  for (const auto& [disruption, hosts] : disrupted) {
    count += hosts.size();
    what.push_back(fmt::format("{} on {}", disruption, hosts.size() > 8 ? fmt::format("{} hosts", hosts.size()) : join(hosts, ", ")));
  }
  const std::string all = join(what, "; it ");
  if (!can_ask()) {
    return fail(ErrorCode::usage, fmt::format("this run {}, and nobody can be asked whether it may", all),
                fmt::format("add -y to say yes for all of them; `gpustrap plan` with the same words shows what it would do"));
  }
  std::string question = fmt::format("This run {}. There it would change:\n", all);
  for (const std::string& line : changes.lines(count, 79, "…")) question += line + "\n";
  return ask_yes_no(question + "Go on?");
}

/// What to do from here, a line each.
std::vector<std::string> next_steps(const Options& options, const std::vector<FleetMember>& members, const std::vector<HostEnd>& ends,
                                    const std::string& run) {
  std::vector<std::string> next;
  const auto is_good = [](const HostEnd& end) { return end.exit == ExitCode::ok || end.exit == ExitCode::plan_changes; };
  const auto good = std::find_if(ends.begin(), ends.end(), is_good);
  const bool goes_on =
      std::any_of(ends.begin(), ends.end(), [](const HostEnd& end) { return end.begun && end.exit == ExitCode::detached; });
  if (good != ends.end() && options.verb == Verb::up) {
    const FleetMember& member = members[static_cast<std::size_t>(good - ends.begin())];
    if (notebook_of(*member.recipe)) next.push_back("A notebook of one host:  gpustrap open " + shell_quote(member.options.destination()));
  }
  if (goes_on) next.push_back("Follow those that go on: " + command_of(options, options.limit));
  if (options.verb == Verb::up && !goes_on && !std::all_of(ends.begin(), ends.end(), is_good))
    next.push_back("Again where it failed:   " + command_of(options, "failed"));
  if (options.verb == Verb::up) {
    const auto logged = std::find_if(ends.begin(), ends.end(), [](const HostEnd& end) { return !end.log.empty(); });
    if (logged != ends.end() &&
        std::any_of(ends.begin(), ends.end(), [](const HostEnd& end) { return end.exit == ExitCode::step_failed; })) {
      const std::string runs = parent_of(parent_of(logged->log));
      next.push_back(fmt::format("Full logs:               {}/{}-*/log.txt", runs, run));
    }
  }
  return next;
}

/// `--only pip jupyter` makes a host of the second word.
std::optional<Error> step_for_host(const Options& options, const std::vector<const Recipe*>& recipes) {
  for (const auto& [option, ids] :
       {std::pair{"--only", &options.steps.only}, std::pair{"--skip", &options.steps.skip}, std::pair{"--force", &options.steps.force}}) {
    for (const std::string& host : options.hosts) {
      const auto has_step = [&](const Recipe* recipe) {
        return std::any_of(recipe->steps.begin(), recipe->steps.end(), [&](const StepEntry& step) { return step.id == host; });
      };
      if (ids->empty() || std::none_of(recipes.begin(), recipes.end(), has_step)) continue;
      return Error(ErrorCode::usage, fmt::format("`{}` stands where a host does, and is a step of the recipe", host),
                   fmt::format("several steps have commas between them: {} {},{}", option, join(*ids, ","), host));
    }
  }
  return std::nullopt;
}

}  // namespace

VerbResult verb_fleet(const Options& options) {
  const bool plan = options.verb == Verb::plan;
  const Result<FleetHosts> hosts = fleet_hosts_of(options);
  if (!hosts) return fail(hosts.error());
  Result<FleetRecord> record = record_of(options);
  if (!record) return fail(record.error());
  const Result<std::vector<std::size_t>> which = chosen(options, *hosts, *record);
  if (!which) return fail(which.error());
  const Result<UserConfig> config = load_user_config();
  if (!config) return fail(config.error());
  Result<Network> network = network_for(*config, options.mirror, options.proxy);
  if (!network) return fail(std::move(network).error());
  const Result<std::vector<RememberedHost>> memory = HostsFile::open().and_then([](const HostsFile& file) { return file.load(); });
  if (!memory) return fail(memory.error());

  // Every recipe is read before the first host is reached: a mistake in a var of the last one has changed nothing on the others.
  RecipeShelf shelf(options, *hosts);
  std::vector<FleetMember> members;
  std::vector<std::string> names;
  for (const std::size_t i : *which) {
    const FleetHost& host = hosts->hosts[i];
    Result<std::shared_ptr<const Recipe>> recipe = shelf.recipe_for(i);
    if (!recipe) return fail(std::move(recipe).error());
    members.push_back({host.name, options_for(options, host, *memory), *std::move(recipe)});
    names.push_back(host.name);
  }
  if (members.empty()) {
    static_cast<void>(
        write_all(options.json ? STDERR_FILENO : STDOUT_FILENO, "Nothing failed the last time; nothing to do.\n").has_value());
    return ExitCode::ok;
  }
  std::vector<const Recipe*> recipes;
  for (const FleetMember& member : members) {
    if (std::find(recipes.begin(), recipes.end(), member.recipe.get()) == recipes.end()) recipes.push_back(member.recipe.get());
  }
  Result<ChosenSteps> chosen_steps = choose_steps(recipes, options.steps);
  if (!chosen_steps) return fail(std::move(chosen_steps).error());
  if (const std::optional<Error> taken = step_for_host(options, recipes)) return fail(*taken);
  const Recipe all = chosen_part(shelf.all_steps(), chosen_steps->choice);

  FleetWork work;
  work.mode = plan ? RunMode::plan : RunMode::apply;
  work.stay = options.detach ? Stay::until_started : Stay::until_finished;
  work.network = *std::move(network);
  work.choice = chosen_steps->choice;
  work.run = make_run_id();
  work.parallel = parallel_for(options, members.size());
  if (!plan) {
    Result<SecretValues> secrets = secrets_for(all);
    if (!secrets) return fail(std::move(secrets).error());
    work.secrets = *std::move(secrets);
  }
  if (Result<void> asked = ask_sudo_password_for(options, work); !asked) return fail(std::move(asked).error());

  const auto screen = std::make_shared<FleetScreen>(make_view(options, all.name, names), members.size());
  for (const std::string& notice : hosts->notices) screen->announce(notice);
  for (const std::string& sentence : chosen_steps->notices) screen->announce(sentence);
  for (const std::string& way : describe_network(work.network)) screen->announce(way);
  const std::string run = work.run;
  Fleet fleet(members, std::move(work), screen);
  std::vector<std::optional<HostEnd>> ends(members.size());
  if (!plan && !options.yes && may_disrupt(all)) {
    const Result<bool> may_begin = agreed(fleet, members, ends);
    if (!may_begin) return fail(may_begin.error());
    if (!*may_begin) {
      screen->announce("Nothing was changed.");
      return ExitCode::cancelled;
    }
  }
  if (const std::optional<NotebookPlace> open = notebook_of(all); !plan && open && open->tls) {
    screen->announce(
        fmt::format("This recipe opens its notebook to the network: whoever reaches port {} of a host and knows the password "
                    "runs programs there as its user.",
                    open->port));
  }
  std::vector<std::size_t> begun;
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (ends[i])
      screen->ended(i, *ends[i]);
    else
      begun.push_back(i);
  }
  std::vector<HostEnd> ran = fleet.run(begun);
  for (std::size_t i = 0; i < begun.size(); ++i) ends[begun[i]] = std::move(ran[i]);

  std::vector<HostEnd> all_ends;
  ExitCode worst = ExitCode::ok;
  for (std::size_t i = 0; i < members.size(); ++i) {
    HostEnd& end = *ends[i];
    end.hint = with_host(end.hint, members[i].options.destination());
    const bool changes = end.finished && end.finished->would_change + end.finished->unknown > 0;
    if (plan && options.exit_code && end.exit == ExitCode::ok && changes) end.exit = ExitCode::plan_changes;
    worst = worse_of(worst, end.exit);
    if (!plan) record->note(members[i].name, end.exit);
    all_ends.push_back(std::move(end));
  }
  if (!plan) {
    const Result<void> kept = record->save();
    if (!kept) screen->announce("How the hosts ended is not kept for --limit failed: " + kept.error().sentence());
  }
  std::vector<bool> reached;
  for (const HostEnd& end : all_ends) reached.push_back(!end.run.empty());
  if (const Result<void> kept = remember_hosts(members, reached); !kept)
    screen->announce("These hosts are not remembered: " + kept.error().sentence());
  if (const Result<std::string> state = state_directory()) RunLog::forget_oldest(*state);
  std::vector<std::string> next = next_steps(options, members, all_ends, run);
  if (!plan && worst == ExitCode::ok && chosen_steps->choice.left_out.empty())
    next.insert(next.begin(), shelf.next().begin(), shelf.next().end());
  screen->summary(all_ends, next);
  return worst;
}

}  // namespace gpustrap
