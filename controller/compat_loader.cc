#include "controller/compat_loader.h"

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "agent/protocol/json.h"
#include "agent/protocol/money.h"
#include "controller/cloud/prices.h"
#include "controller/yaml_document.h"

namespace gpustrap {

Result<Compat> load_compat(const std::string& text, const std::string& label) {
  std::vector<SourceProblem> problems;
  const YamlDocument yaml = read_yaml(text, label, problems);
  Compat compat;
  if (yaml.value) {
    std::vector<FieldProblem> found;
    compat = read_compat(*yaml.value, found);
    for (const FieldProblem& problem : found) problems.push_back(yaml.places.locate(problem));
  }
  if (!problems.empty()) return fail(error_of(std::move(problems), "none of the table is used"));
  return compat;
}

Result<Compat> load_builtin_compat() { return load_compat(std::string(builtin_compat()), "built-in/compat.yaml"); }

Result<void> add_compat(Recipe& recipe) {
  if (needs_prices(recipe)) {
    PriceList list{builtin_prices().as_of, {}};
    for (const PriceRow& row : builtin_prices().rows)
      list.types.emplace_back(row.type, HourlyPrice{{std::llround(row.usd_per_hour * 1e6), "USD"}});
    recipe.prices = std::make_shared<const PriceList>(std::move(list));
  }
  if (!needs_compat(recipe)) return {};
  Result<Compat> compat = load_builtin_compat();
  if (!compat) return fail(std::move(compat).error());
  recipe.compat = std::make_shared<const Compat>(*std::move(compat));
  return {};
}

}  // namespace gpustrap
