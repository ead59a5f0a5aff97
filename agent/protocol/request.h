#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/event.h"
#include "agent/protocol/json_fwd.h"
#include "agent/protocol/network.h"
#include "agent/protocol/recipe.h"

namespace gpustrap {

class Members;

constexpr std::int64_t kProtocolVersion = 1;
/// Both sides send a heartbeat this often; three lost in a row are forgiven. A lost connection is noticed within 20 s, with room for a
/// busy machine.
constexpr auto kHeartbeat = std::chrono::seconds(5);
constexpr auto kSilenceLimit = std::chrono::seconds(18);

/// A feature: the agent may pack its lines. It says so by a line of its own, kPackedLine; all bytes behind that are one zlib stream (RFC
/// 1950) of the lines that follow.
constexpr std::string_view kZlibFeature = "zlib";
constexpr std::string_view kPackedLine = R"({"packed":"zlib"})";

/// The first line that each side says.
struct Hello {
  std::int64_t protocol = kProtocolVersion;
  std::string program;  ///< "gpustrap 0.1.0", "gpustrap-agent 0.1.0"
  std::vector<std::string> features;
};
[[nodiscard]] Json to_json(const Hello& hello);
[[nodiscard]] Result<Hello> hello_from_json(const Json& document);

// What the controller asks. Each is answered by exactly one reply that carries its number; run and attach stream events before or after it.

/// Which steps of a recipe a run is about, by id and tag; empty: all. What is left out counts as done for those behind it.
struct StepChoice {
  std::vector<std::string> tags;      ///< not empty: only steps with one of these tags (and steps without any tag) run
  std::vector<std::string> left_out;  ///< not looked at
  std::vector<std::string> forced;    ///< act also where there is nothing to do
};
void read_choice(Members& members, StepChoice& choice);
void write_choice(const StepChoice& choice, Json& document);

/// Starts a run, or attaches where the same recipe runs already. Reply: {"run": id, "attached": bool}; then its events.
struct RunRequest {
  std::string run;
  RunMode mode = RunMode::apply;
  Recipe recipe;
  StepChoice choice;
  Network network;
  bool shares = false;    ///< whether file_wanted is answered, as long as this conversation goes on; no part of digest_of()
  std::string same_as{};  ///< in place of recipe, choice and network: those of an earlier run, of which this is digest_of()
};
/// Of all that a run request asks for; its run's id and `shares` apart.
[[nodiscard]] std::string digest_of(const RunRequest& request);
/// Replays the events after `after`, then goes on live to the run's end. `run` empty: the newest. Reply: {"run": id, "live": bool, "last":
/// number of the newest event}; then its events. Where the journal has lost events that the controller has seen, the reply also has
/// "rewound": {"to": seq}, and the replay begins behind that event.
struct AttachRequest {
  std::string run;
  std::uint64_t after = 0;
  std::uint64_t incarnation = 0;  ///< the last runner_started among the events seen; 0: none, or not told
};
/// Reply: {"facts": …, "run": {"run", "recipe", "digest", "state": "running"|"finished"|"interrupted", "end", "since_ms", "counts": {…},
/// "step"} or null}
struct StatusRequest {};
/// Stops the current run after its current steps; `now`: those are stopped, too, but for one that changes dpkg's database.
/// Reply: {"run": id}
struct CancelRequest {
  std::string by;
  bool now = false;
};
/// Token of a jupyter service of this run's login user. Reply: {"token": "…", "port": n, "service": name}
struct TokenRequest {
  std::string service;
};
/// Hands the values of secrets to the run in progress; sent only after the agent has spoken, since before that another program may be
/// reading. Reply: {"run": id}
struct SecretsRequest {
  std::string run;
  SecretValues values;
};
/// The answer to file_wanted. `give`: the step fetches the file itself, and what comes is to be had here: behind the reply, each line on
/// stdin that has a number asks for the bytes from there, and is answered, once they are there, by a line with that number and how many
/// follow (kShareBlock, fewer at the file's end) and by them; an empty line says that somebody is still there. `take`: behind the reply the
/// file's bytes follow on stdin, those from `from` on. Both in a conversation of their own, which has nothing else. `none`, in that of the
/// run: nobody brings files any more; who waits fetches itself.
struct ShareRequest {
  enum class How { give, take, none } how = How::none;
  std::string sha256;
  std::uint64_t from = 0;
};
constexpr std::size_t kShareBlock = 256U << 10U;
/// Lists (preview) or removes agent, journals, cache and gpustrap's own units. Reply: {"paths": […], "units": […]}
struct RemoveRequest {
  bool preview = true;
};

/// Puts off the stop of a host that is idle, by so many seconds from now; 0: no longer. Nothing given: only tells. Reply: {"kept_for_s": n,
/// "until_ms": time or null}
constexpr std::uint64_t kLongestKeep = 30ULL * 24 * 3600;
struct KeepRequest {
  std::optional<std::uint64_t> seconds;
};

struct Request {
  std::uint64_t number = 0;
  std::variant<RunRequest, AttachRequest, StatusRequest, CancelRequest, TokenRequest, SecretsRequest, ShareRequest, RemoveRequest,
               KeepRequest>
      body;
};
[[nodiscard]] Json to_json(const Request& request);
/// The request as it may stand among a program's arguments, which everybody on a host can read: a run by its digest alone. None where it
/// may not.
[[nodiscard]] std::optional<Request> public_form(const Request& request);
/// Lines as one word that every shell leaves as it is (hex digits), and back; what is no such word gives nothing.
[[nodiscard]] std::string as_word(std::string_view lines);
[[nodiscard]] std::string lines_of_word(std::string_view word);
/// An unknown verb is an error (protocol) that names it; the agent answers it and goes on.
[[nodiscard]] Result<Request> request_from_json(const Json& document);

struct Reply {
  std::uint64_t number = 0;
  std::shared_ptr<const Json> value;  ///< none where it failed
  std::optional<ErrorText> error;
};
[[nodiscard]] Json to_json(const Reply& reply);

/// One line from the agent, told apart by its first member.
using AgentLine = std::variant<Hello, Event, Signal, Reply>;
[[nodiscard]] Result<AgentLine> agent_line_from_json(const Json& document);
/// One line from the controller.
using ControllerLine = std::variant<Hello, Request, Heartbeat>;
[[nodiscard]] Result<ControllerLine> controller_line_from_json(const Json& document);

}  // namespace gpustrap
