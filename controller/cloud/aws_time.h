#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace gpustrap {

using AwsTime = std::chrono::system_clock::time_point;

/// "20150830T123600Z", as requests are signed.
[[nodiscard]] std::string compact_time(AwsTime time);
/// "2015-08-30T12:36:00Z".
[[nodiscard]] std::string iso_time(AwsTime time);
/// From "2015-08-30T12:36:00Z", "…00.000Z" or "…00+00:00".
[[nodiscard]] std::optional<AwsTime> read_iso_time(std::string_view text);
/// From a Date header: "Sun, 30 Aug 2015 12:36:00 GMT".
[[nodiscard]] std::optional<AwsTime> read_http_date(const std::string& text);

/// Time, waiting and chance, for whoever asks clouds; tests give their own.
struct CloudClock {
  std::function<AwsTime()> now;
  std::function<void(std::chrono::milliseconds)> sleep;
  std::function<double()> random;  ///< from 0 up to 1
};
[[nodiscard]] CloudClock real_clock();

}  // namespace gpustrap
