#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/protocol/fields.h"
#include "agent/protocol/json_fwd.h"

namespace gpustrap {

/// "5 USD", "0.25 EUR": at most six decimals, below a million; the currency is three capital letters.
[[nodiscard]] std::optional<Money> parse_money(std::string_view text);
/// "0.526 USD/h"
[[nodiscard]] std::optional<HourlyPrice> parse_price(std::string_view text);
/// "5 USD", "0.526 USD": as many decimals as it has.
[[nodiscard]] std::string money_text(const Money& money);
[[nodiscard]] std::string price_text(const HourlyPrice& price);
/// "1.23 USD": what people read.
[[nodiscard]] std::string rounded_money(const Money& money);

/// What machines of a cloud cost on demand, by type, as it was one day. Travels with a recipe that needs it: the agent has none of its own.
struct PriceList {
  std::string as_of;  ///< "2026-07-20"
  std::vector<std::pair<std::string, HourlyPrice>> types;

  [[nodiscard]] const HourlyPrice* find(std::string_view type) const;
};
/// {"as_of": "2026-07-20", "types": {"g4dn.xlarge": "0.526 USD/h"}}; nothing where it is something else.
[[nodiscard]] std::optional<PriceList> read_price_list(const Json& document);
[[nodiscard]] Json write_price_list(const PriceList& list);

}  // namespace gpustrap
