#include <array>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/idle_guard.h"
#include "agent/idle_store.h"
#include "agent/protocol/money.h"
#include "agent/steps/host_restart.h"
#include "agent/steps/kinds.h"
#include "agent/steps/systemd_unit.h"

namespace gpustrap {
namespace {

constexpr auto kLookLimit = std::chrono::seconds(30);
constexpr const char* kAgentFolder = "/usr/local/lib/gpustrap";
constexpr const char* kTimerPath = "/etc/systemd/system/gpustrap-idle.timer";
constexpr const char* kServicePath = "/etc/systemd/system/gpustrap-idle.service";
constexpr const char* kWantedPath = "/etc/systemd/system/timers.target.wants/gpustrap-idle.timer";

/// The look itself says what matters; that it begins and ends each minute does not.
constexpr const char* kServiceText = R"(# Written by gpustrap; changes are overwritten by the next run.
[Unit]
Description=gpustrap: looks whether this host is idle, and stops it

[Service]
Type=oneshot
ExecStart={} idle
LogLevelMax=notice
SyslogLevel=notice
TimeoutStartSec=300
SuccessExitStatus=TERM
)";
constexpr const char* kTimerText = R"(# Written by gpustrap; changes are overwritten by the next run.
[Unit]
Description=gpustrap: looks at times whether this host is idle

[Timer]
OnActiveSec=1s
OnUnitActiveSec={}s
AccuracySec=1s

[Install]
WantedBy=timers.target
)";

class IdleStopStep : public Step {
 public:
  explicit IdleStopStep(IdleStopSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    if (spec_.absent) return look_for_nothing(host);
    if (Result<void> can = can_stop(host); !can) return fail(std::move(can).error());
    const Result<IdleRules> rules = rules_for(host);
    if (!rules) return fail(rules.error());
    const Result<std::string> agent = agent_path(host);
    if (!agent) return fail(agent.error());
    for (const auto& [path, text] : files(*rules, *agent)) {
      const Result<std::string> there = host.read(path);
      if (!there && there.error().code() != ErrorCode::not_found) return fail(there.error());
      if (!there) return StepState::unsatisfied("nothing stops this host when it is idle", describe(*rules));
      if (*there != text)
        return StepState::unsatisfied(path == kServicePath ? "the guard is another agent's" : "the guard goes by other rules",
                                      describe(*rules));
    }
    const Result<std::optional<FileInfo>> program = host.info(*agent);
    if (!program) return fail(program.error());
    if (!*program) return StepState::unsatisfied("the guard's program is not there");
    const Result<std::optional<FileInfo>> wanted = host.info(kWantedPath);
    if (!wanted) return fail(wanted.error());
    if (!*wanted) return StepState::unsatisfied("the guard's timer does not start at boot");
    const Result<std::string> active = timer_state(host);
    if (!active) return fail(active.error());
    if (*active != "active") return StepState::unsatisfied("the guard's timer does not run");
    return StepState::satisfied(describe(*rules));
  }

  Result<void> apply(Host& host, StepLog& log) override {
    if (spec_.absent) return take_away(host, log);
    const Result<IdleRules> rules = rules_for(host);
    if (!rules) return fail(rules.error());
    const Result<std::string> agent = agent_path(host);
    if (!agent) return fail(agent.error());
    if (Result<void> kept = keep_agent(host, *agent); !kept) return kept;
    const IdleFiles store;
    if (Result<void> made = host.make_directory(store.folder(), {0700, 0, 0}); !made) return made;
    for (const auto& [path, text] : files(*rules, *agent)) {
      if (Result<void> wrote = host.write(path, text, {path == store.rules() ? 0600U : 0644U, 0, 0}); !wrote) return wrote;
    }
    for (const std::vector<std::string>& words :
         {std::vector<std::string>{"daemon-reload"}, {"enable", kIdleTimer}, {"restart", kIdleTimer}}) {
      if (Result<void> done = SystemdUnit::control(host, log, words); !done) return done;
    }
    if (rules->budget)
      log.say(
          "the budget counts the hours that the host is on, from now on and over restarts; not its disk, its address and what it sends; "
          "when it is spent, the host stops at work, too");
    log.say(
        host.facts().cloud_type.empty()
            ? "a stop is a shutdown; whether it ends the bill is up to who rents the machine out"
            : "a shutdown stops an EC2 instance; a spot instance it ends for good, with its disk, and so any whose shutdown behaviour is "
              "terminate");
    return {};
  }

 private:
  /// Path and content of what the guard consists of, its program apart.
  [[nodiscard]] static std::vector<std::pair<std::string, std::string>> files(const IdleRules& rules, const std::string& agent) {
    return {{IdleFiles().rules(), rules_text(rules)},
            {kServicePath, fmt::format(kServiceText, agent)},
            {kTimerPath, fmt::format(kTimerText, look_interval(rules).count())}};
  }

  [[nodiscard]] static Result<void> can_stop(const Host& host) {
    if (host.self().uid != 0)
      return fail(ErrorCode::permission, "only root may shut a host down, and this step runs as " + host.self().name,
                  "leave `as` out, and log in as a user who may use sudo");
    return can_power_off(host);
  }

