#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/facts.h"
#include "agent/protocol/json_fwd.h"
#include "agent/protocol/network.h"

// What the agent says (PROTOCOL.md). Events are plain data: no colour, no width, no wording.

namespace gpustrap {

enum class Outcome { unchanged, changed, would_change, unknown, failed, skipped };
[[nodiscard]] std::string_view outcome_name(Outcome outcome);

enum class RunMode { apply, plan };

/// An Error as it travels: code, sentence, hint.
struct ErrorText {
  ErrorCode code = ErrorCode::internal;
  std::string message;
  std::string hint;
};
[[nodiscard]] ErrorText error_text(const Error& error);

struct StepTitle {
  std::string id, kind, name;
  /// The steps that end before it starts, without those that these wait for themselves; none: the step before it alone.
  std::optional<std::vector<std::string>> needs = std::nullopt;
  std::string uses = {};  ///< what two steps never use at once: "dpkg"; empty: nothing
};

struct RunStarted {
  std::string run, recipe, digest, agent;
  RunMode mode = RunMode::apply;
  std::string login;  ///< user name at the host
  Facts facts;
  std::vector<StepTitle> steps;
  Network network;  ///< the proxy and the mirror that were asked for
};
/// A runner took up the run: the first one, or one that found the journal of another that died.
struct RunnerStarted {
  std::uint64_t incarnation = 1, after = 0;
  std::int64_t pid = 0;
  std::string boot_id;
  /// Steps that had begun and not ended when the earlier runner died; they are looked at afresh.
  std::vector<std::string> interrupted;
};
/// The host is about to restart because `step` asked for it; `number` counts the restarts that the run has asked for.
struct Rebooting {
  std::string step, reason, boot_id;
  std::uint64_t number = 1;
};
/// A step cannot start before someone hands these secrets to the run; other steps go on.
struct WaitingForSecret {
  std::string step;
  std::vector<std::string> secrets;
};
/// A step is about to fetch a file of `fetch: shared`, and waits for a word whether another host has it: a request `share`.
struct FileWanted {
  std::string step, sha256;
  std::uint64_t have = 0;  ///< bytes of it that are there, from its beginning
};
struct StepStarted {
  std::string step;
};
/// What the look before applying saw.
struct StepChecked {
  std::string step;
  bool satisfied = false;
  std::string reason;
};
/// One or more whole lines that the step printed; `stream` is "out", "err" or "log" (the step's own words).
struct StepOutput {
  std::string step, stream, text;
};
/// Output beyond the cap was dropped.
struct StepTruncated {
  std::string step;
  std::uint64_t kept = 0;
};
/// A file that a step needs has come, over the network, in the `elapsed` before this event.
struct Downloaded {
  std::string step;
  std::string url;          ///< as it may be shown: without user, password, query
  std::uint64_t bytes = 0;  ///< that came: less than the file has where an earlier transfer was gone on with
  std::chrono::milliseconds elapsed{0};
  bool ahead = false;  ///< beside other steps, before its own came to it
};
struct StepRetry {
  std::string step;
  std::uint64_t attempt = 0;
  ErrorText error;
  std::chrono::milliseconds wait{0};
};
struct StepFinished {
  std::string step;
  Outcome outcome = Outcome::unchanged;
  std::string reason;
  std::chrono::milliseconds elapsed{0};
  std::optional<ErrorText> error;
};
/// The run asked to stop starting steps; `by` says who.
struct CancelRequested {
  std::string by;
};
struct RunFinished {
  enum class End { ok, failed, cancelled } end = End::ok;
  std::uint64_t unchanged = 0, changed = 0, would_change = 0, unknown = 0, failed = 0, skipped = 0;
  std::chrono::milliseconds elapsed{0};
  std::vector<std::string> notes;  ///< what a person should know: services that want a restart, kept files
};
/// An event that this version does not know, carried as it came.
struct UnknownEvent {
  std::string type, line;
};

struct Event {
  std::uint64_t seq = 0;     ///< from 1, without gaps within a run
  std::int64_t time_ms = 0;  ///< Unix time of the host
  std::variant<RunStarted, RunnerStarted, StepStarted, StepChecked, StepOutput, StepTruncated, Downloaded, StepRetry, StepFinished,
               Rebooting, WaitingForSecret, FileWanted, CancelRequested, RunFinished, UnknownEvent>
      body;
};
[[nodiscard]] Json to_json(const Event& event);
/// A missing or mistyped member is an error (protocol); an unknown type is an UnknownEvent; unknown members are ignored.
[[nodiscard]] Result<Event> event_from_json(const Json& document);

struct Heartbeat {};
/// How far a step is; total 0 where unknown. `text` is what it does now.
struct Progress {
  std::string step, text;
  std::uint64_t done = 0, total = 0, bytes_per_s = 0;
};
struct Signal {
  std::variant<Heartbeat, Progress> body;
};
[[nodiscard]] Json to_json(const Signal& signal);

}  // namespace gpustrap
