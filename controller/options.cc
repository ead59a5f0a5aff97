#include "controller/options.h"

#include <algorithm>
#include <charconv>
#include <memory>
#include <system_error>
#include <tuple>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "agent/base/text.h"
#include "controller/command_line.h"
#include "controller/doctor/diagnosis.h"
#include "controller/help_text.h"
#include "controller/newcomer.h"

namespace gpustrap {
namespace {

bool every_verb(const CLI::App*) { return true; }

/// Examples first, then what may be written, in groups; fits 80 columns.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(30); }
  std::string make_help(const CLI::App* app, std::string, CLI::AppFormatMode) const override {
    const bool nested = app->get_parent() != nullptr && app->get_parent()->get_parent() != nullptr;
    const std::string usage =
        (nested ? app->get_parent()->get_name() + " " : "") + app->get_name() + (app->get_footer().empty() ? "" : " " + app->get_footer());
    std::string text = app->get_description() + "\n\nExamples\n";
    text += examples_of(nested ? app->get_parent()->get_name() + " " + app->get_name() : app->get_name());
    const std::vector<const CLI::App*> verbs = app->get_subcommands(every_verb);
    text += "\nUsage: gpustrap " + usage + (verbs.empty() ? "" : " VERB") + " [OPTION]...\n";
    if (!verbs.empty()) text += "\nVerbs\n";
    for (const CLI::App* verb : verbs)
      text += line_of(verb->get_name() + (verb->get_footer().empty() ? "" : " ") + verb->get_footer(), verb->get_description());
    for (const std::string group : {"Run", "Connection", "Output"}) {
      const std::vector<const CLI::Option*> options = app->get_options([&](const CLI::Option* o) { return o->get_group() == group; });
      if (options.empty()) continue;
      text += "\n" + group + "\n";
      for (const CLI::Option* option : options) text += line_of(help_name_of(*option), option->get_description());
    }
    return text;
  }

 private:
  static std::string help_name_of(const CLI::Option& option) {
    std::string names = option.get_name(false, true);
    std::replace(names.begin(), names.end(), ',', ' ');
    return option.get_type_name().empty() ? names : names + " " + option.get_type_name();
  }

  static std::string line_of(const std::string& names, const std::string& description) {
    std::string line = fmt::format("  {:<26}", names);
    if (names.size() > 25) line += "\n" + std::string(28, ' ');
    // Wrapped by hand at 80: descriptions are short sentences.
    std::size_t column = 28;
    for (const std::string& word : words(description)) {
      if (column + word.size() > 79) {
        line.back() = '\n';
        line += std::string(28, ' ');
        column = 28;
      }
      line += word + " ";
      column += word.size() + 1;
    }
    while (line.ends_with(' ')) line.pop_back();
    return line + "\n";
  }
};

/// What the options write into before it is checked.
struct Raw {
  std::string types, disk;
  std::vector<std::string> places;  ///< positional words
  std::vector<std::string> command;
  std::string port, forward, wait, keep, login, forget, parallel, tail;
  std::vector<std::string> vars;
  bool quiet = false, verbose = false, no_colour = false;
};

Result<void> take_host(Options& options, const std::string& word) {
  Result<Destination> destination = read_destination(word);
  if (!destination) return fail(std::move(destination).error());
  if (!options.user.empty() && !destination->user.empty() && options.user != destination->user) {
    return fail(ErrorCode::usage, fmt::format("two users: -l {} and {}", options.user, word), "give one of them");
  }
  options.host = destination->host;
  if (!destination->user.empty()) options.user = destination->user;
  return {};
}

Result<std::size_t> read_count(const std::string& text, std::string_view option, std::size_t most) {
  std::size_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() && value > 0 && value <= most) return value;
  return fail(ErrorCode::usage, fmt::format("{} {}: expected a number from 1 to {}", option, text, most),
              fmt::format("for instance {} 20", option));
}

/// What makes sense for one host only, and what for many only.
Result<void> check_fleet(Options& options, const Raw& raw) {
  if (options.hosts_file.empty() && options.hosts.size() == 1)
    return fail(ErrorCode::usage, "--limit picks some of many hosts, and there is one",
                "name more hosts, or give a hosts file: -f hosts.yaml");
  if (!raw.keep.empty()) return fail(ErrorCode::usage, "--keep is for the connection to one host", "name one host, or leave it out");
  if (!raw.forward.empty())
    return fail(ErrorCode::usage, "-L is for the tunnel to one host", "open it afterwards: gpustrap tunnel HOST -L " + raw.forward);
  for (const std::string& word : options.hosts) {
    if (Result<Destination> destination = read_destination(word); !destination) return fail(std::move(destination).error());
    if (std::count(options.hosts.begin(), options.hosts.end(), word) > 1)
      return fail(ErrorCode::usage, fmt::format("{} is given twice", word), "name each host once");
  }
  if (raw.parallel.empty()) return {};
  const Result<std::size_t> parallel = read_parallel(raw.parallel);
  if (!parallel) return fail(parallel.error());
  options.parallel = *parallel;
  return {};
}