  [[nodiscard]] Result<IdleRules> rules_for(const Host& host) const {
    IdleRules rules;
    if (spec_.after) rules.after = spec_.after->time;
    if (rules.after && rules.after->count() == 0)
      return fail(ErrorCode::recipe, "`after` is 0s, and the host would stop as soon as it is looked at",
                  "choose some minutes: after: 30m");
    rules.warn = spec_.warn ? spec_.warn->time : usual_warning(rules.after);
    if (!spec_.budget) return rules;
    IdleBudget budget{*spec_.budget, {}, "the recipe"};
    if (spec_.price) {
      budget.price = *spec_.price;
    } else {
      const std::string& type = host.facts().cloud_type;
      const HourlyPrice* price = spec_.prices && !type.empty() ? spec_.prices->find(type) : nullptr;
      if (price == nullptr)
        return fail(
            ErrorCode::recipe,
            fmt::format("what an hour of this host costs is not known: {}",
                        type.empty() ? std::string("it is no EC2 instance") : type + " is not among the prices that gpustrap knows"),
            "say it in the step: price: 0.526 USD/h");
      budget.price = *price;
      budget.price_from = fmt::format("{} on demand in us-east-1, {}", type, spec_.prices->as_of);
    }
    if (budget.price.money.currency != budget.limit.currency)
      return fail(
          ErrorCode::recipe,
          fmt::format("the budget is in {}, and the known price of this host in {}", budget.limit.currency, budget.price.money.currency),
          fmt::format("say the budget in {}, or the price in {}", budget.price.money.currency, budget.limit.currency));
    rules.budget = std::move(budget);
    return rules;
  }

  [[nodiscard]] static std::string describe(const IdleRules& rules) {
    std::string text;
    if (rules.after)
      text = fmt::format("stops after {} without use, and warns {} before", human_duration(*rules.after), human_duration(rules.warn));
    if (rules.budget)
      text += fmt::format("{} {} of {} ({}) are spent, busy or not", rules.after ? "; or once" : "stops once",
                          money_text(rules.budget->limit), price_text(rules.budget->price), rules.budget->price_from);
    return text;
  }

  /// This very agent at its permanent place, which only root can write.
  [[nodiscard]] static Result<std::string> agent_path(const Host& host) {
    const Result<std::string> self = host.read_link("/proc/self/exe");
    if (!self) return fail(self.error());
    if (self->starts_with(std::string(kAgentFolder) + "/agent-")) return *self;
    const Result<std::string> digest = host.digest("/proc/self/exe");
    if (!digest) return fail(digest.error());
    return fmt::format("{}/agent-{}", kAgentFolder, *digest);
  }

  /// An agent that somebody has started from elsewhere (a packed recipe) has to stay.
  static Result<void> keep_agent(Host& host, const std::string& path) {
    const Result<std::optional<FileInfo>> there = host.info(path);
    if (!there) return fail(there.error());
    if (*there) return {};
    const Result<std::string> program = host.read("/proc/self/exe");
    if (!program) return fail(program.error());
    if (Result<void> made = host.make_directory(kAgentFolder, {0755, 0, 0}); !made) return made;
    return host.write(path, *program, {0755, 0, 0});
  }

  [[nodiscard]] static Result<std::string> timer_state(const Host& host) {
    const Command show{{"systemctl", "show", "--property=ActiveState", kIdleTimer}, {{"LC_ALL", "C"}}, "", "", kLookLimit, {}};
    const Result<CommandResult> shown = host.look(show);
    if (!shown) return fail(shown.error());
    if (shown->exit_code != 0) return fail(command_error(show, *shown));
    const std::string text(trim(shown->out));
    return text.substr(std::min(text.find('=') + 1, text.size()));
  }

  [[nodiscard]] static Result<StepState> look_for_nothing(const Host& host) {
    for (const char* path : {kTimerPath, kServicePath, kWantedPath}) {
      const Result<std::optional<FileInfo>> info = host.info(path);
      if (!info) return fail(info.error());
      if (*info) return StepState::unsatisfied("the guard is installed");
    }
    return StepState::satisfied("nothing stops this host when it is idle");
  }

  static Result<void> take_away(Host& host, StepLog& log) {
    for (const char* unit : {kIdleTimer, kIdleService}) {
      if (Result<void> stopped = SystemdUnit::control(host, log, {"stop", unit}); !stopped) return stopped;
    }
    const IdleFiles store;
    for (const std::string& path :
         {std::string(kWantedPath), std::string(kTimerPath), std::string(kServicePath), store.status(), store.sample()}) {
      const Result<std::optional<FileInfo>> info = host.info(path);
      if (!info) return fail(info.error());
      if (Result<void> gone = *info ? host.remove(path) : Result<void>(); !gone) return gone;
    }
    if (Result<void> gone = host.remove_tree(store.folder()); !gone) return gone;
    return SystemdUnit::control(host, log, {"daemon-reload"});
  }

  IdleStopSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_idle_stop_step(const StepSpec& spec) { return std::make_unique<IdleStopStep>(std::get<IdleStopSpec>(spec)); }

}  // namespace gpustrap
