#pragma once

#include <chrono>
#include <optional>

namespace gpustrap {

/// A second Ctrl-C within this time of the first cancels; after it, the first has meant to leave.
constexpr std::chrono::milliseconds kSecondCtrlC{3'000};

/// What the user's terminal or machine asked for.
struct Interrupt {
  enum class What {
    ctrl_c,  ///< SIGINT
    leave,   ///< SIGTERM or SIGHUP: the run goes on without us
    cancel,  ///< somebody has decided for this run already: it ends after its current step
  } what = What::ctrl_c;
  std::chrono::milliseconds at{0};  ///< when Ctrl-C was pressed, by the steady clock: it may be read much later
};

/// Catches SIGINT, SIGTERM and SIGHUP while it lives, so that leaving is orderly. One at a time.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  /// The oldest that was not taken yet.
  [[nodiscard]] std::optional<Interrupt> take();
};

}  // namespace gpustrap