/// `doctor HOST --fix [ID...]`, in any order: what is no class is the host.
Result<void> take_doctor(Options& options, const std::vector<std::string>& places) {
  if (options.list) return {};
  if (options.fix) {
    for (const std::string& place : places) {
      if (find_doctor_class(place) != nullptr && places.size() > 1) options.classes.push_back(place);
    }
  }
  std::vector<std::string> others;
  for (const std::string& place : places) {
    if (std::find(options.classes.begin(), options.classes.end(), place) == options.classes.end()) others.push_back(place);
  }
  if (others.empty())
    return fail(ErrorCode::usage, "doctor needs a host", "gpustrap doctor HOST, or gpustrap doctor --list for what it looks at");
  if (others.size() > 1) {
    if (!options.fix)
      return fail(ErrorCode::usage, fmt::format("doctor: `{}` is one word too many", others[1]),
                  "gpustrap doctor HOST, one host at a time");
    std::vector<std::string> ids;
    for (const DoctorClass& one : doctor_classes()) ids.emplace_back(one.id);
    const std::string near = nearest_name(others[1], ids);
    return fail(ErrorCode::usage,
                fmt::format("doctor knows no `{}`{}", others[1], near.empty() ? "" : fmt::format("; did you mean `{}`?", near)),
                "`gpustrap doctor --list` shows what it looks at");
  }
  return take_host(options, others.front());
}

/// "64" or "64GiB".
Result<std::int64_t> read_disk(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const bool known = unit.empty() || unit == "G" || unit == "GB" || unit == "GiB" || unit == "g";
  if (problem == std::errc() && known && value >= 8 && value <= 16384) return value;
  return fail(ErrorCode::usage, fmt::format("--disk {}: expected a size from 8 to 16384 GiB", text), "for instance --disk 64");
}

/// The words of the verbs about EC2, whose places are instances.
Result<void> check_cloud(Options& options, const Raw& raw) {
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

Result<void> check(Options& options, const Raw& raw, const std::string& verb) {
  options.user = raw.login;
  if (!raw.port.empty()) {
    const Result<std::uint16_t> port = read_port(raw.port, "-p");
    if (!port) return fail(port.error());
    options.port = *port;
  }
  if (!raw.forward.empty()) {
    const Result<Forward> forward = read_forward(raw.forward);
    if (!forward) return fail(forward.error());
    options.forward = *forward;
  }
  if (!raw.wait.empty()) {
    const Result<std::chrono::seconds> wait = read_time(raw.wait, "--wait");
    if (!wait) return fail(wait.error());
    options.wait = *wait;
  }
  if (!raw.keep.empty()) {
    const Result<std::chrono::seconds> keep = read_time(raw.keep, "--keep");
    if (!keep) return fail(keep.error());
    options.keep = *keep;
  }
  for (const std::string& text : raw.vars) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      return fail(ErrorCode::usage, fmt::format("--var {}: expected NAME=VALUE", text), "for instance --var port=9000");
    }
    options.vars.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  for (const std::string& identity : options.identities) {
    if (identity.ends_with(".pub")) {
      return fail(ErrorCode::usage, fmt::format("-i {}: this is the public half of a key", identity),
                  fmt::format("give the private one: -i {}", identity.substr(0, identity.size() - 4)));
    }
  }
  if (raw.quiet && raw.verbose) return fail(ErrorCode::usage, "-q and -v exclude each other");
  options.detail = raw.quiet ? Detail::quiet : raw.verbose ? Detail::verbose : Detail::normal;
  options.colour = raw.no_colour ? ColourChoice::never : ColourChoice::automatic;
  options.command = raw.command;

  if (Result<void> fits = check_places(verb, raw.places, options.hosts_file); !fits) return fits;
  if (options.verb == Verb::hosts) {
    options.forget = !raw.forget.empty();
    return options.forget ? take_host(options, raw.forget) : Result<void>{};
  }
  if (options.verb == Verb::up || options.verb == Verb::plan) {
    options.recipe = raw.places[0];
    options.hosts.assign(raw.places.begin() + 1, raw.places.end());
    if (!options.is_fleet() && options.limit.empty()) return take_host(options, raw.places[1]);
    return check_fleet(options, raw);
  }
  if (options.verb == Verb::man || options.verb == Verb::config) return {};
  if (options.verb == Verb::completion) {
    options.shell = raw.places[0];
    if (options.shell == "bash" || options.shell == "zsh" || options.shell == "fish") return {};
    return fail(ErrorCode::usage, fmt::format("completion {}: expected bash, zsh or fish", options.shell));
  }
  if (options.verb == Verb::recipe_show || options.verb == Verb::recipe_explain || options.verb == Verb::recipe_test ||
      options.verb == Verb::pack)
    options.recipe = raw.places[0];
  if (options.verb == Verb::recipe_explain || options.verb == Verb::recipe_test || options.verb == Verb::pack) return {};
  if (options.verb == Verb::recipe_lint) {
    options.recipes = raw.places;
    if (options.format == "text" || options.format == "json" || options.format == "sarif") return {};
    return fail(ErrorCode::usage, fmt::format("--format {}: expected text, json or sarif", options.format));
  }
  if (options.verb == Verb::recipe_new || options.verb == Verb::adopt) options.file = raw.places.empty() ? "recipe.yaml" : raw.places[0];
  if (options.verb == Verb::recipe_new || options.verb == Verb::adopt || options.verb == Verb::recipe_schema) return {};
  if (options.verb == Verb::recipe_list || options.verb == Verb::recipe_show || options.verb == Verb::version) return {};
  if (options.verb == Verb::doctor) return take_doctor(options, raw.places);
  if (options.verb >= Verb::launch && options.verb <= Verb::quota) return check_cloud(options, raw);
  if (options.verb == Verb::pull || options.verb == Verb::push) {
    options.path = raw.places[1];
    options.folder = raw.places.size() > 2 ? raw.places[2] : ".";
    if (options.path.empty() || options.folder.empty())
      return fail(ErrorCode::usage, fmt::format("{}: a path is empty", verb), "`.` is the folder itself");
  }
  if (options.verb == Verb::logs && raw.places.size() > 1) options.step = raw.places[1];
  if (!raw.tail.empty()) {
    const Result<std::size_t> tail = read_count(raw.tail, "--tail", 1'000'000);
    if (!tail) return fail(tail.error());
    options.tail = *tail;
  }
  if (options.verb == Verb::report || options.verb == Verb::history) options.hosts = raw.places;
  // Each of many hosts has its own user and key; what is remembered of one is no default of another.
  if (options.verb == Verb::status || options.verb == Verb::attach || options.verb == Verb::cancel || options.verb == Verb::remove) {
    options.hosts = raw.places;
    if (options.hosts.size() != 1 || !options.limit.empty()) return check_fleet(options, raw);
    if (options.verb != Verb::status) return take_host(options, options.hosts[0]);
    const Result<Destination> destination = read_destination(options.hosts[0]);
    return destination ? Result<void>() : fail(destination.error());
  }
  if (options.verb == Verb::report && options.json && !options.html.empty())
    return fail(ErrorCode::usage, "--json and --html exclude each other");
  if (options.verb == Verb::report || options.verb == Verb::history) return {};
  return take_host(options, raw.places[0]);
}

