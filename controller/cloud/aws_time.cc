#include "controller/cloud/aws_time.h"

#include <time.h>

#include <random>
#include <thread>

#include <fmt/chrono.h>
#include <fmt/format.h>

namespace gpustrap {
namespace {

std::tm parts_of(AwsTime time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return parts;
}

/// What follows behind the part that `format` takes.
std::optional<AwsTime> read(const std::string& text, const char* format, std::string_view& rest) {
  std::tm parts{};
  const char* end = ::strptime(text.c_str(), format, &parts);
  if (end == nullptr) return std::nullopt;
  rest = end;
  return std::chrono::system_clock::from_time_t(::timegm(&parts));
}

}  // namespace

std::string compact_time(AwsTime time) { return fmt::format("{:%Y%m%dT%H%M%SZ}", parts_of(time)); }
std::string iso_time(AwsTime time) { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", parts_of(time)); }

std::optional<AwsTime> read_iso_time(std::string_view text) {
  const std::string whole(text);
  std::string_view rest;
  const std::optional<AwsTime> time = read(whole, "%Y-%m-%dT%H:%M:%S", rest);
  if (!time) return std::nullopt;
  if (rest.starts_with('.')) {
    rest.remove_prefix(1);
    while (!rest.empty() && rest.front() >= '0' && rest.front() <= '9') rest.remove_prefix(1);
  }
  // Other zones than UTC are in none of what is read here; to take one for UTC would be hours wrong.
  return rest == "Z" || rest == "+00:00" || rest == "UTC" ? time : std::nullopt;
}

std::optional<AwsTime> read_http_date(const std::string& text) {
  std::string_view rest;
  return read(text, "%a, %d %b %Y %H:%M:%S GMT", rest);
}

CloudClock real_clock() {
  return {[] { return std::chrono::system_clock::now(); }, [](std::chrono::milliseconds time) { std::this_thread::sleep_for(time); },
          [] {
            static std::mt19937_64 source{std::random_device{}()};
            return std::uniform_real_distribution<double>(0.0, 1.0)(source);
          }};
}

}  // namespace gpustrap
