#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/protocol/event.h"

namespace gpustrap {

/// ${XDG_STATE_HOME:-~/.local/state}/gpustrap
[[nodiscard]] Result<std::string> state_directory();
/// A folder below HOME that is for the user alone, with those above it.
[[nodiscard]] Result<void> make_own_directories(const std::string& path);

/// "20260801-141503-7f3a": the time here (UTC) and four random hex digits. Run ids are the controller's.
[[nodiscard]] std::string make_run_id();
/// Whether an agent may call its run so, [A-Za-z0-9][A-Za-z0-9._-]{0,63}: a host's words become part of a path here.
[[nodiscard]] bool is_run_id(std::string_view name);

/// What a run said, on this machine's disk: events.jsonl for programs, log.txt for people. Readable by the user alone.
class RunLog {
 public:
  enum class Forget { oldest, nothing };
  /// Makes `state`/runs/<run>, forgets the oldest runs beyond a hundred, and starts both files afresh. The runs of one command on many
  /// hosts count as one: their ids begin with its own, "20260801-141503-7f3a-001".
  /// `host` is noted there, as the command line called it: `gpustrap report HOST` looks for that. Where the folder is another host's, which
  /// has told of a run by the same id, this one's is <run>-2, and so on: no host writes over what another one has said.
  [[nodiscard]] static Result<RunLog> create(const std::string& state, const std::string& run, std::string_view host = {},
                                             Forget forget = Forget::oldest);
  /// Forgets the oldest, for who has made many that forgot nothing.
  static void forget_oldest(const std::string& state);

  /// Whether event() writes at once, or flush() does: where many hosts speak at once, each write counts.
  enum class Writes { at_once, when_flushed };
  void write(Writes writes) { writes_ = writes; }
  /// Writes what was kept back. At the end of its life as well.
  void flush();
  RunLog(RunLog&&) = default;
  RunLog& operator=(RunLog&&) = delete;
  ~RunLog() { flush(); }

  /// What a host may have kept here, in bytes. Beyond `step` a step's output is left out, beyond `run` everything but how steps and the run
  /// end, which has `ends` more. An agent of ours has a step's output end earlier.
  struct Limits {
    std::int64_t step = std::int64_t{256} << 20U, run = std::int64_t{2} << 30U, ends = std::int64_t{16} << 20U;
  };
  void keep_at_most(const Limits& limits) { limits_ = limits; }

  /// An event whose number was there already takes the place of that one and of all that followed it: the host had lost them.
  /// `line`: as it came, newline included; events.jsonl holds the same bytes.
  void event(const Event& event, std::string_view line);
  /// Path of log.txt.
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  RunLog(UniqueFd events, UniqueFd text, std::string path);
  /// Whether an event may still be kept; where it is the first that may not, that is said.
  bool takes(const Event& event);
  /// Each line of `text` behind `mark`.
  void say(std::int64_t time_ms, std::string_view step, std::string_view mark, std::string_view text);

  UniqueFd events_;
  Writes writes_ = Writes::at_once;
  std::string events_kept_, text_kept_;  ///< not written yet
  std::vector<std::int64_t> begins_;     ///< where in events.jsonl each event begins, from number 1 on
  std::int64_t end_ = 0;
  std::int64_t text_end_ = 0;
  Limits limits_;
  std::map<std::string, std::int64_t> output_;  ///< of each step
  bool is_full_ = false;
  UniqueFd text_;
  std::string path_;
};

/// What RunLog::create noted for this run; empty where nobody did.
[[nodiscard]] std::string host_of_run(const std::string& state, const std::string& run);

}  // namespace gpustrap