/// `ssh HOST -i key nvidia-smi -L`: as in ssh itself, options right behind the host are still ours; from the first other word on they
/// belong to the command.
std::vector<std::string> options_before_host(const std::vector<std::string>& words) {
  std::vector<std::string> ours = {words[0]};
  std::vector<std::string> host;
  std::size_t i = 1;
  for (; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word.size() > 1 && word.front() == '-' && word != "--") {
      ours.push_back(word);
      const bool takes_value = word == "-i" || word == "-p" || word == "-l" || word == "--wait" || word == "--keep";
      if (takes_value && i + 1 < words.size()) ours.push_back(words[++i]);
    } else if (host.empty() && word != "--") {
      host.push_back(word);
    } else {
      break;
    }
  }
  ours.insert(ours.end(), host.begin(), host.end());
  ours.insert(ours.end(), words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
  return ours;
}

void add_connection_options(CLI::App& app, Options& options, Raw& raw) {
  const std::string group = "Connection";
  app.add_option("-i", options.identities, "private key file")->type_name("FILE")->group(group)->allow_extra_args(false);
  app.add_option("-p", raw.port, "port of sshd")->type_name("PORT")->group(group);
  app.add_option("-l", raw.login, "user to log in as (or USER@HOST)")->type_name("USER")->group(group);
  app.add_option("--wait", raw.wait, "how long to wait for a host that does not answer yet (2m)")->type_name("TIME")->group(group);
  app.add_option("--keep", raw.keep, "leave the connection to the next command for so long; 0 ends one")->type_name("TIME")->group(group);
  app.add_flag("--accept-new-host-key", options.accept_new_host_key, "trust a host that was never seen; a changed key still stops")
      ->group(group);
}

void add_output_options(CLI::App& app, Options& options, Raw& raw) {
  const std::string group = "Output";
  app.add_flag("--json", options.json, "the event stream itself, one JSON document a line")->group(group);
  app.add_flag("--no-color,--no-colour", raw.no_colour, "no colours (also: NO_COLOR)")->group(group);
  app.add_flag("-q,--quiet", raw.quiet, "only the end, and what failed")->group(group);
  app.add_flag("-v,--verbose", raw.verbose, "plain lines with everything that is said")->group(group);
}

void add_fleet_options(CLI::App& app, Options& options, Raw& raw) {
  const std::string group = "Run";
  app.add_option("-f,--hosts", options.hosts_file, "the hosts of this file: docs/hosts.md, or an Ansible inventory")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--limit", options.limit, "of many hosts only these hosts and groups")->type_name("NAME,...")->group(group);
  app.add_option("--parallel", raw.parallel, "so many hosts at once (50)")->type_name("N")->group(group);
}

void add_run_options(CLI::App& app, Options& options, Raw& raw) {
  const std::string group = "Run";
  app.add_option("--var", raw.vars, "value of a recipe's variable")->type_name("NAME=VALUE")->group(group)->allow_extra_args(false);
  const auto add_list = [&](const char* names, std::vector<std::string>& values, const char* what, const char* type) {
    app.add_option(names, values, what)->type_name(type)->group(group)->allow_extra_args(false)->delimiter(',');
  };
  add_list("--tag,--tags", options.steps.tags, "only steps with one of these tags, and those without any", "TAG,...");
  app.add_option("--from", options.steps.from, "leave out what comes before this step")->type_name("STEP")->group(group);
  add_list("--only", options.steps.only, "only these steps; what they need is not looked at", "STEP,...");
  add_list("--skip", options.steps.skip, "without these steps", "STEP,...");
  add_list("--force", options.steps.force, "these act even where there is nothing to do", "STEP,...");
  app.add_option("--mirror", options.mirror, "take packages and files from this mirror of config.yaml (or none)")
      ->type_name("NAME")
      ->group(group);
  app.add_option("-f,--hosts", options.hosts_file, "the hosts of this file: docs/hosts.md, or an Ansible inventory")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--limit", options.limit, "of many hosts only these hosts and groups, or `failed`: those that failed last time")
      ->type_name("NAME,...")
      ->group(group);
  app.add_option("--parallel", raw.parallel, "so many hosts at once (50)")->type_name("N")->group(group);
  app.add_option("--proxy", options.proxy, "the host's way out: http://HOST:PORT (or none)")->type_name("URL")->group(group);
}

