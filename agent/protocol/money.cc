#include "agent/protocol/money.h"

#include <algorithm>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

constexpr std::int64_t kMillion = 1'000'000;
constexpr std::size_t kMostDigits = 6, kMostTypes = 2000;

bool are_digits(std::string_view text) { return text.find_first_not_of("0123456789") == std::string_view::npos; }

std::int64_t number(std::string_view digits) {
  std::int64_t value = 0;
  for (const char digit : digits) value = value * 10 + (digit - '0');
  return value;
}

}  // namespace

std::optional<Money> parse_money(std::string_view text) {
  text = trim(text);
  const std::size_t end = std::min(text.find_first_not_of("0123456789."), text.size());
  const std::string_view amount = text.substr(0, end), currency = trim(text.substr(end));
  const std::size_t point = std::min(amount.find('.'), amount.size());
  const std::string_view whole = amount.substr(0, point);
  std::string decimals(amount.substr(std::min(point + 1, amount.size())));
  const bool is_currency =
      currency.size() == 3 && std::all_of(currency.begin(), currency.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  if (!is_currency || whole.empty() || whole.size() > kMostDigits || !are_digits(whole)) return std::nullopt;
  if (decimals.size() > kMostDigits || !are_digits(decimals) || (point < amount.size() && decimals.empty())) return std::nullopt;
  decimals.resize(kMostDigits, '0');
  return Money{number(whole) * kMillion + number(decimals), std::string(currency)};
}

std::optional<HourlyPrice> parse_price(std::string_view text) {
  text = trim(text);
  if (!text.ends_with("/h")) return std::nullopt;
  const std::optional<Money> money = parse_money(text.substr(0, text.size() - 2));
  if (!money) return std::nullopt;
  return HourlyPrice{*money};
}

std::string money_text(const Money& money) {
  std::string decimals = fmt::format("{:06}", money.millionths % kMillion);
  decimals.erase(decimals.find_last_not_of('0') + 1);
  return fmt::format("{}{}{} {}", money.millionths / kMillion, decimals.empty() ? "" : ".", decimals, money.currency);
}

std::string price_text(const HourlyPrice& price) { return money_text(price.money) + "/h"; }

std::string rounded_money(const Money& money) {
  const std::int64_t hundredths = (money.millionths + kMillion / 200) / (kMillion / 100);
  return fmt::format("{}.{:02} {}", hundredths / 100, hundredths % 100, money.currency);
}

const HourlyPrice* PriceList::find(std::string_view type) const {
  const auto found = std::find_if(types.begin(), types.end(), [&](const auto& row) { return row.first == type; });
  return found == types.end() ? nullptr : &found->second;
}

std::optional<PriceList> read_price_list(const Json& document) {
  if (!document.is_object() || !document.contains("as_of") || !document.contains("types")) return std::nullopt;
  const Json& as_of = document.at("as_of");
  const Json& types = document.at("types");
  if (!as_of.is_string() || !types.is_object() || types.size() > kMostTypes) return std::nullopt;
  PriceList list{as_of.get<std::string>(), {}};
  for (const auto& [type, text] : types.items()) {
    const std::optional<HourlyPrice> price = text.is_string() ? parse_price(text.get<std::string>()) : std::nullopt;
    if (!price) return std::nullopt;
    list.types.emplace_back(type, *price);
  }
  return list;
}

Json write_price_list(const PriceList& list) {
  Json types = Json::object();
  for (const auto& [type, price] : list.types) types[type] = price_text(price);
  return {{"as_of", list.as_of}, {"types", std::move(types)}};
}

}  // namespace gpustrap
