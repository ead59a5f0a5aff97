#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controller/console.h"
#include "controller/line_printer.h"
#include "controller/status.h"

namespace gpustrap {

/// quiet: the end and what failed. verbose: plain lines even on a terminal, satisfied checks too.
enum class Detail { quiet, normal, verbose };

/// One step as it is known so far.
struct StepView {
  std::string id, kind;
  enum class Phase { pending, running, finished } phase = Phase::pending;
  Outcome outcome = Outcome::unchanged;
  std::string reason;  ///< why it is wanted, then how it ended
  std::string now;     ///< its last line of output or of progress
  std::optional<Progress> progress;
  std::chrono::milliseconds progress_at{0};  ///< when it came, by our clock
  bool counts_bytes = false;
  std::int64_t started_ms = 0;  ///< the host's clock
  std::chrono::milliseconds elapsed{0};
  std::optional<ErrorText> error;
  std::deque<std::string> last_lines;
};

/// Says what happened to a person: a live view on a terminal, plain lines elsewhere.
class StatusPrinter : public Status {
 public:
  struct Title {
    std::string recipe;       ///< empty until the run says it
    std::string destination;  ///< "ubuntu@203.0.113.7"
  };
  StatusPrinter(Console console, Title title, Detail detail);

  void activity(const Activity& activity) override;
  void event(const Event& event) override;
  void progress(const Progress& progress) override;
  void connection_lost(const Error& why) override;
  void connection_back() override;
  void rewound(std::uint64_t seen, std::uint64_t to) override;
  void notice(std::string_view sentence) override;
  void ending(const Ending& ending) override;
  void pause() override;
  void tick() override;

 private:
  void take(const RunStarted& started);
  void take(const RunnerStarted& started);
  void take(const StepStarted& started);
  void take(const StepChecked& checked);
  void take(const StepOutput& output);
  void take(const StepTruncated& truncated);
  void take(const Downloaded& downloaded);
  void take(const StepRetry& retry);
  void take(const StepFinished& finished);
  void take(const Rebooting& rebooting);
  void take(const WaitingForSecret& waiting);
  void take(const FileWanted&) {}
  void take(const CancelRequested& cancel);
  void take(const RunFinished& finished);
  void take(const UnknownEvent&) {}

  StepView& step(const std::string& id);
  void plain(std::string_view text);
  void plain(const StepView& step, std::string_view text, std::string_view mark = ":");
  /// A step's output, line by line; what is longer than a line is in the log.
  void plain_output(const StepView& step, std::string_view text);
  /// The time at a prompt is the person's, not the run's.
  void resume();
  void redraw();

  /// Text of the host's, safe to print: no control characters, and ASCII where nothing else can be shown.
  [[nodiscard]] std::string clean(std::string_view text) const;
  [[nodiscard]] std::string paint(std::string_view colour, std::string text) const;
  [[nodiscard]] std::string_view mark_of(const StepView& step) const;
  [[nodiscard]] std::string_view colour_of(const StepView& step) const;
  [[nodiscard]] std::chrono::milliseconds since_start() const { return console_.now() - started_; }
  /// How long the run has taken so far: longer than this program has looked, where it only joined in.
  [[nodiscard]] std::chrono::milliseconds so_far() const;
  [[nodiscard]] std::string_view ellipsis() const { return console_.unicode ? "…" : ".."; }
  /// A sentence of ours for the screen, broken between words; off a terminal it stays one line.
  [[nodiscard]] std::vector<std::string> sentence(const std::string& text, std::string_view indent) const;
  [[nodiscard]] std::chrono::milliseconds elapsed_of(const StepView& step) const;
  [[nodiscard]] std::string amount_of(const StepView& step) const;
  [[nodiscard]] std::string footer() const;
  [[nodiscard]] std::string header(std::size_t columns) const;
  [[nodiscard]] std::string line_of(const StepView& step, std::size_t columns) const;
  enum class Extent { fits, whole };
  [[nodiscard]] std::vector<std::string> block(Extent extent) const;
  [[nodiscard]] std::vector<bool> shown_steps(std::size_t room) const;
  [[nodiscard]] std::vector<std::string> plan_details() const;
  [[nodiscard]] std::vector<std::string> failure(const StepView& step) const;
  [[nodiscard]] std::vector<std::string> summary(const Ending& ending) const;

  Console console_;
  Title title_;
  Detail detail_;
  bool live_;
  LinePrinter printer_;
  std::chrono::milliseconds started_;
  std::chrono::milliseconds last_frame_;
  std::chrono::milliseconds last_line_;
  std::optional<std::chrono::milliseconds> paused_;
  std::int64_t run_started_ms_ = 0;  ///< the host's clock
  /// Our clock minus the host's, as small as it was ever seen: replayed events arrive late, live ones do not.
  std::optional<std::int64_t> clock_offset_;
  std::vector<StepView> steps_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::optional<RunStarted> run_;
  std::optional<Activity> activity_;
  std::string footer_;                             ///< of the live view: a lost connection, a cancel
  std::int64_t event_ms_ = 0, last_event_ms_ = 0;  ///< the host's clock, of the event that is being taken and of the one before
  std::string boot_id_;
  std::optional<std::int64_t> rebooting_ms_;  ///< since when the host restarts, by its clock
  bool plan_ = false;
  bool ended_ = false;
};

}  // namespace gpustrap
