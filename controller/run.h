#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/request.h"
#include "controller/agent_link.h"
#include "controller/exit_code.h"
#include "controller/interrupts.h"
#include "controller/return_pauses.h"
#include "controller/status.h"

namespace gpustrap {

/// Connects and starts an agent on the host; `first` travels behind the start, without a round trip of its own.
using StartAgent = std::function<Result<std::unique_ptr<AgentLink>>(const Request& first)>;

/// What Ctrl-C means while a run is followed.
enum class CtrlC {
  leaves_then_cancels,  ///< the first leaves the run alone, a second within 3 s cancels it
  leaves,               ///< for those who only read along
};

/// What a run client needs of its surroundings; tests give their own.
struct RunSurroundings {
  StartAgent start_agent;  ///< called again after a lost connection; host_key ends the attempts, other errors do not
  Status& status;
  std::function<void(const Event&, std::string_view line)> log;  ///< every event once, in order, with its line
  std::function<std::optional<Interrupt>()> interrupt;
  std::function<std::chrono::milliseconds()> now;
  std::function<void(std::chrono::milliseconds)> pause;
  /// Whether the host has been reached before: then a connection that goes before the agent has answered is taken up again, too.
  std::function<bool()> was_connected;
  CtrlC ctrl_c = CtrlC::leaves_then_cancels;
  /// The values of secrets that the run waits for, as far as they can be had; may ask the person. None: nobody knows them.
  std::function<SecretValues(const std::vector<std::string>& names)> secrets = {};
  /// What is done beside the conversation, on the same connection: called again and again, also while the connection is lost; how long it
  /// may wait for that. None: nothing.
  std::function<std::chrono::milliseconds()> beside = {};
};

/// How following a run ended.
struct RunResult {
  ExitCode exit = ExitCode::ok;
  std::string run;
  std::optional<RunStarted> started;
  std::optional<RunFinished> finished;  ///< none where the run goes on without us
  bool leaving = false;                 ///< Ctrl-C was pressed, and the run ended before it was meant for good
};

enum class Stay {
  until_finished,
  until_started,
  until_caught_up,  ///< all that it had said when it was asked was passed on
};

/// Speaks with the agent of one host: starts or follows a run, and asks. A lost connection is taken up again, and every event of a
/// run is passed on exactly once.
class RunClient {
 public:
  explicit RunClient(RunSurroundings surroundings) : around_(std::move(surroundings)) {}

  /// How the run began; none before its first event.
  [[nodiscard]] const std::optional<RunStarted>& started() const { return started_; }
  /// Values that the run is given as soon as the agent has answered, and again after every lost connection: a host that was restarted has
  /// forgotten them.
  void hand_over(const SecretValues& values);
  /// Starts the run (or joins one of the same recipe) and follows it. Errors: busy where another run is in progress; unreachable
  /// where the host did not come back; protocol where the agent breaks its own rules.
  [[nodiscard]] Result<RunResult> run(RunRequest request, Stay stay = Stay::until_finished);
  /// What a plan of `request` says: every event in order, of which nothing is passed on. The client is then free for a run. Errors as
  /// run(); cancelled where Ctrl-C was pressed.
  [[nodiscard]] Result<std::vector<Event>> rehearse(RunRequest request);
  /// Says this on the run's connection, where there is one; nobody waits for the answer.
  void tell(decltype(Request::body) body);
  /// Follows a run that exists; an empty id means the newest.
  [[nodiscard]] Result<RunResult> attach(std::string run = {}, Stay stay = Stay::until_finished);
  /// One question, before, after or without a run. The reply's value, or its error.
  [[nodiscard]] Result<std::shared_ptr<const Json>> ask(const decltype(Request::body)& body);

 private:
  enum class Mode { following, leaving, cancelling };
  /// From a lost connection on, until the host has shown that the new one is of use: one that goes at once is no return.
  struct Return {
    std::chrono::milliseconds since;
    ReturnPauses pauses;
    std::chrono::milliseconds connected{0};
  };

  /// Over the link, or over a new one where there is none.
  Result<void> send(decltype(Request::body) body);
  Result<RunResult> follow(Stay stay);
  /// send() for the first request of a run: comes back where the connection is lost on the way.
  Result<void> begin(decltype(Request::body) body);
  Result<std::shared_ptr<const Json>> ask_once(decltype(Request::body) body, std::chrono::milliseconds deadline);
  [[nodiscard]] bool is_loss(const Error& error) const;
  Result<void> come_back(const Error& why);
  Result<void> take(const Event& event, std::string_view line);
  Result<void> take(const Reply& reply);
  void take_rewound(const Json& value);
  void send_secrets();
  void answer_waiting();
  [[nodiscard]] bool is_rebooting() const;
  void look_for_interrupts();
  [[nodiscard]] bool must_leave() const;
  [[nodiscard]] RunResult result() const;

  RunSurroundings around_;
  std::unique_ptr<AgentLink> link_;
  std::uint64_t number_ = 0;           ///< of the last request
  std::uint64_t asked_ = 0;            ///< number of the run or attach request whose reply is awaited; 0: none
  std::optional<RunRequest> request_;  ///< kept until the agent has confirmed it
  std::string run_;
  std::uint64_t last_seq_ = 0;
  std::uint64_t incarnation_ = 0;  ///< of the last runner seen
  std::optional<std::chrono::milliseconds> rebooting_since_;
  std::optional<Return> return_;
  std::chrono::milliseconds last_heard_{0};
  std::optional<std::uint64_t> newest_seq_;  ///< when the agent answered
  std::chrono::milliseconds last_event_{0};  ///< or answer, or sign of progress
  std::optional<RunStarted> started_;
  std::optional<RunFinished> finished_;
  bool confirmed_ = false;
  std::optional<std::vector<Event>> rehearsal_;  ///< where the events go instead
  SecretValues secrets_;
  std::uint64_t handing_ = 0;                                ///< number of the secrets request whose reply is awaited; 0: none
  std::map<std::string, std::vector<std::string>> waiting_;  ///< steps that wait for secrets, as the events say
  std::set<std::string> asked_for_;                          ///< secrets that this runner was found to wait for
  bool forgotten_ = false;                                   ///< there is a runner that has not been handed all that is known here
  Mode mode_ = Mode::following;
  bool left_ = false;
  std::chrono::milliseconds leaving_since_{0};
};

}  // namespace gpustrap
