#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gpustrap {

/// What AWS says of a spot instance that it is about to take back.
struct SpotNotice {
  std::string action;  ///< stop, terminate, hibernate; empty: it only recommends to move away (rebalance)
  std::string time;    ///< when: "2026-11-22T12:05:00Z"
  bool operator==(const SpotNotice&) const = default;
};

/// Where EC2's metadata are; tests say another place, which only root can: it stands in the unit.
constexpr std::string_view kMetadataUrl = "http://169.254.169.254";

/// EC2's metadata service, by IMDSv2: a token first. Every question is answered within seconds, or counts as not answered.
class Metadata {
 public:
  explicit Metadata(std::string url) : url_(std::move(url)) {}
  [[nodiscard]] bool is_spot();
  /// The notice in force; a recommendation where there is no notice.
  [[nodiscard]] std::optional<SpotNotice> notice();

 private:
  /// Nothing where there is no such thing (404), or no answer.
  [[nodiscard]] std::optional<std::string> get(std::string_view path);

  std::string url_, token_;
};

/// {"action": "stop", "time": "…"}
[[nodiscard]] std::optional<SpotNotice> spot_action_in(std::string_view text);
/// {"noticeTime": "…"}
[[nodiscard]] std::optional<SpotNotice> rebalance_in(std::string_view text);
/// "2026-11-22T12:05:00Z" → "12:05 UTC"; as it is where it is no such time.
[[nodiscard]] std::string clock_of(std::string_view time);

}  // namespace gpustrap
