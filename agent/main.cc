// gpustrap-agent: what runs on the host. `serve` over SSH, `run` alone, `resume` after a reboot: one engine.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/control_socket.h"
#include "agent/identity.h"
#include "agent/idle_guard.h"
#include "agent/idle_store.h"
#include "agent/log.h"
#include "agent/manifest.h"
#include "agent/mirrors.h"
#include "agent/paths.h"
#include "agent/private_memory.h"
#include "agent/process_title.h"
#include "agent/protocol/field_types.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/request.h"
#include "agent/resume_unit.h"
#include "agent/run_store.h"
#include "agent/runner_process.h"
#include "agent/serve.h"
#include "agent/supervise.h"

namespace gpustrap {
namespace {

constexpr std::string_view kUsage = "gpustrap-agent " GPUSTRAP_VERSION R"( runs a gpustrap recipe on this host.

  gpustrap-agent run RECIPE.json [--login-user NAME]   runs a resolved recipe (see `gpustrap recipe show --json`), events on stdout
  gpustrap-agent secrets RECIPE.json                   hands the recipe's secrets to its run, which waits for them after a restart
  gpustrap-agent resume                                takes up a run whose runner died
  gpustrap-agent supervise [VERB] NAME                 runs a service of a recipe where there is no systemd;
                                                       VERB is start (the default), restart, stop or show
  gpustrap-agent idle                                  looks once whether this host is idle (started by its timer)
  gpustrap-agent keep TIME|off                         puts off the stop of an idle host: keep 2h
  gpustrap-agent serve [--user] [--said=HEX]           speaks the protocol on stdin and stdout (started by gpustrap over SSH)
  gpustrap-agent --version                             version, and what it was built from
  gpustrap-agent --self-digest                         sha256 of this file

The secrets of a recipe come from where its `secrets` say, here on the host: {"secrets": {"token": {"env": "TOKEN"}}}, or "file".

Exit codes: 0 ok, 1 a step failed, 2 usage or recipe, 10 another run is in progress.
)";

struct Arguments {
  std::vector<std::string> words;
  std::map<std::string, std::string, std::less<>> options;

  [[nodiscard]] std::string option(std::string_view name, std::string fallback = {}) const {
    const auto found = options.find(name);
    return found == options.end() ? std::move(fallback) : found->second;
  }
  [[nodiscard]] bool has(std::string_view name) const { return options.find(name) != options.end(); }
};

/// --name=value, --name, --login-user NAME, and words.
Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string text = argv[i];
    const std::size_t equals = text.find('=');
    if (!text.starts_with("--"))
      arguments.words.push_back(text);
    else if (equals != std::string::npos)
      arguments.options[text.substr(2, equals - 2)] = text.substr(equals + 1);
    else if (text == "--login-user" && i + 1 < argc)
      arguments.options["login-user"] = argv[++i];
    else
      arguments.options[text.substr(2)] = "";
  }
  return arguments;
}

int complain(const Error& error) {
  fmt::print(stderr, "gpustrap-agent: {}\n", strip_control(error.sentence()));
  if (!error.hint().empty()) fmt::print(stderr, "  {}\n", strip_control(error.hint()));
  switch (error.code()) {
    case ErrorCode::usage:
    case ErrorCode::recipe:
    case ErrorCode::protocol:
    case ErrorCode::not_found: return 2;
    case ErrorCode::busy: return 10;
    default: return 1;
  }
}

AgentPaths paths_for(const Arguments& arguments, const Identity& self) {
  AgentPaths paths = arguments.has("user") || self.uid != 0 ? user_paths(self.home) : system_paths();
  if (arguments.has("state")) paths.state = arguments.option("state");
  if (arguments.has("runtime")) paths.runtime = arguments.option("runtime");
  return paths;
}

template <class Number> std::optional<Number> number_in(const std::string& text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Proxy settings of the login, which sudo does not hand on: they stand in the environment of the sudo that started this agent.
std::vector<std::pair<std::string, std::string>> proxies_of_login() {
  // A sudo with its own monitor process is one step further away.
  pid_t process = ::getppid();
  for (int step = 0; step < 2 && process > 1; ++step) {
    const Result<std::string> environment = read_file(fmt::format("/proc/{}/environ", process));
    if (!environment) return {};
    if (auto proxies = proxies_in(*environment); !proxies.empty()) return proxies;
    const Result<std::string> stat = read_file(fmt::format("/proc/{}/stat", process));
    if (!stat || stat->rfind(')') == std::string::npos) return {};
    const std::vector<std::string> fields = words(std::string_view(*stat).substr(stat->rfind(')') + 1));
    process = fields.size() > 1 ? number_in<pid_t>(fields[1]).value_or(1) : 1;
  }
  return {};
}

/// The login user as it was before sudo: told by --login-…, with the name from /etc/passwd.
Identity login_identity(const Arguments& arguments, const Identity& self) {
  const std::optional<uid_t> uid = number_in<uid_t>(arguments.option("login-uid"));
  if (!uid || *uid == self.uid) return self;
  Identity login;
  if (Result<Identity> known = identity_of_uid(*uid)) login = std::move(*known);
  login.uid = *uid;
  login.gid = number_in<gid_t>(arguments.option("login-gid")).value_or(login.gid);
  if (arguments.has("login-groups")) {
    login.groups.clear();
    for (const std::string& group : words(arguments.option("login-groups"))) {
      if (const auto gid = number_in<gid_t>(group)) login.groups.push_back(*gid);
    }
  }
  if (arguments.option("login-home").starts_with('/')) login.home = arguments.option("login-home");
  if (arguments.option("login-shell").starts_with('/')) login.shell = arguments.option("login-shell");
  if (login.name.empty()) login.name = fmt::format("{}", *uid);
  login.proxy = proxies_of_login();
  return login;
}

/// Stdout belongs to the protocol: children and stray prints find stderr there, and the null device as their input.
struct ProtocolEnds {
  int in = -1, out = -1;
};
ProtocolEnds take_standard_streams() {
  ProtocolEnds ends{::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10), ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10)};
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(null, STDIN_FILENO);
  ::dup2(STDERR_FILENO, STDOUT_FILENO);
  return ends;
}

