#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "controller/conversation.h"
#include "controller/display_width.h"
#include "controller/host_text.h"
#include "controller/hosts_file.h"
#include "controller/newcomer.h"
#include "controller/prompt.h"
#include "controller/step_log_printer.h"
#include "controller/verbs.h"

namespace gpustrap {
namespace {

void print(const std::string& text) { static_cast<void>(write_all(STDOUT_FILENO, text).has_value()); }

/// A member of what the host says, printable; empty where it is no text.
std::string text_of(const Json& object, const char* name) {
  const auto member = object.find(name);
  return member != object.end() && member->is_string() ? strip_control(first_line(member->get<std::string>(), 300)) : "";
}

Json list_of(const Json& reply, const char* name) {
  const auto member = reply.find(name);
  return member != reply.end() && member->is_array() ? *member : Json::array();
}

std::string ago(std::int64_t since_ms) {
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch());
  return human_duration(std::chrono::milliseconds(std::max<std::int64_t>(now.count() - since_ms, 0)));
}

/// One line about the last run.
std::string run_text(const Json& run) {
  const std::string recipe = text_of(run, "recipe");
  const std::string id = text_of(run, "run");
  const auto since = run.find("since_ms");
  const std::string age = since != run.end() && since->is_number_integer() ? ago(since->get<std::int64_t>()) : "?";
  const std::string state = text_of(run, "state");
  if (state == "running") {
    const std::string step = text_of(run, "step");
    if (const auto waiting = run.find("waiting_for_secrets"); waiting != run.end() && waiting->is_object() && !waiting->empty()) {
      return fmt::format("{} is waiting for a secret, at {}; `gpustrap attach` hands it over  ({})", recipe,
                         strip_control(waiting->begin().key()), id);
    }
    return fmt::format("{} is running for {}{}  ({})", recipe, age, step.empty() ? "" : ", at " + step, id);
  }
  if (state == "finished") {
    const std::string end = text_of(run, "end");
    std::vector<std::string> counts;
    const auto member = run.find("counts");
    if (member != run.end() && member->is_object()) {
      for (const auto& [outcome, count] : member->items()) {
        if (count.is_number_unsigned()) counts.push_back(fmt::format("{} {}", count.get<std::uint64_t>(), strip_control(outcome)));
      }
    }
    return fmt::format("{} {}, started {} ago: {}  ({})", recipe, end == "ok" ? "done" : end, age, join(counts, ", "), id);
  }
  return fmt::format("{} was interrupted, started {} ago; `gpustrap attach` takes it up  ({})", recipe, age, id);
}

VerbResult status_of_one(const Options& options) {
  Conversation talk(options, Rights::whatever, make_silent_status());
  const auto reply = talk.client().ask(StatusRequest{});
  if (!reply) return fail(reply.error());
  if (options.json) {
    Json line = {{"host", options.destination()}};
    line.update(**reply);
    print(to_line(line));
    return ExitCode::ok;
  }
  const auto facts_member = (*reply)->find("facts");
  const Result<Facts> facts = facts_member == (*reply)->end() ? Result<Facts>(Facts{}) : facts_from_json(*facts_member);
  if (!facts) return fail(facts.error());
  std::string text = fmt::format("{}   {}\n", options.destination(), strip_control(join(describe_host(*facts), ", ")));
  text += fmt::format("  kernel    {}, up {}, {} free\n", strip_control(facts->kernel),
                      human_duration(std::chrono::seconds(facts->uptime_s)), human_size(facts->disk_free));
  if (!facts->gpus.empty()) text += fmt::format("  driver    {}\n", facts->driver.empty() ? "none" : strip_control(facts->driver));
  const auto run = (*reply)->find("run");
  const bool has_run = run != (*reply)->end() && run->is_object();
  text += fmt::format("  run       {}\n", has_run ? run_text(*run) : "none yet");
  for (const Json& notebook : list_of(**reply, "notebooks")) {
    const auto port = notebook.is_object() ? notebook.find("port") : notebook.end();
    if (port == notebook.end() || !port->is_number_unsigned()) continue;
    text += fmt::format("  notebook  {} on the host's port {}; open it with: gpustrap open {}\n", text_of(notebook, "service"),
                        port->get<std::uint64_t>(), options.destination());
  }
  print(text);
  return ExitCode::ok;
}

/// Who, last recipe, address of the last tunnel, key: one line a host, in columns.
std::string hosts_table(const std::vector<RememberedHost>& hosts) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::size_t> widths(3, 0);
  for (const RememberedHost& host : hosts) {
    std::string who = host.user.empty() ? host.host : host.user + "@" + host.host;
    if (host.port) who += fmt::format(" -p {}", *host.port);
    std::string keys;
    for (const std::string& identity : host.identities) keys += (keys.empty() ? "-i " : " -i ") + shell_quote(identity);
    rows.push_back({who, host.recipe, host.local_port == 0 ? "" : fmt::format("http://localhost:{}/lab", host.local_port), keys});
    for (std::string& cell : rows.back()) cell = strip_control(cell);
    for (std::size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], display_width(rows.back()[i]));
  }
  std::string text;
  for (const std::vector<std::string>& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      if (widths[i] > 0) line += fit_to_width(row[i], widths[i]) + "  ";
    }
    line += row.back();
    while (line.ends_with(' ')) line.pop_back();
    text += line + "\n";
  }
  return text;
}

