#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/steps/edited_file.h"
#include "agent/steps/kinds.h"
#include "agent/steps/port_owner.h"
#include "agent/steps/systemd_unit.h"

namespace gpustrap {
namespace {

constexpr auto kStartLimit = std::chrono::seconds(120);
constexpr auto kPause = std::chrono::milliseconds(200);
/// systemd calls a simple service active as soon as it is forked; one that cannot work mostly ends within this.
constexpr auto kSettle = std::chrono::seconds(1);

class ServiceStep : public Step {
 public:
  explicit ServiceStep(ServiceSpec spec) : spec_(std::move(spec)), unit_(spec_.name) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    if (Result<void> can = can_run(host); !can) return fail(std::move(can).error());
    const Result<UnitState> state = unit_.state(host);
    if (!state) return fail(state.error());
    const Result<std::string> wrong = what_is_wrong(host, *state);
    if (!wrong) return fail(wrong.error());
    if (!wrong->empty()) {
      const Result<std::string> changes = changes_of_text(host);
      if (!changes) return fail(changes.error());
      return StepState::unsatisfied(*wrong + (spec_.running ? std::string(SystemdUnit::caveat(host)) : ""), *changes);
    }
    std::vector<std::string> is = {spec_.running ? "running" : "stopped"};
    if (host.facts().systemd)
      is.emplace_back(others_start_it(*state) ? "started by other units" : spec_.enabled ? "starts at boot" : "does not start at boot");
    if (spec_.port) is.push_back(fmt::format("answers on 127.0.0.1:{}", spec_.port->number));
    return StepState::satisfied(join(is, ", ") + std::string(SystemdUnit::caveat(host)));
  }

  Result<void> apply(Host& host, StepLog& log) override {
    Result<UnitState> before = unit_.state(host);
    if (!before) return fail(std::move(before).error());
    if (before->masked) {
      return fail(ErrorCode::busy, fmt::format("the service {} is masked: someone has forbidden it to start", spec_.name),
                  fmt::format("allow it with: sudo systemctl unmask {}", spec_.name));
    }
    if (spec_.running && before->active != "active") {
      if (Result<void> free = check_port_is_free(host); !free) return free;
    }
    const Result<bool> same = unit_is_as_wanted(host);
    if (!same) return fail(same.error());
    if (spec_.unit && !*same) {
      if (Result<void> kept = keep_what_stands_there(host, log); !kept) return kept;
      if (Result<void> wrote = unit_.write(host, unit_text()); !wrote) return wrote;
    }
    if (!*same || before->reload_needed) {
      if (Result<void> reloaded = SystemdUnit::control(host, log, {"daemon-reload"}); !reloaded) return reloaded;
    }
    const Result<UnitState> known = unit_.state(host);
    if (!known) return fail(known.error());
    if (!known->exists) {
      return fail(ErrorCode::not_found, fmt::format("there is no service {}", spec_.name),
                  "give its unit file's text in `unit`, or add a step before this one that installs the package it comes with");
    }
    if (known->unreadable) {
      return fail(ErrorCode::recipe, fmt::format("systemd does not understand the unit of {}", spec_.name),
                  fmt::format("on the host: systemd-analyze verify {}", unit_.service()));
    }
    if (Result<void> done = set_enabled(host, log, *known); !done) return done;
    if (!spec_.running) return SystemdUnit::control(host, log, {"stop", unit_.service()});
    const bool old = !*same || before->reload_needed || unit_.runs_an_older_unit(host, *before);
    // A start of a service that has failed too often is refused until it is forgotten.
    if (known->active == "failed") {
      if (Result<void> reset = SystemdUnit::control(host, log, {"reset-failed", unit_.service()}); !reset) return reset;
    }
    const Result<void> started = SystemdUnit::control(host, log, {old ? "restart" : "start", unit_.service()});
    if (!started) return fail(unit_.failure(host, "it did not start"));
    return wait_until_it_runs(host, log);
  }

 private:
  [[nodiscard]] Result<void> can_run(const Host& host) const {
    if (!host.facts().systemd) {
      if (spec_.unit) return SystemdUnit::check_text(host, unit_text());
      return fail(ErrorCode::unsupported,
                  fmt::format("systemd is not PID 1 here, and the recipe has no unit for the service {}", spec_.name),
                  "give its unit file's text in `unit`: gpustrap then runs it by itself");
    }
    if (host.self().uid == 0) return {};
    return fail(ErrorCode::permission, fmt::format("the services of a system are root's, and the step runs as {}", host.self().name),
                "remove `as` from the step; User= in the unit says whom the service runs as");
  }

  [[nodiscard]] std::string unit_text() const { return spec_.unit->ends_with('\n') ? *spec_.unit : *spec_.unit + "\n"; }

  [[nodiscard]] Result<bool> unit_is_as_wanted(const Host& host) const {
    if (!spec_.unit) return true;
    const Result<std::string> there = host.read(unit_.path(host));
    if (!there && there.error().code() == ErrorCode::not_found) return false;
    if (!there) return fail(there.error());
    return *there == unit_text();
  }

