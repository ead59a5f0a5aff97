#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "controller/fleet_view.h"
#include "controller/prompt.h"
#include "controller/status.h"

namespace gpustrap {

/// The one place that owns the terminal while many hosts are spoken with, each from a thread of its own: what they say goes to the view
/// one after the other, and so do the questions that they have, which the main thread asks.
class FleetScreen : public Person {
 public:
  FleetScreen(std::unique_ptr<FleetView> view, std::size_t hosts);
  ~FleetScreen() override;

  /// What the thread of one host tells. Lives as long as the screen.
  [[nodiscard]] Status& of(std::size_t host);
  void begin(std::size_t host);
  void ended(std::size_t host, const HostEnd& end);
  void announce(const std::string& sentence);
  /// announce(), once however many hosts have it to say.
  void announce_once(const std::string& sentence);
  void tick();
  void summary(const std::vector<HostEnd>& ends, const std::vector<std::string>& next);

  // Questions of the hosts' threads: each waits for its answer. Secrets are asked for once for each wording.
  [[nodiscard]] bool is_there() override { return somebody_; }
  [[nodiscard]] bool yes_no(const std::string& question) override;
  [[nodiscard]] std::optional<std::string> secret(const std::string& question) override;

  /// For the main thread: asks what is waiting to be asked; false where there was nothing.
  bool ask_next();
  /// From now on nobody is asked any more; who waits for an answer gets none.
  void stop_asking();

 private:
  class OneOfMany;
  struct Question {
    std::string text;
    bool secret = false;
    bool answered = false;
    std::optional<std::string> answer{};
  };
  void set_paused(bool paused);
  std::optional<std::string> wait_for(Question& question);

  std::mutex drawing_;
  std::unique_ptr<FleetView> view_;
  std::vector<std::unique_ptr<Status>> hosts_;
  std::vector<std::string> announced_;

  std::mutex asking_;
  std::condition_variable answered_;
  std::deque<Question*> questions_;
  std::map<std::string, std::optional<std::string>> secrets_;
  bool asking_stopped_ = false;
  bool somebody_;
};

}  // namespace gpustrap
