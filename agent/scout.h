#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/live_step.h"
#include "agent/protocol/facts.h"
#include "agent/protocol/network.h"

namespace gpustrap {

/// The waiting steps, behind number `after`, that one process can look at in a row without anything else happening between them: each looks
/// quickly and without the recipe's own commands, as the same user, and waits for none but those that have ended or come before it here.
[[nodiscard]] std::vector<std::size_t> steps_to_scout(const LiveSteps& steps, std::ptrdiff_t after);

/// A process that looks at several steps in a row, and ends at the first that is not as it should be. On a host where all is done already,
/// it stands for one process each. It tells of satisfied steps alone: what is to be done, or cannot be looked at, gets a process of its
/// own.
class Scout {
 public:
  struct Found {
    std::size_t step = 0;  ///< its index
    std::string reason;
  };

  [[nodiscard]] static Result<Scout> send(const LiveSteps& steps, const std::vector<std::size_t>& looked_at, const Facts& facts,
                                          const Identity& login, const Mirror& mirror);
  ~Scout();
  Scout(Scout&& other) noexcept;
  Scout& operator=(Scout&&) = delete;

  /// Readable where it has found something, or is over.
  [[nodiscard]] int descriptor() const { return records_.get(); }
  /// What it has found since. Does not wait.
  [[nodiscard]] std::vector<Found> found();
  /// It has ended, or has taken so long over one step that it is given up.
  [[nodiscard]] bool is_over() const;

 private:
  Scout(pid_t pid, UniqueFd records) : pid_(pid), records_(std::move(records)), last_sign_(std::chrono::steady_clock::now()) {}

  pid_t pid_;
  UniqueFd records_;
  std::string rest_;
  std::chrono::steady_clock::time_point last_sign_;
};

}  // namespace gpustrap