void add_cloud_options(CLI::App& app, Options& options, Raw& raw) {
  app.add_option("--region", options.cloud.region, "where in EC2 (AWS_REGION, or the profile's)")->type_name("REGION")->group("Connection");
  app.add_option("--profile", options.cloud.profile, "whose keys of ~/.aws (AWS_PROFILE)")->type_name("NAME")->group("Connection");
  app.add_flag("--no-color,--no-colour", raw.no_colour, "no colours (also: NO_COLOR)")->group("Output");
}

/// What a machine of EC2 is to be.
void add_machine_options(CLI::App& app, Options& options, Raw& raw) {
  app.add_option("--gpu", options.gpus, "its GPU: t4, a10g, l4, l40s, 4xa10g")->type_name("GPU")->group("Run")->allow_extra_args(false);
  app.add_option("--type", raw.types, "EC2's name for it, and others to take where there is none: g5.xlarge,g6.xlarge")
      ->type_name("TYPE,...")
      ->group("Run");
  app.add_flag("--spot", options.cloud.spot, "cheaper, and AWS may take it back")->group("Run");
}

/// The words that are no option. CLI11 leaves them, and options that it does not know, to the checks of newcomer.h.
void add_places(CLI::App& app, const std::string& names) {
  app.footer(names);
  app.allow_extras();
}

/// Splits what CLI11 left over; an unknown option is an error.
Result<std::vector<std::string>> places_of(const CLI::App& app, const std::string& verb) {
  std::vector<std::string> places;
  bool only_places = false;
  for (const std::string& word : app.remaining()) {
    if (word == "--" && !only_places)
      only_places = true;
    else if (only_places || word.size() < 2 || word.front() != '-')
      places.push_back(word);
    else {
      std::vector<std::string> known;
      for (const CLI::Option* option : app.get_options()) {
        for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
      }
      return fail(unknown_option(verb, word, known));
    }
  }
  return places;
}

/// The option of the parsed verb that a setting stands for.
CLI::Option* option_of(CLI::App& app, const Setting& setting) { return app.get_option_no_throw(std::string(setting.option)); }

bool is_given(CLI::App& app, const char* option) {
  const CLI::Option* found = app.get_option_no_throw(option);
  return found != nullptr && found->count() > 0;
}

/// Whether what is said outside the command line would contradict what is said on it, or means something else for this verb.
bool is_out_of_place(CLI::App& app, const Options& options, const Raw& raw, std::string_view key) {
  if (key == "quiet" || key == "verbose") return is_given(app, "--quiet") || is_given(app, "--verbose");
  if (key == "json") return is_given(app, "--html") || options.verb == Verb::recipe_show;
  // What ends for good is agreed to where it is asked for: a variable exported for `up` destroys no disk.
  if (key == "yes") return options.verb == Verb::terminate || options.verb == Verb::ls;
  if (key != "keep" && key != "forward") return false;
  if (options.verb == Verb::status || !options.hosts_file.empty()) return true;
  if (options.verb == Verb::up || options.verb == Verb::plan) return raw.places.size() > 2;
  return (options.verb == Verb::attach || options.verb == Verb::cancel || options.verb == Verb::remove) && raw.places.size() > 1;
}

/// A host's own: what is remembered of it, or what a hosts file says, is stronger than what a file says for all hosts.
void fill_in_login(HostDefaults& defaults, const SettingValue& value) {
  if (value.key == "user") defaults.user = value.values.front();
  if (value.key == "port") defaults.port = read_port(value.values.front(), "-p").value();
  if (value.key == "identity") defaults.identities = value.values;
}

/// Options that the command line does not give, from the environment or the user's file.
Result<void> fill_in(CLI::App& app, Options& options, const Raw& raw, const SettingsSource& source) {
  if (!source || options.verb == Verb::config) return {};
  const auto takes = [&](const Setting& setting) { return option_of(app, setting) != nullptr; };
  if (std::none_of(settings().begin(), settings().end(), takes)) return {};
  const Result<std::vector<SettingValue>> said = source();
  if (!said) return fail(said.error());
  const SettingValue* quiet = value_of(*said, "quiet");
  const SettingValue* verbose = value_of(*said, "verbose");
  for (const Setting& setting : settings()) {
    CLI::Option* option = option_of(app, setting);
    const SettingValue* value = value_of(*said, setting.key);
    if (option == nullptr || value == nullptr || option->count() > 0 || is_out_of_place(app, options, raw, setting.key)) continue;
    const bool of_file = value->from == SettingValue::From::file;
    if (setting.key == "user" || setting.key == "port" || setting.key == "identity") {
      fill_in_login(of_file ? options.usual : options.environment, *value);
      continue;
    }
    if (of_file && (setting.key == "mirror" || setting.key == "proxy")) continue;  // network_for() reads them where they stand
    // The nearer of the two counts.
    if (quiet != nullptr && verbose != nullptr && quiet->from != verbose->from && of_file && (value == quiet || value == verbose)) continue;
    for (const std::string& text : value->values) option->add_result(text);
    option->run_callback();
  }
  return {};
}

/// CLI11 says "-i: 1 required FILE missing".
std::string missing_value(const std::string& words_of_cli11) {
  const std::vector<std::string> said = words(words_of_cli11);
  if (said.size() == 5 && said[1] == "1" && said[2] == "required" && said[4] == "missing") {
    return fmt::format("{} needs its {} behind it", said[0].substr(0, said[0].size() - 1), said[3]);
  }
  return words_of_cli11;
}

