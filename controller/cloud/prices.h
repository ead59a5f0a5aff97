#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

struct PriceRow {
  std::string type, gpu;
  unsigned gpus = 0, vcpus = 0;
  double usd_per_hour = 0;
  bool confirmed = true;
};

/// The table of prices.txt: of one region and day, and always shown with both.
struct PriceTable {
  std::string as_of;
  std::vector<PriceRow> rows;

  [[nodiscard]] const PriceRow* find(std::string_view type) const;
  /// Types with so many of these GPUs, in the order in which they are to be tried.
  [[nodiscard]] std::vector<std::string> types_with(std::string_view gpu, unsigned count) const;
  /// The GPU of a type; of one that is not in the table, that of its family. Empty: not known.
  [[nodiscard]] std::string gpu_of(std::string_view type) const;
};
[[nodiscard]] Result<PriceTable> read_prices(std::string_view text, const std::string& label);
/// The table that was built in.
[[nodiscard]] const PriceTable& builtin_prices();
[[nodiscard]] std::string_view prices_text();

/// Which of EC2's quotas of vCPUs counts for a type; empty where that is not known.
[[nodiscard]] std::string quota_code(std::string_view type, bool spot);
/// "all G and VT on-demand instances"
[[nodiscard]] std::string quota_title(std::string_view code);
/// The part of a type's name before the dot: "g4dn".
[[nodiscard]] std::string_view family_of(std::string_view type);

/// A volume's price is nearly the same everywhere: gp3, USD for a GiB and a month.
constexpr double kVolumeUsdPerGibMonth = 0.08;
/// Snapshots, the same.
constexpr double kSnapshotUsdPerGibMonth = 0.05;
/// An address, in use or not: 0.005 USD an hour.
constexpr double kAddressUsdPerMonth = 3.65;

}  // namespace gpustrap
