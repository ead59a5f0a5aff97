#pragma once

#include <optional>

namespace gpustrap {

/// What the user's terminal or machine asked for.
enum class Interrupt {
  ctrl_c,  ///< SIGINT
  leave,   ///< SIGTERM or SIGHUP: the run goes on without us
  cancel,  ///< somebody has decided for this run already: it ends after its current step
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