/// All verbs and their options, said once: reading, help, completions, man pages and settings go by it.
void declare(CLI::App& app, Options& options, Raw& raw) {
  app.formatter(std::make_shared<HelpFormatter>());
  app.require_subcommand(1);
  const auto verb = [&](Verb which, const std::string& name, const std::string& what, CLI::App& parent) -> CLI::App& {
    CLI::App* sub = parent.add_subcommand(name, what);
    sub->callback([&options, which] { options.verb = which; });
    sub->get_help_ptr()->description("show this")->group("Output");
    return *sub;
  };
  const auto host_verb = [&](Verb which, const std::string& name, const std::string& what, const std::string& places) -> CLI::App& {
    CLI::App& sub = verb(which, name, what, app);
    add_places(sub, places);
    add_connection_options(sub, options, raw);
    // Root's runs are root's alone to read, so every verb that asks the agent may need it.
    if (which != Verb::ssh && which != Verb::pull && which != Verb::push)
      sub.add_flag("--ask-sudo-password", options.ask_sudo_password, "ask for the password of sudo")->group("Connection");
    add_output_options(sub, options, raw);
    return sub;
  };

  CLI::App& up =
      host_verb(Verb::up, "up", "Makes hosts what the recipe says; opens the notebook where there is one host.", "RECIPE HOST...");
  add_run_options(up, options, raw);
  up.add_option("-L", raw.forward, "ports of the tunnel (8889 or the next free one)")->type_name("LOCAL:REMOTE")->group("Run");
  up.add_flag("--no-tunnel", options.no_tunnel, "prove the notebook once, then end")->group("Run");
  up.add_flag("-d,--detach", options.detach, "start the run and leave (exit 9)")->group("Run");
  up.add_flag("-y,--yes", options.yes, "ask nothing: a driver may be installed, the host restarted")->group("Run");
  up.add_flag("--allow-disruption", options.allow_disruption, "restart even while others are logged in or compute on the GPUs")
      ->group("Run");
  CLI::App& plan = host_verb(Verb::plan, "plan", "Says what `up` would change, and changes nothing.", "RECIPE HOST...");
  add_run_options(plan, options, raw);
  plan.add_flag("--exit-code", options.exit_code, "3 where a run would change something")->group("Run");
  const auto fleet_verb = [&](Verb which, const std::string& name, const std::string& what) -> CLI::App& {
    CLI::App& sub = host_verb(which, name, what, "HOST...");
    add_fleet_options(sub, options, raw);
    return sub;
  };
  fleet_verb(Verb::attach, "attach", "Follows runs: all their events, then live. Ctrl-C leaves them running.");
  fleet_verb(Verb::status, "status", "What hosts are and how they fare, their last run, their notebook.");
  CLI::App& logs = host_verb(Verb::logs, "logs", "What the steps of the last run have printed.", "HOST [STEP]");
  logs.add_flag("-f,--follow", options.follow, "go on with what they print, until the run ends")->group("Run");
  logs.add_option("--tail", raw.tail, "begin with the last so many lines")->type_name("N")->group("Run");
  logs.add_option("--run", options.run, "of an earlier run; `gpustrap history HOST` names them")->type_name("RUN")->group("Run");
  fleet_verb(Verb::cancel, "cancel", "Stops runs after their current steps.");
  for (const auto& [which, name, what] :
       {std::tuple{Verb::tunnel, "tunnel", "Holds the tunnel to the notebook or another port open until Ctrl-C."},
        std::tuple{Verb::url, "url", "Prints the notebook's address with its token."},
        std::tuple{Verb::open, "open", "Opens the notebook in a browser and holds the tunnel."}}) {
    host_verb(which, name, what, "HOST")
        .add_option("-L", raw.forward, "ports of the tunnel (8889 or the next free one)")
        ->type_name("LOCAL:REMOTE")
        ->group("Run");
  }
  CLI::App& ssh =
      host_verb(Verb::ssh, "ssh", "A shell on the host, or a command, by your own ssh with the settings of `up`.", "HOST [COMMAND...]");
  ssh.prefix_command();
  for (const auto& [which, name, what, places] :
       {std::tuple{Verb::pull, "pull", "Copies files from a host; what is newer here stays. Without sudo.", "HOST PATH [DIR]"},
        std::tuple{Verb::push, "push", "Copies files to a host; what is newer there stays. Without sudo.", "HOST PATH [DIR]"}}) {
    CLI::App& copy = host_verb(which, name, what, places);
    copy.add_flag("--overwrite", options.overwrite, "also what is newer at the target, or changed on both sides")->group("Run");
    copy.add_flag("--checksum", options.checksum, "compare files of one size by content, whatever their times say")->group("Run");
    copy.add_flag("-n,--dry-run", options.dry_run, "list what would be copied, and copy nothing")->group("Run");
  }
  fleet_verb(Verb::remove, "remove",
             "Takes gpustrap off hosts: agent, cache, journals and its own units.\nNever what recipes installed; it lists both first.")
      .add_flag("-y,--yes", options.yes, "ask nothing")
      ->group("Run");
  CLI::App& doctor = host_verb(Verb::doctor, "doctor",
                               "What is wrong with a host, from GPU to notebook, and how to repair it.\n"
                               "Also one that gpustrap has never touched. It only looks, until you say --fix.",
                               "HOST [--fix [ID...]]");
  doctor.get_option("--json")->description("one JSON document: docs/doctor.md");
  doctor.add_flag("--fix", options.fix, "repair what can be repaired, or what is named: shows a plan and asks")->group("Run");
  doctor.add_flag("-y,--yes", options.yes, "with --fix: ask nothing")->group("Run");
  doctor.add_flag("--allow-disruption", options.allow_disruption, "with --fix: restart even while others are logged in or compute")
      ->group("Run");
  doctor.add_option("--mirror", options.mirror, "with --fix: take packages from this mirror of config.yaml (or none)")
      ->type_name("NAME")
      ->group("Run");
  doctor.add_option("--proxy", options.proxy, "with --fix: the host's way out: http://HOST:PORT (or none)")->type_name("URL")->group("Run");
  doctor.add_flag("--list", options.list, "the faults that it knows; no host is contacted")->group("Output");
  CLI::App& hosts = verb(Verb::hosts, "hosts", "The hosts that are remembered, with user, key and recipe.", app);
  hosts.add_option("--forget", raw.forget, "forget one")->type_name("HOST")->group("Run");
  add_output_options(hosts, options, raw);
  add_places(hosts, "");
  CLI::App& report = verb(Verb::report, "report", "Where a run's time went: its steps, downloads and critical path.", app);
  report.add_option("--html", options.html, "write one page that needs no network instead")->type_name("FILE")->group("Output");
  report.add_flag("--json", options.json, "the numbers as one JSON document")->group("Output");
  report.add_flag("--no-color,--no-colour", raw.no_colour, "no colours (also: NO_COLOR)")->group("Output");
  add_places(report, "[RUN|HOST|FILE]...");
  CLI::App& history = verb(Verb::history, "history", "The runs that this machine has seen, newest first; the last hundred are kept.", app);
  history.add_flag("--json", options.json, "the runs as one JSON document")->group("Output");
  add_places(history, "[HOST]...");
  CLI::App* recipe = app.add_subcommand("recipe", "Recipes: list, show, explain, check and begin them.");
  recipe->require_subcommand(1);
  add_places(verb(Verb::recipe_list, "list", "The recipes that can be named.", *recipe), "");
  CLI::App& show = verb(Verb::recipe_show, "show", "Prints a recipe.", *recipe);
  show.add_flag("--json", options.json, "as an agent takes it: includes and vars filled in; for `gpustrap-agent run`")->group("Output");
  show.add_option("--var", raw.vars, "with --json: value of a recipe's variable")
      ->type_name("NAME=VALUE")
      ->group("Run")
      ->allow_extra_args(false);
  add_places(show, "RECIPE");
  CLI::App& explain =
      verb(Verb::recipe_explain, "explain", "What a recipe would do on a machine, before you rent it; or what a kind takes.", *recipe);
  explain.add_option("--gpu", options.gpus, "its GPUs: t4, 8xh100, a PCI id, or none")
      ->type_name("GPU")
      ->group("Run")
      ->allow_extra_args(false);
  explain.add_option("--os", options.os, "its system, for instance ubuntu:24.04")->type_name("NAME:VERSION")->group("Run");
  explain.add_option("--arch", options.arch, "its processor; the GPU's where not given")->type_name("x86_64|aarch64")->group("Run");
  explain.add_option("--cuda", options.cuda, "with this CUDA instead of the recipe's: 12, 12.4, auto")->type_name("VERSION")->group("Run");
  explain.add_option("--driver", options.branch, "with this driver branch instead of the recipe's")->type_name("BRANCH")->group("Run");
  explain.add_option("--var", raw.vars, "value of a recipe's variable")->type_name("NAME=VALUE")->group("Run")->allow_extra_args(false);
  explain.add_flag("--kind", options.kind, "the kind of step of that name, where a recipe has it too")->group("Run");
  add_places(explain, "RECIPE|KIND");
  CLI::App& lint = verb(Verb::recipe_lint, "lint", "What recipes that load could still do better, with reasons (docs/lint.md).", *recipe);
  lint.add_option("--format", options.format, "sarif is for code scanning")->type_name("text|json|sarif")->group("Output");
  lint.add_option("--var", raw.vars, "value of a recipe's variable")->type_name("NAME=VALUE")->group("Run")->allow_extra_args(false);
  lint.add_flag("--upstream", options.upstream, "also ask the servers: is every file still there, is no key expired?")->group("Run");
  lint.add_flag("--upstream-full", options.upstream_full, "and fetch files with a digest whole, to compare it")->group("Run");
  add_places(lint, "RECIPE...");
  add_places(verb(Verb::recipe_schema, "schema", "Prints the JSON Schema of recipes, for completion and hints in editors.", *recipe), "");
  add_places(verb(Verb::recipe_new, "new", "Writes a recipe to begin with; never over a file that is there.", *recipe), "[FILE]");
  CLI::App& test = verb(
      Verb::recipe_test, "test",
      "Runs a recipe twice on a host that is booted on this machine and thrown away\nafterwards. The second run must have nothing to do.",
      *recipe);
  test.add_option("--gpu", options.gpus, "show these GPUs on its PCI bus; nothing is behind them: t4, 8xh100")
      ->type_name("GPU")
      ->group("Run")
      ->allow_extra_args(false);
  test.add_option("--codename", options.codename, "its release, such as bookworm or noble; this machine's where not given")
      ->type_name("CODENAME")
      ->group("Run");
  test.add_option("--var", raw.vars, "value of a recipe's variable")->type_name("NAME=VALUE")->group("Run")->allow_extra_args(false);
  test.add_flag("--keep-host", options.keep_host, "leave the host for a look at it")->group("Run");
  test.add_option("--junit", options.junit, "write the steps as test cases for CI")->type_name("FILE")->group("Output");
  test.add_flag("--no-color,--no-colour", raw.no_colour, "no colours (also: NO_COLOR)")->group("Output");
  test.add_flag("-q,--quiet", raw.quiet, "only the ends, and what failed")->group("Output");
  test.add_flag("-v,--verbose", raw.verbose, "plain lines with everything that is said")->group("Output");
  add_places(test, "RECIPE");
  CLI::App& adopt = verb(Verb::adopt, "adopt", "Makes a recipe of a shell script; what is not understood stays a command.", app);
  adopt.add_option("-o", options.output, "the file to make; printed where not given")->type_name("FILE")->group("Output");
  add_places(adopt, "SCRIPT|-");
  CLI::App& pack = verb(Verb::pack, "pack", "Makes one file of agent and recipe, which sets a machine up by itself.", app);
  pack.add_option("--var", raw.vars, "value of a recipe's variable")->type_name("NAME=VALUE")->group("Run")->allow_extra_args(false);
  pack.add_option("--arch", options.arch, "the machine's: x86_64 (default) or aarch64")->type_name("ARCH")->group("Run");
  pack.add_option("--user-data", options.user_data, "print user data that fetches the file from there")->type_name("URL")->group("Output");
  pack.add_option("-o", options.output, "the file to make; by default RECIPE-ARCH.sh")->type_name("FILE")->group("Output");
  add_places(pack, "RECIPE");
  add_places(verb(Verb::completion, "completion", "Prints what makes your shell complete verbs, options, hosts, recipes and steps.", app),
             "bash|zsh|fish");
  add_places(verb(Verb::man, "man", "The manual page; as its source where it does not go to a terminal.", app), "");
  CLI::App& config = verb(Verb::config, "config", "What holds where the command line says nothing (docs/configuration.md).", app);
  config.add_flag("--origin", options.origin, "and where each comes from: a line of a file, a variable, or nobody")->group("Output");
  config.add_flag("--json", options.json, "as one JSON document")->group("Output");
  add_places(config, "");
  CLI::App& launch = verb(Verb::launch, "launch", "Rents a machine of EC2; its host key is known before the first login.", app);
  add_machine_options(launch, options, raw);
  launch.add_option("--recipe", options.recipe, "then make it what this recipe says, as `up` does")->type_name("RECIPE")->group("Run");
  launch.add_option("--var", raw.vars, "value of a recipe's variable")->type_name("NAME=VALUE")->group("Run")->allow_extra_args(false);
  launch.add_option("--name", options.cloud.name, "what to call it; by default as its GPU or type")->type_name("NAME")->group("Run");
  launch.add_option("--image", options.cloud.image, "ubuntu:24.04, debian:13, dlami, ami-..., or one of `gpustrap image`")
      ->type_name("IMAGE")
      ->group("Run");
  launch.add_option("--disk", raw.disk, "GiB (64)")->type_name("SIZE")->group("Run");
  launch.add_option("--ssh-from", options.cloud.ssh_from, "who may reach its SSH (this machine's address)")
      ->type_name("ADDRESS")
      ->group("Run");
  launch.add_flag("--no-wait", options.cloud.no_wait, "end as soon as it runs")->group("Run");
  launch.add_flag("--no-tunnel", options.no_tunnel, "with --recipe: prove the notebook once, then end")->group("Run");
  launch.add_flag("-y,--yes", options.yes, "ask nothing")->group("Run");
  launch.add_option("-i", options.identities, "private key to log in with; one is made where none is given")
      ->type_name("FILE")
      ->group("Connection")
      ->allow_extra_args(false);
  launch.add_option("-l", raw.login, "user to log in as (the image's)")->type_name("USER")->group("Connection");
  add_cloud_options(launch, options, raw);
  add_places(launch, "");
  CLI::App& ls = verb(Verb::ls, "ls", "The instances that gpustrap has launched: state, age, cost so far.", app);
  ls.add_flag("--orphans", options.cloud.orphans, "what it made and nothing uses; removed if you say so")->group("Run");
  ls.add_flag("-y,--yes", options.yes, "with --orphans: ask nothing")->group("Run");
  ls.add_flag("--json", options.json, "as one JSON document")->group("Output");
  add_cloud_options(ls, options, raw);
  add_places(ls, "");
  for (const auto& [which, name, what, places] :
       {std::tuple{Verb::start, "start", "Starts instances again, and follows their new addresses.", "NAME..."},
        std::tuple{Verb::stop, "stop", "Stops instances; their disks stay, and are still billed.", "NAME..."},
        std::tuple{Verb::terminate, "terminate", "Ends instances for good, and their disks with them; says which before it asks.",
                   "NAME..."}}) {
    CLI::App& sub = verb(which, name, what, app);
    sub.add_flag("-y,--yes", options.yes, "ask nothing")->group("Run");
    if (which != Verb::terminate) sub.add_flag("--no-wait", options.cloud.no_wait, "do not wait until it is done")->group("Run");
    add_cloud_options(sub, options, raw);
    add_places(sub, places);
  }
  CLI::App& image = verb(Verb::image, "image", "Makes an image of an instance, to launch others from.", app);
  image.add_flag("--no-reboot", options.cloud.no_reboot, "without a restart; what is being written may be torn")->group("Run");
  image.add_flag("--no-wait", options.cloud.no_wait, "do not wait until it can be used")->group("Run");
  image.add_flag("-y,--yes", options.yes, "ask nothing: the instance restarts")->group("Run");
  add_cloud_options(image, options, raw);
  add_places(image, "NAME [IMAGE]");
  CLI::App& quota = verb(Verb::quota, "quota", "How many vCPUs the account may run, and how many it does; asks AWS for more.", app);
  add_machine_options(quota, options, raw);
  quota.add_flag("-y,--yes", options.yes, "ask nothing")->group("Run");
  add_cloud_options(quota, options, raw);
  add_places(quota, "[request VCPUS]");
  add_places(verb(Verb::version, "version", "Versions of the program and of its agents.", app), "");
}

