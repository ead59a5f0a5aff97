#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controller/console.h"
#include "controller/fleet_view.h"
#include "controller/line_printer.h"
#include "controller/planned_changes.h"
#include "controller/status_printer.h"

namespace gpustrap {

/// Shows many hosts to a person: a line each and the whole above it on a terminal, plain lines that begin with the host elsewhere.
class FleetPrinter : public FleetView {
 public:
  /// `hosts`: how each is called.
  FleetPrinter(Console console, std::string recipe, std::vector<std::string> hosts, Detail detail);

  void begin(std::size_t host) override;
  void activity(std::size_t host, const Activity& activity) override;
  void event(std::size_t host, const Event& event) override;
  void progress(std::size_t host, const Progress& progress) override;
  void connection_lost(std::size_t host, const Error& why) override;
  void connection_back(std::size_t host) override;
  void rewound(std::size_t host, std::uint64_t seen, std::uint64_t to) override;
  void notice(std::size_t host, std::string_view sentence) override;
  void ended(std::size_t host, const HostEnd& end) override;
  void announce(std::string_view sentence) override;
  void pause() override;
  void resume() override;
  void tick() override;
  void summary(const std::vector<HostEnd>& ends, const std::vector<std::string>& next) override;

 private:
  /// A step that runs on a host, and what it does just now.
  struct Running {
    std::string step, now;
    std::optional<Progress> progress;
  };
  struct Host {
    std::string name;
    enum class Phase { waiting, connecting, running, ended } phase = Phase::waiting;
    std::size_t steps = 0, done = 0;
    std::vector<Running> running;
    std::string text;  ///< where no step runs: what goes on, or how it ended
    std::string lost;  ///< why the connection is gone, while it is
    ExitCode exit = ExitCode::ok;
    bool begun = true;
    std::chrono::milliseconds since{0}, elapsed{0};
  };

  void take(Host& host, const RunStarted& started);
  void take(Host& host, const RunnerStarted& started);
  void take(Host& host, const StepStarted& started);
  void take(Host& /*host*/, const StepChecked&) {}
  void take(Host& host, const StepOutput& output);
  void take(Host& /*host*/, const StepTruncated&) {}
  void take(Host& /*host*/, const Downloaded&) {}
  void take(Host& host, const StepRetry& retry);
  void take(Host& host, const StepFinished& finished);
  void take(Host& host, const Rebooting& rebooting);
  void take(Host& host, const WaitingForSecret& waiting);
  void take(Host& /*host*/, const FileWanted&) {}
  void take(Host& /*host*/, const CancelRequested&) {}
  void take(Host& /*host*/, const RunFinished&) {}
  void take(Host& /*host*/, const UnknownEvent&) {}
  /// Moves to the end, which is what is shown; none for a step that does not run.
  Running* now_at(Host& host, const std::string& step);

  /// A line that stays, off the live view.
  void plain(const Host& host, const std::string& text);
  void plain(const std::string& text);
  void heartbeat();

  [[nodiscard]] std::string clean(std::string_view text) const;
  [[nodiscard]] std::string paint(std::string_view colour, std::string text) const;
  [[nodiscard]] bool has_failed(const Host& host) const;
  /// "3 done, 1 failed, 8 running"
  [[nodiscard]] std::string counts(const std::vector<bool>* hidden) const;
  [[nodiscard]] std::string line_of(const Host& host, std::size_t columns) const;
  [[nodiscard]] std::string text_of(const Host& host, std::size_t room) const;
  [[nodiscard]] std::vector<std::size_t> shown(std::size_t room) const;
  [[nodiscard]] std::vector<std::string> block() const;
  [[nodiscard]] std::chrono::milliseconds since_start() const { return console_.now() - started_; }
  [[nodiscard]] std::size_t name_columns(std::size_t columns) const;

  Console console_;
  std::string recipe_;
  std::vector<Host> hosts_;
  std::size_t longest_name_ = 0, most_steps_ = 1;
  Detail detail_;
  bool live_;
  bool plan_ = false;
  bool over_ = false;
  bool paused_ = false;
  std::vector<std::string> kept_back_;  ///< lines that came while a question was open
  LinePrinter printer_;
  PlannedChanges changes_;
  std::chrono::milliseconds started_, last_frame_, last_line_;
};

/// What a host's end is called: "ok", "failed", "unreachable".
[[nodiscard]] std::string_view end_name(const HostEnd& end);

/// The table at the end: host, result, changed, time; under each that did not end well its cause and what to do. Texts are cut or wrapped
/// to `columns`; 0: as long as needed.
struct SummaryLook {
  const Console& console;
  std::size_t columns;
  bool plan, only_bad;
};
[[nodiscard]] std::vector<std::string> summary_table(const std::vector<std::string>& hosts, const std::vector<HostEnd>& ends,
                                                     const SummaryLook& look);
/// "9 of 12 hosts done, 2 failed, 1 unreachable"
[[nodiscard]] std::string summary_counts(const std::vector<HostEnd>& ends, bool plan);

}  // namespace gpustrap