  /// The difference between the unit's text and the one that stands there, for a plan; empty where there is none.
  [[nodiscard]] Result<std::string> changes_of_text(const Host& host) const {
    const Result<bool> same = unit_is_as_wanted(host);
    if (!same) return fail(same.error());
    if (*same) return std::string();
    const Result<EditedFile> file = look_at_file(unit_.path(host), host);
    if (!file) return fail(file.error());
    return content_differs(*file, unit_text(), 0644U).changes;
  }

  /// A unit that somebody has written by hand is not lost.
  Result<void> keep_what_stands_there(Host& host, StepLog& log) const {
    const Result<EditedFile> file = look_at_file(unit_.path(host), host);
    if (!file) return fail(file.error());
    return file->info ? keep_backup(*file, host, log) : Result<void>();
  }

  /// Empty where nothing is.
  [[nodiscard]] Result<std::string> what_is_wrong(const Host& host, const UnitState& state) const {
    const Result<bool> same = unit_is_as_wanted(host);
    if (!same) return fail(same.error());
    if (spec_.unit && !*same) return std::string(state.exists ? "the unit's text differs" : "the service does not exist");
    if (!state.exists && !state.masked)
      return spec_.unit ? std::string("systemd has not read the unit yet") : fmt::format("there is no service {}", spec_.name);
    if (state.masked && (spec_.running || spec_.enabled)) return std::string("it is masked");
    if (state.unreadable) return std::string("systemd does not understand its unit");
    if (state.reload_needed) return std::string("systemd has not read the changed unit yet");
    if (host.facts().systemd && !others_start_it(state) && spec_.enabled != starts_at_boot(state))
      return std::string(spec_.enabled ? "it does not start at boot" : "it starts at boot");
    if (!spec_.running) return std::string(state.active == "inactive" || state.active == "failed" ? "" : "it is running");
    if (state.active != "active") return fmt::format("it is not running ({})", state.active);
    if (spec_.unit && unit_.runs_an_older_unit(host, state)) return std::string("it still runs as its unit was before");
    if (spec_.port && !host.port_answers(spec_.port->number)) return fmt::format("nothing answers on 127.0.0.1:{}", spec_.port->number);
    return std::string();
  }

  static bool starts_at_boot(const UnitState& state) { return state.enabled == "enabled" || state.enabled == "alias"; }
  /// A unit of the system's that has no [Install] section, such as dbus: others start it, and it can be neither enabled nor disabled.
  [[nodiscard]] bool others_start_it(const UnitState& state) const {
    return !spec_.unit && (state.enabled == "static" || state.enabled == "indirect" || state.enabled == "generated");
  }

  Result<void> set_enabled(Host& host, StepLog& log, const UnitState& state) const {
    if (others_start_it(state) || spec_.enabled == starts_at_boot(state)) return {};
    if (spec_.enabled && state.enabled == "static") {
      return fail(ErrorCode::unsupported,
                  fmt::format("the unit of {} has no [Install] section, so it cannot be started at boot", spec_.name),
                  "add `[Install]` and `WantedBy=multi-user.target` to its text, or set `enabled: false`");
    }
    return SystemdUnit::control(host, log, {spec_.enabled ? "enable" : "disable", unit_.service()});
  }

  [[nodiscard]] Result<void> check_port_is_free(const Host& host) const {
    if (!spec_.port || !host.port_answers(spec_.port->number)) return {};
    return fail(ErrorCode::busy, fmt::format("port {} is taken by {}", spec_.port->number, owner_of_port(host, spec_.port->number)),
                "stop that program, or give this service another port");
  }

  Result<void> wait_until_it_runs(Host& host, StepLog& log) const {
    if (spec_.port) log.say(fmt::format("waiting for it to answer on 127.0.0.1:{}", spec_.port->number));
    std::string process;
    std::chrono::milliseconds settled{0};
    for (std::chrono::milliseconds waited{0}; waited < kStartLimit; waited += kPause) {
      const Result<UnitState> state = unit_.state(host);
      if (!state) return fail(state.error());
      const bool restarted = !process.empty() && process != "0" && state->main_pid != process;
      if (state->active == "failed" || state->sub == "auto-restart" || restarted)
        return fail(unit_.failure(host, "it ended right after its start"));
      if (state->active == "inactive") {
        if (state->type == "oneshot") {
          return fail(ErrorCode::command, "it has done its work and ended, so it is not running",
                      "add `RemainAfterExit=yes` to its [Service] section, or set `running: false`");
        }
        return fail(unit_.failure(host, "it ended right after its start"));
      }
      if (state->active == "active") {
        process = state->main_pid;
        if (settled >= kSettle && (!spec_.port || host.port_answers(spec_.port->number))) return {};
        settled += kPause;
      }
      host.pause(kPause);
    }
    return fail(unit_.failure(
        host, spec_.port ? fmt::format("nothing answered on 127.0.0.1:{} within {}", spec_.port->number, human_duration(kStartLimit))
                         : fmt::format("it was not running within {}", human_duration(kStartLimit))));
  }

  ServiceSpec spec_;
  SystemdUnit unit_;
};

}  // namespace

std::unique_ptr<Step> make_service_step(const StepSpec& spec) { return std::make_unique<ServiceStep>(std::get<ServiceSpec>(spec)); }

}  // namespace gpustrap
