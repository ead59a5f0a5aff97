#include "agent/steps/systemd_unit.h"

#include <ctime>

#include <fmt/format.h>

#include "agent/base/text.h"

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

}  // namespace

Result<UnitState> SystemdUnit::state(const Host& host) const {
  const Command command{
      {"systemctl", "show",
       "--property=LoadState,NeedDaemonReload,UnitFileState,ActiveState,SubState,Type,Result,ActiveEnterTimestamp,MainPID", service()},
      {{"TZ", "UTC"}, {"LC_ALL", "C"}},
      "",
      "",
      kLookLimit,
      {}};
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
  const Result<CommandResult> result = host.act(command, log);
  if (!result) return fail(result.error());
  if (result->exit_code != 0) return fail(command_error(command, *result));
  return {};
}

Error SystemdUnit::failure(const Host& host, const std::string& what) const {
  const Result<CommandResult> journal =
      host.look({{"journalctl", "-u", service(), "-n", "20", "-o", "cat", "--no-pager"}, {}, "", "", kLookLimit, {}});
  std::string telling;
  if (journal) {
    for (const std::string& line : split(journal->out, '\n')) {
      // systemd's own lines name the unit; they only repeat that it failed.
      if (line.find(service()) == std::string::npos && tells_of_failure(line)) telling = first_line(strip_control(line));
    }
    // A program that could not be started at all has said nothing: "web.service: Failed to locate executable /usr/bin/web: No such file …".
    for (const std::string& line : split(journal->out, '\n')) {
      if (telling.empty() && line.find(service() + ": Failed to ") != std::string::npos) telling = first_line(strip_control(line));
    }
    if (telling.empty()) telling = first_line(last_lines(strip_control(journal->out), 1));
  }
  return {ErrorCode::command, telling.empty() ? what : what + ": " + telling, fmt::format("all it said: sudo journalctl -u {}", name_)};
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
