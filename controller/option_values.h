#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace gpustrap {

/// A port pair as in ssh's -L.
struct Forward {
  std::uint16_t local = 0, remote = 0;
};

// Values as the command line has them. Errors are `usage` and begin with the option.

[[nodiscard]] Result<std::uint16_t> read_port(std::string_view text, std::string_view option);
/// "8889:8888"; `8889` names the local end alone, the other one then comes from the recipe.
[[nodiscard]] Result<Forward> read_forward(const std::string& text);
/// "90s", "10m", "2h", or seconds.
[[nodiscard]] Result<std::chrono::seconds> read_time(std::string_view text, std::string_view option);
/// How many hosts at once: 1 to 1000.
[[nodiscard]] Result<std::size_t> read_parallel(std::string_view text);

}  // namespace gpustrap
