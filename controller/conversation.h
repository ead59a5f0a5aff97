#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "controller/host_access.h"
#include "controller/interrupts.h"
#include "controller/options.h"
#include "controller/run.h"
#include "controller/run_log.h"
#include "controller/status.h"

namespace gpustrap {

/// The screen that the options ask for: --json, or people's on stdout.
[[nodiscard]] std::unique_ptr<Status> make_status(const Options& options, const std::string& recipe);
/// Says nothing: for verbs that only ask the agent a question. Notices go to stderr.
[[nodiscard]] std::unique_ptr<Status> make_silent_status();

/// One command's talk with one host: the way there, the screen, the log on this machine, the run client.
class Conversation {
 public:
  Conversation(const Options& options, Rights rights, std::unique_ptr<Status> status, CtrlC ctrl_c = CtrlC::leaves_then_cancels);

  [[nodiscard]] RunClient& client() { return client_; }
  [[nodiscard]] Status& status() { return *status_; }
  [[nodiscard]] HostAccess& access() { return access_; }
  /// Path of the run's readable log; empty where no event has come, or none could be written.
  [[nodiscard]] std::string log_path() const { return log_ ? log_->path() : ""; }
  /// Signals are caught from the first connection on; before it they just end the program.
  [[nodiscard]] std::optional<Interrupt> interrupt() { return interrupts_ ? interrupts_->take() : std::nullopt; }

 private:
  void log(const Event& event, std::string_view line);

  std::unique_ptr<Status> status_;
  std::string destination_;
  HostAccess access_;
  std::optional<Interrupts> interrupts_;
  std::optional<RunLog> log_;
  bool log_tried_ = false;
  RunClient client_;
};

}  // namespace gpustrap
