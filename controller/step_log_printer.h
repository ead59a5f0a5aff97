#pragma once

#include <memory>

#include "controller/options.h"
#include "controller/status.h"

namespace gpustrap {

/// What `gpustrap logs` prints: the words of all steps, or of options.step alone; with --json their events.
[[nodiscard]] std::unique_ptr<Status> make_step_log_printer(const Options& options);

}  // namespace gpustrap
