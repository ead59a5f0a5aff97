#include "agent/steps/systemd_unit.h"

#include <ctime>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/service_unit.h"
#include "agent/steps/state_paths.h"

namespace gpustrap {
namespace {

/// What systemctl itself may take; a stop waits for the service's own limit, 90 s unless its unit says otherwise.
constexpr auto kLookLimit = std::chrono::seconds(30);
constexpr auto kControlLimit = std::chrono::minutes(5);

/// `Sat 2026-11-21 09:00:00 UTC` as systemctl prints times where TZ is UTC.
std::int64_t time_of(const std::string& text) {
  std::tm time{};
  if (::strptime(text.c_str(), "%a %Y-%m-%d %H:%M:%S", &time) == nullptr) return 0;
  return ::timegm(&time);
}

bool tells_of_failure(std::string_view line) {
  for (const std::string_view word : {"rror", "ermission", "annot", "ailed", "denied", "in use"}) {
    if (line.find(word) != std::string_view::npos) return true;
  }
  return false;
}

/// This very program, under whatever name: a file that was replaced or removed meanwhile is still this one.
constexpr const char* kAgent = "/proc/self/exe";

std::string own_path(const Host& host, const std::string& service) { return state_directory(host, "services") + "/" + service; }

}  // namespace

std::string SystemdUnit::path(const Host& host) const {
  return host.facts().systemd ? "/etc/systemd/system/" + service() : own_path(host, service());
}

Result<void> SystemdUnit::write(Host& host, const std::string& text) const {
  if (host.facts().systemd) return host.write(path(host), text, {0644, 0, 0});
  if (Result<void> made = host.make_directory(parent_of(path(host)), {}); !made) return made;
  return host.write(path(host), text, {0644, std::nullopt, std::nullopt});
}

Result<void> SystemdUnit::check_text(const Host& host, const std::string& text) {
  if (host.facts().systemd) return {};
  if (Result<ServiceUnit> read = read_service_unit(text); !read) return fail(std::move(read).error());
  return {};
}

std::string_view SystemdUnit::caveat(const Host& host) {
  return host.facts().systemd ? "" : "; not restarted after a reboot, as there is no systemd";
}

Result<bool> SystemdUnit::is_kept_up(const Host& host) const {
  if (host.facts().systemd) {
    const Result<std::optional<FileInfo>> wanted = host.info("/etc/systemd/system/multi-user.target.wants/" + service());
    if (!wanted) return fail(wanted.error());
    return wanted->has_value();
  }
  const Result<UnitState> is = state(host);
  if (!is) return fail(is.error());
  return is->active == "active";
}

bool SystemdUnit::runs_an_older_unit(const Host& host, const UnitState& state) const {
  if (state.active != "active" || state.active_since == 0) return false;
  const Result<std::optional<FileInfo>> info = host.info(path(host));
  return info && *info && (*info)->mtime_s > state.active_since && (*info)->mtime_s <= host.now();
}

Result<UnitState> SystemdUnit::state(const Host& host) const {
  Command command{
      {"systemctl", "show",
       "--property=LoadState,NeedDaemonReload,UnitFileState,ActiveState,SubState,Type,Result,ActiveEnterTimestamp,MainPID", service()},
      {{"TZ", "UTC"}, {"LC_ALL", "C"}},
      "",
      "",
      kLookLimit,
      {}};
  if (!host.facts().systemd) command.argv = {kAgent, "supervise", "show", path(host)};
  const Result<CommandResult> shown = host.look(command);
  if (!shown) return fail(shown.error());
  if (shown->exit_code != 0) return fail(command_error(command, *shown));
  UnitState state;
  for (const std::string& line : split(shown->out, '\n')) {
    const std::size_t equals = line.find('=');
    if (equals == std::string::npos) continue;
    const std::string name = line.substr(0, equals);
    const std::string value = line.substr(equals + 1);
    if (name == "LoadState")
      state.exists = value != "not-found", state.masked = value == "masked", state.unreadable = value == "bad-setting" || value == "error";
    else if (name == "NeedDaemonReload")
      state.reload_needed = value == "yes";
    else if (name == "UnitFileState")
      state.enabled = value;
    else if (name == "ActiveState")
      state.active = value;
    else if (name == "SubState")
      state.sub = value;
    else if (name == "Type")
      state.type = value;
    else if (name == "Result")
      state.result = value;
    else if (name == "ActiveEnterTimestamp")
      state.active_since = time_of(value);
    else if (name == "MainPID")
      state.main_pid = value;
  }
  return state;
}

Result<void> SystemdUnit::control(Host& host, StepLog& log, const std::vector<std::string>& words) {
  Command command{{"systemctl"}, {}, "", "", kControlLimit, {}};
  command.argv.insert(command.argv.end(), words.begin(), words.end());
  if (!host.facts().systemd) {
    // There is no boot to start it at, nothing remembers a unit's text, and one that fails too often only waits longer.
    if (words[0] != "start" && words[0] != "restart" && words[0] != "stop") return {};
    command.argv = {kAgent, "supervise", words[0], own_path(host, words.at(1))};
  }
  const Result<CommandResult> result = host.act(command, log);
  if (!result) return fail(result.error());
  if (result->exit_code != 0) return fail(command_error(command, *result));
  return {};
}

Error SystemdUnit::failure(const Host& host, const std::string& what) const {
  std::string said, log = path(host);
  log.replace(log.size() - 7, 7, "log");  // beside the unit, instead of "service"
  if (host.facts().systemd) {
    const Result<CommandResult> journal =
        host.look({{"journalctl", "-u", service(), "-n", "20", "-o", "cat", "--no-pager"}, {}, "", "", kLookLimit, {}});
    if (journal) said = journal->out;
  } else if (const Result<std::string> kept = host.read(log)) {
    said = last_lines(*kept, 20);
  }
  std::string telling;
  if (!said.empty()) {
    for (const std::string& line : split(said, '\n')) {
      // systemd's own lines name the unit; they only repeat that it failed.
      if (line.find(service()) == std::string::npos && tells_of_failure(line)) telling = first_line(strip_control(line));
    }
    // A program that could not be started at all has said nothing: "web.service: Failed to locate executable /usr/bin/web: No such file …".
    for (const std::string& line : split(said, '\n')) {
      if (telling.empty() && line.find(service() + ": Failed to ") != std::string::npos) telling = first_line(strip_control(line));
    }
    if (telling.empty()) telling = first_line(last_lines(strip_control(said), 1));
  }
  return {ErrorCode::command, telling.empty() ? what : what + ": " + telling,
          host.facts().systemd ? fmt::format("all it said: sudo journalctl -u {}", name_) : "all it said: " + log};
}

std::string unit_word(const std::string& text) {
  std::string word = "\"";
  for (const char c : text) {
    if (c == '%')
      word += "%%";
    else if (c == '"' || c == '\\')
      word += {'\\', c};
    else if (c == '$')
      word += "$$";
    else
      word += c;
  }
  return word + "\"";
}

}  // namespace gpustrap
