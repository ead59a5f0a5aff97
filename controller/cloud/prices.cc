#include "controller/cloud/prices.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

bool read_count(const std::string& text, unsigned& into) {
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), into);
  return problem == std::errc() && end == text.data() + text.size();
}

/// "g", "p", "vt": the letters that a family's name begins with.
std::string_view letters_of(std::string_view type) {
  const std::size_t end = type.find_first_of("0123456789-.");
  return type.substr(0, end);
}

}  // namespace

Result<PriceTable> read_prices(std::string_view text, const std::string& label) {
  PriceTable table;
  std::size_t number = 0;
  for (const std::string& line : split(text, '\n')) {
    ++number;
    const std::vector<std::string> fields = words(line.substr(0, line.find('#')));
    if (fields.empty()) continue;
    if (fields.size() == 2 && fields[0] == "as_of") {
      table.as_of = fields[1];
      continue;
    }
    PriceRow row;
    const bool whole = fields.size() == 5 && read_count(fields[2], row.gpus) && read_count(fields[3], row.vcpus);
    const std::string price = !whole ? "" : fields[4].substr(fields[4].front() == '~' ? 1 : 0);
    char* end = nullptr;
    if (whole) row.usd_per_hour = std::strtod(price.c_str(), &end);
    if (!whole || price.empty() || *end != '\0' || row.usd_per_hour <= 0)
      return fail(ErrorCode::internal, fmt::format("{}:{}: expected TYPE GPU COUNT VCPUS PRICE", label, number));
    row.type = fields[0];
    row.gpu = fields[1];
    row.confirmed = fields[4].front() != '~';
    table.rows.push_back(std::move(row));
  }
  if (table.as_of.empty()) return fail(ErrorCode::internal, label + ": no `as_of` says of which day the prices are");
  return table;
}

const PriceTable& builtin_prices() {
  static const PriceTable table = read_prices(prices_text(), "prices.txt").value_or(PriceTable{"?", {}});
  return table;
}

const PriceRow* PriceTable::find(std::string_view type) const {
  const auto found = std::find_if(rows.begin(), rows.end(), [&](const PriceRow& row) { return row.type == type; });
  return found == rows.end() ? nullptr : &*found;
}

std::vector<std::string> PriceTable::types_with(std::string_view gpu, unsigned count) const {
  std::vector<std::string> types;
  for (const PriceRow& row : rows) {
    if (row.gpu == gpu && row.gpus == count) types.push_back(row.type);
  }
  return types;
}

std::string PriceTable::gpu_of(std::string_view type) const {
  if (const PriceRow* row = find(type)) return row->gpu;
  for (const PriceRow& row : rows) {
    if (family_of(row.type) == family_of(type)) return row.gpu;
  }
  return {};
}

std::string_view family_of(std::string_view type) { return type.substr(0, type.find('.')); }

std::string quota_code(std::string_view type, bool spot) {
  const std::string_view letters = letters_of(type);
  if (letters == "g" || letters == "gr" || letters == "vt") return spot ? "L-3819A6DF" : "L-DB2E81BA";
  if (letters == "p") {
    if (!spot) return "L-417A185B";
    if (type.starts_with("p5")) return "L-C4BD4855";
    return type.starts_with("p2") || type.starts_with("p3") || type.starts_with("p4") ? "L-7212CCBC" : "";
  }
  static constexpr std::string_view kStandard[] = {"a", "c", "d", "h", "i", "m", "r", "t", "z"};
  if (std::find(std::begin(kStandard), std::end(kStandard), letters) != std::end(kStandard)) return spot ? "L-34B43A08" : "L-1216C47A";
  return {};
}

std::string quota_title(std::string_view code) {
  if (code == "L-DB2E81BA") return "running on-demand G and VT instances";
  if (code == "L-417A185B") return "running on-demand P instances";
  if (code == "L-1216C47A") return "running on-demand standard instances";
  if (code == "L-3819A6DF") return "G and VT spot instances";
  if (code == "L-7212CCBC") return "P4, P3 and P2 spot instances";
  if (code == "L-C4BD4855") return "P5 spot instances";
  if (code == "L-34B43A08") return "standard spot instances";
  return std::string(code);
}

}  // namespace gpustrap
