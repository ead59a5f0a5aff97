#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "agent/protocol/json_fwd.h"
#include "agent/protocol/request.h"
#include "controller/fleet_screen.h"
#include "controller/fleet_view.h"
#include "controller/host_access.h"
#include "controller/interrupts.h"
#include "controller/options.h"
#include "controller/run.h"

namespace gpustrap {

/// One of the hosts that are spoken with at once.
struct FleetMember {
  std::string name;                      ///< as it is called in messages
  Options options;                       ///< its own host, user, port and keys; all else as on the command line
  std::shared_ptr<const Recipe> recipe;  ///< none where nothing is begun there
};

struct FleetWork {
  enum class Act {
    run,     ///< the members' recipes
    follow,  ///< each host's newest run
  } act = Act::run;
  RunMode mode = RunMode::apply;
  Stay stay = Stay::until_finished;
  Network network;
  StepChoice choice;
  SecretValues secrets;
  std::optional<std::string> sudo_password;
  std::string run;  ///< what the ids of the runs begin with
  std::size_t parallel = 1;
};

/// What a plan says that was made before a run, or why none could be made.
struct Rehearsal {
  std::vector<Event> plan;  ///< empty where the host runs something already
  std::optional<HostEnd> failure;
};

/// Many hosts at once, each in a thread of its own that has nothing of the others but the screen. One that fails stops nobody. Ctrl-C
/// leaves all, and once more within 3 s cancels all; from the first on no further host is begun.
class Fleet {
 public:
  /// `screen` hears of everything; both live on for as long as a thread of theirs does.
  Fleet(std::vector<FleetMember> members, FleetWork work, std::shared_ptr<FleetScreen> screen);
  ~Fleet();
  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;

  /// What a run would change on the hosts at `which`.
  [[nodiscard]] std::vector<Rehearsal> rehearse(const std::vector<std::size_t>& which);
  /// Runs the recipe on the hosts at `which` and follows it; how each ended.
  [[nodiscard]] std::vector<HostEnd> run(const std::vector<std::size_t>& which);
  /// Asks each host something, in its thread: `ask` is given the way there and who speaks with its agent. The answers, or why there is
  /// none.
  using Ask = std::function<Result<Json>(std::size_t host, HostAccess& access, RunClient& client)>;
  [[nodiscard]] std::vector<Result<Json>> ask(const Ask& ask);
  /// Whether Ctrl-C was pressed, or the program told to end.
  [[nodiscard]] bool interrupted() const;
  /// Whether the interruption was to cancel what runs.
  [[nodiscard]] bool cancelled() const;

 private:
  struct Shared;
  void watch(const std::function<bool()>& is_over, CtrlC ctrl_c);

  std::shared_ptr<Shared> shared_;
  Interrupts interrupts_;
};

}  // namespace gpustrap
