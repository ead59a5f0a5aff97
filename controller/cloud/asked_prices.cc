#include "controller/cloud/asked_prices.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/cloud/prices.h"

namespace gpustrap {
namespace {

constexpr auto kFresh = std::chrono::hours(24);
/// Who may not ask, or cannot, is not kept waiting by each command.
constexpr auto kTroubleLasts = std::chrono::minutes(10);
constexpr const char* kTrouble = "trouble";  // beside types, none of which is called so

Json filters_for(const std::string& region, const std::string& type) {
  Json filters = Json::array();
  for (const auto& [field, value] : {std::pair<const char*, std::string>{"regionCode", region},
                                     {"instanceType", type},
                                     {"operatingSystem", "Linux"},
                                     {"preInstalledSw", "NA"},
                                     {"tenancy", "Shared"},
                                     {"capacitystatus", "Used"},
                                     {"marketoption", "OnDemand"}})
    filters.push_back({{"Type", "TERM_MATCH"}, {"Field", field}, {"Value", value}});
  return filters;
}

/// A member that is an object, or an empty one.
const Json& inner(const Json& object, const char* name) {
  static const Json none = Json::object();
  const auto found = object.find(name);
  return found != object.end() && found->is_object() ? *found : none;
}

double amount_of(const Json& dimension) {
  const auto unit = dimension.find("unit");
  const Json& prices = inner(dimension, "pricePerUnit");
  const auto price = prices.find("USD");
  if (unit == dimension.end() || *unit != "Hrs" || price == prices.end() || !price->is_string()) return 0;
  const double amount = std::strtod(price->get_ref<const std::string&>().c_str(), nullptr);
  return std::isfinite(amount) ? amount : 0;
}

/// China's prices are in another currency, and its keys and those for the US government are unknown where prices are told.
bool is_told_about(const std::string& region) { return domain_of(region) == "amazonaws.com" && !region.starts_with("us-gov-"); }

}  // namespace

std::optional<double> read_price(const Json& answer) {
  double most = 0;
  const auto list = answer.is_object() ? answer.find("PriceList") : answer.end();
  if (!answer.is_object() || list == answer.end() || !list->is_array()) return std::nullopt;
  for (const Json& entry : *list) {
    // Each is a document of its own, in a string.
    const Json product = entry.is_string() ? Json::parse(entry.get_ref<const std::string&>(), nullptr, false) : entry;
    if (!product.is_object()) continue;
    for (const Json& offer : inner(inner(product, "terms"), "OnDemand")) {
      if (!offer.is_object()) continue;
      for (const Json& dimension : inner(offer, "priceDimensions")) {
        if (dimension.is_object()) most = std::max(most, amount_of(dimension));
      }
    }
  }
  return most > 0 ? std::optional(most) : std::nullopt;
}

AskedPrices::AskedPrices(AwsClient& client, std::string state)
    : client_(client), path_(fmt::format("{}/ec2/prices-{}.json", state, client.settings().region)) {
  load();
}

void AskedPrices::load() {
  const Result<std::string> text = read_file(path_, 1U << 20U);
  const Json document = text ? Json::parse(*text, nullptr, false) : Json();
  if (!document.is_object()) return;
  const AwsTime now = client_.clock().now();
  for (const auto& [type, entry] : document.items()) {
    if (!entry.is_object()) continue;
    const auto when =
        entry.contains("when") && entry.at("when").is_string() ? read_iso_time(entry.at("when").get<std::string>()) : std::nullopt;
    if (!when || *when > now) continue;
    if (type == kTrouble) {
      if (now - *when < kTroubleLasts && entry.contains("why") && entry.at("why").is_string())
        trouble_ = entry.at("why").get<std::string>();
      continue;
    }
    const double usd = entry.contains("usd") && entry.at("usd").is_number() ? entry.at("usd").get<double>() : 0;
    if (now - *when < kFresh && usd > 0) listed_[type] = {usd, *when};
  }
}

void AskedPrices::save() const {
  Json document = Json::object();
  for (const auto& [type, price] : listed_) document[type] = {{"usd", price.usd_per_hour}, {"when", iso_time(price.when)}};
  if (!trouble_.empty()) document[kTrouble] = {{"why", trouble_}, {"when", iso_time(client_.clock().now())}};
  if (make_directories(parent_of(path_), 0700)) static_cast<void>(write_file_atomically(path_, document.dump(2) + "\n", 0600).has_value());
}

std::optional<AskedPrices::Listed> AskedPrices::ask(const std::string& type) {
  const std::string& region = client_.settings().region;
  if (!is_told_about(region) || !trouble_.empty()) return std::nullopt;
  const AwsResult<Json> answer = client_.json(
      "pricing", "AWSPriceListService.GetProducts",
      Json{{"ServiceCode", "AmazonEC2"}, {"Filters", filters_for(region, type)}, {"FormatVersion", "aws_v1"}}, Patience::little);
  if (!answer) {
    const bool may_not = answer.error().error.code() == ErrorCode::permission;
    trouble_ = may_not ? "the keys may not do pricing:GetProducts" : strip_control(first_line(answer.error().error.why()));
    save();
    return std::nullopt;
  }
  const std::optional<double> usd = read_price(*answer);
  if (!usd) return std::nullopt;
  listed_[type] = {*usd, client_.clock().now()};
  save();
  return listed_[type];
}

std::optional<Price> AskedPrices::price_of(const std::string& type) {
  const auto known = listed_.find(type);
  const std::optional<Listed> listed = known != listed_.end() ? known->second : ask(type);
  if (listed) {
    const std::string day = iso_time(listed->when).substr(0, 10);
    return Price{listed->usd_per_hour, true, true, fmt::format("AWS's price list for {}, {}", client_.settings().region, day)};
  }
  const PriceTable& table = builtin_prices();
  const PriceRow* row = table.find(type);
  if (row == nullptr) return std::nullopt;
  return Price{row->usd_per_hour, row->confirmed, false, fmt::format("table of us-east-1, {}", table.as_of)};
}

std::optional<Price> AskedPrices::price_of(const Ec2Instance& instance) {
  return instance.lifecycle == "spot" ? std::nullopt : price_of(instance.type);
}

}  // namespace gpustrap
