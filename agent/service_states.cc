#include "agent/service_states.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <ctime>
#include <map>
#include <optional>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "agent/base/subprocess.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/step_spec.h"
#include "agent/run_store.h"
#include "agent/supervise.h"

namespace gpustrap {
namespace {

constexpr std::size_t kMost = 64;
/// A status is asked for by people: a systemd that does not answer is not waited for.
constexpr std::chrono::seconds kLimit{10};
constexpr const char* kProperties =
    "--property=LoadState,ActiveState,SubState,Result,NRestarts,ActiveEnterTimestamp,InactiveEnterTimestamp";

bool is_plain_name(std::string_view name) {
  constexpr std::string_view kMay = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-@:";
  return !name.empty() && name.size() <= 200 && name.front() != '-' && name.find_first_not_of(kMay) == std::string_view::npos;
}

std::optional<KeptService> service_of(const StepEntry& step) {
  if (step.kind != StepKind::service && step.kind != StepKind::jupyter) return std::nullopt;
  std::vector<FieldProblem> problems;
  const StepSpec spec = read_step_spec(step.kind, *step.spec, "", Placeholders::allowed, problems);
  KeptService kept;
  if (const auto* jupyter = std::get_if<JupyterSpec>(&spec)) {
    kept = {jupyter->name, "jupyter", static_cast<std::uint16_t>(jupyter->port.number), true, false};
  } else {
    const auto& service = std::get<ServiceSpec>(spec);
    kept = {service.name, "service", static_cast<std::uint16_t>(service.port ? service.port->number : 0), service.running, false};
  }
  if (!is_plain_name(kept.name)) return std::nullopt;
  return kept;
}

/// `Sat 2026-11-21 09:00:00 UTC` as systemctl prints times where TZ is UTC; none where it is empty.
std::optional<std::int64_t> time_of(const std::string& text) {
  std::tm time{};
  if (::strptime(text.c_str(), "%a %Y-%m-%d %H:%M:%S", &time) == nullptr) return std::nullopt;
  return std::int64_t{1000} * ::timegm(&time);
}

using Properties = std::map<std::string, std::string>;

std::string value_of(const Properties& properties, const char* name) {
  const auto found = properties.find(name);
  return found == properties.end() ? std::string() : found->second;
}

/// Null where nothing is to be said of it.
Json state_of(const KeptService& service, const Properties& properties) {
  const bool is_there = value_of(properties, "LoadState") != "not-found" && !properties.empty();
  if (!is_there && !service.was_there) return {};
  Json state = {{"service", service.name}, {"kind", service.kind}};
  if (service.port != 0) state["port"] = service.port;
  state["wanted"] = service.wants_running ? "running" : "stopped";
  state["state"] = is_there ? value_of(properties, "ActiveState") : "missing";
  if (!is_there) return state;
  state["sub"] = value_of(properties, "SubState");
  if (const std::string result = value_of(properties, "Result"); !result.empty()) state["result"] = result;
  const bool runs = value_of(properties, "ActiveState") == "active";
  if (const auto since = time_of(value_of(properties, runs ? "ActiveEnterTimestamp" : "InactiveEnterTimestamp")))
    state["since_ms"] = *since;
  // Before systemd 235 it is not counted.
  const std::string restarts = value_of(properties, "NRestarts");
  std::uint64_t count = 0;
  const auto read = std::from_chars(restarts.data(), restarts.data() + restarts.size(), count);
  if (read.ec == std::errc() && read.ptr == restarts.data() + restarts.size()) state["restarts"] = count;
  return state;
}

}  // namespace

std::vector<KeptService> kept_services(const AgentPaths& paths) {
  std::vector<KeptService> services;
  bool is_newest = true;
  for (const std::string& id : runs_newest_first(paths)) {
    const Result<RunDescription> run = load_run(paths, id);
    if (!run) continue;  // one that cannot be read hides none of the others
    std::vector<StepFinished> ended;
    if (is_newest) {
      if (Result<RunSummary> summary = summarize_run(paths, id)) ended = std::move(summary->steps);
    }
    is_newest = false;
    for (const StepEntry& step : run->recipe.steps) {
      std::optional<KeptService> kept = service_of(step);
      const auto is_same = [&](const KeptService& other) { return other.name == kept->name; };
      if (!kept || services.size() >= kMost || std::any_of(services.begin(), services.end(), is_same)) continue;
      kept->was_there = std::any_of(ended.begin(), ended.end(), [&](const StepFinished& one) {
        return one.step == step.id && (one.outcome == Outcome::changed || one.outcome == Outcome::unchanged);
      });
      services.push_back(*std::move(kept));
    }
  }
  return services;
}

Json service_states_in(std::string_view shown, const std::vector<KeptService>& services) {
  // In the order in which they were asked for; by Id, one with an alias would go by another name.
  std::vector<Properties> blocks(1);
  for (const std::string& line : split(shown, '\n')) {
    const std::size_t equals = line.find('=');
    if (equals != std::string::npos)
      blocks.back()[line.substr(0, equals)] = line.substr(equals + 1);
    else if (!blocks.back().empty())
      blocks.emplace_back();
  }
  Json states = Json::array();
  for (std::size_t i = 0; i < services.size() && i < blocks.size(); ++i) {
    if (Json state = state_of(services[i], blocks[i]); !state.is_null()) states.push_back(std::move(state));
  }
  return states;
}

Json service_states(const AgentPaths& paths, const std::vector<KeptService>& services, bool has_systemd) {
  if (services.empty()) return Json::array();
  if (!has_systemd) {
    std::string shown;
    for (const KeptService& service : services) {
      const std::string unit = fmt::format("{}/{}.service", paths.services(), service.name);
      const Result<std::string> said = supervise("show", unit);
      shown += (said ? *said : std::string("LoadState=not-found\n")) + "\n";
    }
    return service_states_in(shown, services);
  }
  Subprocess systemctl;
  systemctl.argv = {"systemctl", "show", kProperties};
  for (const KeptService& service : services) systemctl.argv.push_back(service.name + ".service");
  systemctl.env = {{"TZ", "UTC"}, {"LC_ALL", "C"}};
  systemctl.timeout = kLimit;
  systemctl.limit = std::size_t{1} << 20U;
  const Result<SubprocessResult> said = run_subprocess(systemctl);
  if (!said || said->exit_code != 0) return Json::array();
  return service_states_in(said->out, services);
}

}  // namespace gpustrap
