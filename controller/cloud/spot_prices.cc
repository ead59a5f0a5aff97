#include "controller/cloud/spot_prices.h"

#include <cmath>
#include <cstdlib>
#include <optional>

#include <fmt/format.h>

namespace gpustrap {

AwsResult<SpotPrices> spot_prices(Ec2& ec2, const std::vector<std::string>& types) {
  // From now on: the price that holds, of each zone.
  Parameters parameters = {{"ProductDescription.1", "Linux/UNIX"}, {"StartTime", iso_time(ec2.client().clock().now())}};
  for (std::size_t i = 0; i < types.size(); ++i) parameters.emplace_back(fmt::format("InstanceType.{}", i + 1), types[i]);
  const AwsResult<std::vector<Ec2SpotPrice>> told = ec2.describe<Ec2SpotPrice>("DescribeSpotPriceHistory", parameters);
  if (!told) return tl::unexpected(told.error());
  SpotPrices prices;
  std::map<std::pair<std::string, std::string>, std::optional<AwsTime>> since;
  for (const Ec2SpotPrice& one : *told) {
    const double usd = std::strtod(one.price.c_str(), nullptr);
    const std::pair<std::string, std::string> place(one.type, one.zone);
    if (!std::isfinite(usd) || usd <= 0 || (prices.contains(place) && one.since <= since[place])) continue;
    prices[place] = usd;
    since[place] = one.since;
  }
  return prices;
}

}  // namespace gpustrap