std::string removal_text(const Json& reply) {
  std::string text;
  for (const auto& [name, title] : {std::pair{"paths", "file or folder"}, std::pair{"units", "systemd unit"}}) {
    for (const Json& item : list_of(reply, name)) {
      if (item.is_string()) text += fmt::format("  {}  {}\n", title, strip_control(item.get<std::string>()));
    }
  }
  return text;
}

}  // namespace

VerbResult verb_status(const Options& options) {
  ExitCode worst = ExitCode::ok;
  for (const std::string& given : options.hosts) {
    Options one = options;
    Result<Destination> destination = read_destination(given);
    if (!destination) return fail(std::move(destination).error());
    one.host = destination->host;
    if (!destination->user.empty()) one.user = destination->user;
    Result<Options> filled = with_memory(one);
    if (!filled) return fail(std::move(filled).error());
    VerbResult result = status_of_one(*filled);
    if (result) continue;
    if (options.hosts.size() == 1) return result;
    print(fmt::format("{}   {}\n", filled->destination(), strip_control(result.error().sentence())));
    worst = std::max(worst, exit_code_of(result.error().code()));
  }
  return worst;
}

VerbResult verb_logs(const Options& options) {
  Conversation talk(options, Rights::whatever, make_step_log_printer(options), CtrlC::leaves);
  const Result<RunResult> result = talk.client().attach();
  if (!result) return fail(result.error());
  if (options.step.empty() || !result->started) return ExitCode::ok;
  std::vector<std::string> steps;
  for (const StepTitle& step : result->started->steps) steps.push_back(strip_control(step.id));
  if (std::find(steps.begin(), steps.end(), options.step) != steps.end()) return ExitCode::ok;
  return fail(ErrorCode::usage, fmt::format("the last run has no step `{}`", options.step), "its steps: " + join(steps, ", "));
}

VerbResult verb_cancel(const Options& options) {
  Conversation talk(options, Rights::whatever, make_silent_status());
  const auto reply = talk.client().ask(CancelRequest{"gpustrap cancel"});
  if (!reply) return fail(reply.error());
  if (!options.json) print(fmt::format("Run {} stops after its current step.\n", text_of(**reply, "run")));
  return ExitCode::ok;
}

VerbResult verb_remove(const Options& options) {
  Conversation talk(options, Rights::whatever, make_silent_status());
  const auto preview = talk.client().ask(RemoveRequest{true});
  if (!preview) return fail(preview.error());
  const std::string list = removal_text(**preview);
  if (list.empty()) {
    print(fmt::format("There is nothing of gpustrap's on {}.\n", options.destination()));
    return ExitCode::ok;
  }
  print(fmt::format("To be removed from {}:\n{}What recipes installed stays: packages, environments, notebooks, services.\n",
                    options.destination(), list));
  if (!options.yes) {
    if (!can_ask()) return fail(ErrorCode::usage, "nobody can be asked whether to remove this", "add -y");
    if (!ask_yes_no("Remove it?")) return ExitCode::ok;
  }
  const auto removed = talk.client().ask(RemoveRequest{false});
  if (!removed) return fail(removed.error());
  print("Removed.\n");
  return ExitCode::ok;
}

VerbResult verb_hosts(const Options& options) {
  const Result<HostsFile> file = HostsFile::open();
  if (!file) return fail(file.error());
  if (options.forget) {
    const Result<bool> forgotten = file->forget(options.host);
    if (!forgotten) return fail(forgotten.error());
    if (!*forgotten)
      return fail(ErrorCode::not_found, fmt::format("{} is not remembered", options.host), "`gpustrap hosts` lists those that are");
    return ExitCode::ok;
  }
  const Result<std::vector<RememberedHost>> hosts = file->load();
  if (!hosts) return fail(hosts.error());
  if (options.json) {
    for (const RememberedHost& host : *hosts) print(to_line(to_json(host)));
    return ExitCode::ok;
  }
  if (hosts->empty())
    static_cast<void>(
        write_all(STDERR_FILENO, "No host is remembered yet; `gpustrap up` remembers those that it logged in to.\n").has_value());
  print(hosts_table(*hosts));
  return ExitCode::ok;
}

VerbResult verb_ssh(const Options& options) {
  const SshRequest request = ssh_request_of(options);
  std::vector<std::string> words = {"ssh"};
  if (request.port) words.insert(words.end(), {"-p", fmt::format("{}", *request.port)});
  for (const std::string& identity : request.identities) words.insert(words.end(), {"-i", identity});
  if (!request.user.empty()) words.insert(words.end(), {"-l", request.user});
  words.insert(words.end(), {"--", request.host});
  words.insert(words.end(), options.command.begin(), options.command.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execvp("ssh", argv.data());
  return fail(errno_error(errno, "starting ssh"));
}

}  // namespace gpustrap
