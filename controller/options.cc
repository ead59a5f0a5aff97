#include "controller/options.h"

#include <algorithm>
#include <charconv>
#include <system_error>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "agent/base/text.h"
#include "controller/command_line.h"
#include "controller/doctor/diagnosis.h"
#include "controller/guard_wish.h"
#include "controller/help_text.h"
#include "controller/newcomer.h"
#include "controller/option_parts.h"

namespace gpustrap {
namespace {

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
Result<void> check_fleet(Options& options, const RawOptions& raw) {
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

/// As long as an agent puts a stop off at most.
constexpr std::chrono::hours kLongestKeepOn{720};

Result<void> take_keep(Options& options, const RawOptions& raw) {
  if (raw.keep_off && raw.places.size() > 1)
    return fail(ErrorCode::usage, "keep: a time and --off exclude each other", "gpustrap keep HOST 2h, or gpustrap keep HOST --off");
  if (raw.keep_off) options.keep_on = std::chrono::seconds(0);
  if (raw.places.size() < 2) return {};
  const Result<std::chrono::seconds> time = read_time(raw.places[1], "keep HOST");
  if (!time) return fail(time.error());
  if (time->count() == 0 || *time > kLongestKeepOn)
    return fail(ErrorCode::usage, fmt::format("keep HOST {}: expected more than nothing, and at most 30 days (720h)", raw.places[1]),
                "for instance: gpustrap keep HOST 2h");
  options.keep_on = *time;
  return {};
}

Result<void> check(Options& options, const RawOptions& raw, const std::string& verb) {
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
  if (Result<void> fits = check_guard(options.guard); !fits) return fits;
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
  if (options.verb == Verb::recipe_test && options.codename.find_first_not_of("abcdefghijklmnopqrstuvwxyz") != std::string::npos)
    return fail(ErrorCode::usage, fmt::format("--codename {}: expected a release's name in small letters", options.codename),
                "for instance --codename bookworm, or --codename noble");
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
  if (options.verb == Verb::keep) {
    if (Result<void> kept = take_keep(options, raw); !kept) return kept;
  }
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
    return fail(ErrorCode::usage, "--json and --html exclude each other", "run it once with each");
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
bool is_out_of_place(CLI::App& app, const Options& options, const RawOptions& raw, std::string_view key) {
  if (key == "quiet" || key == "verbose") return is_given(app, "--quiet") || is_given(app, "--verbose");
  // What a recipe or user data is printed for is a file, and no program that reads documents.
  if (key == "json")
    return is_given(app, "--html") || is_given(app, "--format") || options.verb == Verb::recipe_show ||
           (options.verb == Verb::adopt && options.output.empty()) || (options.verb == Verb::pack && !options.user_data.empty());
  // What ends for good is agreed to where it is asked for: a variable exported for `up` destroys no disk.
  if (key == "yes")
    return options.verb == Verb::terminate || options.verb == Verb::ls || (options.verb == Verb::image && options.cloud.remove);
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
Result<void> fill_in(CLI::App& app, Options& options, const RawOptions& raw, const SettingsSource& source) {
  // What answers about this program alone, or about the settings themselves, is to answer where these are broken, too.
  if (!source || options.verb == Verb::config || options.verb == Verb::version || options.verb == Verb::recipe_list) return {};
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
void declare(const DeclaredLine& line) {
  line.app.formatter(make_help_formatter());
  line.app.require_subcommand(1);
  declare_host_verbs(line);
  declare_author_verbs(line);
  add_places(line.add_verb(Verb::completion, "completion",
                           "Prints what makes your shell complete verbs, options, hosts, recipes and steps.", line.app),
             "bash|zsh|fish");
  add_places(line.add_verb(Verb::man, "man", "The manual page; as its source where it does not go to a terminal.", line.app), "");
  CLI::App& config =
      line.add_verb(Verb::config, "config", "What holds where the command line says nothing (docs/configuration.md).", line.app);
  config.add_flag("--origin", line.options.origin, "and where each comes from: a line of a file, a variable, or nobody")->group("Output");
  add_json(config, line.options);
  add_places(config, "");
  declare_cloud_verbs(line);
  CLI::App& version = line.add_verb(Verb::version, "version", "Versions of the program and of its agents.", line.app);
  add_json(version, line.options);
  add_places(version, "");
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

CLI::App& DeclaredLine::add_verb(Verb which, const std::string& name, const std::string& what, CLI::App& parent) const {
  CLI::App* sub = parent.add_subcommand(name, what);
  sub->callback([&options = options, which] { options.verb = which; });
  sub->get_help_ptr()->description("show this")->group("Output");
  return *sub;
}

void add_places(CLI::App& app, const std::string& names) {
  app.footer(names);
  app.allow_extras();
}

void add_json(CLI::App& app, Options& options) { app.add_flag("--json", options.json, "as one JSON document")->group("Output"); }

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
  RawOptions raw;
  CLI::App app;
  declare({app, options, raw});
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

  RawOptions raw;
  const std::vector<std::string> ordered = words[0] == "ssh" ? options_before_host(words) : words;
  CLI::App app;
  declare({app, options, raw});
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
