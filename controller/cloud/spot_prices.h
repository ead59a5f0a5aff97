#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "controller/cloud/ec2.h"

namespace gpustrap {

/// What spot machines cost now, USD an hour, by type and zone.
using SpotPrices = std::map<std::pair<std::string, std::string>, double>;
/// One call for all of the types.
[[nodiscard]] AwsResult<SpotPrices> spot_prices(Ec2& ec2, const std::vector<std::string>& types);

}  // namespace gpustrap
