#include "controller/option_values.h"

#include <charconv>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {

Result<std::uint16_t> read_port(std::string_view text, std::string_view option) {
  unsigned value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || value == 0 || value > 65535) {
    return fail(ErrorCode::usage, fmt::format("{} {}: a port is a number from 1 to 65535", option, text),
                option == "-L" ? "for instance -L 8889:8888, or -L 8889 alone" : "for instance -p 2222");
  }
  return static_cast<std::uint16_t>(value);
}

Result<Forward> read_forward(const std::string& text) {
  const std::vector<std::string> parts = split(text, ':');
  if (parts.size() == 3 && parts[1] != "localhost" && parts[1] != "127.0.0.1") {
    return fail(ErrorCode::usage, fmt::format("-L {}: only the host's own loopback can be reached", text),
                fmt::format("write -L {}:{}", parts[0], parts[2]));
  }
  if (parts.size() > 3) return fail(ErrorCode::usage, fmt::format("-L {}: expected LOCAL:REMOTE", text), "for instance -L 8889:8888");
  const Result<std::uint16_t> local = read_port(parts.front(), "-L");
  if (!local) return fail(local.error());
  const Result<std::uint16_t> remote = read_port(parts.back(), "-L");
  if (!remote) return fail(remote.error());
  // `-L 9000` names the local end only; the remote end then comes from the recipe.
  return Forward{*local, parts.size() == 1 ? std::uint16_t{0} : *remote};
}

Result<std::chrono::seconds> read_time(std::string_view text, std::string_view option) {
  unsigned value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  if (problem != std::errc() || (!unit.empty() && unit != "s" && unit != "m" && unit != "h") || value > 100'000) {
    return fail(ErrorCode::usage, fmt::format("{} {}: expected a time", option, text),
                fmt::format("for instance {0} 90s or {0} 10m", option));
  }
  return std::chrono::seconds(value) * (unit == "m" ? 60 : unit == "h" ? 3600 : 1);
}

Result<std::size_t> read_parallel(std::string_view text) {
  std::size_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || value == 0 || value > 1000)
    return fail(ErrorCode::usage, fmt::format("--parallel {}: expected a number from 1 to 1000", text), "for instance --parallel 20");
  return value;
}

}  // namespace gpustrap
