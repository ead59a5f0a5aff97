// Verbs that ask hosts something, one or many at once, and begin nothing: status, and attach, cancel and remove of many.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "controller/complaint.h"
#include "controller/console.h"
#include "controller/fleet.h"
#include "controller/fleet_json.h"
#include "controller/fleet_members.h"
#include "controller/fleet_printer.h"
#include "controller/fleet_quiet.h"
#include "controller/host_status.h"
#include "controller/host_text.h"
#include "controller/prompt.h"
#include "controller/removal_text.h"
#include "controller/run_log.h"
#include "controller/verbs.h"

namespace gpustrap {
namespace {

void print(int descriptor, const std::string& text) { static_cast<void>(write_all(descriptor, text).has_value()); }

JsonPrinter::Write writer(int descriptor) {
  return [descriptor](std::string_view text) { static_cast<void>(write_all(descriptor, text).has_value()); };
}

std::vector<std::string> names_of(const std::vector<FleetMember>& members) {
  std::vector<std::string> names;
  for (const FleetMember& member : members) names.push_back(member.name);
  return names;
}

/// The hosts of a command line, and their answers to one question.
struct Asked {
  std::vector<FleetMember> members;
  std::vector<Result<Json>> answers;
};

/// A host that does not answer is not waited for: many are asked, and the others' answers are wanted now.
Result<std::vector<FleetMember>> impatient_members(const Options& options) {
  Options own = options;
  if (!own.wait) own.wait = std::chrono::seconds(0);
  return members_without_recipe(own);
}

/// Asks every host; those that answered are remembered.
Result<std::vector<Result<Json>>> ask_all(const Options& options, const std::vector<FleetMember>& members, const Fleet::Ask& ask) {
  FleetWork work;
  work.parallel = parallel_for(options, members.size());
  if (Result<void> asked = ask_sudo_password_for(options, work); !asked) return fail(std::move(asked).error());
  const auto screen = std::make_shared<FleetScreen>(std::make_unique<FleetQuiet>(names_of(members), writer(STDERR_FILENO)), members.size());
  Fleet fleet(members, std::move(work), screen);
  std::vector<Result<Json>> answers = fleet.ask(ask);
  if (fleet.interrupted()) return fail(ErrorCode::cancelled, "interrupted");
  std::vector<bool> reached;
  for (const Result<Json>& answer : answers) reached.push_back(answer.has_value());
  if (const Result<void> kept = remember_hosts(members, reached); !kept)
    screen->announce("These hosts are not remembered: " + kept.error().sentence());
  return answers;
}

/// "gpu1  sentence", in columns; the hint of an error below it.
void print_answers(const std::vector<FleetMember>& members, const std::vector<Result<Json>>& answers,
                   const std::function<std::string(const Json&)>& say) {
  std::size_t widest = 0;
  for (const FleetMember& member : members) widest = std::max(widest, member.name.size());
  for (std::size_t i = 0; i < members.size(); ++i) {
    const Result<Json>& answer = answers[i];
    const std::string what = answer ? say(*answer) : first_line(strip_control(answer.error().sentence()), 300);
    print(STDOUT_FILENO, fmt::format("{:<{}}  {}\n", strip_control(members[i].name), widest, what));
    if (answer || answer.error().hint().empty()) continue;
    print(STDOUT_FILENO, fmt::format("{:<{}}  -> {}\n", "", widest,
                                     strip_control(first_line(with_host(answer.error().hint(), members[i].options.destination()), 300))));
  }
}

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

VerbResult verb_status(const Options& options) {
  const Result<std::vector<FleetMember>> members = impatient_members(options);
  if (!members) return fail(members.error());
  const Result<std::vector<Result<Json>>> answers =
      ask_all(options, *members, [](std::size_t, HostAccess& access, RunClient& client) { return ask_for_status(access, client); });
  if (!answers) return fail(answers.error());
  // One host's failure is the command's own.
  if (members->size() == 1 && !answers->front() && !options.json) return fail(answers->front().error());
  std::vector<HostStatus> hosts;
  ExitCode worst = ExitCode::ok;
  for (std::size_t i = 0; i < members->size(); ++i) {
    hosts.push_back(read_host_status((*members)[i], (*answers)[i]));
    if (!(*answers)[i]) worst = worse_of(worst, exit_code_of((*answers)[i].error().code()));
    if (options.json) print(STDOUT_FILENO, to_line(status_document(hosts.back(), (*answers)[i])));
  }
  if (options.json) return worst;
  const Console console = console_of(STDOUT_FILENO, options.colour);
  if (hosts.size() == 1 || options.detail == Detail::verbose) {
    for (const HostStatus& host : hosts) print(STDOUT_FILENO, status_text(host, console, now_ms()));
    return worst;
  }
  // Off a terminal, too, what one line of a terminal holds: a table is for people; programs have --json.
  const std::size_t columns = console.person ? std::max<std::size_t>(console.size().columns, 40) - 1 : 0;
  for (const std::string& line : status_table(hosts, console, columns, now_ms())) print(STDOUT_FILENO, line + "\n");
  return worst;
}

VerbResult verb_attach_many(const Options& options) {
  const Result<std::vector<FleetMember>> members = impatient_members(options);
  if (!members) return fail(members.error());
  FleetWork work;
  work.act = FleetWork::Act::follow;
  work.parallel = members->size();  // each is followed for as long as its run lasts
  if (Result<void> asked = ask_sudo_password_for(options, work); !asked) return fail(std::move(asked).error());
  std::unique_ptr<FleetView> view;
  if (options.json)
    view = std::make_unique<FleetJson>(names_of(*members), writer(STDOUT_FILENO), writer(STDERR_FILENO));
  else
    view = std::make_unique<FleetPrinter>(console_of(STDOUT_FILENO, options.colour), "attach", names_of(*members), options.detail);
  const auto screen = std::make_shared<FleetScreen>(std::move(view), members->size());
  Fleet fleet(*members, std::move(work), screen);
  std::vector<std::size_t> everyone(members->size());
  std::iota(everyone.begin(), everyone.end(), std::size_t{0});
  std::vector<HostEnd> ends = fleet.run(everyone);
  ExitCode worst = ExitCode::ok;
  std::vector<bool> reached;
  for (std::size_t i = 0; i < ends.size(); ++i) {
    ends[i].hint = with_host(ends[i].hint, (*members)[i].options.destination());
    worst = worse_of(worst, ends[i].exit);
    reached.push_back(!ends[i].run.empty());
  }
  if (const Result<void> kept = remember_hosts(*members, reached); !kept)
    screen->announce("These hosts are not remembered: " + kept.error().sentence());
  if (const Result<std::string> state = state_directory()) RunLog::forget_oldest(*state);
  screen->summary(ends, {});
  return worst;
}

VerbResult verb_cancel_many(const Options& options) {
  const Result<std::vector<FleetMember>> members = impatient_members(options);
  if (!members) return fail(members.error());
  const auto ask = [now = options.now](std::size_t, HostAccess&, RunClient& client) {
    const auto reply = client.ask(CancelRequest{"gpustrap cancel", now});
    if (reply) return Result<Json>(**reply);
    // Nothing runs there: that is what was asked for.
    if (reply.error().code() == ErrorCode::not_found) return Result<Json>(Json::object());
    return Result<Json>(fail(reply.error()));
  };
  const Result<std::vector<Result<Json>>> answers = ask_all(options, *members, ask);
  if (!answers) return fail(answers.error());
  ExitCode worst = ExitCode::ok;
  for (std::size_t i = 0; i < members->size(); ++i) {
    const Result<Json>& answer = (*answers)[i];
    if (!answer) worst = worse_of(worst, exit_code_of(answer.error().code()));
    if (options.json) print(STDOUT_FILENO, to_line(cancel_document((*members)[i].name, answer)));
  }
  if (options.json) return worst;
  print_answers(*members, *answers, [&](const Json& reply) {
    const std::string run = run_of_reply(reply);
    return run.empty() ? std::string("nothing was running") : fmt::format("run {} {}", run, stop_text(options.now));
  });
  return worst;
}

VerbResult verb_remove_many(const Options& options) {
  const Result<std::vector<FleetMember>> members = impatient_members(options);
  if (!members) return fail(members.error());
  const auto ask = [](bool preview) {
    return [preview](std::size_t, HostAccess&, RunClient& client) {
      const auto reply = client.ask(RemoveRequest{preview});
      return reply ? Result<Json>(**reply) : Result<Json>(fail(reply.error()));
    };
  };
  const Result<std::vector<Result<Json>>> previews = ask_all(options, *members, ask(true));
  if (!previews) return fail(previews.error());
  std::vector<FleetMember> willing;
  ExitCode worst = ExitCode::ok;
  for (std::size_t i = 0; i < members->size(); ++i) {
    const FleetMember& member = (*members)[i];
    const Result<Json>& preview = (*previews)[i];
    if (!preview) {
      worst = worse_of(worst, exit_code_of(preview.error().code()));
      if (options.json)
        print(STDOUT_FILENO, to_line(Json{{"remove", 1}, {"host", member.name}, {"error", error_document(preview.error())}}));
      else
        print(STDOUT_FILENO, fmt::format("{}: {}\n", strip_control(member.name), strip_control(preview.error().sentence())));
      continue;
    }
    willing.push_back(member);
    if (!options.json) print(STDOUT_FILENO, fmt::format("To be removed from {}:\n{}", strip_control(member.name), removal_text(*preview)));
  }
  if (willing.empty()) return worst;
  if (!options.json) print(STDOUT_FILENO, "What recipes installed stays: packages, environments, notebooks, services.\n");
  if (!options.yes) {
    if (!can_ask()) return fail(ErrorCode::usage, "nobody can be asked whether to remove this", "add -y");
    if (!ask_yes_no(fmt::format("Remove it from {} hosts?", willing.size()))) return ExitCode::cancelled;
  }
  const Result<std::vector<Result<Json>>> removed = ask_all(options, willing, ask(false));
  if (!removed) return fail(removed.error());
  for (std::size_t i = 0; i < willing.size(); ++i) {
    const Result<Json>& answer = (*removed)[i];
    if (!answer) worst = worse_of(worst, exit_code_of(answer.error().code()));
    if (!options.json) continue;
    print(STDOUT_FILENO, to_line(answer ? removal_document(willing[i].name, *answer, true)
                                        : Json{{"remove", 1}, {"host", willing[i].name}, {"error", error_document(answer.error())}}));
  }
  if (!options.json) print_answers(willing, *removed, [](const Json&) { return std::string("removed"); });
  return worst;
}

}  // namespace gpustrap
