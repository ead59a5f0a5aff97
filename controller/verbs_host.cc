#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "controller/complaint.h"
#include "controller/conversation.h"
#include "controller/display_width.h"
#include "controller/hosts_file.h"
#include "controller/idle_status.h"
#include "controller/prompt.h"
#include "controller/removal_text.h"
#include "controller/run_log.h"
#include "controller/step_log_printer.h"
#include "controller/verbs.h"

namespace gpustrap {
namespace {

void print(const std::string& text) { static_cast<void>(write_all(STDOUT_FILENO, text).has_value()); }

/// Who, last recipe, address of the last tunnel, key: one line a host, in columns.
std::string hosts_table(const std::vector<RememberedHost>& hosts) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::size_t> widths(3, 0);
  for (const RememberedHost& host : hosts) {
    std::string who = host.user.empty() ? host.host : host.user + "@" + host.host;
    if (host.port) who += fmt::format(" -p {}", *host.port);
    if (!host.address.empty()) who += fmt::format(" ({})", host.address);
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

}  // namespace

VerbResult verb_logs(const Options& options) {
  if (!options.run.empty() && !is_run_id(options.run))
    return fail(ErrorCode::usage, fmt::format("--run {}: this is no run's id", options.run),
                fmt::format("`gpustrap history {}` lists those that this machine has seen", options.destination()));
  Conversation talk(options, Rights::whatever, make_step_log_printer(options), CtrlC::leaves);
  const Result<RunResult> result = talk.client().attach(options.run, options.follow ? Stay::until_finished : Stay::until_caught_up);
  talk.status().ending({});
  if (!result) return fail(result.error());
  if (options.step.empty() || !result->started) return ExitCode::ok;
  std::vector<std::string> steps;
  for (const StepTitle& step : result->started->steps) steps.push_back(strip_control(step.id));
  if (std::find(steps.begin(), steps.end(), options.step) != steps.end()) return ExitCode::ok;
  const std::string near = nearest_name(options.step, steps);
  return fail(ErrorCode::usage,
              fmt::format("that run has no step `{}`{}", options.step, near.empty() ? "" : fmt::format("; did you mean `{}`?", near)),
              "its steps: " + join(steps, ", "));
}

VerbResult verb_cancel(const Options& options) {
  Conversation talk(options, Rights::whatever, make_silent_status());
  const auto reply = talk.client().ask(CancelRequest{"gpustrap cancel", options.now});
  const bool nothing_runs = !reply && reply.error().code() == ErrorCode::not_found;
  if (options.json) {
    const Result<Json> answer = reply ? Result<Json>(**reply) : nothing_runs ? Result<Json>(Json::object()) : fail(reply.error());
    print(to_line(cancel_document(options.destination(), answer)));
  }
  if (!reply) return fail(reply.error());
  if (!options.json) {
    print(fmt::format("Run {} {}.\n", run_of_reply(**reply), stop_text(options.now)));
    if (!options.now)
      print(fmt::format("  Without waiting for that step:   gpustrap cancel {} --now\n", strip_control(options.destination())));
  }
  return ExitCode::ok;
}

VerbResult verb_keep(const Options& options) {
  KeepRequest request;
  if (options.keep_on) request.seconds = static_cast<std::uint64_t>(options.keep_on->count());
  Conversation talk(options, Rights::whatever, make_silent_status());
  const auto reply = talk.client().ask(request);
  if (!reply) return fail(reply.error());
  print(options.json ? to_line(keep_document(options.destination(), **reply)) : keep_text(options.destination(), **reply));
  return ExitCode::ok;
}

namespace {

VerbResult failed_removal(const Options& options, const Error& why) {
  if (options.json) print(to_line(Json{{"remove", 1}, {"host", options.destination()}, {"error", error_document(why)}}));
  return fail(why);
}

}  // namespace

VerbResult verb_remove(const Options& options) {
  Conversation talk(options, Rights::whatever, make_silent_status());
  const auto preview = talk.client().ask(RemoveRequest{true});
  if (!preview) return failed_removal(options, preview.error());
  const std::string list = removal_text(**preview);
  if (list.empty()) {
    print(options.json ? to_line(removal_document(options.destination(), **preview, false))
                       : fmt::format("There is nothing of gpustrap's on {}.\n", options.destination()));
    return ExitCode::ok;
  }
  if (!options.json) {
    print(fmt::format("To be removed from {}:\n{}What recipes installed stays: packages, environments, notebooks, services.\n",
                      options.destination(), list));
  }
  if (!options.yes) {
    if (!can_ask()) return fail(ErrorCode::usage, "nobody can be asked whether to remove this", "add -y");
    if (!ask_yes_no("Remove it?")) return ExitCode::ok;
  }
  const auto removed = talk.client().ask(RemoveRequest{false});
  if (!removed) return failed_removal(options, removed.error());
  print(options.json ? to_line(removal_document(options.destination(), **removed, true)) : "Removed.\n");
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
    for (const RememberedHost& host : *hosts) {
      Json line = {{"hosts", 1}};
      line.update(to_json(host));
      print(to_line(line));
    }
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
