#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/protocol/event.h"
#include "agent/protocol/json_fwd.h"

// Where a run's time went, from its events alone (docs/report.md). Plain data, as events are: no colour, no width, no wording.

namespace gpustrap {

/// A time within a run: from its first event on, by the host's clock, which is taken never to go backwards.
using RunTime = std::chrono::milliseconds;

/// A step within one runner: a run whose host restarts looks at every step again.
struct StepSpan {
  RunTime from{0};
  RunTime looked{0};  ///< the end of its first look; `from` where that was not told
  RunTime to{0};
  bool acted = false;        ///< the look found something to do
  bool interrupted = false;  ///< by a restart or the runner's death, or the log ends before it does
};

struct ReportedRetry {
  RunTime at{0};
  std::uint64_t attempt = 0;
  std::string why;
  std::chrono::milliseconds wait{0};
};

struct ReportedStep {
  StepTitle title;
  std::optional<std::vector<std::string>> needs;  ///< what run_started says that it waits for; none: it says nothing
  std::vector<StepSpan> spans;
  std::optional<Outcome> outcome;  ///< none: the log ends before that
  std::string wanted;              ///< what the first look found missing
  std::string reason;
  std::optional<ErrorText> error;
  std::vector<ReportedRetry> retries;
  std::uint64_t output_bytes = 0, output_lines = 0;
  bool critical = false;

  [[nodiscard]] std::chrono::milliseconds busy() const;
};

struct ReportedDownload {
  std::string step, url;
  RunTime from{0}, to{0};
  std::uint64_t bytes = 0;
  bool ahead = false;  ///< before its step came to it
  bool critical = false;

  /// 0 where it took no time that a clock of milliseconds sees.
  [[nodiscard]] std::uint64_t bytes_per_s() const;
};

/// The host restarted, or only the runner did.
struct ReportedRestart {
  RunTime from{0}, to{0};
  bool of_host = false;
  std::string step, reason;  ///< empty where no step asked for it
  bool critical = false;
};

/// Nothing ran: no step, no download, no restart.
struct IdleGap {
  RunTime from{0}, to{0};
  std::string before, after;  ///< the step that ended last and the one that started next; empty at the run's ends
  bool for_secret = false;    ///< a step waited until somebody handed it a secret

  [[nodiscard]] std::chrono::milliseconds length() const { return to - from; }
};

/// A link of the critical path.
struct CriticalPart {
  enum class What { step, download, restart } what = What::step;
  std::size_t index = 0;  ///< in steps, downloads or restarts
  RunTime from{0}, to{0};
};

struct RunReport {
  std::string host;  ///< as it was called on the command line; empty where the log does not know
  std::string run, recipe, agent, login;
  RunMode mode = RunMode::apply;
  Facts facts;
  std::int64_t began_ms = 0;  ///< Unix time
  std::chrono::milliseconds wall{0};
  std::optional<RunFinished> finished;  ///< none: the log ends before the run does
  std::vector<ReportedStep> steps;      ///< in the order of the recipe
  std::vector<ReportedDownload> downloads;
  std::vector<ReportedRestart> restarts;
  std::vector<IdleGap> gaps;
  std::vector<CriticalPart> path;
  std::chrono::milliseconds path_length{0}, idle{0};
};

/// Puts a report together, event by event.
class RunReportBuilder {
 public:
  /// An event whose number was there already takes the place of that one and of all that followed it: the host had lost them.
  void add(const Event& event);
  /// A line of a log or of --json: an event, or `rewound`; anything else is passed over. Errors: protocol.
  [[nodiscard]] Result<void> add_document(const Json& document);
  /// Whether there was a run's beginning.
  [[nodiscard]] bool has_run() const;
  [[nodiscard]] RunReport finish(std::string host) const;

 private:
  /// Output is counted, not kept: it may be a hundred megabytes.
  struct Printed {
    std::string step;
    std::uint64_t bytes = 0, lines = 0;
  };
  struct Noted {
    Event event;
    std::vector<Printed> printed;  ///< between this event and the next
    std::int64_t last_ms = 0;      ///< of the output after it
    std::uint64_t last_seq = 0;
  };
  void forget_after(std::uint64_t seq);
  void count_output(const Event& event, const StepOutput& output);

  std::vector<Noted> noted_;
};

/// Fills in `gaps`, `idle`, `path`, `path_length` and what is critical.
void find_where_time_went(RunReport& report);

/// One member `report`, the version of the format (1), and `runs` (docs/report.md).
[[nodiscard]] Json report_document(const std::vector<RunReport>& reports);

}  // namespace gpustrap