void describe(const CLI::App& parent, const std::string& prefix, std::vector<VerbDescription>& verbs) {
  for (const CLI::App* app : parent.get_subcommands(every_verb)) {
    VerbDescription verb{prefix + app->get_name(), app->get_description(), app->get_footer(), {}, {}};
    if (!app->get_subcommands(every_verb).empty()) {
      describe(*app, verb.name + " ", verbs);
      continue;
    }
    verb.examples = examples_of(verb.name);
    for (const CLI::Option* option : app->get_options()) {
      OptionDescription one{{}, option->get_type_name(), option->get_description(), option->get_group(), option->get_expected_max() > 1};
      for (const std::string& name : option->get_snames()) one.names.push_back("-" + name);
      for (const std::string& name : option->get_lnames()) one.names.push_back("--" + name);
      verb.options.push_back(std::move(one));
    }
    verbs.push_back(std::move(verb));
  }
}

}  // namespace

std::string OptionDescription::synopsis() const { return join(names, ", ") + (value.empty() ? "" : " " + value); }

const std::string& OptionDescription::name() const {
  const auto longer = std::find_if(names.begin(), names.end(), [](const std::string& one) { return one.starts_with("--"); });
  return longer == names.end() ? names.front() : *longer;
}

void fill_in(Options& options, const HostDefaults& defaults) {
  if (options.user.empty()) options.user = defaults.user;
  if (!options.port) options.port = defaults.port;
  if (options.identities.empty()) options.identities = defaults.identities;
}

