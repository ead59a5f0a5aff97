#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

/// As much of a systemd service as gpustrap can run by itself, on hosts without systemd.
struct ServiceUnit {
  std::string user;                      ///< empty: whoever runs it
  std::string directory;                 ///< empty: the root; "~": the user's home
  std::vector<std::string> environment;  ///< NAME=value
  std::vector<std::string> command;
  enum class Restart { no, on_failure, always } restart = Restart::no;
  std::chrono::milliseconds pause{100};        ///< RestartSec
  std::chrono::milliseconds patience{90'000};  ///< TimeoutStopSec: between SIGTERM and SIGKILL
};

/// Reads a unit's text. What only orders units or describes one is passed over; a directive that would change how the program runs and is
/// not known is an error (unsupported) that names it.
[[nodiscard]] Result<ServiceUnit> read_service_unit(std::string_view text);

}  // namespace gpustrap