/// The resolved recipe that the second word names; the exit code where it is none, after what is wrong was said.
std::variant<Recipe, int> read_recipe_file(const Arguments& arguments) {
  const std::string verb = arguments.words.front();
  if (arguments.words.size() != 2) {
    return complain({ErrorCode::usage, verb + " takes one file: the resolved recipe", fmt::format("gpustrap-agent {} recipe.json", verb)});
  }
  Result<std::string> text = read_file(arguments.words[1]);
  if (!text) return complain(text.error());
  Result<Json> document = parse_line(*text);
  if (!document)
    return complain(Error(document.error()).in("reading " + arguments.words[1]).with_hint("`gpustrap recipe show NAME --json` writes one"));
  std::vector<FieldProblem> problems;
  Recipe recipe = read_recipe(*document, Placeholders::allowed, problems);
  for (const FieldProblem& problem : problems) fmt::print(stderr, "{}: {}: {}\n", arguments.words[1], problem.pointer, problem.message);
  if (!problems.empty()) return 2;
  return recipe;
}

/// Nobody is asked: whoever runs the agent by hand has an environment and files.
Result<SecretValues> secrets_here(const Recipe& recipe, const Identity& self) {
  SecretSurroundings around;
  around.environment = [](const std::string& name) {
    const char* value = std::getenv(name.c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  };
  around.home = self.home;
  close_process_to_others();
  return collect_secrets(recipe.secrets, around);
}

/// After a restart the run goes on by itself, but without its secrets.
int hand_secrets(const Arguments& arguments, const Identity& self, const AgentPaths& paths) {
  std::variant<Recipe, int> read = read_recipe_file(arguments);
  if (const int* code = std::get_if<int>(&read)) return *code;
  const Recipe& recipe = std::get<Recipe>(read);
  const std::optional<RunLock::Holder> holder = RunLock::holder(paths);
  if (!holder) return complain({ErrorCode::not_found, "no run is in progress on this host"});
  const Result<RunSummary> running = summarize_run(paths, holder->run);
  if (!running) return complain(running.error());
  if (running->digest != digest_of(recipe)) {
    return complain({ErrorCode::busy, fmt::format("the run in progress is of another recipe, {}", running->recipe),
                     "give the file that it was started with"});
  }
  const Result<SecretValues> values = secrets_here(recipe, self);
  if (!values) return complain(values.error());
  if (Result<void> sent = send_secrets(paths.socket(), *values); !sent) return complain(sent.error());
  return 0;
}

int run_file(const Arguments& arguments, const Identity& self, const AgentPaths& paths) {
  std::variant<Recipe, int> read = read_recipe_file(arguments);
  if (const int* code = std::get_if<int>(&read)) return *code;
  RunDescription run;
  run.recipe = std::get<Recipe>(std::move(read));
  const Result<SecretValues> secrets = secrets_here(run.recipe, self);
  if (!secrets) return complain(secrets.error());
  if (self.uid == 0 && !needs_root(run.recipe) && !arguments.has("login-user"))
    run.login = self;
  else if (self.uid != 0)
    run.login = self;
  else {
    Result<Identity> login =
        login_for_standalone(arguments.has("login-user") ? std::optional(arguments.option("login-user")) : std::nullopt);
    if (!login && arguments.has("login-user")) return complain(login.error());
    if (!login && login.error().code() == ErrorCode::usage) return complain(login.error());
    run.login = login ? std::move(*login) : self;
  }
  run.login.proxy = proxies_for(run.login.proxy, {});
  run.id = fmt::format("standalone-{}-{}", std::time(nullptr), ::getpid());
  if (Result<void> stored = store_run(paths, run); !stored) return complain(stored.error());
  const ProtocolEnds ends = take_standard_streams();
  const Result<RunFinished> finished = run_here(paths, run.id, ends.out, *secrets);
  if (!finished) return complain(finished.error());
  return finished->end == RunFinished::End::ok ? 0 : 1;
}

int resume(const AgentPaths& paths) {
  std::optional<std::string> run;
  Result<RunSummary> summary =
      fail(ErrorCode::not_found, "there was no run on this host yet", "`gpustrap-agent run recipe.json` starts one");
  // One that had not changed anything yet may have lost its journal with the power; before it there may be one that goes on.
  for (const std::string& id : runs_newest_first(paths)) {
    summary = summarize_run(paths, *(run = id));
    if (summary) break;
  }
  if (!summary) return complain(summary.error());
  // Left behind by a run whose end was on the disk before the unit's removal was.
  if (summary->state == "finished" && paths.state == system_paths().state) (void)ResumeUnit().remove();
  if (summary->state != "interrupted") {
    fmt::print(stderr, "Run {} is {}; there is nothing to resume.\n", *run, summary->state);
    return 0;
  }
  const int code = runner_main(paths, *run, "resume", -1);
  // How the run ended is in its journal; a unit that did its work has not failed.
  const Result<RunSummary> after = summarize_run(paths, *run);
  return after && after->state == "finished" ? 0 : code;
}

int supervise_service(const Arguments& arguments, const AgentPaths& paths) {
  const std::string verb = arguments.words.size() == 3 ? arguments.words[1] : "start";
  std::string unit = arguments.words.size() < 2 ? "" : arguments.words.back();
  if (unit.empty() || arguments.words.size() > 3 || (verb != "start" && verb != "restart" && verb != "stop" && verb != "show"))
    return complain({ErrorCode::usage, "supervise takes a service, and start, restart, stop or show before it", "gpustrap-agent --help"});
  if (!unit.starts_with('/')) unit = paths.services() + "/" + unit;
  if (!unit.ends_with(".service")) unit += ".service";
  const Result<std::string> said = supervise(verb, unit);
  if (!said) return complain(said.error());
  fmt::print("{}", *said);
  return 0;
}

int keep(const Arguments& arguments, const AgentPaths& paths) {
  const std::string word = arguments.words.size() == 2 ? arguments.words[1] : "";
  std::vector<FieldProblem> problems;
  Duration time;
  if (word != "off") FieldType<Duration>::read(Json(word), FieldPlace("the time", "", Placeholders::refused, problems), time);
  if (!problems.empty() || time.time.count() > static_cast<std::int64_t>(kLongestKeep))
    return complain({ErrorCode::usage, "keep takes a time of at most 30 days, or off", "for instance: gpustrap-agent keep 2h"});
  const Result<Json> kept = keep_host(paths, static_cast<std::uint64_t>(time.time.count()));
  if (!kept) return complain(kept.error());
  if (word == "off")
    fmt::print("The stop of this host is not put off any more.\n");
  else
    fmt::print("This host is not stopped for being idle for {}.\n", human_duration(time.time));
  return 0;
}

int run_agent(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  if (arguments.has("version")) {
    fmt::print("gpustrap-agent {}\n{}", GPUSTRAP_VERSION, kAgentManifest);
    return 0;
  }
  if (arguments.has("self-digest")) {
    const Result<std::string> digest = sha256_of_file("/proc/self/exe");
    if (!digest) return complain(digest.error());
    // With a value: whether it is that. The upload asks so on hosts without sha256sum.
    if (const std::string wanted = arguments.option("self-digest"); !wanted.empty()) return *digest == wanted ? 0 : 1;
    fmt::print("{}\n", *digest);
    return 0;
  }
  const std::string verb = arguments.words.empty() ? "" : arguments.words.front();
  if (verb.empty() || verb == "help" || arguments.has("help")) {
    fmt::print("{}", kUsage);
    return verb.empty() && !arguments.has("help") ? 2 : 0;
  }
  const Identity self = identity_of_self();
  const AgentPaths paths = paths_for(arguments, self);
  if (verb == "serve") {
    const ProtocolEnds ends = take_standard_streams();
    if (path_exists(paths.state)) open_log(paths.state + "/agent.log");
    return serve(paths, login_identity(arguments, self), ends.in, ends.out, lines_of_word(arguments.option("said")));
  }
  if (verb == "run") return run_file(arguments, self, paths);
  if (verb == "secrets") return hand_secrets(arguments, self, paths);
  if (verb == "resume") return resume(paths);
  if (verb == "idle") {
    const Result<void> looked = guard_once(paths, arguments.option("metadata"));
    return looked ? 0 : complain(looked.error());
  }
  if (verb == "keep") return keep(arguments, paths);
  if (verb == "supervise") return supervise_service(arguments, paths);
  return complain({ErrorCode::usage, fmt::format("there is no verb `{}`", verb), "gpustrap-agent --help"});
}

}  // namespace
}  // namespace gpustrap

int main(int argc, char** argv) {
  gpustrap::keep_room_for_title(argc, argv);
  return gpustrap::run_agent(argc, argv);
}
