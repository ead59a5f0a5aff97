#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/json_fwd.h"
#include "controller/console.h"
#include "controller/fleet.h"
#include "controller/idle_status.h"
#include "controller/machine_look.h"

namespace gpustrap {

/// What is asked of a host for its status, in one connection: its agent where there is one, and its shell. Nothing is brought there, but to
/// a host where another version of gpustrap has been. {"agent": reply or null, "trouble": text, "look": text}
[[nodiscard]] Result<Json> ask_for_status(HostAccess& access, RunClient& client);

struct NotebookStatus {
  std::string service;
  std::uint16_t port = 0;
  std::string state;  ///< of its unit; empty where there is no systemd
  std::optional<bool> is_listening;
};
/// A service that steps look after, notebooks among them.
struct ServiceStatus {
  std::string name, kind;          ///< kind of its step: service, jupyter
  std::string state, sub, result;  ///< in systemd's words; "missing": it was there, and is gone
  bool wants_running = true;
  std::uint16_t port = 0;  ///< 0: none is named
  std::optional<std::int64_t> since_ms;
  std::optional<std::uint64_t> restarts;
  std::optional<bool> is_listening;
};
struct StepStatus {
  std::string id, reason;
};
struct RunStatus {
  std::string id, recipe;
  std::string state, end;    ///< as in PROTOCOL.md: running, finished, interrupted; ok, failed, cancelled
  std::string step;          ///< one that runs
  std::string waits;         ///< a step that waits for a secret
  std::string cancelled_by;  ///< who has asked it to stop
  std::string counts;        ///< "9 changed, 2 unchanged"
  std::optional<std::int64_t> since_ms;
  std::vector<StepStatus> failed;
};
/// One host, its words printable and bounded.
struct HostStatus {
  std::string name;              ///< as the command line or the hosts file calls it
  std::string destination;       ///< user@address
  std::optional<Error> failure;  ///< it did not answer
  bool has_agent = false;
  std::string trouble;  ///< why its agent did not answer
  MachineLook look;
  std::optional<RunStatus> run;
  std::vector<NotebookStatus> notebooks;
  std::vector<ServiceStatus> services;
  std::uint16_t local_port = 0;  ///< of the last tunnel there; 0: none yet
  std::optional<IdleStatus> idle;
};
[[nodiscard]] HostStatus read_host_status(const FleetMember& member, const Result<Json>& answer);

/// How much it wants to be looked at.
enum class Standing { silent, trouble, running, well };
[[nodiscard]] Standing standing_of(const HostStatus& host);

/// All about one host, some lines; times are those before `now_ms`, by this machine's clock.
[[nodiscard]] std::string status_text(const HostStatus& host, const Console& console, std::int64_t now_ms);
/// A line a host, those in trouble first; at most `columns` wide, 0: as long as needed.
[[nodiscard]] std::vector<std::string> status_table(std::vector<HostStatus> hosts, const Console& console, std::size_t columns,
                                                    std::int64_t now_ms);
/// docs/json.md, status.
[[nodiscard]] Json status_document(const HostStatus& host, const Result<Json>& answer);

}  // namespace gpustrap
