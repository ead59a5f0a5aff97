#include "controller/host_status.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/complaint.h"
#include "controller/display_width.h"
#include "controller/fleet_printer.h"
#include "controller/host_text.h"
#include "controller/login_shell.h"
#include "controller/remote_command.h"
#include "controller/screen_text.h"

namespace gpustrap {
namespace {

constexpr std::size_t kMostSteps = 20, kMostServices = 64, kLongestWord = 80, kLongestReason = 300;
/// Each takes some 200 bytes of a command.
constexpr std::size_t kMostPorts = 32;
constexpr RemoteLimits kLookLimits{std::chrono::seconds(20), 256U << 10U};
constexpr std::uint16_t kUsualPort = 8889;
constexpr std::int64_t kLastMoment = 253'402'300'799'000;  // of the year 9999

/// A member of what the host says, printable; empty where it is no text.
std::string text_of(const Json& object, const char* name, std::size_t limit = kLongestWord) {
  const auto member = object.find(name);
  return member != object.end() && member->is_string() ? strip_control(first_line(member->get<std::string>(), limit)) : "";
}

const Json* list_in(const Json& object, const char* name) {
  const auto member = object.find(name);
  return member != object.end() && member->is_array() ? &*member : nullptr;
}

std::vector<NotebookStatus> notebooks_in(const Json& reply) {
  std::vector<NotebookStatus> notebooks;
  const Json* list = list_in(reply, "notebooks");
  for (std::size_t i = 0; list != nullptr && i < std::min<std::size_t>(list->size(), 16); ++i) {
    const Json& one = (*list)[i];
    const auto port = one.is_object() ? one.find("port") : one.end();
    if (port == one.end() || !port->is_number_unsigned() || port->get<std::uint64_t>() > 65535) continue;
    notebooks.push_back({text_of(one, "service"), static_cast<std::uint16_t>(port->get<std::uint64_t>()), "", std::nullopt});
  }
  return notebooks;
}

template <class Number> std::optional<Number> number_in(const Json& object, const char* name, Number most) {
  const auto member = object.find(name);
  if (member == object.end() || !member->is_number_integer() ||
      (member->is_number_unsigned() && member->get<std::uint64_t>() > static_cast<std::uint64_t>(most)))
    return std::nullopt;
  const auto value = member->get<std::int64_t>();
  return value < 0 ? std::nullopt : std::optional<Number>(static_cast<Number>(value));
}

std::vector<ServiceStatus> services_in(const Json& reply) {
  std::vector<ServiceStatus> services;
  const Json* list = list_in(reply, "services");
  for (std::size_t i = 0; list != nullptr && i < std::min<std::size_t>(list->size(), kMostServices); ++i) {
    const Json& one = (*list)[i];
    if (!one.is_object() || text_of(one, "service").empty()) continue;
    ServiceStatus service;
    service.name = text_of(one, "service");
    service.kind = text_of(one, "kind");
    service.state = text_of(one, "state");
    service.sub = text_of(one, "sub");
    service.result = text_of(one, "result");
    service.wants_running = text_of(one, "wanted") != "stopped";
    service.port = number_in<std::uint16_t>(one, "port", 65535).value_or(0);
    service.since_ms = number_in<std::int64_t>(one, "since_ms", kLastMoment);
    service.restarts = number_in<std::uint64_t>(one, "restarts", 1'000'000'000);
    services.push_back(std::move(service));
  }
  return services;
}

RunStatus run_in(const Json& run) {
  RunStatus status{text_of(run, "run"),
                   text_of(run, "recipe"),
                   text_of(run, "state"),
                   text_of(run, "end"),
                   text_of(run, "step"),
                   "",
                   strip_control(first_line(text_of(run, "cancelled_by"), kLongestWord)),
                   "",
                   std::nullopt,
                   {}};
  if (const auto since = run.find("since_ms"); since != run.end() && since->is_number_integer())
    status.since_ms = since->get<std::int64_t>();
  if (const auto waiting = run.find("waiting_for_secrets"); waiting != run.end() && waiting->is_object() && !waiting->empty())
    status.waits = strip_control(first_line(waiting->begin().key(), kLongestWord));
  std::vector<std::string> counts;
  if (const auto member = run.find("counts"); member != run.end() && member->is_object()) {
    for (const auto& [outcome, count] : member->items()) {
      if (count.is_number_unsigned() && counts.size() < 8)
        counts.push_back(fmt::format("{} {}", count.get<std::uint64_t>(), strip_control(first_line(outcome, 20))));
    }
  }
  status.counts = join(counts, ", ");
  if (const Json* steps = list_in(run, "steps")) {
    for (const Json& step : *steps) {
      if (step.is_object() && text_of(step, "outcome") == "failed" && status.failed.size() < kMostSteps)
        status.failed.push_back({text_of(step, "step"), text_of(step, "reason", kLongestReason)});
    }
  }
  return status;
}

bool is_down(const NotebookStatus& notebook) {
  return notebook.state.empty() ? !notebook.is_listening.value_or(true) : notebook.state != "active";
}

bool is_down(const ServiceStatus& service) {
  if (!service.wants_running || service.state.empty() || service.state == "active" || service.state == "reloading") return false;
  return service.state != "activating" || service.sub == "auto-restart";
}

std::string ago(const RunStatus& run, std::int64_t now_ms) {
  return run.since_ms ? human_duration(std::chrono::milliseconds(std::max<std::int64_t>(now_ms - *run.since_ms, 0))) : "?";
}

/// "52s", "3h05m", "12d"
std::string long_time(std::uint64_t seconds) {
  constexpr std::uint64_t kDay = 86'400;
  if (seconds < 2 * kDay) return human_duration(std::chrono::seconds(seconds));
  return fmt::format("{}d", seconds / kDay);
}

std::string run_text(const RunStatus& run, std::int64_t now_ms) {
  const std::string age = ago(run, now_ms);
  if (run.state == "running") {
    if (!run.waits.empty())
      return fmt::format("{} is waiting for a secret, at {}; `gpustrap attach` hands it over  ({})", run.recipe, run.waits, run.id);
    const std::string step = run.step.empty() ? "" : ", at " + run.step;
    if (!run.cancelled_by.empty())
      return fmt::format("{} was cancelled by {} and ends after its step{}; `gpustrap cancel --now` stops that, too  ({})", run.recipe,
                         run.cancelled_by, step, run.id);
    return fmt::format("{} is running for {}{}  ({})", run.recipe, age, step, run.id);
  }
  if (run.state == "finished") {
    const std::string counts = run.counts.empty() ? "" : ": " + run.counts;
    return fmt::format("{} {}, started {} ago{}  ({})", run.recipe, run.end == "ok" ? "done" : run.end, age, counts, run.id);
  }
  return fmt::format("{} was interrupted, started {} ago; `gpustrap attach` takes it up  ({})", run.recipe, age, run.id);
}

/// "3.1 of 15.0 GiB"
std::string gib_of(std::uint64_t part, std::uint64_t whole) {
  constexpr double kGib = 1U << 30U;
  return fmt::format("{:.1f} of {:.1f} GiB", static_cast<double>(part) / kGib, static_cast<double>(whole) / kGib);
}

std::string gpu_text(const GpuLook& gpu) {
  std::string text = gpu.name;
  if (gpu.memory_used && gpu.memory_total) text += fmt::format(", {} used", gib_of(*gpu.memory_used, *gpu.memory_total));
  if (gpu.utilisation) text += fmt::format(", {} % busy", *gpu.utilisation);
  return text;
}

/// "active for 3h05m, restarted 2 times"
std::string state_text(const ServiceStatus& service, std::int64_t now_ms) {
  if (service.state == "missing") return "is gone, and a run had set it up; the same `gpustrap up` does it again";
  std::string text = service.state == "activating" && service.sub == "auto-restart" ? "restarts again and again" : service.state;
  if (service.since_ms)
    text += " for " + long_time(static_cast<std::uint64_t>(std::max<std::int64_t>(now_ms - *service.since_ms, 0)) / 1000);
  if (!service.wants_running && service.state == "inactive") text += ", as wanted";
  if (service.state == "failed" && !service.result.empty()) text += fmt::format(" ({})", service.result);
  if (service.restarts.value_or(0) > 0)
    text += fmt::format(", restarted {} {}", *service.restarts, *service.restarts == 1 ? "time" : "times");
  return text;
}

std::string service_text(const HostStatus& host, const ServiceStatus& service, std::int64_t now_ms) {
  std::string text = service.name + " " + state_text(service, now_ms);
  if (service.port != 0 && service.state == "active")
    text += fmt::format(", port {}{}", service.port, !service.is_listening ? "" : *service.is_listening ? " open" : " closed");
  if (is_down(service) && service.state != "missing" && host.look.facts.systemd)
    text += fmt::format("; what it said: gpustrap ssh {} sudo journalctl -u {}", host.destination, service.name);
  return text;
}

// ---- the table

/// "T4": what tells GPUs apart in few columns.
std::string short_gpu_name(std::string name) {
  for (const std::string_view brand : {"NVIDIA ", "Tesla ", "GeForce "}) {
    if (name.starts_with(brand)) name.erase(0, brand.size());
  }
  return name.substr(0, name.find('-'));
}

std::string gpu_cell(const HostStatus& host) {
  const MachineLook& look = host.look;
  if (!look.gpus.empty()) {
    std::string text = look.gpus.size() > 1 ? fmt::format("{}x ", look.gpus.size()) : "";
    text += short_gpu_name(look.gpus.front().name);
    unsigned busiest = 0;
    for (const GpuLook& gpu : look.gpus) busiest = std::max(busiest, gpu.utilisation.value_or(0));
    return text + fmt::format(" {}%", busiest);
  }
  if (!look.gpu_trouble.empty()) return "nvidia-smi fails";
  if (!look.facts.gpus.empty()) return "no driver";
  return "-";
}

std::string run_cell(const HostStatus& host, std::int64_t now_ms) {
  if (!host.trouble.empty()) return "agent fails";
  if (!host.run) return host.has_agent ? "no run yet" : "never set up";
  const RunStatus& run = *host.run;
  if (run.state == "running")
    return fmt::format("{}: {}", run.recipe, !run.waits.empty() ? "wants a secret" : run.step.empty() ? "running" : run.step);
  if (run.state != "finished") return run.recipe + ": interrupted";
  if (run.end == "ok") return fmt::format("{} done, {}", run.recipe, ago(run, now_ms));
  return fmt::format("{} {}{}", run.recipe, run.end, run.failed.empty() ? "" : ": " + run.failed.front().id);
}

std::string service_cell(const HostStatus& host) {
  if (const auto down = std::find_if(host.services.begin(), host.services.end(), [](const ServiceStatus& one) { return is_down(one); });
      down != host.services.end())
    return fmt::format("{} {}", down->name, down->state);
  if (host.services.size() > 1) return fmt::format("{} well", host.services.size());
  if (host.notebooks.empty()) return host.services.empty() ? "-" : host.services.front().state;
  const auto down = std::find_if(host.notebooks.begin(), host.notebooks.end(), [](const NotebookStatus& one) { return is_down(one); });
  const NotebookStatus& shown = down == host.notebooks.end() ? host.notebooks.front() : *down;
  return shown.state.empty() ? (shown.is_listening.value_or(false) ? "open" : "closed") : shown.state;
}

std::string disk_cell(const HostStatus& host) {
  if (host.look.disks.empty()) return "-";
  const auto fullest = std::min_element(host.look.disks.begin(), host.look.disks.end(),
                                        [](const DiskLook& a, const DiskLook& b) { return a.free < b.free; });
  return fmt::format("{}G", fullest->free >> 30U);
}

/// Of a host that stops by itself.
std::string idle_cell(const HostStatus& host) { return host.idle ? idle_word(*host.idle) : ""; }

constexpr std::size_t kCells = 9;
using Row = std::array<std::string, kCells>;
using Widths = std::array<std::size_t, kCells>;
/// The last is there where a host has something to say in it.
constexpr Row kTitles = {"host", "run", "gpu", "driver", "services", "free", "load", "up", "idle"};
/// Those that are cut where the line is too long, and to what at least.
constexpr Widths kLeast = {8, 10, 6, 6, 8, 0, 0, 0, 5};

/// `name`: of the widest host, also of one that has no row.
Widths widths_of(const std::vector<Row>& rows, std::size_t name, std::size_t columns) {
  Widths widths{name};
  for (std::size_t i = 0; i < widths.size(); ++i) {
    for (const Row& row : rows) widths[i] = std::max(widths[i], display_width(row[i]));
    if (widths[i] > 0) widths[i] = std::max(widths[i], display_width(kTitles[i]));
  }
  while (columns > 0) {
    std::size_t sum = 2 * (widths.size() - (widths.back() > 0 ? 1 : 2));
    std::size_t widest = widths.size();
    for (std::size_t i = 0; i < widths.size(); ++i) {
      sum += widths[i];
      const bool may_shrink = kLeast[i] > 0 && widths[i] > kLeast[i];
      if (may_shrink && (widest == widths.size() || widths[i] > widths[widest])) widest = i;
    }
    if (sum <= columns || widest == widths.size()) break;
    --widths[widest];
  }
  return widths;
}

std::string line_of(const Row& row, const Widths& widths, std::string_view ellipsis) {
  std::string line;
  for (std::size_t i = 0; i < row.size(); ++i) line += (i > 0 ? "  " : "") + fit_to_width(row[i], widths[i], ellipsis);
  while (line.ends_with(' ')) line.pop_back();
  return line;
}

}  // namespace

Result<Json> ask_for_status(HostAccess& access, RunClient& client) {
  access.if_absent(IfAbsent::tell);
  Result<std::shared_ptr<const Json>> reply = client.ask(StatusRequest{});
  // Whoever could not even log in need not be asked anything else.
  if (!reply && (!access.was_connected() || !access.session().connected())) return fail(reply.error());
  std::vector<std::pair<std::string, std::uint16_t>> services;
  if (reply) {
    for (const NotebookStatus& notebook : notebooks_in(**reply)) services.emplace_back(notebook.service, notebook.port);
    for (const ServiceStatus& service : services_in(**reply)) {
      const bool is_asked = std::any_of(services.begin(), services.end(), [&](const auto& one) { return one.first == service.name; });
      if (!is_asked && service.port != 0 && services.size() < kMostPorts) services.emplace_back(service.name, service.port);
    }
  }
  Result<RemoteResult> look = run_remote(access.session(), look_text(services), "", kLookLimits);
  if (!look) return fail(std::move(look).error());
  const Result<MachineLook> read = read_look(look->out);
  if (!read) {
    // What kept the agent from answering kept the shell from it, too, and was waited for.
    if (!reply && reply.error().code() != ErrorCode::not_found) return fail(reply.error());
    return fail(
        login_shell_error(look->is_whole ? ShellFault::ended : ShellFault::waits, look->status, look->out.empty() ? look->err : look->out));
  }
  if (!reply && reply.error().code() == ErrorCode::not_found && read->was_here) {
    access.if_absent(IfAbsent::bring);
    reply = client.ask(StatusRequest{});
  }
  Json answer = {{"agent", reply ? **reply : Json()}, {"trouble", ""}, {"look", to_utf8(look->out)}};
  if (!reply && reply.error().code() != ErrorCode::not_found) answer["trouble"] = to_utf8(reply.error().sentence());
  return answer;
}

HostStatus read_host_status(const FleetMember& member, const Result<Json>& answer) {
  HostStatus status;
  status.name = strip_control(member.name);
  status.destination = strip_control(member.options.destination());
  status.local_port = member.options.last_local_port;
  if (!answer) {
    status.failure = answer.error();
    return status;
  }
  status.trouble = text_of(*answer, "trouble", kLongestReason);
  if (Result<MachineLook> look = read_look(answer->at("look").get<std::string>())) status.look = *std::move(look);
  status.idle = read_idle_status(status.look.idle, status.look.facts.uptime_s);
  const Json& agent = answer->at("agent");
  status.has_agent = agent.is_object();
  if (!status.has_agent) return status;
  // What both know, the agent knows better.
  if (const auto facts = agent.find("facts"); facts != agent.end()) {
    if (Result<Facts> known = facts_from_json(*facts)) status.look.facts = *std::move(known);
  }
  if (const auto run = agent.find("run"); run != agent.end() && run->is_object()) status.run = run_in(*run);
  status.notebooks = notebooks_in(agent);
  for (NotebookStatus& notebook : status.notebooks) {
    for (const ServiceLook& service : status.look.services) {
      if (service.name != notebook.service) continue;
      notebook.state = service.state;
      notebook.is_listening = service.is_listening;
    }
  }
  status.services = services_in(agent);
  for (ServiceStatus& service : status.services) {
    for (const ServiceLook& look : status.look.services) {
      if (look.name == service.name) service.is_listening = look.is_listening;
    }
    for (NotebookStatus& notebook : status.notebooks) {
      // Where there is no systemd, the agent's own supervision knows.
      if (notebook.service == service.name && notebook.state.empty()) notebook.state = service.state;
    }
  }
  return status;
}

Standing standing_of(const HostStatus& host) {
  if (host.failure) return Standing::silent;
  const bool run_is_bad = host.run && (host.run->state == "interrupted" || (host.run->state == "finished" && host.run->end != "ok"));
  const bool is_down_there =
      std::any_of(host.notebooks.begin(), host.notebooks.end(), [](const NotebookStatus& one) { return is_down(one); }) ||
      std::any_of(host.services.begin(), host.services.end(), [](const ServiceStatus& one) { return is_down(one); });
  const bool runs = host.run && host.run->state == "running";
  if (run_is_bad || !host.trouble.empty() || !host.look.gpu_trouble.empty() || (is_down_there && !runs)) return Standing::trouble;
  return runs ? Standing::running : Standing::well;
}

std::string status_text(const HostStatus& host, const Console& console, std::int64_t now_ms) {
  const MachineLook& look = host.look;
  std::vector<std::string> lines;
  const std::size_t columns = console.person ? std::max<std::size_t>(console.size().columns, 40) - 1 : 0;
  const auto add = [&](std::string_view title, const std::string& text) {
    const std::string line = fmt::format("  {:<8}  {}", title, shown_on(console, text));
    for (std::string& part : columns == 0 ? std::vector<std::string>{line} : wrap_to_width(line, columns, "            "))
      lines.push_back(std::move(part));
  };
  const std::string title = host.name == host.destination || host.name == host.destination.substr(host.destination.find('@') + 1)
                                ? host.destination
                                : fmt::format("{} ({})", host.name, host.destination);
  if (host.failure) {
    lines.push_back(fmt::format("{}   {}", title, shown_on(console, first_line(host.failure->sentence(), kLongestReason))));
    return join(lines, "\n") + "\n";
  }
  const std::string what = strip_control(join(describe_host(look.facts), ", "));
  lines.push_back(painted(console, kBold, title) + (what.empty() ? "" : "   " + shown_on(console, what)));
  add("kernel", fmt::format("{}, up {}", look.facts.kernel, long_time(look.facts.uptime_s)));
  std::string load = fmt::format("{:.2f} {:.2f} {:.2f} on {} CPUs", look.load[0], look.load[1], look.load[2], look.facts.cpus);
  if (look.memory_available > 0 && look.facts.memory > 0)
    load += fmt::format("; {} memory free", gib_of(look.memory_available, look.facts.memory));
  add("load", load);
  std::vector<std::string> disks;
  for (const DiskLook& disk : look.disks) disks.push_back(fmt::format("{}: {} free", disk.path, gib_of(disk.free, disk.total)));
  if (disks.empty()) disks.push_back(fmt::format("{} free", human_size(look.facts.disk_free)));
  add("disk", join(disks, "; "));
  if (!look.facts.gpus.empty() || !look.gpus.empty()) add("driver", look.facts.driver.empty() ? "none" : look.facts.driver);
  for (const GpuLook& gpu : look.gpus) add("gpu", gpu_text(gpu));
  if (!look.gpu_trouble.empty()) add("gpu", "nvidia-smi says: " + look.gpu_trouble);
  if (host.run) {
    add("run", run_text(*host.run, now_ms));
    for (const StepStatus& step : host.run->failed) add("failed", fmt::format("{}: {}", step.id, step.reason));
  } else if (!host.trouble.empty()) {
    add("agent", host.trouble);
  } else {
    add("run", host.has_agent ? "none yet" : "none; gpustrap has never been on this host");
  }
  if (host.idle) {
    for (const auto& [name, text] : idle_lines(*host.idle)) add(name, text);
  }
  for (const NotebookStatus& notebook : host.notebooks) {
    const auto known =
        std::find_if(host.services.begin(), host.services.end(), [&](const ServiceStatus& one) { return one.name == notebook.service; });
    const std::string state = known != host.services.end() && known->state != "missing" ? state_text(*known, now_ms) + ", "
                              : !notebook.state.empty()                                 ? notebook.state + " "
                              : notebook.is_listening.value_or(false)                   ? "open "
                              : notebook.is_listening                                   ? "closed "
                                                                                        : "";
    add("notebook", fmt::format("{} {}on the host's port {}; open it with: gpustrap open {}", notebook.service, state, notebook.port,
                                host.destination));
    add("", fmt::format("then http://localhost:{}/lab; its token: gpustrap url {}", host.local_port != 0 ? host.local_port : kUsualPort,
                        host.destination));
  }
  for (const ServiceStatus& service : host.services) {
    if (service.kind != "jupyter") add("service", service_text(host, service, now_ms));
  }
  return join(lines, "\n") + "\n";
}

std::vector<std::string> status_table(std::vector<HostStatus> hosts, const Console& console, std::size_t columns, std::int64_t now_ms) {
  std::stable_sort(hosts.begin(), hosts.end(), [](const HostStatus& a, const HostStatus& b) { return standing_of(a) < standing_of(b); });
  std::vector<Row> rows;
  std::size_t widest_name = display_width(kTitles[0]);
  for (const HostStatus& host : hosts) {
    widest_name = std::max(widest_name, display_width(host.name));
    if (host.failure) continue;
    Row row = {host.name,
               run_cell(host, now_ms),
               gpu_cell(host),
               host.look.facts.driver.empty() ? "-" : host.look.facts.driver,
               service_cell(host),
               disk_cell(host),
               fmt::format("{:.1f}", host.look.load[0]),
               long_time(host.look.facts.uptime_s),
               idle_cell(host)};
    for (std::string& cell : row) cell = shown_on(console, cell);
    rows.push_back(std::move(row));
  }
  const std::string_view ellipsis = ellipsis_of(console);
  const Widths widths = widths_of(rows, widest_name, columns);
  std::vector<std::string> lines = {painted(console, kDim, rows.empty() ? std::string(kTitles[0]) : line_of(kTitles, widths, ellipsis))};
  std::size_t next = 0;
  for (const HostStatus& host : hosts) {
    if (host.failure) {
      HostEnd end;
      end.exit = exit_code_of(host.failure->code());
      const std::string why = shown_on(console, first_line(host.failure->sentence(), kLongestReason));
      std::string line = fmt::format("{}  {}: {}", fit_to_width(host.name, widths[0], ellipsis), end_name(end), why);
      lines.push_back(painted(console, kRed, columns > 0 ? cut_to_width(line, columns, ellipsis) : line));
      continue;
    }
    std::string line = line_of(rows[next++], widths, ellipsis);
    lines.push_back(standing_of(host) == Standing::trouble ? painted(console, kRed, std::move(line)) : std::move(line));
  }
  return lines;
}

Json status_document(const HostStatus& host, const Result<Json>& answer) {
  Json document = {{"status", 1}, {"host", host.name}, {"destination", host.destination}, {"answers", !host.failure}};
  if (host.failure) {
    document["error"] = error_document(*host.failure);
    document["error"]["hint"] = with_host(document["error"].value("hint", ""), host.destination);
    return document;
  }
  const MachineLook& look = host.look;
  const auto or_null = [](const auto& value) { return value ? Json(*value) : Json(); };
  document["agent"] = host.has_agent;
  if (!host.trouble.empty()) document["trouble"] = host.trouble;
  document["facts"] = to_json(look.facts);
  const Json& agent = answer->at("agent");
  const auto run = agent.is_object() ? agent.find("run") : agent.end();
  document["run"] = run != agent.end() ? *run : Json();
  document["notebooks"] = Json::array();
  for (const NotebookStatus& notebook : host.notebooks) {
    const std::string url = fmt::format("http://localhost:{}/lab", host.local_port != 0 ? host.local_port : kUsualPort);
    document["notebooks"].push_back({{"service", notebook.service},
                                     {"port", notebook.port},
                                     {"state", notebook.state},
                                     {"listening", or_null(notebook.is_listening)},
                                     {"url", url}});
  }
  document["services"] = Json::array();
  for (const ServiceStatus& service : host.services) {
    document["services"].push_back({{"service", service.name},
                                    {"kind", service.kind},
                                    {"wanted", service.wants_running ? "running" : "stopped"},
                                    {"state", service.state},
                                    {"sub", service.sub},
                                    {"result", service.result},
                                    {"since_ms", or_null(service.since_ms)},
                                    {"restarts", or_null(service.restarts)},
                                    {"port", service.port == 0 ? Json() : Json(service.port)},
                                    {"listening", or_null(service.is_listening)}});
  }
  Json machine = {{"load", look.load}, {"memory_available", look.memory_available}, {"disks", Json::array()}, {"gpus", Json::array()}};
  for (const DiskLook& disk : look.disks) machine["disks"].push_back({{"path", disk.path}, {"free", disk.free}, {"total", disk.total}});
  for (const GpuLook& gpu : look.gpus) {
    machine["gpus"].push_back({{"name", gpu.name},
                               {"memory_used", or_null(gpu.memory_used)},
                               {"memory_total", or_null(gpu.memory_total)},
                               {"utilisation", or_null(gpu.utilisation)}});
  }
  if (!look.gpu_trouble.empty()) machine["gpu_trouble"] = look.gpu_trouble;
  document["machine"] = std::move(machine);
  document["idle"] = host.idle ? idle_document(*host.idle) : Json();
  return document;
}

}  // namespace gpustrap