HostDefaults worth_remembering(const Options& options) {
  HostDefaults said{options.user, options.port, options.identities};
  if (said.user == options.usual.user) said.user.clear();
  if (said.port == options.usual.port) said.port.reset();
  if (said.identities == options.usual.identities) said.identities.clear();
  return said;
}

std::vector<VerbDescription> describe_verbs() {
  Options options;
  Raw raw;
  CLI::App app;
  declare(app, options, raw);
  std::vector<VerbDescription> verbs;
  describe(app, "", verbs);
  return verbs;
}

std::vector<std::string> sub_verbs_of(std::string_view verb) {
  std::vector<std::string> names;
  for (const VerbDescription& one : describe_verbs()) {
    if (one.name.starts_with(verb) && one.name.substr(verb.size()).starts_with(' ')) names.push_back(one.name.substr(verb.size() + 1));
  }
  return names;
}

Result<Options> read_options(const std::vector<std::string>& words, const SettingsSource& settings_source) {
  Options options;
  if (words.empty() || words[0] == "-h" || words[0] == "--help" || words[0] == "help") {
    if (words.size() > 1) return read_options({words[1], "--help"}, {});
    options.help = overview_help();
    return options;
  }
  if (words[0] == "--version" || words[0] == "-V") {
    options.verb = Verb::version;
    return options;
  }
  if (words[0] == kCompleteWord) {
    options.verb = Verb::complete;
    options.command.assign(words.begin() + 1, words.end());
    return options;
  }
  if (Result<void> verb = check_verb(words); !verb) return fail(std::move(verb).error());

  Raw raw;
  const std::vector<std::string> ordered = words[0] == "ssh" ? options_before_host(words) : words;
  CLI::App app;
  declare(app, options, raw);
  try {
    std::vector<std::string> reversed(ordered.rbegin(), ordered.rend());  // CLI11 takes them from the back
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    options.verb = Verb::help;
    options.help = app.help();
    return options;
  } catch (const CLI::ParseError& error) {
    return fail(ErrorCode::usage, missing_value(error.what()), fmt::format("`gpustrap {} --help` lists its options", words[0]));
  }
  CLI::App* parsed = &app;
  while (!parsed->get_subcommands().empty()) parsed = parsed->get_subcommands().front();
  const std::string name = words[0] == "recipe" ? "recipe " + parsed->get_name() : words[0];
  if (options.verb == Verb::ssh) {
    const std::vector<std::string> rest = parsed->remaining();
    raw.places.assign(rest.begin(), rest.begin() + (rest.empty() ? 0 : 1));
    raw.command.assign(rest.begin() + (rest.empty() ? 0 : 1), rest.end());
  } else {
    Result<std::vector<std::string>> places = places_of(*parsed, name);
    if (!places) return fail(std::move(places).error());
    raw.places = *std::move(places);
  }
  try {
    if (Result<void> filled = fill_in(*parsed, options, raw, settings_source); !filled) return fail(std::move(filled).error());
  } catch (const CLI::ParseError& error) {
    return fail(ErrorCode::internal, error.what());  // each value was checked
  }
  const Result<void> checked = check(options, raw, name);
  if (!checked) return fail(checked.error());
  return options;
}

}  // namespace gpustrap
